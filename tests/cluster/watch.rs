//! Every state that an object passes through, not only those that somebody happened to ask for.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::kubectl::{Kubectl, PATIENCE};

/// One number of one object, as it changes.
pub(crate) struct Watch {
    kubectl: Child,
    numbers: Receiver<u64>,
    first: u64,
}

impl Watch {
    /// Begins to watch, and knows the number as it is by then; one that is absent is none.
    pub(crate) fn new(kubectl: &Kubectl, object: &str, field: &str) -> Self {
        let template = format!(r#"--output=jsonpath={{{field}}}{{"\n"}}"#);
        let mut command = kubectl.command(&["get", object, "--watch", &template]);
        let mut kubectl = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines =
            BufReader::new(kubectl.stdout.take().expect("standard output is piped")).lines();
        let (sender, numbers) = mpsc::channel();
        // Ends with kubectl, and with whoever listens.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let number = line.trim().parse().unwrap_or(0);
                if sender.send(number).is_err() {
                    break;
                }
            }
        });
        let first = numbers.recv_timeout(PATIENCE);
        Self {
            kubectl,
            first: first.expect("kubectl tells the first state at once"),
            numbers,
        }
    }

    /// The least number since.
    pub(crate) fn least(&self) -> u64 {
        self.numbers.try_iter().fold(self.first, u64::min)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Not SIGKILL, which would end the one that keeps the time, and not kubectl.
        let _ = kill_process(Pid::from_child(&self.kubectl), Signal::TERM);
        let _ = self.kubectl.wait();
    }
}
