//! Archives that nobody means well with, one line each: what each of them brings, or why it is refused. Whatever it is, nothing
//! is written outside of the directory that it is unpacked into, and one that is refused leaves a target as it was.
//!
//! A case that is found in the wild is added to the table.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
#[path = "../faults/client.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod client;
mod craft;
#[path = "../faults/scratch.rs"]
mod scratch;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs::{self, Permissions};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use code_server::config::fetch::{FetchConfig, Layout};
use code_server::config::url::Source;
use code_server::exit::{Exit, sentence};
use code_server::root::Root;
use code_server::unpack::{Limits, unpack};

use crate::cases::Fate::{self, No, Yes};
use crate::craft::{any, tar};
use crate::scratch::scratch;
use support::artifact::{artifact, sample, seal};
use support::server::Server;

const LIMITS: Limits = Limits {
    entries: 1000,
    bytes: 1 << 20,
};
/// Names outside of everything, which the table tries to make.
const ELSEWHERE: [&str; 2] = ["/hostile-was-here", "/tmp/hostile-was-here"];

/// A directory to unpack into, and one beside it that nobody may touch.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(scratch());
        fs::create_dir(place.stage()).unwrap();
        fs::create_dir(place.outside()).unwrap();
        fs::write(place.outside().join("secret"), "secret").unwrap();
        fs::set_permissions(
            place.outside().join("secret"),
            Permissions::from_mode(0o600),
        )
        .unwrap();
        fs::set_permissions(place.outside(), Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn stage(&self) -> PathBuf {
        self.0.path().join("stage")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    /// All that lies outside, to the last time that anything about it was changed.
    fn beyond(&self) -> String {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .chain(fs::read_dir(self.outside()).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != self.stage())
            .collect();
        names.sort();
        let line = |path: &PathBuf| {
            let found = fs::symlink_metadata(path).unwrap();
            let content = fs::read(path).unwrap_or_default();
            let changed = (found.ctime(), found.ctime_nsec());
            format!(
                "{} {:o} {changed:?} {content:?}\n",
                path.display(),
                found.mode()
            )
        };
        names.iter().map(line).collect()
    }
}

/// What was brought, in the words of [`Fate::Yes`].
fn brought(root: &Path) -> String {
    fn walk(root: &Path, beneath: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(root.join(beneath)).unwrap() {
            let path = beneath.join(entry.unwrap().file_name());
            let status = fs::symlink_metadata(root.join(&path)).unwrap();
            let (name, mode) = (path.to_string_lossy(), status.mode() & 0o7777);
            assert!(!status.is_file() || status.nlink() == 1);
            found.push(if status.is_symlink() {
                let target = fs::read_link(root.join(&path)).unwrap();
                format!("{name}>{}", target.display())
            } else {
                let (slash, usual) = if status.is_dir() {
                    ("/", 0o755)
                } else {
                    ("", 0o644)
                };
                let mode = if mode == usual {
                    String::new()
                } else {
                    format!(":{mode:o}")
                };
                format!("{name}{slash}{mode}")
            });
            if status.is_dir() {
                fs::set_permissions(root.join(&path), Permissions::from_mode(0o755)).unwrap();
                walk(root, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found);
    found.sort();
    found.join(" ")
}

/// What is wrong with what became of an archive; `None` where nothing is.
fn wrong(archive: &[u8], fate: &Fate) -> Option<String> {
    let place = Place::new();
    let before = place.beyond();
    let root = Arc::new(Root::open(&place.stage()).unwrap());
    let workers = NonZeroUsize::new(2).unwrap();
    let unpacked = unpack(archive, &root, LIMITS, workers, std::io::sink());
    if place.beyond() != before {
        return Some("it changed what lies outside".into());
    }
    match (fate, unpacked) {
        (Yes(expected), Ok(_)) => {
            let found = brought(&place.stage());
            (*expected != "…" && *expected != found).then(|| format!("it brings {found:?}"))
        }
        (No(expected), Err(error)) => {
            let told = sentence(&error);
            let is_clear = told.contains(expected)
                && error.exit() == Exit::Data
                && !told.contains(char::is_control);
            (!is_clear).then(|| format!("{:?}: {told:.300}", error.exit()))
        }
        (Yes(_), Err(error)) => Some(format!("refused: {:.300}", sentence(&error))),
        (No(_), Ok(_)) => Some(format!("taken: {:?}", brought(&place.stage()))),
    }
}

#[test]
fn each_archive_brings_what_it_should_or_is_refused_and_writes_nothing_elsewhere() {
    let wrong: Vec<String> = cases::all()
        .filter_map(|(what, archive, fate)| Some(format!("{what}: {}", wrong(&archive, &fate)?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ELSEWHERE.iter().all(|path| !Path::new(path).exists()));
}

/// Everything in a target, with the times at which it was changed.
fn state(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        // Of our own directory the locks and what was staged change the times.
        let is_ours = path == *root || path.ends_with(".code-fetch");
        let changed = (!is_ours).then(|| (status.ctime(), status.ctime_nsec()));
        found.push(format!(
            "{} {:o} {changed:?}",
            path.display(),
            status.mode()
        ));
        if status.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_target_is_as_before_when_an_archive_was_refused() {
    for layout in [Layout::Direct, Layout::Versioned] {
        let place = Place::new();
        let target = place.0.path().join("target");
        let config = |server: &Server| FetchConfig {
            sources: vec![Source::Server(server.url())],
            ..client::config(&[], &target, layout)
        };
        let old = Server::of(artifact(&sample(1))).await;
        client::fetch(&config(&old)).await.unwrap();
        let (before, beyond) = (state(&target), place.beyond());
        for (what, archive, fate) in cases::all() {
            if matches!(fate, Yes(_)) || archive.is_empty() {
                continue;
            }
            let server = Server::of(seal(&archive)).await;
            let error = client::fetch(&config(&server)).await.unwrap_err();
            assert_eq!(error.exit(), Exit::Data, "{what}: {}", sentence(&error));
            assert_eq!(state(&target), before, "{what}");
            assert_eq!(place.beyond(), beyond, "{what}");
        }
    }
    assert!(ELSEWHERE.iter().all(|path| !Path::new(path).exists()));
}

#[tokio::test]
async fn a_segment_that_inflates_to_more_than_it_says_is_not_inflated() {
    let place = Place::new();
    let target = place.0.path().join("target");
    let mut bomb = seal(&tar(&[any(b'0', "zeros", "", vec![0; 64 << 20])]));
    for segment in &mut bomb.descriptor.segments {
        segment.raw_length = 1;
    }
    bomb.descriptor.uncompressed_size = bomb.descriptor.segments.len() as u64;
    let server = Server::of(bomb).await;
    let config = FetchConfig {
        sources: vec![Source::Server(server.url())],
        ..client::config(&[], &target, Layout::Direct)
    };
    let error = client::fetch(&config).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Data, "{}", sentence(&error));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}
