//! A tree, an archive of it, and a target; and a run of the program.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use code_server::digest::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::server::{Answer, Request, Server};

/// What is beneath a directory: contents, with the kind and the permissions before them.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

pub(crate) struct Place(tempfile::TempDir);

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Place {
    /// With a tree of some kinds of things. It is large enough to come in many pieces.
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for directory in ["site", "source", "source/app", "source/app/empty"] {
            fs::create_dir(place.path(directory)).unwrap();
        }
        place.write("main.py", b"print('hello')\n");
        place.write("app/nothing", b"");
        place.write("app/noise", &noise(1, 700_000));
        place.write("run.sh", b"#!/bin/sh\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.path("source/run.sh"), executable).unwrap();
        symlink("../main.py", place.path("source/app/main")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path("source").join(name), content).unwrap();
    }

    pub(crate) fn tree(&self) -> Tree {
        tree(&self.path("source"))
    }

    /// A tar of the tree.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", self.path("source")).unwrap();
        tar.into_inner().unwrap()
    }

    pub(crate) fn tar_gz(&self) -> Vec<u8> {
        gzip(&self.tar())
    }

    /// Runs the program with a URL, the target and some flags.
    pub(crate) async fn fetch(&self, url: &str, flags: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fetch-init"));
        command
            .env_clear()
            .arg(url)
            .arg(self.path("target"))
            .env("FETCH_INIT_DEADLINE", "20s")
            .arg("--termination-log")
            .arg(self.path("termination-log"))
            .args(flags)
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        Ended {
            code: output.status.code(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fetches what has to be this archive, and asserts that the target holds the tree then.
    pub(crate) async fn succeeds(&self, url: &str, archive: &[u8], flags: &[&str]) -> Ended {
        let digest = Digest::of(archive).hex();
        let flags = [&["--sha256", &digest], flags].concat();
        let ended = self.fetch(url, &flags).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        self.assert_fetched();
        ended
    }

    /// Fetches into a target that holds something, and asserts that this is all it holds afterwards.
    pub(crate) async fn fails(&self, url: &str, flags: &[&str], code: i32) -> String {
        let target = self.path("target");
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("before"), "it was here").unwrap();
        let ended = self.fetch(url, flags).await;
        assert_eq!(ended.code, Some(code), "{}", ended.log);
        let left = tree(&target);
        assert!(left.keys().eq(["before"]), "{:?}", left.keys());
        assert!(!target.join(".code-fetch/staging").exists());
        ended.log
    }

    #[track_caller]
    pub(crate) fn assert_fetched(&self) {
        let (fetched, source) = (tree(&self.path("target")), self.tree());
        assert!(
            fetched == source,
            "{:?} is there instead of {:?}",
            fetched.keys(),
            source.keys()
        );
    }
}

/// All but what the program has there for itself.
fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            if name.starts_with(".code-") {
                continue;
            }
            let status = fs::symlink_metadata(&path).unwrap();
            let mut content = format!("{:o} ", status.permissions().mode()).into_bytes();
            if status.is_symlink() {
                content.extend(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes());
            } else if status.is_dir() {
                directories.push(path.clone());
            } else {
                content.extend(fs::read(&path).unwrap());
            }
            found.insert(name.into(), content);
        }
    }
    found
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that no compression makes fewer.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut noise);
    noise
}

/// A server that has one archive under every name, and knows neither ranges nor tags.
pub(crate) async fn serving(archive: Vec<u8>) -> Server {
    Server::start(move |_, _| Answer::status(200).body(archive.clone())).await
}

/// As a good server answers that has an archive with this tag.
pub(crate) fn tagged(archive: &[u8], tag: &str, request: &Request) -> Answer {
    let size = archive.len();
    let is_same = request.header("if-range").is_none_or(|told| told == tag);
    let range = request.header("range").filter(|_| is_same);
    let answer = match range {
        None => Answer::status(200).body(archive.to_vec()),
        Some(range) => {
            let first = range.strip_prefix("bytes=").unwrap().trim_end_matches('-');
            let first: usize = first.parse().unwrap();
            Answer::status(206)
                .with(
                    "Content-Range",
                    format!("bytes {first}-{}/{size}", size - 1),
                )
                .body(archive[first..].to_vec())
        }
    };
    answer.with("ETag", tag)
}
