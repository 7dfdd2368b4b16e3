//! The stages of the data path, each on the same tree made from a seed.
//!
//! `cargo bench` prints medians and bytes a second. The tree: 600 files in 40 directories, most of them text of a few
//! kilobytes and a few that do not compress, 12 MiB in all.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use code_server::archive::deflate::{Job, deflate};
use code_server::archive::inflate::inflate;
use code_server::archive::{Options, Order, Outputs, Previous, seal};
use code_server::entry::{EntryKind, Modes};
use code_server::root::Root;
use code_server::snapshot::cache::{StatCache, StatCacheWriter};
use code_server::snapshot::read_content;
use code_server::tree::{Rules, Scope, Tree, Unreadable, scan};
use code_server::unpack::{Limits, unpack};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use flate2::read::GzDecoder;
use tempfile::TempDir;

const SEED: u64 = 20_240_229;

fn main() {
    divan::main();
}

struct Sample {
    _directory: TempDir,
    root: Root,
    tree: Tree,
    bytes: u64,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let bytes = make_tree(directory.path());
        let root = Root::open(directory.path()).unwrap();
        let tree = scan(&root, &scope(), &|| false).unwrap();
        Sample {
            _directory: directory,
            root,
            tree,
            bytes,
        }
    })
}

fn scope() -> Scope {
    let rules = Rules::new::<&str>(&[], true).unwrap();
    Scope {
        rules,
        unreadable: Unreadable::Fail,
        own: Vec::new(),
    }
}

/// Fills a directory; returns how many bytes its files have.
fn make_tree(root: &Path) -> u64 {
    let mut random = fastrand::Rng::with_seed(SEED);
    let words: Vec<String> = (0..800).map(|_| word(&mut random)).collect();
    let mut bytes = 0;
    for file in 0..600 {
        let directory = root.join(format!("package-{}/module-{}", file % 8, file % 40));
        fs::create_dir_all(&directory).unwrap();
        let content = if file % 150 == 149 {
            noise(&mut random)
        } else {
            text(&mut random, &words)
        };
        bytes += content.len() as u64;
        fs::write(directory.join(format!("file-{file}.py")), content).unwrap();
    }
    bytes
}

fn word(random: &mut fastrand::Rng) -> String {
    let length = random.usize(2..11);
    std::iter::repeat_with(|| random.lowercase())
        .take(length)
        .collect()
}

fn text(random: &mut fastrand::Rng, words: &[String]) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.usize(200..4000) {
        text.push_str(random.choice(words).unwrap());
        text.push(if random.u8(..) < 24 { '\n' } else { ' ' });
    }
    text.into()
}

fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..))
        .take(500_000)
        .collect()
}

fn order(workers: usize) -> Order<'static> {
    let workers = NonZeroUsize::new(workers).unwrap();
    let options = Options {
        level: 6,
        modes: Modes::Normal,
        mtime: None,
        workers,
    };
    Order {
        options,
        unreadable: Unreadable::Fail,
        cancelled: &|| false,
        previous: None,
    }
}

/// The walk: names, kinds and stamps.
#[divan::bench]
fn scanning(bencher: Bencher<'_, '_>) {
    let sample = sample();
    let entries = ItemsCount::new(sample.tree.entries.len());
    bencher
        .counter(entries)
        .bench(|| scan(&sample.root, &scope(), &|| false).unwrap());
}

/// Every file read and digested, the listing written.
#[divan::bench]
fn snapshot(bencher: Bencher<'_, '_>) {
    let sample = sample();
    bencher.counter(BytesCount::new(sample.bytes)).bench(|| {
        for entry in &sample.tree.entries {
            if entry.kind() == EntryKind::File {
                read_content(&sample.root, entry, &|| false).unwrap();
            }
        }
    });
}

/// The whole way from the entries to the sealed archive, with one and with two threads that compress.
#[divan::bench(args = [1, 2])]
fn sealing(bencher: Bencher<'_, '_>, workers: usize) {
    let sample = sample();
    bencher.counter(BytesCount::new(sample.bytes)).bench(|| {
        let outputs = outputs(io::sink());
        let known = StatCache::empty();
        seal(&sample.root, &sample.tree, &order(workers), known, outputs).unwrap()
    });
}

/// The same when nothing has changed: a known file is not read, a known segment is not compressed.
#[divan::bench]
fn sealing_again(bencher: Bencher<'_, '_>) {
    let sample = sample();
    let (archive, cache) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut first = outputs(archive.try_clone().unwrap());
    first.cache = Some(StatCacheWriter::new(cache.try_clone().unwrap()).unwrap());
    let (root, tree) = (&sample.root, &sample.tree);
    let sealed = seal(root, tree, &order(2), StatCache::empty(), first).unwrap();
    let descriptor = sealed.describe(&order(2).options, SystemTime::UNIX_EPOCH);
    let previous = Previous::new(archive, &descriptor, sealed.seams);
    bencher
        .counter(BytesCount::new(sample.bytes))
        .with_inputs(|| tempfile::tempfile().unwrap())
        .bench_values(|file| {
            let known = StatCache::open(cache.try_clone().unwrap()).unwrap();
            let order = Order {
                previous: Some(&previous),
                ..order(2)
            };
            seal(root, tree, &order, known, outputs(file)).unwrap()
        });
}

fn outputs<A>(archive: A) -> Outputs<A, io::Sink> {
    Outputs {
        archive,
        listing: io::sink(),
        cache: None,
    }
}

/// One segment of 1 MiB at several levels.
#[divan::bench(args = [1, 3, 6, 9])]
fn compressing_a_segment(bencher: Bencher<'_, '_>, level: u32) {
    let raw = segment();
    bencher
        .counter(BytesCount::new(raw.len()))
        .with_inputs(|| Job {
            raw: raw.clone(),
            out: Vec::new(),
        })
        .bench_values(|job| deflate(level, job));
}

/// A compressed segment of 1 MiB back to its run of the tar.
#[divan::bench]
fn inflating_a_segment(bencher: Bencher<'_, '_>) {
    let raw = segment();
    let raw_length = raw.len();
    let job = Job {
        raw,
        out: Vec::new(),
    };
    let bytes = deflate(6, job).bytes;
    bencher
        .counter(BytesCount::new(raw_length))
        .bench(|| inflate(&bytes, raw_length, Vec::new()).unwrap());
}

/// The whole tar into an empty directory, with one and with two threads that write.
#[divan::bench(args = [1, 2])]
fn unpacking(bencher: Bencher<'_, '_>, workers: usize) {
    let sample = sample();
    let mut archive = Vec::new();
    let (root, tree, known) = (&sample.root, &sample.tree, StatCache::empty());
    seal(root, tree, &order(2), known, outputs(&mut archive)).unwrap();
    let mut tar = Vec::new();
    GzDecoder::new(&archive[..]).read_to_end(&mut tar).unwrap();
    let workers = NonZeroUsize::new(workers).unwrap();
    let limits = Limits {
        entries: u64::MAX,
        bytes: u64::MAX,
    };
    bencher
        .counter(BytesCount::new(sample.bytes))
        .with_inputs(|| {
            let directory = tempfile::tempdir().unwrap();
            (Arc::new(Root::open(directory.path()).unwrap()), directory)
        })
        .bench_values(|(root, directory)| {
            unpack(&tar[..], &root, limits, workers, io::sink()).unwrap();
            directory
        });
}

/// Text of 1 MiB.
fn segment() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let words: Vec<String> = (0..800).map(|_| word(&mut random)).collect();
    let mut raw = Vec::new();
    while raw.len() < 1 << 20 {
        raw.extend(text(&mut random, &words));
    }
    raw.truncate(1 << 20);
    raw
}
