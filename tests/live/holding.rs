//! While the hold file stands, nothing half-done is ever served.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::server::{Files, Server, Setup, Stop, found, pause, unpacked, wait_until};

const HOLD: &str = ".code-hold";

/// A repository with two branches that have most names in common and no content, checked out in the root.
struct Repository {
    setup: Setup,
    branches: [Files; 2],
}

impl Repository {
    fn new(flags: &[&str]) -> Self {
        let setup = Setup::new(flags);
        git(&setup.root, &["init", "-q"]);
        let mut branches = Vec::new();
        for (branch, skipped) in [("one", 3), ("two", 5)] {
            git(&setup.root, &["checkout", "-q", "--orphan", branch]);
            for index in (0..200).filter(|index| index % skipped != 0) {
                let length = index * 97 % 30_000;
                let line = format!("{branch} {index}\n");
                setup.write(
                    &format!("src/{}/{index}", index % 11),
                    line.repeat(length / 8 + 1),
                );
            }
            git(&setup.root, &["add", "-A"]);
            git(&setup.root, &["commit", "-q", "-m", branch]);
            branches.push(without_git(found(&setup.root)));
            git(&setup.root, &["rm", "-rfq", "."]);
        }
        git(&setup.root, &["checkout", "-qf", "one"]);
        Self {
            setup,
            branches: branches.try_into().unwrap(),
        }
    }

    /// Removes half of the tree and checks out a branch, as a careless deploy would; something may happen between.
    fn deploy(&self, branch: usize, between: impl FnOnce()) {
        for directory in 0..5 {
            drop(fs::remove_dir_all(
                self.setup.path(&format!("src/{directory}")),
            ));
        }
        between();
        git(
            &self.setup.root,
            &["checkout", "-qf", ["one", "two"][branch]],
        );
    }
}

fn without_git(files: Files) -> Files {
    let is_ours = |(name, _): &(String, Vec<u8>)| !name.starts_with(".git") && name != HOLD;
    files.into_iter().filter(is_ours).collect()
}

fn git(root: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.args([
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.com",
        "-C",
    ]);
    git.arg(root)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = git.output().expect("git is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

/// Whether there is a git to work with; without it the test says that it is skipped, or fails if nothing may be.
fn has_git() -> bool {
    let found = Command::new("git").arg("--version").output().is_ok();
    let required = std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_some();
    assert!(found || !required, "git is missing");
    if !found {
        io::stderr()
            .write_all(b"skipped: git is missing\n")
            .unwrap();
    }
    found
}

/// Downloads again and again while something else goes on; gives what came, each tree once.
fn download_meanwhile(server: &Server, work: impl FnOnce()) -> Vec<Files> {
    let done = AtomicBool::new(false);
    let download = || {
        let (mut seen, mut trees) = (BTreeSet::new(), Vec::new());
        while !done.load(Ordering::Relaxed) {
            let reply = server.get("/code.tar.gz");
            assert_eq!(reply.status, 200);
            if seen.insert(reply.headers["etag"].clone()) {
                trees.push(unpacked(&reply.body));
            }
        }
        trees
    };
    thread::scope(|scope| {
        let downloads = [scope.spawn(download), scope.spawn(download)];
        let stop = Stop(&done);
        work();
        drop(stop);
        downloads.map(|download| download.join().unwrap()).concat()
    })
}

#[test]
fn under_the_hold_file_each_download_is_one_of_the_two_trees() {
    if !has_git() {
        return;
    }
    let repository = Repository::new(&["--settle", "1ms", "--rescan", "1s"]);
    let server = repository.setup.serve();
    let trees = download_meanwhile(&server, || {
        for deploy in 0..50 {
            let hold = repository.setup.path(HOLD);
            fs::write(&hold, "").unwrap();
            repository.deploy((deploy + 1) % 2, || ());
            fs::remove_file(&hold).unwrap();
            if deploy % 5 == 0 {
                server.wait_for_files(&repository.branches[(deploy + 1) % 2]);
            } else {
                pause(Duration::from_millis(deploy as u64 * 7 % 60));
            }
        }
        server.wait_for_files(&repository.branches[0]);
    });
    assert!(trees.len() >= 2);
    for tree in trees {
        assert!(repository.branches.contains(&tree));
    }
}

#[test]
fn without_it_each_file_is_one_of_its_two_versions() {
    if !has_git() {
        return;
    }
    let repository = Repository::new(&[]);
    let server = repository.setup.serve();
    let trees = download_meanwhile(&server, || {
        for deploy in 0..50 {
            let tag = server.tag();
            repository.deploy((deploy + 1) % 2, || {
                // Some of the deploys are so slow that half of a tree is served.
                if deploy % 5 == 0 {
                    wait_until("half of the tree is served", || server.tag() != tag);
                }
            });
        }
        server.wait_for_files(&repository.branches[0]);
    });
    assert!(trees.len() > 10);
    let [one, two] = &repository.branches;
    for tree in &trees {
        assert!(!tree.is_empty());
        for (name, content) in tree {
            let is_one = [one, two]
                .iter()
                .any(|branch| branch.get(name) == Some(content));
            // Git removes a directory when its last file goes.
            assert!(is_one || content == b"<directory>", "{name}");
        }
    }
}

#[test]
fn a_hold_file_that_was_left_behind_holds_for_a_while() {
    let setup = Setup::new(&["--hold-max", "1s", "--settle", "10ms", "--rescan", "0"]);
    setup.write("file", "one");
    setup.write(HOLD, "");
    let server = setup.start();
    assert_eq!(server.get("/readyz").status, 503);
    server.wait_for_event("nothing is built while the hold file stands");
    wait_until("it is taken for left behind", || {
        server.get("/readyz").status == 200
    });
    server.wait_for_event("the hold file was left behind and counts no longer: remove it");
    // It counts again when it is renewed.
    setup.write("file", "two");
    server.wait_for_files(&without_git(found(&setup.root)));
}
