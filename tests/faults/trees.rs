//! Trees that have most in common, and their archives.

use std::fs::{self, Permissions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use code_server::artifact::Artifact;
use code_server::config::tree::TreeConfig;
use code_server::digest::{Digest, Revision};
use code_server::entry::Modes;
use code_server::publication::build::{Source, build};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::scratch::scratch;

/// The time of every entry.
const TIME: i64 = 1_700_000_000;

/// What an installation has at the top of a target for itself.
const OWN: [&str; 2] = [".code-fetch", ".code-revision"];

/// A tree as it should arrive, and the archive that brings it.
pub(crate) struct Tree {
    pub(crate) name: &'static str,
    pub(crate) revision: Revision,
    pub(crate) artifact: Arc<Artifact>,
    /// As [`describe`] has it.
    pub(crate) description: String,
}

/// The trees that a target may hold.
pub(crate) struct Trees {
    /// In the target before; never served to who begins with nothing.
    pub(crate) old: Tree,
    /// What is served, now the one and now the other.
    pub(crate) new: [Tree; 2],
}

impl Trees {
    /// Trees with so many small files, and a few large ones if they are to have several segments.
    pub(crate) fn make(small: usize, large: bool) -> Self {
        let make = |name, flavour| Tree::make(name, flavour, small, large);
        let trees = Self {
            old: make("old", 0),
            new: [make("A", 1), make("B", 2)],
        };
        for tree in trees.all() {
            let segments = tree.artifact.descriptor().segments.len();
            assert!(!large || segments >= 6, "{}: {segments}", tree.name);
        }
        trees
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Tree> {
        std::iter::once(&self.old).chain(&self.new)
    }
}

impl Tree {
    fn make(name: &'static str, flavour: u64, small: usize, large: bool) -> Self {
        let root = scratch();
        fill(root.path(), flavour, small);
        if large {
            fill_large(root.path(), flavour);
        }
        settle(root.path());
        let config = TreeConfig {
            root: root.path().into(),
            excludes: Vec::new(),
            default_excludes: true,
            skip_unreadable: false,
            allow_empty: false,
            modes: Modes::Normal,
            mtime: Some(TIME),
            level: 1,
            workers: NonZeroUsize::new(2).unwrap(),
        };
        let source = Source::new(&config, Vec::new()).unwrap();
        let (archive, listing) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut outputs = || Ok((archive.try_clone()?, listing.try_clone()?));
        let sealed = build(&source, &mut outputs, &|| false).unwrap();
        let descriptor = sealed.describe(&source.options, SystemTime::UNIX_EPOCH);
        Self {
            name,
            revision: descriptor.revision,
            artifact: Arc::new(
                Artifact::new(descriptor, archive, listing, SystemTime::now()).unwrap(),
            ),
            description: describe(root.path()),
        }
    }
}

/// What is the same in every tree, what differs from each to each, and names that change their kind.
fn fill(root: &Path, flavour: u64, small: usize) {
    let directory = |name: &str| fs::create_dir_all(root.join(name)).unwrap();
    let write = |name: &str, content: &[u8]| fs::write(root.join(name), content).unwrap();
    for index in 0..small {
        let beneath = format!("src/part-{}", index / 50);
        directory(&beneath);
        // One of five is another in each tree.
        let seed = if index % 5 == 0 { flavour } else { 9 };
        write(
            &format!("{beneath}/{index}"),
            &noise(seed, 20 + index % 300),
        );
    }
    directory("empty");
    write("flavour", flavour.to_string().as_bytes());
    write("a name\nof two lines", b"");
    write("run.sh", b"true");
    let mode = if flavour == 2 { 0o644 } else { 0o755 };
    fs::set_permissions(root.join("run.sh"), Permissions::from_mode(mode)).unwrap();
    symlink(
        ["run.sh", "flavour", "nowhere"][index_of(flavour)],
        root.join("link"),
    )
    .unwrap();
    directory(&format!("only-{flavour}/deep"));
    write(&format!("only-{flavour}/deep/file"), b"only here");
    match flavour {
        0 => write("kind", b"a file"),
        1 => {
            directory("kind");
            write("kind/file", b"in a directory");
        }
        _ => symlink("empty", root.join("kind")).unwrap(),
    }
}

/// Enough noise for several segments: some are the same in every tree.
fn fill_large(root: &Path, flavour: u64) {
    fs::create_dir_all(root.join("lib")).unwrap();
    let write = |name: &str, content: Vec<u8>| fs::write(root.join(name), content).unwrap();
    for (index, seed) in [7, flavour, 8].into_iter().enumerate() {
        write(&segment_of_its_own(index), noise(seed + 10, 300_000));
    }
    let mut long = noise(20, 1_100_000);
    long.extend(noise(flavour, 100_000));
    write("lib/long", long);
    write("lib/same", noise(30, 300_000));
}

/// A name behind which a segment ends once 256 KiB are gathered.
fn segment_of_its_own(index: usize) -> String {
    let mut names = (0..).map(|attempt| format!("lib/{index}-{attempt}"));
    let ends =
        |name: &String| matches!(Digest::of(name.as_bytes()).hex().as_bytes()[7], b'0' | b'8');
    names.find(ends).unwrap()
}

fn index_of(flavour: u64) -> usize {
    usize::try_from(flavour).unwrap()
}

/// Bytes that no compression makes fewer.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Gives everything beneath a directory the same time.
fn settle(root: &Path) {
    for name in names(root).unwrap() {
        let time = Timespec {
            tv_sec: TIME,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Every name beneath a directory, those in a directory before its own; none of our own at the top.
pub(crate) fn names(root: &Path) -> io::Result<Vec<PathBuf>> {
    fn walk(root: &Path, beneath: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(root.join(beneath))? {
            let entry = entry?;
            let name = beneath.join(entry.file_name());
            if OWN.iter().any(|own| name == Path::new(own)) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                walk(root, &name, found)?;
            }
            found.push(name);
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found)?;
    Ok(found)
}

/// Names, kinds, modes, times and contents of all that lies beneath a directory, but for what an installation needs itself.
pub(crate) fn describe(root: &Path) -> String {
    let line = |name: PathBuf| {
        let path = root.join(&name);
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if found.is_file() {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let name = name.display().to_string().escape_default().to_string();
        format!("{name} {:o} {} {content}\n", found.mode(), found.mtime())
    };
    let mut lines: Vec<String> = names(root).unwrap().into_iter().map(line).collect();
    lines.sort();
    lines.concat()
}
