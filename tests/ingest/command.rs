//! `code-server ingest`, as a person or `kubectl exec` runs it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, archive_of, file, gzip, new_version, tar};

const PROGRAM: &str = env!("CARGO_BIN_EXE_code-server");

fn command(site: &Site) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["ingest", "tree", "--state-dir", "/nonexistent"])
        .current_dir(site.path())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Gives an archive and keeps the input open, as `kubectl exec` does.
fn ingest(site: &Site, archive: &[u8]) -> Output {
    let mut child = command(site).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // One that is refused may end before it has read all.
    drop(input.write_all(archive));
    let status = child.wait().unwrap();
    drop(input);
    let mut output = Output {
        status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    child
        .stdout
        .unwrap()
        .read_to_end(&mut output.stdout)
        .unwrap();
    child
        .stderr
        .unwrap()
        .read_to_end(&mut output.stderr)
        .unwrap();
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_revision_is_printed_though_the_input_stays_open() {
    let site = Site::with_tree();
    let output = ingest(&site, &gzip(&new_version()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let revision = format!("{}\n", site.revision());
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap(), revision);
    assert!(
        stderr(&output).contains("not served"),
        "{}",
        stderr(&output)
    );
    assert_eq!(site.contents().len(), 7);
}

#[test]
fn a_failure_has_a_code_and_a_sentence() {
    let site = Site::with_tree();
    let before = site.contents();
    let output = ingest(&site, b"<html>not found</html>");
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("the input is an HTML page"));
    assert!(output.stdout.is_empty());
    assert_eq!(site.contents(), before);
    let output = command(&site).args(["--timeout", "soon"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--timeout"));
}

/// Waits for something that takes a moment.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

/// Starts an ingest that has unpacked a part of its archive and waits for the rest.
fn begin(site: &Site) -> Child {
    let mut child = command(site).spawn().unwrap();
    let large = tar(|tar| file(tar, "large", &vec![b'x'; 1 << 20]));
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&large[..large.len() / 2]).unwrap();
    until("nothing is staged", || {
        site.path().join(".code-ingest-tree/new").exists()
    });
    child
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let site = Site::with_tree();
        let before = site.contents();
        let mut child = begin(&site);
        // Waiting would close it, and the end of input be as good a reason to end as the signal.
        let _input = child.stdin.take();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(site.contents(), before);
    }
}

#[test]
fn whoever_comes_second_is_told_that_it_is_busy() {
    let site = Site::with_tree();
    let mut first = begin(&site);
    let output = ingest(&site, &new_version());
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).contains("another ingest is at work"));
    first.kill().unwrap();
    first.wait().unwrap();
    let output = ingest(&site, &new_version());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(site.contents().len(), 7);
}

#[test]
fn one_that_is_killed_at_any_moment_leaves_one_tree_or_the_other() {
    let site = Site::with_tree();
    let old = site.contents();
    let new = {
        let site = Site::with_tree();
        site.ingest(&new_version()).unwrap();
        site.contents()
    };
    let back = archive_of(&site.root());
    let whole = {
        let began = Instant::now();
        ingest(&site, &new_version());
        began.elapsed()
    };
    let text = |contents: &crate::site::Contents| -> Vec<_> {
        let entries = contents.iter();
        entries
            .map(|(name, (what, ..))| (name.clone(), what.clone()))
            .collect()
    };
    let (old, new) = (text(&old), text(&new));
    for step in 0..40 {
        let archive = if step % 2 == 0 { &back } else { &new_version() };
        let mut child = command(&site).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(archive).ok();
        let moment = Instant::now() + whole * step / 40;
        until("time stands still", || Instant::now() >= moment);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        let found = text(&crate::site::contents(&site.root()));
        assert!(found == old || found == new, "{step}: {found:?}");
    }
    assert_eq!(ingest(&site, &new_version()).status.code(), Some(0));
    assert_eq!(text(&site.contents()), new);
}

/// Runs in a mount namespace of its own; says so and gives nothing where that is not allowed.
fn with_mounts(site: &Site, script: &str, archive: &[u8]) -> Option<Output> {
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert!(
            std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_none(),
            "a mount namespace cannot be made"
        );
        let reason = b"skipped: a mount namespace cannot be made\n";
        io::stderr().write_all(reason).unwrap();
        return None;
    }
    fs::write(site.path().join("archive"), archive).unwrap();
    let script =
        format!("set -e\n{script}\nexec {PROGRAM} ingest tree --state-dir /nonexistent < archive");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .current_dir(site.path())
        .output();
    fs::remove_file(site.path().join("archive")).unwrap();
    Some(output.unwrap())
}

#[test]
fn a_mount_point_is_refused_with_the_place_to_mount() {
    for mount in ["mount --bind tree tree", "mount -t tmpfs none tree"] {
        let site = Site::with_tree();
        let before = site.contents();
        let Some(output) = with_mounts(&site, mount, &new_version()) else {
            return;
        };
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(73), "{stderr}");
        let advice = format!(
            "mount the volume one level higher: {}, and serve {}",
            fs::canonicalize(site.path()).unwrap().display(),
            fs::canonicalize(site.root()).unwrap().display()
        );
        assert!(stderr.contains(&advice), "{stderr}");
        assert_eq!(site.contents(), before);
    }
}

#[test]
fn a_volume_without_room_is_told_in_figures() {
    let site = Site::with_tree();
    let before = site.contents();
    let script = "mkdir volume; mount -t tmpfs -o size=40k none volume; head -c 20000 /dev/zero > volume/other\n\
        cp archive volume; cd volume; mkdir tree";
    let archive = gzip(&tar(|tar| file(tar, "large", &vec![b'x'; 30_000])));
    let Some(output) = with_mounts(&site, script, &archive) else {
        return;
    };
    fs::remove_dir(site.path().join("volume")).unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(
        stderr.contains("the archive needs more bytes, and the file system of "),
        "{stderr}"
    );
    assert_eq!(site.contents(), before);
}

#[test]
fn a_mount_within_the_tree_is_refused() {
    let site = Site::with_tree();
    let before = site.contents();
    let Some(output) = with_mounts(&site, "mount -t tmpfs none tree/app/deep", &new_version())
    else {
        return;
    };
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("tree/app/deep is a mount point"));
    assert_eq!(site.contents(), before);
}
