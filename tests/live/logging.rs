//! The log of a real server: what it does when nobody reads it, and when it was asked for by mistake.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{ChildStderr, Command};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::server::{Server, Setup, wait_until};

const DROPPED: &str = "codeserver_log_lines_dropped_total";

/// Starts a server and reads its log up to where it says where it listens.
fn start(command: &mut Command) -> (Server, BufReader<ChildStderr>) {
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = Vec::new();
    let address: SocketAddr = loop {
        let mut line = String::new();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended");
        let event: Value = serde_json::from_str(&line).unwrap();
        lines.push(line);
        if event["message"] == "listening" {
            break event["address"].as_str().unwrap().parse().unwrap();
        }
    };
    let server = Server {
        child,
        address,
        log: Arc::new(Mutex::new(lines)),
    };
    (server, stderr)
}

/// A server whose log nobody reads any more, and which has more to say than fits.
fn unread(setup: &Setup) -> (Server, BufReader<ChildStderr>) {
    setup.write("main.py", "print()\n");
    let (server, stderr) = start(&mut setup.command());
    let path = format!("/{}", "x".repeat(8000));
    wait_until("lines are dropped", || {
        assert_eq!(server.get(&path).status, 404);
        server.metric(DROPPED) > 0.0
    });
    (server, stderr)
}

#[test]
fn a_server_goes_on_and_ends_though_nobody_reads_its_log() {
    let setup = Setup::new(&[]);
    let (server, stderr) = unread(&setup);
    wait_until("the server is ready", || {
        server.get("/readyz").status == 200
    });
    assert_eq!(server.files().len(), 1);
    assert_eq!(server.terminate(), Some(0));
    drop(stderr);
}

#[test]
fn who_reads_the_log_again_is_told_what_is_missing() {
    let setup = Setup::new(&[]);
    let (server, stderr) = unread(&setup);
    server.read_log(stderr);
    let message = "log lines were dropped: nobody read standard error";
    let told = server.wait_for_event(message);
    assert_eq!(told["level"], "WARN");
    assert!(told["lines"].as_u64().unwrap() > 0);
    let all_whole = |line: &String| serde_json::from_str::<Value>(line).unwrap().is_object();
    assert!(server.log.lock().unwrap().iter().all(all_whole));
}

#[test]
fn what_was_logged_last_is_written_before_the_end() {
    let setup = Setup::new(&[]);
    setup.write("main.py", "print()\n");
    let (server, mut stderr) = start(&mut setup.command());
    assert_eq!(server.terminate(), Some(0));
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["message"], "ended");
}

#[test]
fn a_server_outlives_the_reader_of_its_log() {
    let setup = Setup::new(&[]);
    setup.write("main.py", "print()\n");
    let (server, stderr) = start(&mut setup.command());
    drop(stderr);
    wait_until("a line is lost", || {
        server.get("/nowhere");
        server.metric(DROPPED) > 0.0
    });
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_filter_that_makes_no_sense_is_named_and_the_default_applies() {
    let setup = Setup::new(&[]);
    setup.write("main.py", "print()\n");
    for value in ["inof", "code_server=loud", "\u{1b}[2J=\n"] {
        let (server, _stderr) = start(setup.command().env("RUST_LOG", value));
        let log = server.log.lock().unwrap().clone();
        let events = log
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut named = events.filter(|event| event["value"] == value);
        let warning = named.next().unwrap();
        assert_eq!(warning["level"], "WARN");
        assert!(
            warning["message"]
                .as_str()
                .unwrap()
                .starts_with("RUST_LOG cannot be understood")
        );
        assert!(warning["reason"].is_string() && named.next().is_none());
    }
}
