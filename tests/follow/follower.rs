//! A follower that does not outlive its test, and what it has written to its log.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::artifact::{Artifact, Thing, artifact};

/// How long anything may take: generous, for programs are not optimised and tests run beside each other.
const PATIENCE: Duration = Duration::from_mins(1);

/// An artifact of one small file; each version differs.
pub(crate) fn version(number: u32) -> Artifact {
    let content = Thing::File(format!("version {number}\n").into_bytes());
    artifact(&vec![("version", content)])
}

/// A directory with a target in it, and whatever commands write.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("target")
    }

    /// What a command has written so far.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn holds(&self, artifact: &Artifact) -> bool {
        let revision = fs::read_to_string(self.target().join(".code-revision"));
        revision.is_ok_and(|text| text.trim_end() == artifact.descriptor.revision.to_string())
    }

    pub(crate) fn wait_until_it_holds(&self, artifact: &Artifact) {
        wait_until("the target holds it", || self.holds(artifact));
    }

    /// The program, which logs to a pipe.
    pub(crate) fn command(&self, url: &str, flags: &[&str]) -> Command {
        self.command_by(Command::new(env!("CARGO_BIN_EXE_fetch-init")), url, flags)
    }

    /// A command that lacks the program's arguments only.
    pub(crate) fn command_by(&self, mut command: Command, url: &str, flags: &[&str]) -> Command {
        command
            .arg(url)
            .arg(self.target())
            .args(["--follow", "--log-format", "json", "--progress", "off"])
            .arg("--termination-log")
            .arg(self.path("termination-log"))
            .args(flags)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn follow(&self, url: &str, flags: &[&str]) -> Follower {
        Follower::start(self.command(url, flags))
    }
}

/// A shell command in quotes that make it one word. It runs in the place.
pub(crate) fn shell(script: &str) -> String {
    format!("sh -c '{script}'")
}

/// A process that does not outlive the test.
pub(crate) struct Follower {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    /// The events with this message.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["message"] == message)
            .collect()
    }

    /// Waits for so many events with this message, and gives the last of them.
    pub(crate) fn wait_for(&self, message: &str, count: usize) -> Value {
        let mut found = Vec::new();
        wait_until(message, || {
            found = self.events(message);
            found.len() >= count
        });
        found.pop().unwrap()
    }

    pub(crate) fn lines(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Tells a process to end with which the program ends; its exit code, and how long that took.
    pub(crate) fn terminate_as(mut self, pid: Pid) -> (Option<i32>, Duration) {
        let began = Instant::now();
        kill_process(pid, Signal::TERM).unwrap();
        let mut code = None;
        wait_until("the follower has ended", || {
            let status = self.child.try_wait().unwrap();
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        (code, began.elapsed())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let log = self.log.lock().unwrap();
            let last = log.len().saturating_sub(30);
            drop(writeln!(io::stderr(), "{}", log[last..].join("\n")));
        }
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        pause(Duration::from_millis(5));
    }
}

/// Between two looks at what no event tells of.
#[expect(clippy::disallowed_methods, reason = "a test's thread may wait")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// Whether a process is there that has not ended.
pub(crate) fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    status.is_ok_and(|status| !status.rsplit(')').next().unwrap().starts_with(" Z"))
}

/// The children of a process, those included that have ended and that it has not taken notice of.
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let child = |number: i32| {
        let status = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let mut fields = status.rsplit(')').next()?.split_whitespace();
        let is_child = fields.nth(1)? == parent;
        Pid::from_raw(number).filter(|_| is_child)
    };
    let names = fs::read_dir("/proc").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names
        .filter_map(|name| child(name.to_str()?.parse().ok()?))
        .collect()
}
