//! Whom a fetch asks, how soon, and when it gives up: several servers, one that comes late, and none at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "what test files share, none of them needs all of")]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::net::TcpSocket;

use support::artifact::{Artifact, Tree, artifact, sample};
use support::server::{Answer, Server, answer};

/// A target, and nothing else.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    /// Fetches from the first server, or one of the others.
    async fn fetch(&self, servers: &[&Server], flags: &[&str]) -> Run {
        let target = self.target();
        let mut arguments = urls(servers);
        arguments.push(target.to_str().unwrap().into());
        arguments.extend(flags.iter().map(ToString::to_string));
        run(&arguments).await
    }

    #[track_caller]
    fn assert_holds(&self, tree: &Tree) {
        let revision = fs::read_to_string(self.target().join(".code-revision")).unwrap();
        assert_eq!(revision.trim(), revision_of(tree));
    }

    #[track_caller]
    fn assert_is_empty(&self) {
        let names = fs::read_dir(self.target()).unwrap();
        assert_eq!(names.count(), 0);
    }
}

fn revision_of(tree: &Tree) -> String {
    artifact(tree).descriptor.revision.to_string()
}

fn urls(servers: &[&Server]) -> Vec<String> {
    let mut arguments = vec![servers[0].url().to_string()];
    for fallback in &servers[1..] {
        arguments.extend(["--fallback".into(), fallback.url().to_string()]);
    }
    arguments
}

/// The program, run to its end.
struct Run {
    code: Option<i32>,
    out: String,
    log: String,
    took: Duration,
}

async fn run(arguments: &[String]) -> Run {
    let mut command = program();
    command.args(arguments);
    run_command(command).await
}

async fn run_command(mut command: Command) -> Run {
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output());
    Run::of(output.await.unwrap().unwrap(), began)
}

impl Run {
    fn of(output: Output, began: Instant) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            log: String::from_utf8(output.stderr).unwrap(),
            took: began.elapsed(),
        }
    }

    #[track_caller]
    fn assert_ended(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.log);
        let last = self.log.lines().last().unwrap_or_default();
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {}", self.log);
        }
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fetch-init"));
    command.env_clear().stdin(Stdio::null());
    command.env("FETCH_INIT_DEADLINE", "20s");
    command
}

async fn status(code: u16) -> Server {
    Server::start(move |_, _| Answer::status(code)).await
}

async fn serving(flavour: u8) -> Server {
    Server::of(artifact(&sample(flavour))).await
}

#[tokio::test]
async fn a_fallback_is_asked_at_once_whatever_is_wrong_with_the_first() {
    let damaged = Server::start(|request, _| {
        let mut answer = answer(&artifact(&sample(1)), request);
        if request.is_for_archive() {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        answer
    });
    let liar = Server::start(|request, _| {
        let mut made = artifact(&sample(1));
        made.descriptor.revision = artifact(&sample(3)).descriptor.revision;
        answer(&made, request)
    });
    let nonsense = Server::start(|_, _| Answer::status(200).body(b"hello".to_vec()));
    for (first, name) in [
        (Server::refusing(), "refuses"),
        (status(404).await, "404"),
        (status(503).await, "503"),
        (status(401).await, "401"),
        (damaged.await, "damages"),
        (liar.await, "lies"),
        (nonsense.await, "talks nonsense"),
    ] {
        let (place, second) = (Place::new(), serving(2).await);
        let run = place.fetch(&[&first, &second], &[]).await;
        run.assert_ended(0, &["installed"]);
        place.assert_holds(&sample(2));
        assert!(run.took < Duration::from_secs(5), "{name}: {:?}", run.took);
    }
}

#[tokio::test]
async fn a_fallback_goes_on_where_the_first_server_stopped() {
    let made = artifact(&sample(2));
    let half = made.archive.len() / 2;
    let first = {
        let made = made.clone();
        Server::start(move |request, count| {
            let mut answer = answer(&made, request);
            if request.is_for_archive() {
                answer.cut = Some(half);
            } else if count > 0 {
                answer = Answer::status(503);
            }
            answer
        })
    };
    let (place, first, second) = (Place::new(), first.await, Server::of(made.clone()).await);
    let run = place.fetch(&[&first, &second], &[]).await;
    run.assert_ended(0, &["installed", "2 attempts"]);
    place.assert_holds(&sample(2));
    let archives = second.requests();
    let archives: Vec<_> = archives
        .iter()
        .filter(|request| request.is_for_archive())
        .collect();
    assert_eq!(archives.len(), 1);
    let range = archives[0].header("range").unwrap();
    let from: usize = range
        .strip_prefix("bytes=")
        .unwrap()
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!(from > half / 2, "{range}");
}

#[tokio::test]
async fn a_fallback_with_another_archive_begins_anew() {
    let cutting = Server::start(|request, _| {
        let mut answer = answer(&artifact(&sample(1)), request);
        if request.is_for_archive() {
            answer.cut = Some(200_000);
        }
        answer
    });
    let (place, first, second) = (Place::new(), cutting.await, serving(2).await);
    let run = place.fetch(&[&first, &second], &[]).await;
    run.assert_ended(0, &["installed", &revision_of(&sample(2))]);
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn when_nobody_is_left_the_first_ones_reason_is_told_and_then_the_others() {
    let (place, first, second) = (Place::new(), status(403).await, status(404).await);
    let run = place.fetch(&[&first, &second], &[]).await;
    let [first, second] = [first, second].map(|server| server.url().to_string());
    run.assert_ended(
        77,
        &[
            &format!("error: {first} answered \"403 Forbidden\""),
            "--token-file",
            &format!("; and {second} answered \"404 Not Found\""),
        ],
    );
    place.assert_is_empty();
}

#[tokio::test]
async fn at_the_deadline_all_reasons_are_told() {
    let (place, first, second) = (Place::new(), Server::refusing(), status(404).await);
    let run = place.fetch(&[&first, &second], &["--deadline=300ms"]).await;
    run.assert_ended(
        69,
        &[
            "gave up after 300ms and ",
            "connection refused; and ",
            "\"404 Not Found\"",
        ],
    );
    assert_eq!(second.requests().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_on_this_side_ends_it_whoever_else_could_be_asked() {
    let (place, first, second) = (Place::new(), serving(1).await, serving(2).await);
    let run = place.fetch(&[&first, &second], &["--max-entries=1"]).await;
    run.assert_ended(65, &["7 entries, and 1 are allowed"]);
    assert_eq!(second.requests().len(), 0);
    place.assert_is_empty();
}

#[tokio::test]
async fn who_could_ask_another_server_lets_none_hold_it_for_long() {
    let first = status(503).await;
    let (place, second) = (Place::new(), serving(2).await);
    place
        .fetch(&[&first, &second], &[])
        .await
        .assert_ended(0, &[]);
    assert_eq!(first.requests()[0].header("prefer"), Some("wait=1"));
    let alone = Place::new();
    alone.fetch(&[&second], &[]).await.assert_ended(0, &[]);
    let last = second
        .requests()
        .into_iter()
        .rfind(|request| request.path == "/code.json");
    assert_eq!(last.unwrap().header("prefer"), Some("wait=15"));
}

#[tokio::test]
async fn the_revision_is_printed_and_nothing_is_written() {
    let server = serving(2).await;
    let mut arguments = urls(&[&server]);
    arguments.push("--print-revision".into());
    let asked = run(&arguments).await;
    assert_eq!(asked.code, Some(0), "{}", asked.log);
    assert_eq!(asked.out, format!("{}\n", revision_of(&sample(2))));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_revision_is_waited_for_and_then_printed() {
    let [old, new] = [1, 2].map(|flavour| artifact(&sample(flavour)));
    let wanted = new.descriptor.revision.to_string();
    let server =
        Server::start(move |request, count| answer(if count < 3 { &old } else { &new }, request));
    let server = server.await;
    let mut arguments = urls(&[&server]);
    arguments.extend(["--print-revision".into(), format!("--revision={wanted}")]);
    let asked = run(&arguments).await;
    assert_eq!(asked.code, Some(0), "{}", asked.log);
    assert_eq!(asked.out, format!("{wanted}\n"));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_revision_that_never_comes_is_named_with_the_one_that_is_there() {
    let server = serving(1).await;
    let wanted = revision_of(&sample(2));
    let place = Place::new();
    let target = place.target();
    for action in ["--print-revision", target.to_str().unwrap()] {
        let mut arguments = urls(&[&server]);
        arguments.extend([
            action.into(),
            format!("--revision={wanted}"),
            "--deadline=300ms".into(),
        ]);
        let run = run(&arguments).await;
        let told = format!(
            "revision {wanted} is not served; the server has {}",
            revision_of(&sample(1))
        );
        run.assert_ended(69, &["error: gave up after 300ms", &told]);
        assert_eq!(run.out, "");
    }
    place.assert_is_empty();
}

#[tokio::test]
async fn a_revision_that_is_empty_pins_nothing_as_a_variable_and_is_refused_as_a_flag() {
    let server = serving(1).await;
    let asked = async |variable: &str, flag: Option<&str>| {
        let mut arguments = urls(&[&server]);
        arguments.extend(["--print-revision".into(), "--deadline=300ms".into()]);
        arguments.extend(flag.map(|revision| format!("--revision={revision}")));
        let mut command = program();
        command
            .env("FETCH_INIT_REVISION", variable)
            .args(&arguments);
        run_command(command).await
    };
    let expected = format!("{}\n", revision_of(&sample(1)));
    assert_eq!(asked("", None).await.out, expected);
    let wanted = revision_of(&sample(2));
    let in_vain = asked(&wanted, None).await;
    in_vain.assert_ended(69, &[&wanted]);
    // Who looks into a pod that does not start sees at once what it waits for.
    let first = in_vain.log.lines().next().unwrap_or_default();
    assert!(first.contains(&wanted), "{first}");
    asked("", Some(&wanted)).await.assert_ended(69, &[&wanted]);
    for refused in [asked("", Some("")).await, asked(" ", None).await] {
        assert_eq!(refused.code, Some(64), "{}", refused.log);
        assert!(refused.log.contains("--revision"), "{}", refused.log);
    }
}

/// A port that nobody else gets, and at which nobody listens.
fn reserved() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// How long after it listens a server is first asked by somebody who has been waiting for it.
fn noticed_after(round: u64) -> Duration {
    let (socket, address) = reserved();
    let mut child = program()
        .args([&format!("http://{address}"), "--print-revision"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = child.stderr.take().unwrap();
    let mut come = Vec::new();
    // It has been refused.
    while !String::from_utf8_lossy(&come).contains("trying again") {
        let mut piece = [0; 256];
        let length = log.read(&mut piece).unwrap();
        assert!(length > 0);
        come.extend(&piece[..length]);
    }
    // Rounds differ, lest they all meet the same moment between two attempts.
    pause(Duration::from_millis(1000 + round * 7));
    let listener = socket.listen(16).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    let listening = Instant::now();
    let (mut stream, _) = listener.accept().unwrap();
    let noticed = listening.elapsed();
    finish(&mut stream, child);
    noticed
}

fn finish(stream: &mut std::net::TcpStream, mut child: Child) {
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).unwrap() > 0);
    let body = artifact(&sample(1)).descriptor.to_json();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_server_that_comes_late_is_noticed_within_150_ms() {
    let mut figures = Vec::new();
    for round in 0..20 {
        figures.push(noticed_after(round));
    }
    figures.sort();
    let (median, worst) = (figures[10], figures[19]);
    drop(writeln!(
        std::io::stderr(),
        "noticed after {median:?} in the median, {worst:?} at worst"
    ));
    assert!(worst < Duration::from_millis(150), "{figures:?}");
}

/// Runs the program where this address is the only resolver: in a name space of mounts of its own. `None` where that is not
/// allowed, or the address is in use.
async fn run_with_resolver(
    address: &str,
    arguments: &[&str],
    resolver: impl FnOnce(UdpSocket) + Send + 'static,
) -> Option<Run> {
    let skip = |reason| drop(writeln!(std::io::stderr(), "skipped: {reason}"));
    if !geteuid().is_root() || !Path::new("/etc/resolv.conf").exists() {
        skip("it takes root");
        return None;
    }
    let Ok(socket) = UdpSocket::bind((address, 53)) else {
        skip("somebody resolves names here");
        return None;
    };
    // Lest a thread waits for queries when all others are done.
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    thread::spawn(move || resolver(socket));
    let place = Place::new();
    let file = place.0.path().join("resolv.conf");
    fs::write(&file, format!("nameserver {address}\n")).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"")
        .arg("sh")
        .arg(&file)
        .arg(env!("CARGO_BIN_EXE_fetch-init"))
        .args(arguments);
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output());
    Some(Run::of(output.await.unwrap().unwrap(), began))
}

#[tokio::test]
async fn a_lookup_that_is_never_answered_does_not_hold_the_process() {
    let arguments = ["http://nobody.test", "--print-revision", "--deadline=1s"];
    let (asked, was_asked) = mpsc::channel();
    let silent = move |socket: UdpSocket| {
        let received = socket.recv(&mut [0; 512]);
        // It is kept open until the test is over, or the answer would be that nobody is there.
        drop(asked.send((received.is_ok(), socket)));
    };
    let Some(run) = run_with_resolver("127.0.0.1", &arguments, silent).await else {
        return;
    };
    let reason = "gave up after 1s and 1 attempt: http://nobody.test had not answered by then";
    run.assert_ended(69, &[reason]);
    assert!(run.took < Duration::from_millis(1300), "{:?}", run.took);
    assert!(was_asked.recv().unwrap().0);
}

/// A server that does not listen yet is asked ten times a second, and its name is not.
#[tokio::test]
async fn a_name_is_looked_up_once_a_second_at_most() {
    let (_reserved, address) = reserved();
    let url = format!("http://late.test:{}", address.port());
    let arguments = [&url, "--print-revision", "--deadline=2s"];
    let (asked, was_asked) = mpsc::channel();
    let answering = move |socket: UdpSocket| {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(kind) = answer_query(&socket, &query[..length], client) {
                asked.send(kind).ok();
            }
        }
    };
    let Some(run) = run_with_resolver("127.0.0.2", &arguments, answering).await else {
        return;
    };
    run.assert_ended(69, &["gave up after 2s", "connection refused"]);
    let attempts = run.log.rsplit(" attempts").nth(1).unwrap();
    let attempts: u32 = attempts.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(attempts > 10, "{attempts}");
    let lookups = was_asked.try_iter().filter(|&kind| kind == 1).count();
    assert!((1..=3).contains(&lookups), "{lookups}");
}

/// Every name is this machine, by IPv4 alone. Gives the type of the record that was asked for.
fn answer_query(socket: &UdpSocket, query: &[u8], client: SocketAddr) -> Option<u16> {
    let name_end = 12 + query.get(12..)?.iter().position(|&byte| byte == 0)?;
    let kind = u16::from_be_bytes([*query.get(name_end + 1)?, *query.get(name_end + 2)?]);
    let is_ipv4 = kind == 1;
    let mut answer = query[..2].to_vec();
    // A response without an error, with the question and as many answers.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    answer.extend(&query[12..name_end + 5]);
    if is_ipv4 {
        // The name of the question, a record of type A and class IN, for a minute, with four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    socket.send_to(&answer, client).ok()?;
    Some(kind)
}

/// Each wait has a limit of its own, and a failure says which one it was.
#[tokio::test]
async fn a_wait_that_was_too_long_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let made = artifact(&sample(1));
    let stalling = stalling(made).await;
    for (url, reason) in [
        (format!("http://{address}"), "did not answer within 100ms"),
        (
            format!("https://{address}"),
            "did not finish the TLS handshake within 100ms",
        ),
        (stalling.url().to_string(), "sent nothing more for 100ms"),
    ] {
        let place = Place::new();
        let target = place.target();
        let flags = ["--stall-timeout=100ms", "--deadline=500ms"];
        let mut arguments = vec![url, target.to_str().unwrap().to_owned()];
        arguments.extend(flags.map(String::from));
        let run = run(&arguments).await;
        run.assert_ended(69, &["gave up after 500ms", reason]);
    }
}

async fn stalling(made: Artifact) -> Server {
    Server::start(move |request, _| {
        let mut answer = answer(&made, request);
        if request.is_for_archive() {
            (answer.cut, answer.stall) = (Some(0), true);
        }
        answer
    })
    .await
}

/// Between two moments that no event tells of.
#[expect(clippy::disallowed_methods, reason = "a test's thread may wait")]
fn pause(duration: Duration) {
    thread::sleep(duration);
}
