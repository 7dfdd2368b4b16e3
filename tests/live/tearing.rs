//! Files that are rewritten while they are read are never served as a mixture.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::server::{Setup, Stop, pause, wait_until};

/// What carries one number, and is written at once.
const BLOCK: usize = 4096;

/// Writes every block of a file anew, from the first to the last, in place.
fn rewrite(file: &File, blocks: u64, number: u64) {
    for block in 0..blocks {
        let bytes = number.to_le_bytes().repeat(BLOCK / 8);
        file.write_all_at(&bytes, block * BLOCK as u64).unwrap();
    }
}

/// The number that a file carries, if it is one.
fn number(content: &[u8]) -> Option<u64> {
    let mut numbers = content
        .chunks(8)
        .map(|eight| u64::from_le_bytes(eight.try_into().unwrap()));
    let first = numbers.next()?;
    numbers.all(|number| number == first).then_some(first)
}

/// Rewrites a file until it is told to stop, at a pace of its own.
fn keep_rewriting(path: &Path, seed: u64, stop: &AtomicBool) {
    let file = File::options().write(true).open(path).unwrap();
    let blocks = file.metadata().unwrap().len() / BLOCK as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut count = 1;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        rewrite(&file, blocks, count);
        pause(Duration::from_millis(random.u64(..150)));
    }
}

#[test]
fn no_archive_ever_holds_a_file_with_two_writes_in_it() {
    let setup = Setup::new(&[
        "--settle",
        "0",
        "--settle-max",
        "0",
        "--rescan",
        "0",
        "--level",
        "1",
    ]);
    let files = [("a", 1_u64), ("b", 7), ("c", 300), ("d", 900), ("e", 2)];
    for (name, blocks) in files {
        let file = File::create(setup.path(name)).unwrap();
        rewrite(&file, blocks, 1);
    }
    let server = setup.serve();
    let stop = AtomicBool::new(false);
    let (mut archives, mut last) = (0, String::new());
    thread::scope(|scope| {
        for (seed, (name, _)) in (0..).zip(files) {
            let (path, stop) = (setup.path(name), &stop);
            scope.spawn(move || keep_rewriting(&path, seed, stop));
        }
        let _stop = Stop(&stop);
        wait_until("thirty archives", || {
            let (reply, found) = server.archive();
            if reply.headers["etag"] != last {
                last.clone_from(&reply.headers["etag"]);
                archives += 1;
                for (name, content) in &found {
                    let (_, blocks) = files.iter().find(|(file, _)| file == name).unwrap();
                    assert_eq!(content.len() as u64, blocks * BLOCK as u64);
                    assert!(number(content).is_some(), "{name} is a mixture");
                }
            }
            archives >= 30
        });
    });
}
