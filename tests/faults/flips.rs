//! Who opens `current` of a versioned target has one whole tree in hand, however often it changes meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use code_server::config::fetch::Layout;
use tokio::runtime;

use crate::alone;
use crate::client::{config, fetch};
use crate::origin::Origin;
use crate::scratch::scratch;
use crate::target::{Holding, Target};
use crate::trees::{Tree, Trees, names};

const FLIPS: usize = 1000;

/// Names of files and links, and what they hold.
type Content = BTreeMap<PathBuf, Vec<u8>>;

fn read(root: &Path) -> io::Result<Content> {
    let mut content = Content::new();
    for name in names(root)? {
        let path = root.join(&name);
        let found = fs::symlink_metadata(&path)?;
        if found.is_symlink() {
            let target = fs::read_link(&path)?;
            content.insert(name, target.into_os_string().into_encoded_bytes());
        } else if found.is_file() {
            content.insert(name, fs::read(&path)?);
        }
    }
    Ok(content)
}

/// Ends the reading, also where a flip has failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the reader found.
#[derive(Default)]
struct Readings {
    /// Which of the trees it had in hand.
    whole: BTreeSet<usize>,
    rounds: usize,
    /// How often a tree was removed under its eyes, being too old by then to be kept.
    overtaken: usize,
}

/// Opens `current` and reads what lies beneath, again and again. `begun` counts the fetches.
fn keep_reading(
    current: &Path,
    expected: &[Content],
    begun: &AtomicUsize,
    ended: &AtomicBool,
) -> Readings {
    let mut readings = Readings::default();
    while !ended.load(Ordering::Relaxed) {
        let before = begun.load(Ordering::SeqCst);
        fs::symlink_metadata(current).expect("current is never missing");
        let found = File::open(current).and_then(|handle| {
            // By the handle: wherever the directory is moved to, this is it.
            read(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())))
        });
        let later = begun.load(Ordering::SeqCst) > before;
        readings.rounds += 1;
        let whole = found
            .as_ref()
            .ok()
            .and_then(|found| expected.iter().position(|tree| tree == found));
        if let Some(whole) = whole {
            readings.whole.insert(whole);
            continue;
        }
        // A tree that lies two fetches back is removed; but no file of another one ever appears in it.
        assert!(later, "incomplete, and nobody removed it: {found:?}");
        if let Ok(found) = found {
            let mut trees = expected.iter();
            let is_part =
                |tree: &Content| found.iter().all(|(name, of)| tree.get(name) == Some(of));
            assert!(trees.any(is_part), "a mixture: {found:?}");
        }
        readings.overtaken += 1;
    }
    readings
}

#[test]
fn a_reader_of_current_never_sees_a_mixture() {
    let _alone = alone();
    let trees = Trees::make(8, false);
    let origin = Origin::of(&trees.old.artifact);
    let place = scratch();
    let target = Target {
        path: place.path().join("target"),
        layout: Layout::Versioned,
        trees: &trees,
    };
    let config = config(&[origin.address], &target.path, target.layout);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let flip = |tree: &Tree| {
        origin.publish(&tree.artifact);
        let summary = runtime.block_on(fetch(&config)).unwrap();
        assert_eq!(summary.revision, tree.revision);
    };
    let current = target.path.join("current");
    let three: Vec<&Tree> = trees.all().collect();
    let mut expected = Vec::new();
    for tree in &three {
        flip(tree);
        assert_eq!(target.holding(), Holding::Tree(tree.name));
        expected.push(read(&current).unwrap());
    }

    let started = Instant::now();
    let (begun, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let readings = thread::scope(|scope| {
        let reader = scope.spawn(|| keep_reading(&current, &expected, &begun, &ended));
        let ends = Ends(&ended);
        for tree in three.iter().cycle().take(FLIPS) {
            begun.fetch_add(1, Ordering::SeqCst);
            flip(tree);
        }
        drop(ends);
        reader.join().unwrap()
    });
    assert_eq!(target.left_over(), [""; 0]);
    let Readings {
        whole,
        rounds,
        overtaken,
    } = readings;
    let elapsed = started.elapsed();
    println!("{FLIPS} flips in {elapsed:?}: read {rounds} times, overtaken {overtaken} times");
    assert_eq!(whole.len(), three.len());
    assert!(rounds >= FLIPS && overtaken * 2 < rounds);
}
