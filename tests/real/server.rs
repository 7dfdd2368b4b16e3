//! A server of the test's own, on a port that the system chooses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools;

/// How long a build may take: generous, for the programs are not optimised and tests run beside each other.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// How often to ask whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long an answer to that may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `code-server serve`, ready, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    _process: Process,
}

/// A child that does not outlive its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    /// Serves a tree, with its state in a directory that is made.
    pub(crate) fn start(root: &Path, state: &Path) -> Self {
        let mut command = tools::program(tools::CODE_SERVER);
        command
            .arg("serve")
            .arg(root)
            .args(["--listen", "127.0.0.1:0", "--state-dir"])
            .arg(state)
            .stderr(Stdio::piped());
        let mut process = Process(command.spawn().expect("a shell can be started"));
        let stderr = process.0.stderr.take().expect("standard error is piped");
        let mut log = Log::of(stderr);
        let address = log.address();
        log.wait_until(|| is_ready(address));
        Self {
            address,
            _process: process,
        }
    }

    /// What a client is given, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The lines a server writes. They are read to the end, so that it never waits for a reader.
struct Log {
    lines: Receiver<String>,
    read: Vec<String>,
    deadline: Instant,
}

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens to a server that is ready.
                drop(sender.send(line));
            }
        });
        Self {
            lines,
            read: Vec::new(),
            deadline: Instant::now() + READY_WITHIN,
        }
    }

    fn address(&mut self) -> SocketAddr {
        let mut address = None;
        while address.is_none() {
            self.listen();
            address = self.read.iter().find_map(|line| listening(line));
        }
        address.expect("the loop ends with one")
    }

    fn wait_until(&mut self, mut done: impl FnMut() -> bool) {
        while !done() {
            self.listen();
        }
    }

    /// Waits for a line, shortly; fails at the deadline and when the server has ended.
    fn listen(&mut self) {
        match self.lines.recv_timeout(ASK_EVERY) {
            Ok(line) => self.read.push(line),
            Err(RecvTimeoutError::Timeout) => assert!(
                Instant::now() < self.deadline,
                "the server is not ready in time: {:#?}",
                self.read
            ),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the server has ended: {:#?}", self.read)
            }
        }
    }
}

/// The address in the log line that tells it.
fn listening(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["message"] == "listening")
        .then(|| event["address"].as_str()?.parse().ok())
        .flatten()
}

fn is_ready(address: SocketAddr) -> bool {
    let answer = ask(address).unwrap_or_default();
    answer.starts_with("HTTP/1.1 200 ")
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
