//! Podman, of which no command lasts for ever.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::tools::program;

/// More seconds than a command of podman takes, even one that waits until a pod has its code.
const LIMIT: &str = "100";

/// Podman with these arguments.
pub(crate) fn podman(arguments: &[&str]) -> Command {
    let mut command = program("timeout");
    command.args([LIMIT, "podman"]).args(arguments);
    command
}

/// Waits for what takes a moment, and not longer than a minute.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "in a minute not: {what}"
        );
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// What a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
