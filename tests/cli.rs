//! What a person meets at the command line of `code-server`: sentences to act on, and exit codes to script by.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use code_server::store::ServerRecord;

const PROGRAM: &str = env!("CARGO_BIN_EXE_code-server");

fn run(arguments: &[&str], directory: &Path) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

/// Runs in a directory of its own, and checks code and reason.
fn check(arguments: &[&str], code: i32, reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "x").unwrap();
    let output = run(arguments, directory.path());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{arguments:?} left something behind");
}

#[test]
fn a_root_that_is_not_there_is_named() {
    check(&["pack", "nope"], 78, "there is no directory nope");
    for command in ["serve", "pack"] {
        check(&[command, "file"], 78, "file is not a directory");
    }
}

#[test]
fn what_is_wrong_with_the_arguments_is_named() {
    check(&["serve", ".", "--lsiten", ":80"], 64, "--lsiten");
    check(&["serve", ".", "--listen", "http"], 64, "--listen");
    check(&["pack", ".", "--exclude", "{a"], 64, "--exclude");
    check(&["pack", ".", "-o", "nope/out.tar.gz"], 73, "nope");
    check(&["unpack"], 64, "unpack");
    check(&[], 64, "Usage");
}

#[test]
fn a_port_in_use_is_told_from_other_failures() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let free = "127.0.0.1:0";
    for (listen, metrics_listen, flag) in [
        (&*address, free, " --listen"),
        (free, &*address, " --metrics-listen"),
    ] {
        let flags = ["--listen", listen, "--metrics-listen", metrics_listen];
        let output = run(
            &[&["serve", ".", "--state-dir", state], &flags[..]].concat(),
            directory.path(),
        );
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(73), "{stderr}");
        assert!(
            stderr.contains(&address) && stderr.contains(flag),
            "{stderr}"
        );
    }
}

/// Runs as a user who owns nothing; as such a user directly if we are none ourselves.
fn as_nobody(arguments: &[&str], directory: &Path) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return Some(run(arguments, directory));
    }
    // Where nobody may not look at the program, a copy of it serves.
    let program = directory.join("program");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
        .arg(&program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .ok()
}

#[test]
fn an_entry_that_may_not_be_read_is_named_with_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    for name in ["public", "private"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::create_dir(root.join("closed")).unwrap();
    for (name, mode) in [
        ("lost+found", 0o000),
        ("private", 0o000),
        ("closed", 0o000),
        ("", 0o755),
        ("..", 0o755),
    ] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let Some(output) = as_nobody(&["pack", "root", "--list"], directory.path()) else {
        assert!(
            std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_none(),
            "setpriv is missing"
        );
        let reason = b"skipped: setpriv is missing\n";
        return std::io::stderr().write_all(reason).unwrap();
    };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(77), "{stderr}");
    for part in [
        "closed",
        "owner",
        "mode 0000",
        "as user",
        "runAsUser",
        "fsGroup",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let output = as_nobody(
        &["pack", "root", "--list", "--unreadable=skip"],
        directory.path(),
    )
    .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(
        listing.ends_with("  public\n") && listing.lines().count() == 1,
        "{listing}"
    );
    let excluded = ["pack", "root", "--list-excluded", "--unreadable=skip"];
    let output = as_nobody(&excluded, directory.path()).unwrap();
    let excluded = String::from_utf8(output.stdout).unwrap();
    let expected = "closed\tunreadable\nlost+found\tdefault /lost+found\nprivate\tunreadable\n";
    assert_eq!(excluded, expected);
}

#[test]
fn pack_writes_a_file_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    let output = run(
        &["pack", ".", "-o", "code.tar.gz", "--json"],
        directory.path(),
    );
    assert!(output.status.success());
    let first = fs::read(directory.path().join("code.tar.gz")).unwrap();
    // The archive lies in the tree that is packed, and is no part of it.
    let output = run(&["pack", ".", "-o", "code.tar.gz"], directory.path());
    assert!(output.status.success());
    assert!(fs::read(directory.path().join("code.tar.gz")).unwrap() == first);
    let output = run(&["pack", ".", "--exclude", "*"], directory.path());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
}

#[test]
fn pack_writes_through_links_and_to_pipes_and_leaves_them_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("root")).unwrap();
    fs::write(at("root/file"), "content").unwrap();
    let pack = |name| {
        let output = run(&["pack", "root", "-o", name], directory.path());
        assert!(output.status.success(), "{output:?}");
    };
    pack("plain");
    let expected = fs::read(at("plain")).unwrap();

    fs::write(at("behind"), "old").unwrap();
    symlink("behind", at("link")).unwrap();
    pack("link");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert!(fs::read(at("behind")).unwrap() == expected);

    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
    pack("pipe");
    assert!(
        fs::symlink_metadata(at("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_signal_ends_a_packing_whose_output_nobody_takes() {
    let directory = tempfile::tempdir().unwrap();
    // More than a pipe holds, and nothing that compresses.
    let noise: Vec<_> = std::iter::successors(Some(1_u32), |n| {
        Some(n.wrapping_mul(747_796_405).wrapping_add(1))
    })
    .take(1 << 20)
    .map(|n| n.to_be_bytes()[1])
    .collect();
    fs::write(directory.path().join("file"), noise).unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["pack", "."])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_state_directory_takes_the_place_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("artifacts/model");
    fs::create_dir(directory.path().join("artifacts")).unwrap();
    fs::write(&model, "precious").unwrap();
    let refused = |root, state, reason: &str| {
        let arguments = [
            "serve",
            root,
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            state,
        ];
        let output = run(&arguments, directory.path());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(
            stderr.contains(reason) && stderr.contains("--state-dir"),
            "{stderr}"
        );
        assert!(model.exists());
    };
    refused(".", ".", "itself");
    refused("artifacts", ".", "no state directory");
}

#[test]
fn what_is_left_out_is_listed_with_its_rule() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(".git")).unwrap();
    fs::write(directory.path().join("a.log"), "").unwrap();
    fs::write(directory.path().join(".codeignore"), "*.log\n").unwrap();
    let output = run(&["pack", ".", "--list-excluded"], directory.path());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, ".git\tdefault .git\na.log\t.codeignore *.log\n");
}

/// A server that is ended by its id when the test is over.
struct Server {
    child: Child,
    address: String,
    log: Receiver<String>,
}

impl Server {
    fn start(root: &Path, state: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                root.to_str().unwrap(),
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .args(["--state-dir", state.to_str().unwrap()])
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        let line = lines
            .by_ref()
            .map(Result::unwrap)
            .inspect(|line| drop(sender.send(line.clone())))
            .find(|line| line.contains("listening"))
            .unwrap();
        let address = line
            .split("\"address\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        // The rest is read whether or not somebody wants it, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line.unwrap()))));
        Self {
            child,
            address,
            log,
        }
    }

    fn wait_for_log(&self, text: &str) {
        let limit = Duration::from_secs(20);
        let mut lines = std::iter::from_fn(|| self.log.recv_timeout(limit).ok());
        assert!(lines.any(|line| line.contains(text)), "no word of {text:?}");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(
                Instant::now() < deadline,
                "the server does not become ready"
            );
            std::thread::yield_now();
        }
    }

    fn terminate(mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_server_builds_serves_and_ends_with_0() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    let server = Server::start(root.path(), state.path());
    server.wait_until_ready();
    assert!(server.get("/code.list").ends_with("  file\n"));
    assert!(server.get("/code.json").contains("\"files\":1"));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_second_server_on_the_same_state_waits_for_its_turn() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    let first = Server::start(root.path(), state.path());
    first.wait_until_ready();
    let second = Server::start(root.path(), state.path());
    second.wait_for_log("another server uses the state directory");
    assert!(second.get("/livez").starts_with("HTTP/1.1 200"));
    assert!(second.get("/readyz").starts_with("HTTP/1.1 503"));
    assert_eq!(first.terminate(), Some(0));
    second.wait_until_ready();
    assert_eq!(second.terminate(), Some(0));
}

#[test]
fn a_state_directory_inside_the_tree_is_no_part_of_it() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    let server = Server::start(root.path(), &root.path().join("state"));
    server.wait_until_ready();
    assert!(server.get("/code.json").contains("\"entries\":1"));
}

#[test]
fn a_server_that_cannot_build_yet_lives_and_is_not_ready() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(root.path(), state.path());
    assert!(server.get("/livez").starts_with("HTTP/1.1 200"));
    assert!(server.get("/code.tar.gz").starts_with("HTTP/1.1 503"));
    fs::write(root.path().join("file"), "content").unwrap();
    server.wait_until_ready();
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_that_starts_again_serves_what_it_published_last() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    let killed = Server::start(root.path(), state.path());
    killed.wait_for_log("built");
    let current = state.path().join("current");
    wait_until(|| current.exists());
    drop(killed);
    // Nothing can be built of this, so it is what was there before that is served.
    fs::remove_file(root.path().join("file")).unwrap();
    let server = Server::start(root.path(), state.path());
    server.wait_until_ready();
    assert!(server.get("/code.list").ends_with("  file\n"));
    let metrics = server.get("/metrics");
    assert!(metrics.contains("codeserver_artifact_files 1\n"));
    let digest = fs::read_to_string(&current).unwrap();
    assert!(server.get("/revisions").contains(digest.trim_end()));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_tells_in_its_state_directory_where_it_is() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), "content").unwrap();
    let server = Server::start(root.path(), state.path());
    server.wait_until_ready();
    let record = ServerRecord::read(state.path()).unwrap().unwrap();
    assert_eq!(record.address.to_string(), server.address);
    assert_eq!(record.pid, server.child.id());
    assert!(record.rules.default_excludes);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(ServerRecord::read(state.path()).unwrap(), None);
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::yield_now();
    }
}
