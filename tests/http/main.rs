//! The server's side of HTTP, spoken to over sockets as any client would.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where it stands, and so do its helpers"
)]

mod limits;
mod log;
mod metrics;
mod page;
mod sending;
mod tokens;
mod vectors;
mod waiting;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use code_server::artifact::Artifact;
use code_server::descriptor::{ARCHIVE_HEADER, ARCHIVE_TRAILER, Descriptor, Segment};
use code_server::digest::{Digest, Revision};
use code_server::http::{Downloads, Site};
use code_server::listen::{self, Limits};
use code_server::metrics::Metrics;
use code_server::publication::Publication;
use code_server::store::Store;
use code_server::store::retention::Retention;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const ARCHIVE: &[u8] = b"0123456789";
const LISTING: &[u8] = b"d 0755 -  src\nd 0755 -  \xff\n";
/// 14 November 2023, 22:13:20.
const CREATED: Duration = Duration::from_secs(1_700_000_000);
/// More than the kernel keeps for a connection whose client reads nothing.
const LARGE: usize = 251 * 100_000;
const DOWNLOADS: Downloads = Downloads {
    moving: 16,
    waiting: 64,
};
const LIMITS: Limits = Limits {
    header_timeout: Duration::from_mins(1),
    stall_timeout: Duration::from_mins(1),
    max_connections: 64,
    drain_timeout: Duration::from_mins(1),
    quota: None,
};

/// A server that ends with the test.
struct Server {
    address: SocketAddr,
    publication: Publication,
    shutdown: CancellationToken,
    done: JoinHandle<()>,
}

impl Server {
    fn empty(limits: Limits) -> Self {
        Self::admitting(DOWNLOADS, limits)
    }

    fn admitting(downloads: Downloads, limits: Limits) -> Self {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let publication = Publication::new();
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new("1.2.3");
        let site = Site::open(
            publication.clone(),
            metrics.clone(),
            downloads,
            shutdown.clone(),
        );
        let address = listener.local_addr().unwrap();
        let serving = listen::serve(listener, site.router(), limits, metrics, shutdown.clone());
        Self {
            address,
            publication,
            shutdown,
            done: TaskTracker::new().spawn(serving),
        }
    }

    /// One that serves `ARCHIVE`.
    fn start() -> Self {
        Self::of(ARCHIVE, LIMITS)
    }

    fn of(archive: &[u8], limits: Limits) -> Self {
        let server = Self::empty(limits);
        server.publication.publish(artifact(archive, LISTING));
        server
    }

    async fn get(&self, path: &str, headers: &str) -> Reply {
        self.ask("GET", path, headers).await
    }

    /// Asks on a connection of its own, and takes all that comes on it for the reply.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let headers = format!("Host: test\r\nConnection: close\r\n{headers}");
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\n");
        let reply = self.say(&request).await;
        if method != "HEAD" && reply.status != 304 {
            let length = reply.body.len().to_string();
            assert_eq!(reply.header("content-length"), Some(&*length), "{path}");
        }
        reply
    }

    /// Sends these very bytes, which must make the server close the connection.
    async fn say(&self, request: &str) -> Reply {
        let mut client = Client::connect(self).await;
        client.send(request).await;
        let mut reply = client.head().await;
        reply.body = client.rest().await.unwrap();
        reply
    }

    /// Stops it and waits until it has ended.
    async fn stop(self) {
        self.shutdown.cancel();
        soon(self.done).await.unwrap();
    }
}

fn artifact(archive: &[u8], listing: &[u8]) -> Arc<Artifact> {
    let descriptor = Descriptor {
        format: "1".into(),
        revision: Revision::of_listing(Digest::of(listing)),
        digest: Digest::of(archive),
        size: archive.len() as u64,
        uncompressed_size: 10_240,
        entries: 2,
        files: 0,
        created_at: SystemTime::UNIX_EPOCH + CREATED,
        segments: Vec::new(),
        left_out: BTreeMap::new(),
    };
    let published = descriptor.created_at;
    Arc::new(Artifact::new(descriptor, file(archive), file(listing), published).unwrap())
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn large_archive() -> Vec<u8> {
    (0..=250).collect::<Vec<u8>>().repeat(LARGE / 251)
}

/// A connection, and what came on it that nobody has read yet.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        Self::try_connect(server).await.unwrap()
    }

    async fn try_connect(server: &Server) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Little, so that a download which is not read soon comes to a stop.
        socket.set_recv_buffer_size(16 << 10)?;
        let stream = soon(socket.connect(server.address)).await?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Asks for the archive and reads no more than the head of the reply.
    async fn begin_download(server: &Server) -> Self {
        let mut client = Self::connect(server).await;
        client
            .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
            .await;
        assert_eq!(client.head().await.status, 200);
        client
    }

    /// Reads a reply up to the end of its header section.
    async fn head(&mut self) -> Reply {
        let status_line = self.line().await;
        let status = status_line.split(' ').nth(1).expect("a status line");
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                break;
            };
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Reply {
            status: status.parse().unwrap(),
            headers,
            body: Vec::new(),
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.stream.read_line(&mut line)).await.unwrap();
        line.strip_suffix("\r\n")
            .expect("a line ends with CRLF")
            .into()
    }

    /// Reads a reply whose body is as long as it says.
    async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        let length = reply.header("content-length").unwrap().parse().unwrap();
        reply.body = self.exactly(length).await;
        reply
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Reads until the server closes the connection; an error where it cuts it.
    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        soon(self.stream.read_to_end(&mut bytes)).await?;
        Ok(bytes)
    }
}

/// What a server answered.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert_eq!(values.next(), None, "{name} stands there twice");
        Some(value.to_str().unwrap())
    }

    #[track_caller]
    fn expect(&self, status: u16, headers: &[(&str, &str)]) {
        assert_eq!(self.status, status);
        for (name, value) in headers {
            assert_eq!(self.header(name), Some(*value), "{name}");
        }
    }

    #[track_caller]
    fn expect_problem(&self, status: u16) {
        let media_type = "application/problem+json";
        self.expect(
            status,
            &[("content-type", media_type), ("cache-control", "no-store")],
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        assert_eq!(problem.as_object().unwrap().len(), 3);
    }
}

/// Fails a test that would otherwise hang.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future)
        .await
        .expect("this ends")
}

/// The revision of `LISTING`.
fn revision() -> String {
    Digest::of(LISTING).to_string()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", Digest::of(bytes).hex())
}

#[tokio::test]
async fn the_archive_comes_with_its_validators() {
    let server = Server::start();
    let reply = server.get("/code.tar.gz", "").await;
    let digest = format!("sha-256=:{}:", Digest::of(ARCHIVE).base64());
    let expected = [
        ("accept-ranges", "bytes"),
        ("cache-control", "no-cache"),
        ("code-revision", &revision()),
        ("code-uncompressed-size", "10240"),
        ("content-length", "10"),
        ("content-type", "application/gzip"),
        ("etag", &etag(ARCHIVE)),
        ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("repr-digest", &digest),
        ("x-content-type-options", "nosniff"),
    ];
    reply.expect(200, &expected);
    assert_eq!(reply.body, ARCHIVE);
    assert_eq!(reply.header("content-encoding"), None);
    let mut names: Vec<_> = reply.headers.keys().map(HeaderName::as_str).collect();
    names.retain(|name| !expected.iter().any(|(known, _)| known == name));
    names.sort_unstable();
    assert_eq!(names, ["connection", "date", "x-request-id"]);
}

#[tokio::test]
async fn descriptor_and_listing_have_validators_of_their_own() {
    let server = Server::start();
    let reply = server.get("/code.json", "").await;
    let json = artifact(ARCHIVE, LISTING).descriptor().to_json();
    assert_eq!(reply.body, json);
    reply.expect(
        200,
        &[("content-type", "application/json"), ("etag", &etag(&json))],
    );
    assert_eq!(reply.header("code-uncompressed-size"), None);

    let reply = server.get("/code.list", "").await;
    assert_eq!(reply.body, LISTING);
    reply.expect(
        200,
        &[("content-type", "text/plain"), ("etag", &etag(LISTING))],
    );
    let digest = format!("sha-256=:{}:", Digest::of(LISTING).base64());
    reply.expect(
        200,
        &[("repr-digest", &digest), ("code-revision", &revision())],
    );
}

#[tokio::test]
async fn head_says_what_get_says_without_the_body() {
    let server = Server::start();
    let retained = format!("/revisions/{}/code.list", revision());
    for path in [
        "/code.tar.gz",
        "/code.json",
        "/code.list",
        "/livez",
        "/readyz",
        "/healthz",
        "/nowhere",
        "/revisions/x/code.json",
        &retained,
    ] {
        let mut get = server.get(path, "").await;
        let mut head = server.ask("HEAD", path, "").await;
        for differs in ["date", "x-request-id"] {
            get.headers.remove(differs);
            head.headers.remove(differs);
        }
        assert_eq!((head.status, head.headers), (get.status, get.headers));
        assert!(!get.body.is_empty() && head.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn one_range_is_answered_with_that_part() {
    let server = Server::start();
    for (range, content_range, body) in [
        ("bytes=0-3", "bytes 0-3/10", "0123"),
        ("bytes=4-", "bytes 4-9/10", "456789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("Bytes=8-99", "bytes 8-9/10", "89"),
        ("bytes=0-", "bytes 0-9/10", "0123456789"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
    ] {
        let reply = server
            .get("/code.tar.gz", &format!("Range: {range}\r\n"))
            .await;
        reply.expect(206, &[("content-range", content_range)]);
        assert_eq!(reply.body, body.as_bytes());
    }
}

#[tokio::test]
async fn a_part_carries_the_validators_of_the_whole() {
    let server = Server::start();
    let mut whole = server.get("/code.tar.gz", "").await;
    let mut part = server.get("/code.tar.gz", "Range: bytes=1-2\r\n").await;
    for name in ["date", "x-request-id", "content-length", "content-range"] {
        whole.headers.remove(name);
        part.headers.remove(name);
    }
    assert_eq!(part.headers, whole.headers);
}

#[tokio::test]
async fn a_range_that_is_not_understood_is_answered_with_everything() {
    let server = Server::start();
    for headers in [
        "Range: bytes=0-1,4-5\r\n",
        "Range: bytes=4-2\r\n",
        "Range: items=0-1\r\n",
        "Range: \u{e4}\r\n",
        "Range: bytes=0-1\r\nRange: bytes=2-3\r\n",
    ] {
        let reply = server.get("/code.tar.gz", headers).await;
        reply.expect(200, &[]);
        assert_eq!(reply.header("content-range"), None);
        assert_eq!(reply.body, ARCHIVE, "{headers}");
    }
}

#[tokio::test]
async fn a_range_of_head_is_ignored() {
    let server = Server::start();
    for range in ["bytes=0-1", "bytes=99-"] {
        let headers = format!("Range: {range}\r\n");
        let reply = server.ask("HEAD", "/code.tar.gz", &headers).await;
        reply.expect(200, &[("content-length", "10")]);
        assert_eq!(reply.header("content-range"), None);
    }
}

#[tokio::test]
async fn a_range_behind_the_end_is_a_416_with_the_complete_length() {
    let server = Server::start();
    let reply = server.get("/code.tar.gz", "Range: bytes=10-\r\n").await;
    reply.expect_problem(416);
    reply.expect(
        416,
        &[
            ("content-range", "bytes */10"),
            ("code-revision", &revision()),
        ],
    );
}

#[tokio::test]
async fn an_empty_representation_is_served_and_has_no_part() {
    let server = Server::of(b"", LIMITS);
    let reply = server.get("/code.tar.gz", "").await;
    reply.expect(200, &[("content-length", "0")]);
    let reply = server.get("/code.tar.gz", "Range: bytes=0-\r\n").await;
    reply.expect(416, &[("content-range", "bytes */0")]);
}

#[tokio::test]
async fn if_range_resumes_only_what_is_still_the_same() {
    let server = Server::start();
    let same = etag(ARCHIVE);
    let weak = format!("W/{same}");
    let other = etag(b"other");
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    for (condition, status, length) in [
        (&*same, 206, 6),
        (&weak, 200, 10),
        (&other, 200, 10),
        (date, 200, 10),
    ] {
        let headers = format!("Range: bytes=4-\r\nIf-Range: {condition}\r\n");
        let reply = server.get("/code.tar.gz", &headers).await;
        assert_eq!((reply.status, reply.body.len()), (status, length));
    }
    // What does not count cannot be unsatisfiable either.
    let headers = format!("Range: bytes=99-\r\nIf-Range: {other}\r\n");
    server.get("/code.tar.gz", &headers).await.expect(200, &[]);
}

#[tokio::test]
async fn a_client_that_has_it_is_told_so_without_a_body() {
    let server = Server::start();
    let digest = format!("sha-256=:{}:", Digest::of(ARCHIVE).base64());
    for method in ["GET", "HEAD"] {
        for condition in [
            format!("If-None-Match: {}\r\n", etag(ARCHIVE)),
            format!("If-None-Match: \"a,b\", W/{}\r\n", etag(ARCHIVE)),
            format!(
                "If-None-Match: \"a\"\r\nIf-None-Match: {}\r\n",
                etag(ARCHIVE)
            ),
            "If-None-Match: *\r\nRange: bytes=0-1\r\n".into(),
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n".into(),
        ] {
            let reply = server.ask(method, "/code.tar.gz", &condition).await;
            reply.expect(
                304,
                &[
                    ("cache-control", "no-cache"),
                    ("code-revision", &revision()),
                    ("etag", &etag(ARCHIVE)),
                    ("repr-digest", &digest),
                ],
            );
            assert_eq!(reply.header("content-length"), None);
            assert_eq!(reply.body, b"");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_another_one_is_sent_this_one() {
    let server = Server::start();
    for condition in [
        "If-None-Match: \"other\"\r\n",
        "If-None-Match: \"other\"\r\nIf-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n",
        "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n",
    ] {
        let reply = server.get("/code.tar.gz", condition).await;
        assert_eq!((reply.status, &*reply.body), (200, ARCHIVE));
    }
}

#[tokio::test]
async fn a_client_that_means_another_one_is_told_which_one_this_is() {
    let server = Server::start();
    for condition in [
        "If-Match: \"other\"\r\n",
        "If-Match: \"other\"\r\nRange: bytes=99-\r\n",
        "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n",
    ] {
        let reply = server.get("/code.tar.gz", condition).await;
        reply.expect_problem(412);
        reply.expect(412, &[("code-revision", &revision())]);
    }
    let condition = format!("If-Match: {}\r\n", etag(ARCHIVE));
    server
        .get("/code.tar.gz", &condition)
        .await
        .expect(200, &[]);
}

#[tokio::test]
async fn a_revision_has_resources_of_its_own() {
    let server = Server::start();
    let revision = revision();
    for (name, other_form) in [
        ("code.tar.gz", revision.replace(':', "%3A")),
        ("code.json", revision.replace(':', "%3a")),
        ("code.list", revision.clone()),
    ] {
        let current = server.get(&format!("/{name}"), "").await;
        for form in [&revision, &other_form] {
            let reply = server.get(&format!("/revisions/{form}/{name}"), "").await;
            assert_eq!((reply.status, &reply.body), (200, &current.body));
            assert_eq!(reply.headers["etag"], current.headers["etag"]);
            reply.expect(200, &[("cache-control", "no-cache")]);
        }
    }
}

#[tokio::test]
async fn an_unknown_revision_is_a_404_that_names_the_current_one() {
    let server = Server::start();
    let unknown = Digest::of(b"unknown").to_string();
    let upper = revision().to_uppercase();
    for revision in [
        &*unknown, &upper, "x", "sha256:", "%ff", "..", "%2e%2e", "a%2fb",
    ] {
        for name in ["code.tar.gz", "code.json", "code.list"] {
            let path = format!("/revisions/{revision}/{name}");
            let reply = server.get(&path, "").await;
            reply.expect_problem(404);
            assert_eq!(reply.header("code-revision"), Some(&*self::revision()));
        }
    }
}

/// Makes an archive of this text, and publishes it from a store that can open it again.
fn publish(server: &Server, store: &Store, text: &str) -> Descriptor {
    let archive = format!("{text:>30}");
    let mut descriptor = artifact(archive.as_bytes(), text.as_bytes())
        .descriptor()
        .clone();
    descriptor.segments = vec![Segment {
        offset: ARCHIVE_HEADER,
        length: descriptor.size - ARCHIVE_HEADER - ARCHIVE_TRAILER,
        raw_length: descriptor.uncompressed_size,
        digest: Digest::of(b""),
    }];
    let mut staged = store.stage().unwrap();
    staged.archive.write_all(archive.as_bytes()).unwrap();
    staged.listing.write_all(text.as_bytes()).unwrap();
    let kept = store.keep(staged, descriptor.clone(), b"").unwrap();
    server.publication.publish(kept.artifact);
    store.make_current(&descriptor.digest).unwrap();
    descriptor
}

/// A server with a store, and the directory that it is in.
fn with_store() -> (Server, Arc<Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::try_open(directory.path()).unwrap().unwrap());
    let server = Server::empty(LIMITS);
    server.publication.keep_in(Arc::clone(&store));
    (server, store, directory)
}

#[tokio::test]
async fn a_predecessor_is_served_as_it_was_when_it_was_current() {
    let (server, store, _directory) = with_store();
    let old = publish(&server, &store, "old");
    let before = server.get("/code.tar.gz", "").await;
    let new = publish(&server, &store, "new");
    let path = format!("/revisions/{}/code.tar.gz", old.revision);
    let after = server.get(&path, "").await;
    assert_eq!(after.body, before.body);
    for name in ["etag", "last-modified", "repr-digest", "code-revision"] {
        assert_eq!(after.headers[name], before.headers[name]);
    }
    let tag = format!("\"{}\"", old.digest.hex());
    let resume = format!("Range: bytes=27-\r\nIf-Range: {tag}\r\nIf-Match: {tag}\r\n");
    let part = server.get(&path, &resume).await;
    part.expect(206, &[("content-range", "bytes 27-29/30")]);
    assert_eq!(part.body, b"old");
    let unchanged = format!("If-None-Match: {tag}\r\n");
    server.get(&path, &unchanged).await.expect(304, &[]);
    let listing = format!("/revisions/{}/code.list", old.revision);
    assert_eq!(server.get(&listing, "").await.body, b"old");
    assert_eq!(server.get("/code.list", "").await.body, b"new");

    let one = Retention {
        keep: 1,
        keep_for: Duration::ZERO,
        state_size: u64::MAX,
    };
    store.retire(&one, SystemTime::now() + Duration::from_hours(1));
    let gone = server.get(&path, "").await;
    gone.expect_problem(404);
    gone.expect(404, &[("code-revision", &new.revision.to_string())]);
}

#[tokio::test]
async fn code_that_comes_back_is_dated_when_it_came_back() {
    let (server, store, _directory) = with_store();
    let dated = |reply: &Reply| {
        let date = reply.header("last-modified").unwrap();
        httpdate::parse_http_date(date).unwrap()
    };
    let began = SystemTime::now() - Duration::from_secs(1);
    publish(&server, &store, "old");
    publish(&server, &store, "new");
    let new = dated(&server.get("/code.tar.gz", "").await);
    publish(&server, &store, "old");
    let again = dated(&server.get("/code.tar.gz", "").await);
    assert!(began <= new && new <= again);
}

#[tokio::test]
async fn what_can_be_had_is_listed_with_the_newest_first() {
    let (server, store, _directory) = with_store();
    let nothing = server.get("/revisions", "").await;
    nothing.expect(200, &[("content-type", "application/json")]);
    assert_eq!(nothing.body, br#"{"revisions":[]}"#);
    assert_eq!(nothing.header("code-revision"), None);

    let made = ["a", "b", "c"].map(|text| publish(&server, &store, text));
    // A revert is newer than all others.
    publish(&server, &store, "a");
    let reply = server.get("/revisions", "").await;
    let current = made[0].revision.to_string();
    reply.expect(
        200,
        &[
            ("content-type", "application/json"),
            ("code-revision", &current),
            ("cache-control", "no-store"),
        ],
    );
    let found: Value = serde_json::from_slice(&reply.body).unwrap();
    let lines = found["revisions"].as_array().unwrap();
    let expected = [(&made[0], true), (&made[2], false), (&made[1], false)];
    assert_eq!(lines.len(), expected.len());
    for (line, (descriptor, current)) in lines.iter().zip(expected) {
        assert_eq!(line["revision"], descriptor.revision.to_string());
        assert_eq!(line["digest"], descriptor.digest.to_string());
        assert_eq!(line["current"], current);
        assert_eq!(line["size"], 30);
        assert_eq!(line["uncompressed_size"], 10_240);
        assert_eq!((&line["entries"], &line["files"]), (&2.into(), &0.into()));
        assert_eq!(line["created_at"], "2023-11-14T22:13:20Z");
        assert!(line["published_at"].as_str().unwrap() > "2024");
    }
    let head = server.ask("HEAD", "/revisions", "").await;
    let length = reply.body.len().to_string();
    head.expect(200, &[("content-length", &length)]);
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn what_turned_out_damaged_is_served_no_more() {
    let (server, store, _directory) = with_store();
    let old = publish(&server, &store, "old");
    let new = publish(&server, &store, "new");
    server.publication.withdraw(&new.digest).await;
    server.get("/readyz", "").await.expect(503, &[]);
    let nothing = server.get("/code.tar.gz", "Prefer: wait=0\r\n").await;
    nothing.expect_problem(503);
    for (descriptor, status) in [(&old, 200), (&new, 404)] {
        let path = format!("/revisions/{}/code.json", descriptor.revision);
        server.get(&path, "").await.expect(status, &[]);
    }
    server.publication.withdraw(&old.digest).await;
    let list = server.get("/revisions", "").await;
    assert_eq!(list.body, br#"{"revisions":[]}"#);
}

#[tokio::test]
async fn before_the_first_artifact_clients_are_told_to_come_back() {
    let server = Server::empty(LIMITS);
    for path in ["/code.tar.gz", "/code.json", "/code.list"] {
        let reply = server.get(path, "Prefer: wait=0\r\n").await;
        reply.expect_problem(503);
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3).contains(&seconds));
        assert_eq!(reply.header("code-revision"), None);
    }
    let path = format!("/revisions/{}/code.tar.gz", revision());
    let reply = server.get(&path, "").await;
    reply.expect_problem(404);
    assert_eq!(reply.header("code-revision"), None);
}

#[tokio::test]
async fn the_server_is_live_at_once_and_ready_with_the_first_artifact() {
    let server = Server::empty(LIMITS);
    let no_store = [("cache-control", "no-store")];
    server.get("/livez", "").await.expect(200, &no_store);
    for path in ["/readyz", "/healthz"] {
        server.get(path, "").await.expect(503, &no_store);
    }
    server.publication.publish(artifact(ARCHIVE, LISTING));
    for path in ["/livez", "/readyz", "/healthz"] {
        let reply = server.get(path, "").await;
        reply.expect(200, &no_store);
        assert_eq!(reply.body, b"ok\n");
    }
}

#[tokio::test]
async fn other_methods_are_refused_by_name() {
    let server = Server::start();
    let retained = format!("/revisions/{}/code.tar.gz", revision());
    for path in [
        "/code.tar.gz",
        "/code.json",
        "/livez",
        "/readyz",
        "/metrics",
        "/revisions",
        &retained,
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let reply = server.ask(method, path, "").await;
            reply.expect_problem(405);
            reply.expect(405, &[("allow", "GET, HEAD")]);
        }
    }
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_spoil_the_answer() {
    let server = Server::start();
    let headers = "Content-Length: 5\r\n";
    let mut client = Client::connect(&server).await;
    client
        .send(&format!(
            "POST /code.json HTTP/1.1\r\nHost: test\r\n{headers}\r\n12345"
        ))
        .await;
    client.reply().await.expect_problem(405);
}

#[tokio::test]
async fn unknown_paths_are_a_404() {
    let server = Server::start();
    for path in [
        "/code",
        "/code.tar.gz/",
        "//code.tar.gz",
        "/CODE.tar.gz",
        "/../etc/passwd",
        "/revisions/",
        "/revisions/x",
        "/revisions/x/y/code.tar.gz",
        "/%00",
    ] {
        for method in ["GET", "POST"] {
            let reply = server.ask(method, path, "").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            reply.expect_problem(404);
        }
    }
}

#[tokio::test]
async fn a_query_changes_nothing() {
    let server = Server::start();
    let reply = server.get("/code.tar.gz?x=%ff&y", "").await;
    assert_eq!((reply.status, &*reply.body), (200, ARCHIVE));
}

#[tokio::test]
async fn http_1_1_needs_one_valid_host() {
    let server = Server::start();
    for (hosts, status) in [
        ("Host: a\r\n", 200),
        ("Host: a.b:80\r\n", 200),
        ("Host: [::1]:80\r\n", 200),
        ("Host:\r\n", 200),
        ("", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: a/b\r\n", 400),
        ("Host: a:b\r\n", 400),
    ] {
        for path in ["/code.tar.gz", "/livez", "/nowhere"] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
            let reply = server.say(&request).await;
            if status == 400 {
                reply.expect_problem(400);
            } else {
                assert_ne!(reply.status, 400, "{hosts}");
            }
        }
    }
}

#[tokio::test]
async fn http_1_0_is_answered_without_a_host_and_then_closed() {
    let server = Server::start();
    let reply = server.say("GET /code.tar.gz HTTP/1.0\r\n\r\n").await;
    assert_eq!((reply.status, &*reply.body), (200, ARCHIVE));
}

#[tokio::test]
async fn a_target_in_absolute_form_is_the_same_resource() {
    let server = Server::start();
    let target = "http://anywhere/code.tar.gz";
    let reply = server.get(target, "").await;
    assert_eq!((reply.status, &*reply.body), (200, ARCHIVE));
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_cut() {
    let server = Server::start();
    for noise in [
        "\x16\x03\x01 hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / SPDY/3\r\n\r\n",
    ] {
        assert_eq!(server.say(noise).await.status, 400, "{noise:?}");
    }
}

#[tokio::test]
async fn a_header_section_beyond_the_buffer_is_refused() {
    let server = Server::start();
    let headers = format!("Padding: {}\r\n", "x".repeat(20_000));
    let mut client = Client::connect(&server).await;
    client
        .send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n"))
        .await;
    assert_eq!(client.head().await.status, 431);
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let server = Server::start();
    let mut client = Client::connect(&server).await;
    for _ in 0..3 {
        client
            .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.body, ARCHIVE);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut client = Client::connect(&server).await;
    let requests = (0..10).map(|at| {
        let headers = format!("Host: test\r\nRange: bytes={at}-{at}\r\n");
        format!("GET /code.tar.gz HTTP/1.1\r\n{headers}\r\n")
    });
    client.send(&requests.collect::<Vec<_>>().concat()).await;
    for at in 0..10 {
        let reply = client.reply().await;
        reply.expect(206, &[]);
        assert_eq!(reply.body, &ARCHIVE[at..=at]);
    }
}

#[tokio::test]
async fn many_download_at_once() {
    let archive = large_archive();
    let server = Server::of(&archive, LIMITS);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::begin_download(&server).await);
    }
    for mut client in clients {
        assert!(client.exactly(LARGE).await == archive);
    }
}

#[tokio::test]
async fn a_download_ends_with_the_artifact_it_began_with() {
    let archive = large_archive();
    let server = Server::of(&archive, LIMITS);
    let mut client = Client::begin_download(&server).await;
    server.publication.publish(artifact(b"new", b"new"));
    assert_eq!(server.get("/code.tar.gz", "").await.body, b"new");
    assert!(client.exactly(LARGE).await == archive);
    client
        .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.body, b"new");
}

#[tokio::test]
async fn a_file_that_lost_its_end_never_passes_for_whole() {
    let server = Server::empty(LIMITS);
    let whole = artifact(&large_archive(), LISTING);
    let archive = file(&large_archive());
    let cut_off = archive.try_clone().unwrap();
    let descriptor = whole.descriptor().clone();
    let damaged = Artifact::new(descriptor, archive, file(LISTING), SystemTime::now()).unwrap();
    cut_off.set_len(100_000).unwrap();
    server.publication.publish(Arc::new(damaged));
    let mut client = Client::begin_download(&server).await;
    let received = client.rest().await.map_or(0, |bytes| bytes.len());
    assert!(received < LARGE);
}

#[tokio::test]
async fn a_client_slow_to_ask_is_cut() {
    let limits = Limits {
        header_timeout: Duration::from_millis(100),
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    for beginning in [
        "",
        "GET /code.tar.gz HTT",
        "GET / HTTP/1.1\r\nHost: test\r\n",
    ] {
        let mut client = Client::connect(&server).await;
        client.send(beginning).await;
        assert_eq!(client.rest().await.unwrap(), b"", "{beginning:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits {
        header_timeout: Duration::from_millis(100),
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    let mut client = Client::begin_download(&server).await;
    assert_eq!(client.rest().await.unwrap(), ARCHIVE);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let limits = Limits {
        stall_timeout: Duration::from_millis(200),
        ..LIMITS
    };
    let server = Server::of(&large_archive(), limits);
    let client = Client::begin_download(&server).await;
    // With nobody reading, only the cut can end the drain.
    server.stop().await;
    drop(client);
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_for_their_turn() {
    let limits = Limits {
        max_connections: 1,
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    let mut first = Client::connect(&server).await;
    first
        .send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    first.reply().await.expect(200, &[]);
    let mut second = Client::connect(&server).await;
    second
        .send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    let early = timeout(Duration::from_millis(50), second.stream.fill_buf());
    assert!(early.await.is_err());
    drop(first);
    second.reply().await.expect(200, &[]);
}

#[tokio::test]
async fn a_stopping_server_finishes_a_download_and_takes_no_new_one() {
    let archive = large_archive();
    let server = Server::of(&archive, LIMITS);
    let mut client = Client::begin_download(&server).await;
    server.shutdown.cancel();
    let refused = async {
        while Client::try_connect(&server).await.is_ok() {
            yield_now().await;
        }
    };
    soon(refused).await;
    assert!(!server.done.is_finished());
    assert!(client.rest().await.unwrap() == archive);
    soon(server.done).await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_closes_idle_connections_at_once() {
    let server = Server::start();
    let mut silent = Client::connect(&server).await;
    let mut idle = Client::connect(&server).await;
    idle.send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").await;
    idle.reply().await.expect(200, &[]);
    server.stop().await;
    assert_eq!(idle.rest().await.unwrap(), b"");
    assert_eq!(silent.rest().await.unwrap(), b"");
}

#[tokio::test]
async fn a_stopping_server_cuts_what_outlasts_the_drain_timeout() {
    let limits = Limits {
        drain_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Server::of(&large_archive(), limits);
    let mut client = Client::begin_download(&server).await;
    server.stop().await;
    let received = client.rest().await.map_or(0, |bytes| bytes.len());
    assert!(received < LARGE);
}
