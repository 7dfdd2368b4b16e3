//! Killed at any moment, a server or an ingest leaves what was there before or what was to come, and the next one mends it.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use code_server::digest::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use crate::ingesting::{archive, beside_the_root, ingest, open_to_uploads, start_ingest, upload};
use crate::server::{Files, Reply, Server, Setup, found, pause, unpacked, wait_until};

const FLAGS: [&str; 8] = [
    "--settle",
    "10ms",
    "--rescan",
    "0",
    "--keep",
    "2",
    "--keep-for",
    "0",
];
const KILLS: usize = 50;
/// The seed of a run that is to be repeated.
const SEED: &str = "CODE_SERVER_TEST_SEED";

/// What is left to chance; told when a test fails.
struct Chance {
    random: fastrand::Rng,
    seed: u64,
}

impl Chance {
    fn new() -> Self {
        let seed = env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        Self {
            random: fastrand::Rng::with_seed(seed),
            seed,
        }
    }

    /// A moment in something that takes so long, or a bit later.
    fn moment(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.random.f64() * 1.1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        // Half of it can be compressed.
        let byte = |index: usize| {
            if index.is_multiple_of(2) {
                self.random.u8(..)
            } else {
                b'x'
            }
        };
        (0..length).map(byte).collect()
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(writeln!(io::stderr(), "to repeat it: {SEED}={}", self.seed));
        }
    }
}

/// Ends a server; gives the files that it was writing, each still open.
fn kill(server: Server, setup: &Setup) -> Vec<(PathBuf, File)> {
    server.kill();
    let staged = fs::read_dir(setup.state.join("staging")).unwrap();
    let paths = staged.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), File::open(path).unwrap()))
        .collect()
}

/// Starts a server again, and sees that it serves a tree that was there.
fn restart(setup: &Setup, left: &[(PathBuf, File)], history: &[Files]) -> Server {
    let server = begin_again(setup, left);
    wait_until("it is ready", || server.get("/readyz").status == 200);
    verify(&server, &server.get("/code.tar.gz"), history);
    server
}

/// Starts a server again, and sees that it has removed what was half-done before it answers.
fn begin_again(setup: &Setup, left: &[(PathBuf, File)]) -> Server {
    let server = setup.start();
    for (path, file) in left {
        // Whatever has that name now is another file.
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{}", path.display());
    }
    server
}

/// Whether an archive is what its server says of it, and holds a tree that was there.
fn verify(server: &Server, reply: &Reply, history: &[Files]) {
    assert_eq!(reply.status, 200);
    let tag = format!("\"{}\"", Digest::of(&reply.body).hex());
    assert_eq!(reply.headers["etag"], tag);
    let revision = &reply.headers["code-revision"];
    let listing = server.get(&format!("/revisions/{revision}/code.list"));
    assert_eq!(*revision, Digest::of(&listing.body).to_string());
    let files = unpacked(&reply.body);
    assert!(
        history.contains(&files),
        "no tree had these; {} that were there, how many of its files they have otherwise: {:?}",
        history.len(),
        history
            .iter()
            .map(|tree| differences(tree, &files))
            .collect::<Vec<_>>()
    );
}

/// How many names do not stand for the same in two trees.
fn differences(one: &Files, other: &Files) -> usize {
    let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    names
        .iter()
        .filter(|name| one.get(**name) != other.get(**name))
        .count()
}

/// Sees that a server that has nothing to do any more has nothing half-done, and serves all that it says it has.
fn verify_at_rest(server: &Server, setup: &Setup, history: &[Files]) {
    wait_until("nothing is staged", || {
        let mut staged = fs::read_dir(setup.state.join("staging")).unwrap();
        staged.next().is_none()
    });
    let list: serde_json::Value = serde_json::from_slice(&server.get("/revisions").body).unwrap();
    for retained in list["revisions"].as_array().unwrap() {
        let revision = retained["revision"].as_str().unwrap();
        let reply = server.get(&format!("/revisions/{revision}/code.tar.gz"));
        // It may have been retired meanwhile, unless it is one of the newest.
        if reply.status != 404 || retained["current"] == true {
            verify(server, &reply, history);
        }
    }
}

/// Changes a tree in one step, so that whoever looks at it while that is done sees the old one or the new one.
fn change(setup: &Setup, chance: &mut Chance) {
    let spare = setup.parent().join("spare");
    if chance.random.bool() {
        let length = chance.random.usize(..300_000);
        fs::write(&spare, chance.bytes(length)).unwrap();
        fs::rename(
            &spare,
            setup.path(&format!("src/{}", chance.random.u8(..30))),
        )
        .unwrap();
    } else {
        fs::create_dir(&spare).unwrap();
        for index in 0..10 {
            fs::write(spare.join(index.to_string()), chance.bytes(10_000)).unwrap();
        }
        let live = setup.path("directory");
        renameat_with(CWD, &spare, CWD, &live, RenameFlags::EXCHANGE).unwrap();
        fs::remove_dir_all(&spare).unwrap();
    }
}

#[test]
fn a_server_that_is_killed_while_it_builds_serves_a_tree_that_was_there() {
    let mut chance = Chance::new();
    let setup = Setup::new(&FLAGS);
    fs::create_dir(setup.path("directory")).unwrap();
    for index in 0..30 {
        setup.write(&format!("src/{index}"), chance.bytes(30_000));
    }
    let mut history = vec![found(&setup.root)];
    let mut server = setup.serve();
    let began = Instant::now();
    change(&setup, &mut chance);
    history.push(found(&setup.root));
    server.wait_for_files(&history[1]);
    let whole = began.elapsed();
    for kills in 0..KILLS {
        // Else the build that every start begins with is still under way.
        if chance.random.bool() {
            wait_until("it has built", || server.builds() > 0.5);
        }
        // Not while it starts: there, nothing but the start is killed.
        if kills % 5 != 0 {
            change(&setup, &mut chance);
            history.push(found(&setup.root));
        }
        pause(chance.moment(whole));
        let left = kill(server, &setup);
        assert_eq!(Some(&found(&setup.root)), history.last());
        server = if kills % 5 == 4 {
            begin_again(&setup, &left)
        } else {
            restart(&setup, &left, &history)
        };
    }
    wait_until("it is ready", || server.get("/readyz").status == 200);
    server.wait_for_files(history.last().unwrap());
    verify_at_rest(&server, &setup, &history);
    assert_eq!(server.terminate(), Some(0));
}

/// The tree of a new version: half of it is as it was.
fn version(old: &Files, chance: &mut Chance) -> Files {
    let mut files = old.clone();
    for _ in 0..40 {
        let name = format!("file {}", chance.random.u8(..80));
        let length = chance.random.usize(..40_000);
        files.insert(name, chance.bytes(length));
    }
    for _ in 0..10 {
        files.remove(&format!("file {}", chance.random.u8(..80)));
    }
    files
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

#[test]
fn an_ingest_that_is_killed_leaves_the_old_tree_or_the_new_one_and_the_next_one_nothing_else() {
    let mut chance = Chance::new();
    let setup = open_to_uploads(&FLAGS);
    let mut history = vec![version(&Files::new(), &mut chance)];
    for (name, content) in &history[0] {
        setup.write(name, content);
    }
    let mut server = setup.serve();
    let mut tree = history[0].clone();
    let mut next = |history: &mut Vec<Files>, chance: &mut Chance| {
        tree = version(&tree, chance);
        history.push(tree.clone());
        archive(&tree)
    };
    let sent = next(&mut history, &mut chance);
    let uploading = timed(|| assert_eq!(upload(&server, &sent).unwrap().status, 200));
    let sent = next(&mut history, &mut chance);
    let ingesting = timed(|| assert!(ingest(&setup, &sent).status.success()));
    for kills in 0..KILLS {
        let sent = next(&mut history, &mut chance);
        match kills % 4 {
            // The command.
            0 | 2 => {
                let mut child = start_ingest(&setup);
                let mut input = child.stdin.take().unwrap();
                thread::scope(|scope| {
                    // Nobody reads it any more once the command is killed.
                    scope.spawn(move || drop(input.write_all(&sent)));
                    pause(chance.moment(ingesting));
                    child.kill().unwrap();
                });
                child.wait().unwrap();
            }
            // The server that is uploaded to.
            1 => thread::scope(|scope| {
                scope.spawn(|| drop(upload(&server, &sent)));
                pause(chance.moment(uploading));
                server.signal(Signal::KILL);
            }),
            // The server beside the command.
            _ => thread::scope(|scope| {
                let ingesting_now = scope.spawn(|| ingest(&setup, &sent));
                pause(chance.moment(ingesting));
                server.signal(Signal::KILL);
                // The command looks whether the process is there still.
                server.child.wait().unwrap();
                let output = ingesting_now.join().unwrap();
                assert!(output.status.success(), "{output:?}");
            }),
        }
        let after = found(&setup.root);
        assert!(
            history[history.len() - 2..].contains(&after),
            "neither tree"
        );
        if kills % 2 == 1 {
            let left = kill(server, &setup);
            server = restart(&setup, &left, &history);
        }
        server.wait_for_files(&after);
        verify(&server, &server.get("/code.tar.gz"), &history);
        let output = ingest(&setup, &archive(history.last().unwrap()));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(beside_the_root(&setup), Vec::<PathBuf>::new());
        assert_eq!(found(&setup.root), *history.last().unwrap());
    }
    server.wait_for_files(history.last().unwrap());
    verify_at_rest(&server, &setup, &history);
    assert_eq!(server.terminate(), Some(0));
}
