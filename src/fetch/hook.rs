//! The command that runs after a change: directly, never through a shell, one at a time, and not for ever.
//!
//! It has our environment, with `CODE_REVISION` and `CODE_PREVIOUS_REVISION` besides; the latter is empty where the target
//! held nothing before. It reads nothing, writes where we do, and is a process group of its own: who is told to end is told
//! with all that it has started.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::future::pending;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, wait};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::follow::{CommandLine, name};
use crate::digest::Revision;

/// How long a command that took too long has, once it was told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long it has when we are told to end ourselves.
const GRACE_AT_THE_END: Duration = Duration::from_millis(500);
/// A process that was killed and is not gone by then cannot be waited for: it hangs in the kernel.
const UNTIL_GONE: Duration = Duration::from_millis(250);

/// A change of the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// What it held; `None` for nothing as a whole.
    pub(super) previous: Option<Revision>,
    /// What it holds.
    pub(super) revision: Revision,
}

/// A command, and how often it was run.
#[derive(Debug)]
pub(super) struct Hook<'a> {
    command: &'a CommandLine,
    limit: Duration,
    runs: u64,
    failures: u64,
}

/// What became of a run.
#[derive(Debug)]
enum Outcome {
    Ended(ExitStatus),
    TooLong,
    Stopped,
    NotStarted(io::Error),
}

/// Fails where the program is a path, and nothing that can be run is there. What lies in the target may yet come, and a
/// name without a slash may yet be found.
pub(super) fn check(command: &CommandLine, target: &Path) -> io::Result<()> {
    let program = Path::new(&command.program);
    if !command.program.contains('/') || program.starts_with(target) {
        return Ok(());
    }
    let found = fs::metadata(program)?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        let reason = "it is not an executable file";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

impl<'a> Hook<'a> {
    pub(super) fn new(command: &'a CommandLine, limit: Duration) -> Self {
        Self {
            command,
            limit,
            runs: 0,
            failures: 0,
        }
    }

    /// Runs the command to its end, and tells how it ended. It is ended when it takes too long, or when the token is
    /// cancelled.
    pub(super) async fn run(&mut self, change: Change, stop: &CancellationToken) {
        let began = Instant::now();
        let outcome = match self.spawn(change) {
            Ok(child) => self.wait(child, stop).await,
            Err(error) => Outcome::NotStarted(error),
        };
        self.runs += 1;
        self.failures += u64::from(!outcome.is_success());
        self.report(&outcome, change.revision, began.elapsed());
    }

    fn spawn(&self, change: Change) -> io::Result<Child> {
        let previous = change.previous.map(|revision| revision.to_string());
        Command::new(&self.command.program)
            .args(&self.command.arguments)
            .env("CODE_REVISION", change.revision.to_string())
            .env("CODE_PREVIOUS_REVISION", previous.unwrap_or_default())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
    }

    async fn wait(&self, mut child: Child, stop: &CancellationToken) -> Outcome {
        let (outcome, grace) = tokio::select! {
            ended = child.wait() => return ended.map_or_else(Outcome::NotStarted, Outcome::Ended),
            () = tokio::time::sleep(self.limit) => (Outcome::TooLong, GRACE),
            () = stop.cancelled() => (Outcome::Stopped, GRACE_AT_THE_END),
        };
        signal(&child, Signal::TERM);
        let graced = tokio::select! {
            ended = timeout(grace, child.wait()) => ended.is_ok(),
            () = stopped_since(stop, &outcome) => false,
        };
        if !graced {
            signal(&child, Signal::KILL);
            drop(timeout(UNTIL_GONE, child.wait()).await);
        }
        outcome
    }

    fn report(&self, outcome: &Outcome, revision: Revision, took: Duration) {
        let Self { runs, failures, .. } = self;
        let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let program = &self.command.program;
        if outcome.is_success() {
            info!(%program, %revision, ?took, runs, failures, "ran");
        } else {
            warn!(%program, %outcome, %revision, ?took, runs, failures, "the command after a change failed");
        }
    }
}

impl Outcome {
    fn is_success(&self) -> bool {
        matches!(self, Self::Ended(status) if status.success())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit status {code}"),
                (None, number) => {
                    let signal = number.and_then(Signal::from_named_raw);
                    write!(f, "ended by signal {}", signal.map_or("?", name))
                }
            },
            Self::TooLong => f.write_str("it took too long and was ended"),
            Self::Stopped => f.write_str("it was ended since fetch-init ends"),
            Self::NotStarted(error) => write!(f, "cannot start it: {error}"),
        }
    }
}

/// Waits for the call to stop, for its shorter grace, if it had not come before.
async fn stopped_since(stop: &CancellationToken, outcome: &Outcome) {
    if matches!(outcome, Outcome::Stopped) {
        pending::<()>().await;
    }
    stop.cancelled().await;
    tokio::time::sleep(GRACE_AT_THE_END).await;
}

/// Signals a command that was not waited for yet, and all it has started: its number is not another's so far.
fn signal(child: &Child, signal: Signal) {
    let number = child.id().and_then(|number| i32::try_from(number).ok());
    if let Some(group) = number.and_then(Pid::from_raw) {
        // Where it fails there is nobody left, which is as good.
        kill_process_group(group, signal).ok();
    }
}

/// Takes notice of what others have left behind when it ends, for as long as it is polled: the first process of a container
/// inherits it, and nobody else does. Must not be polled while the command runs, which is waited for by somebody else.
pub(super) async fn reap_orphans() -> Infallible {
    if getpid() == Pid::INIT
        && let Ok(mut ended) = unix::signal(SignalKind::child())
    {
        loop {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
            if ended.recv().await.is_none() {
                break;
            }
        }
    }
    pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::follow::CommandLine;

    #[track_caller]
    fn check_at_start(program: &str, target: &Path, is_taken: bool) {
        let command = CommandLine {
            program: program.into(),
            arguments: Vec::new(),
        };
        let checked = check(&command, target);
        assert_eq!(checked.is_ok(), is_taken, "{program}: {checked:?}");
    }

    #[test]
    fn a_program_that_is_named_by_its_path_must_be_there_unless_it_is_to_come() {
        let place = tempfile::tempdir().unwrap();
        let (place, target) = (place.path(), place.path().join("target"));
        let plain = place.join("plain");
        fs::write(&plain, "").unwrap();
        for (program, is_taken) in [
            (Path::new("/bin/sh"), true),
            (Path::new("a-name-that-nobody-has"), true),
            (&target.join("bin/reload"), true),
            (&place.join("none"), false),
            (&plain, false),
            (place, false),
        ] {
            check_at_start(program.to_str().unwrap(), &target, is_taken);
        }
    }

    #[test]
    fn the_end_of_a_command_is_told_in_words() {
        let ended = |raw| Outcome::Ended(ExitStatus::from_raw(raw)).to_string();
        assert_eq!(ended(3 << 8), "exit status 3");
        assert_eq!(ended(9), "ended by signal KILL");
    }
}
