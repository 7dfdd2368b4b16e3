//! How a server ends that was told to, whatever its clients are at.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::ingesting::{archive, begin_upload, open_to_uploads};
use crate::server::{Files, PATIENCE, PROGRAM, Reply, Server, Setup, found, parse, wait_until};

const FLAGS: [&str; 4] = ["--rescan", "0", "--settle", "10ms"];
/// More than the kernel keeps for a connection whose client reads nothing.
const LARGE: usize = 24 << 20;

/// A client that has asked on a connection which the server knows already.
struct Client(TcpStream);

impl Client {
    fn connect(server: &Server) -> Self {
        let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request("/livez", "")).unwrap();
        let mut client = Self(stream);
        assert!(client.head().starts_with("HTTP/1.1 200"));
        let mut body = [0; 3];
        client.0.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"ok\n");
        client
    }

    fn asking(server: &Server, path: &str, headers: &str) -> Self {
        let mut client = Self::connect(server);
        client.0.write_all(&request(path, headers)).unwrap();
        client
    }

    /// Up to the end of a header section, and no further.
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        String::from_utf8(head).unwrap()
    }

    /// What comes until the server closes the connection.
    fn rest(mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn answer(self) -> Reply {
        parse(&self.rest().unwrap()).expect("an answer")
    }
}

fn request(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").into_bytes()
}

/// A tree whose archive is as large as this, for nothing in it can be compressed.
fn large(setup: &Setup) {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(LARGE)
    .collect();
    setup.write("noise", noise);
}

/// Waits until the server has taken in what was sent to it before: it has answered others that came later.
fn taken_in(server: &Server) {
    for _ in 0..5 {
        assert_eq!(server.get("/livez").status, 200);
    }
}

fn wait_until_refused(server: &Server) {
    wait_until("new connections are refused", || {
        TcpStream::connect_timeout(&server.address, PATIENCE).is_err()
    });
}

#[test]
fn who_waits_is_answered_at_once() {
    let setup = Setup::new(&FLAGS);
    let mut server = setup.start();
    let first = Client::asking(&server, "/code.tar.gz", "Prefer: wait=55\r\n");
    taken_in(&server);
    let began = Instant::now();
    server.signal(Signal::TERM);
    let reply = first.answer();
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(server.ended(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "nobody was waited for"
    );

    setup.write("file", "content");
    let mut server = setup.serve();
    let known = format!("If-None-Match: {}\r\nPrefer: wait=55\r\n", server.tag());
    let change = Client::asking(&server, "/code.tar.gz", &known);
    let wanted = format!("/revisions/sha256:{}/code.json", "0".repeat(64));
    let wanted = Client::asking(&server, &wanted, "Prefer: wait=55\r\n");
    taken_in(&server);
    let began = Instant::now();
    server.signal(Signal::TERM);
    for (client, status) in [(change, 304), (wanted, 404)] {
        assert_eq!(client.answer().status, status);
    }
    assert_eq!(server.ended(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "nobody was waited for"
    );
}

#[test]
fn downloads_that_run_are_finished_and_new_connections_refused() {
    let setup = Setup::new(&FLAGS);
    large(&setup);
    let mut server = setup.serve();
    let mut client = Client::asking(&server, "/code.tar.gz", "");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    wait_until_refused(&server);
    assert!(server.child.try_wait().unwrap().is_none());
    let archive = client.rest().unwrap();
    assert_eq!(crate::server::unpacked(&archive), found(&setup.root));
    assert_eq!(server.ended(), Some(0));
    assert_eq!(server.event("drained").unwrap()["aborted"], 0);
}

#[test]
fn downloads_that_stand_still_are_cut_at_the_end_of_the_time_given() {
    let mut setup = Setup::new(&FLAGS);
    setup
        .flags
        .extend(["--drain-timeout", "500ms"].map(Into::into));
    large(&setup);
    let mut server = setup.serve();
    let mut client = Client::asking(&server, "/code.tar.gz", "");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    assert_eq!(server.event("drained").unwrap()["aborted"], 1);
    assert!(client.rest().map_or(0, |rest| rest.len()) < LARGE);
}

#[test]
fn idle_connections_are_closed_and_keep_nobody_waiting() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "content");
    let mut server = setup.serve();
    let idle = Client::connect(&server);
    let silent = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    taken_in(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    assert_eq!(server.event("drained").unwrap()["aborted"], 0);
    assert_eq!(idle.rest().unwrap(), b"");
    drop(silent);
}

#[test]
fn a_probe_that_comes_on_an_open_connection_is_told_that_the_server_is_not_ready() {
    let setup = Setup::new(&FLAGS);
    large(&setup);
    let mut server = setup.serve();
    assert_eq!(server.get("/readyz").status, 200);
    // The download keeps the server from ending before the probe is whole.
    let mut download = Client::asking(&server, "/code.tar.gz", "");
    assert!(download.head().starts_with("HTTP/1.1 200"));
    let mut probe = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    probe
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\n")
        .unwrap();
    taken_in(&server);
    server.signal(Signal::TERM);
    wait_until_refused(&server);
    probe.write_all(b"\r\n").unwrap();
    let reply = Client(probe).answer();
    assert_eq!(
        (reply.status, &*reply.headers["connection"]),
        (503, "close")
    );
    download.rest().unwrap();
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn an_upload_that_is_not_whole_is_answered_and_changes_nothing() {
    let setup = open_to_uploads(&FLAGS);
    setup.write("file", "old");
    let before = found(&setup.root);
    let mut server = setup.serve();
    let whole = archive(&Files::from([("file".into(), b"new".to_vec())]));
    let upload = begin_upload(&server, &whole, whole.len() / 2).unwrap();
    taken_in(&server);
    server.signal(Signal::TERM);
    let reply = Client(upload).answer();
    assert_eq!(
        reply.status,
        503,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    assert_eq!(server.ended(), Some(0));
    assert_eq!(found(&setup.root), before);
}

#[test]
fn further_signals_change_nothing() {
    let setup = Setup::new(&FLAGS);
    large(&setup);
    let mut server = setup.serve();
    let mut client = Client::asking(&server, "/code.tar.gz", "");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    server.wait_for_event("draining");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::TERM] {
        server.signal(signal);
    }
    let archive = client.rest().unwrap();
    assert_eq!(crate::server::unpacked(&archive), found(&setup.root));
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn an_interrupt_ends_it_likewise() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "content");
    let mut server = setup.serve();
    server.signal(Signal::INT);
    assert_eq!(server.ended(), Some(0));
}

/// A command that runs what follows as the first process of a namespace of its own; `None` where that is not allowed.
fn as_first_process() -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command
    };
    let mut attempt = unshare();
    attempt.arg("/bin/true").stderr(Stdio::null());
    if attempt.status().is_ok_and(|status| status.success()) {
        let mut command = unshare();
        command.arg(PROGRAM);
        return Some(command);
    }
    assert!(
        std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_none(),
        "no namespace of processes can be made"
    );
    drop(writeln!(
        io::stderr(),
        "skipped: no namespace of processes can be made"
    ));
    None
}

/// The process that another one waits for.
fn child_of(pid: Pid) -> Pid {
    let pid = pid.as_raw_nonzero();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(Path::new(&path)).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

#[test]
fn the_first_process_of_a_container_ends_like_any_other() {
    let Some(command) = as_first_process() else {
        return;
    };
    let setup = Setup::new(&FLAGS);
    setup.write("file", "content");
    let mut server = setup.start_as(command);
    wait_until("the server is ready", || {
        server.get("/readyz").status == 200
    });
    let inside = child_of(Pid::from_child(&server.child));
    let status = std::fs::read_to_string(format!("/proc/{}/status", inside.as_raw_nonzero()));
    let status = status.unwrap();
    assert!(
        status
            .lines()
            .any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    );
    let known = format!("If-None-Match: {}\r\nPrefer: wait=55\r\n", server.tag());
    let waiting = Client::asking(&server, "/code.tar.gz", &known);
    taken_in(&server);
    kill_process(inside, Signal::TERM).unwrap();
    assert_eq!(waiting.answer().status, 304);
    assert_eq!(server.ended(), Some(0));
    assert!(server.event("ended").is_some());
}
