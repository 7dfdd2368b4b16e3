//! A signal for processes that are known by name: those of the pod, if it shares its process namespace.
//!
//! A process has a name if the kernel knows it by that (the first 15 bytes of the file that it runs, or what it calls
//! itself), or if it was started by it (the last part of its first argument). Of a name, the kernel's is compared with as
//! much as the kernel keeps. Only those that run as the same user are
//! signalled; this process and its children never are. Names may be read while processes come and go: each is held by a
//! descriptor before its name is read once more, so that the signal goes to no other process with the same number.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, getpid, kill_process, pidfd_open, pidfd_send_signal,
};
use tracing::{info, warn};

use crate::config::follow::{ProcessSignal, name};

/// How much of a name the kernel keeps, in bytes.
const KEPT: usize = 15;

/// Who got a signal, and who did not.
#[derive(Debug, Default)]
pub(super) struct Sent {
    signalled: u32,
    /// They have the name, and run as somebody else.
    of_others: u32,
    refused: Option<io::Error>,
}

/// Sends a signal to each process that has the name.
pub(super) fn send(wanted: &ProcessSignal) -> io::Result<Sent> {
    let mut sent = Sent::default();
    for entry in fs::read_dir("/proc")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        if !Process::read(pid).is_some_and(|process| process.is_wanted(&wanted.process)) {
            continue;
        }
        match signal(pid, wanted) {
            Ok(Some(Owner::Ours)) => sent.signalled += 1,
            Ok(Some(Owner::Other)) => sent.of_others += 1,
            Ok(None) | Err(Errno::SRCH) => {}
            Err(error) => sent.refused = Some(error.into()),
        }
    }
    Ok(sent)
}

impl Sent {
    /// Tells who got it. `expected`: somebody should have.
    pub(super) fn report(&self, wanted: &ProcessSignal, expected: bool) {
        let (signal, process) = (name(wanted.signal), &wanted.process);
        if self.signalled > 0 {
            info!(signal, %process, processes = self.signalled, "signalled");
        }
        if let Some(error) = &self.refused {
            warn!(signal, %process, %error, "a process cannot be signalled");
        } else if self.signalled == 0 && self.of_others > 0 {
            warn!(signal, %process, "nobody was signalled: the process runs as another user, and both must run as the same");
        } else if self.signalled == 0 && expected {
            warn!(signal, %process, "nobody was signalled: no process of this name is seen, which takes shareProcessNamespace: true in the pod");
        } else if self.signalled == 0 {
            info!(signal, %process, "nobody was signalled: no process of this name is seen yet");
        }
    }
}

/// Whose a process is.
enum Owner {
    Ours,
    Other,
}

/// Signals a process if it has the name still, and is ours.
fn signal(pid: Pid, wanted: &ProcessSignal) -> Result<Option<Owner>, Errno> {
    let held = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(held) => Some(held),
        // A kernel or a sandbox that knows no such descriptors.
        Err(Errno::NOSYS) => None,
        Err(error) => return Err(error),
    };
    let Some(process) = Process::read(pid).filter(|process| process.is_wanted(&wanted.process))
    else {
        return Ok(None);
    };
    if process.user != geteuid().as_raw() {
        return Ok(Some(Owner::Other));
    }
    let signal: Signal = wanted.signal;
    match held {
        Some(held) => pidfd_send_signal(held, signal)?,
        None => kill_process(pid, signal)?,
    }
    Ok(Some(Owner::Ours))
}

/// What is known of a process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    user: u32,
    /// As the kernel keeps it.
    kept: Vec<u8>,
    ended: bool,
    parent: i32,
    /// The last part of its first argument.
    started_as: Vec<u8>,
}

impl Process {
    /// `None` if it is gone.
    fn read(pid: Pid) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let user = fs::metadata(&directory).ok()?.uid();
        let status = fs::read(directory.join("stat")).ok()?;
        let (kept, ended, parent) = parse(&status)?;
        let arguments = fs::read(directory.join("cmdline")).ok()?;
        let first = arguments.split(|&byte| byte == 0).next()?;
        let last_part = first.rsplit(|&byte| byte == b'/').next()?;
        Some(Self {
            pid,
            user,
            kept: kept.into(),
            ended,
            parent,
            started_as: last_part.into(),
        })
    }

    fn is_wanted(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let named = self.kept == name[..name.len().min(KEPT)] || self.started_as == name;
        let ourselves = getpid();
        let own = self.pid == ourselves || self.parent == ourselves.as_raw_nonzero().get();
        named && !own && !self.ended
    }
}

/// Name, whether it has ended, and parent, of a `/proc/PID/stat`: `7 (na) me) S 1 …`.
fn parse(status: &[u8]) -> Option<(&[u8], bool, i32)> {
    let begin = status.iter().position(|&byte| byte == b'(')? + 1;
    let end = status.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(status.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    Some((status.get(begin..end)?, ended, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(kept: &str, started_as: &str) -> Process {
        Process {
            pid: Pid::INIT,
            user: 0,
            kept: kept.into(),
            ended: false,
            parent: 0,
            started_as: started_as.into(),
        }
    }

    #[test]
    fn a_process_has_the_name_that_the_kernel_knows_or_the_one_it_was_started_by() {
        let check = |kept, started_as, name, expected| {
            assert_eq!(
                process(kept, started_as).is_wanted(name),
                expected,
                "{name}"
            );
        };
        check("nginx", "nginx: master process nginx", "nginx", true);
        check("python3.12", "gunicorn", "gunicorn", true);
        check(
            "a-long-name-of-",
            "python3",
            "a-long-name-of-a-script",
            true,
        );
        check("nginx", "nginx", "ngin", false);
        check("nginx", "nginx", "nginx-debug", false);
    }

    #[test]
    fn neither_we_nor_our_children_nor_the_dead_are_wanted() {
        let us = getpid();
        let mut child = process("x", "x");
        assert!(child.is_wanted("x"));
        child.parent = us.as_raw_nonzero().get();
        assert!(!child.is_wanted("x"));
        let mut ourselves = process("x", "x");
        ourselves.pid = us;
        assert!(!ourselves.is_wanted("x"));
        let mut dead = process("x", "x");
        dead.ended = true;
        assert!(!dead.is_wanted("x"));
    }

    #[test]
    fn a_status_is_read_whatever_the_name_is() {
        let check = |status: &str, expected: Option<(&str, bool, i32)>| {
            let found = parse(status.as_bytes());
            let expected = expected.map(|(name, ended, parent)| (name.as_bytes(), ended, parent));
            assert_eq!(found, expected, "{status}");
        };
        check("7 (nginx) S 1 7 7 0", Some(("nginx", false, 1)));
        check("7 (a) R (b)) Z 12 7", Some(("a) R (b)", true, 12)));
        check("7 () S 0", Some(("", false, 0)));
        for status in [
            "",
            "7 nginx S 1",
            "7 (nginx)",
            "7 (nginx) S",
            "7 )nginx( S 1",
        ] {
            check(status, None);
        }
    }

    #[test]
    fn we_find_ourselves_among_all() {
        let found = Process::read(getpid()).unwrap();
        assert_eq!(found.user, geteuid().as_raw());
        assert!(!found.ended && !found.kept.is_empty() && !found.started_as.is_empty());
    }
}
