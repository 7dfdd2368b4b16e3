//! What `fetch-init` says while it runs and at its end, and what it needs of the machine: a mask for modes, and room.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "another test needs more of it")]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::artifact::{Thing, artifact, sample};
use support::server::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fetch-init");

/// How it ended: its code, and what it wrote to standard error.
struct Ended {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Ended {
    /// Log lines without what differs from run to run: time and level.
    fn events(&self) -> Vec<&str> {
        let lines = self.lines.iter();
        lines
            .map(|line| {
                line.split_once(" INFO ")
                    .map_or(&**line, |(_, event)| event)
            })
            .collect()
    }
}

/// Fetches by the program; standard output must stay empty.
async fn fetch(server: &Server, target: &Path, flags: &[&str]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command
        .arg(server.url().to_string())
        .arg(target)
        .args(flags);
    let output = run(command).await;
    assert_eq!(output.stdout, b"");
    let text = String::from_utf8(output.stderr).unwrap();
    Ended {
        code: output.status.code(),
        lines: text.lines().map(Into::into).collect(),
    }
}

async fn run(mut command: Command) -> Output {
    command.env_clear().stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.unwrap().unwrap()
}

/// Says that a test is skipped, which some machines must not do.
fn skip(reason: &str) {
    assert!(
        std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_none(),
        "{reason}"
    );
    let line = format!("skipped: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[tokio::test]
async fn each_phase_has_a_line_and_the_end_a_summary() {
    let place = tempfile::tempdir().unwrap();
    let made = artifact(&sample(1));
    let (revision, size) = (made.descriptor.revision, made.descriptor.size);
    let server = Server::of(made).await;
    let ended = fetch(&server, &place.path().join("target"), &[]).await;
    assert_eq!(ended.code, Some(0));
    let events = ended.events();
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(events[0], "waiting for the server");
    let downloading = format!("downloading revision={revision} bytes={size}");
    assert_eq!(events[1], downloading);
    assert_eq!(events[2], "installing");
    let summary = format!("installed {revision}: 5 files, ");
    assert!(events[3].starts_with(&summary), "{}", events[3]);
    assert!(
        events[3].contains(" KiB downloaded, 1 attempt, "),
        "{}",
        events[3]
    );

    let again = fetch(&server, &place.path().join("target"), &[]).await;
    let events = again.events();
    assert_eq!((again.code, events.len()), (Some(0), 2), "{events:?}");
    let summary = format!("up to date {revision}: 5 files, ");
    assert!(events[1].starts_with(&summary), "{}", events[1]);
    assert!(events[1].contains(" reused, 1 attempt, "), "{}", events[1]);
}

#[tokio::test]
async fn a_program_reads_figures_with_their_units() {
    let place = tempfile::tempdir().unwrap();
    let made = artifact(&sample(1));
    let (revision, size) = (made.descriptor.revision, made.descriptor.size);
    let server = Server::of(made).await;
    let flags = ["--log-format=json"];
    let ended = fetch(&server, &place.path().join("target"), &flags).await;
    assert_eq!(ended.code, Some(0));
    let lines = ended.lines.iter();
    let events: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = events.iter().map(|event| &event["message"]).collect();
    let expected = [
        "waiting for the server",
        "downloading",
        "installing",
        "installed",
    ];
    assert_eq!(messages, expected);
    let summary = events.last().unwrap();
    assert_eq!(summary["revision"], revision.to_string());
    for (field, value) in [
        ("entries", 7),
        ("files", 5),
        ("downloaded_bytes", size),
        ("size_bytes", size),
        ("reused_bytes", 0),
        ("attempts", 1),
    ] {
        assert_eq!(summary[field], value, "{field}");
    }
    assert_eq!(summary["is_new"], true);
    assert!(summary["elapsed_seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn silence_is_broken_by_the_summary_and_by_what_goes_wrong() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let server = Server::of(artifact(&sample(1))).await;
    let ended = fetch(&server, &target, &["--progress=off"]).await;
    assert_eq!(ended.code, Some(0));
    let events = ended.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("installed "), "{}", events[0]);

    let off = ["--progress=off", "--deadline=300ms"];
    let ended = fetch(&Server::refusing(), &target, &off).await;
    assert_eq!(ended.code, Some(69));
    assert_eq!(ended.lines.len(), 2, "{:?}", ended.lines);
    assert!(ended.lines[0].contains("WARN trying again"));
    assert!(ended.lines[1].starts_with("error: "));
}

#[tokio::test]
async fn on_a_terminal_a_line_shows_what_is_done_and_is_gone_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let url = Server::refusing().url();
    let on_terminal = async |flags: &str| {
        let line = format!(
            "stty rows 24 columns 80 && TERM=xterm {PROGRAM} {url} {} --deadline=300ms {flags}",
            target.display()
        );
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(69));
        String::from_utf8(output.stdout).unwrap()
    };
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script is missing");
    }
    let shown = on_terminal("").await;
    assert!(
        shown.contains("waiting for the server 0s: cannot connect"),
        "{shown}"
    );
    // It is cleared, and the reason stands at the beginning of its line.
    let (_, end) = shown.rsplit_once("waiting").unwrap();
    assert!(end.contains("\u{1b}[2Kerror: gave up"), "{end:?}");
    let shown = on_terminal("--log-format=json").await;
    assert!(!shown.contains("\u{1b}[2K"), "{shown:?}");
}

#[tokio::test]
async fn a_umask_takes_bits_from_modes_and_nothing_from_the_revision() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let made = artifact(&sample(1));
    let revision = made.descriptor.revision;
    let server = Server::of(made).await;
    let ended = fetch(&server, &target, &["--umask=027"]).await;
    assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
    for (name, mode) in [
        ("", 0o40750),
        ("app", 0o40750),
        ("app/large", 0o100_640),
        ("zeros", 0o100_640),
        (".code-revision", 0o100_640),
    ] {
        let found = fs::metadata(target.join(name)).unwrap();
        assert_eq!(found.permissions().mode(), mode, "{name}");
    }
    let recorded = fs::read_to_string(target.join(".code-revision")).unwrap();
    assert_eq!(recorded, format!("{revision}\n"));
    // Modes that the umask left are modes as they were left: there is nothing to be mended.
    let again = fetch(&server, &target, &["--umask=027"]).await;
    assert!(again.events().last().unwrap().starts_with("up to date "));
}

/// A file system of its own, gone when the test is over.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where nobody may mount one.
    fn mount(options: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root mounts a file system");
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        let mounted = command.arg(place.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("no file system can be mounted");
            return None;
        }
        Some(Self(place))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).status());
    }
}

/// A tree of so many files that are so long.
fn files(count: usize, length: usize) -> Vec<(&'static str, Thing)> {
    let names: Vec<_> = (0..count).map(|index| format!("file{index:04}")).collect();
    let names: &'static str = names.join("\n").leak();
    names
        .lines()
        .map(|name| (name, Thing::File(vec![7; length])))
        .collect()
}

/// Fetches what does not fit; the reason names the parts, and nothing is left behind.
async fn does_not_fit(options: &str, tree: Vec<(&'static str, Thing)>, parts: &[&str]) -> Server {
    let server = Server::of(artifact(&tree)).await;
    let Some(small) = Small::mount(options) else {
        return server;
    };
    let ended = fetch(&server, small.path(), &[]).await;
    let reason = ended.lines.last().unwrap();
    assert_eq!(ended.code, Some(74), "{reason}");
    let file_system = format!("the file system of {} ", small.path().display());
    for part in [&[&*file_system], parts].concat() {
        assert!(reason.contains(part), "no {part:?} in {reason:?}");
    }
    let left: Vec<_> = fs::read_dir(small.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    server
}

#[tokio::test]
async fn what_has_no_room_is_not_asked_for() {
    let parts = [
        "has 3145728 bytes left, and the tree needs 4000256",
        "sizeLimit",
    ];
    let server = does_not_fit("size=3m,nr_inodes=40", files(1, 4_000_000), &parts).await;
    assert!(
        !server
            .requests()
            .iter()
            .any(support::server::Request::is_for_archive)
    );
}

#[tokio::test]
async fn what_has_too_many_names_is_not_asked_for() {
    let parts = ["inodes left, and the tree needs 60: "];
    let server = does_not_fit("size=3m,nr_inodes=40", files(60, 1), &parts).await;
    assert!(
        !server
            .requests()
            .iter()
            .any(support::server::Request::is_for_archive)
    );
}

#[tokio::test]
async fn a_disk_that_is_full_after_all_is_told_with_figures() {
    // Each of them takes a page, and only half a kilobyte was counted.
    let parts = [
        "is full (the tree needs more than 307200 bytes and 600 inodes, and 1048576 bytes and ",
        "sizeLimit",
        "No space left on device",
    ];
    does_not_fit("size=1m,nr_inodes=1000", files(600, 1), &parts).await;
}

#[tokio::test]
async fn a_disk_that_a_change_fills_keeps_the_tree_that_was_there() {
    let Some(small) = Small::mount("size=1m,nr_inodes=1000") else {
        return;
    };
    let before = Server::of(artifact(&files(150, 1))).await;
    let ended = fetch(&before, small.path(), &[]).await;
    assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
    let held = fs::read_dir(small.path()).unwrap().count();

    let after = Server::of(artifact(&files(500, 1))).await;
    let ended = fetch(&after, small.path(), &[]).await;
    let reason = ended.lines.last().unwrap();
    assert_eq!(ended.code, Some(74), "{reason}");
    assert!(
        reason.contains("is full (the tree needs more than "),
        "{reason}"
    );
    // It was not tried again, with more to be written.
    let archives = after.requests();
    let archives = archives.iter().filter(|request| request.is_for_archive());
    assert_eq!(archives.count(), 1);
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), held);
    assert!(!small.path().join(".code-fetch/staging").exists());
}

#[tokio::test]
async fn a_failure_is_a_line_for_machines_too_if_the_others_are() {
    let place = tempfile::tempdir().unwrap();
    let note = place.path().join("note");
    fs::write(&note, "").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args([
        "http://127.0.0.1:1",
        "--log-format=json",
        "--deadline=300ms",
    ]);
    command.arg(place.path().join("target"));
    command.arg("--termination-log").arg(&note);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["level"], &last["code"]),
        (&"ERROR".into(), &69.into())
    );
    assert_eq!(last["message"], fs::read_to_string(note).unwrap());
}
