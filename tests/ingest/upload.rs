//! `PUT /code.tar.gz`, spoken over sockets.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use code_server::config::command::Command;
use code_server::digest::{Digest, Revision};
use code_server::http::{Confirmation, Downloads, Site as Served, TokenFile, Uploads};
use code_server::ingest::Order;
use code_server::listen::{self, Limits};
use code_server::metrics::Metrics;
use code_server::publication::Publication;
use code_server::server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::site::{Site, file, gzip, new_version, raw, tar};

const TOKEN: &str = "Authorization: Bearer s3cret\r\n";
/// Longer than any test needs, but not for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a site that ends with the test. What it makes of uploads is what it is told to.
struct Server {
    site: Site,
    address: SocketAddr,
    says: Arc<Mutex<Confirmation>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    done: JoinHandle<()>,
}

impl Server {
    fn start(stall_timeout: Duration) -> Self {
        let site = Site::with_tree();
        let token = tempfile::NamedTempFile::new().unwrap();
        fs::write(token.path(), "s3cret\n").unwrap();
        let shutdown = CancellationToken::new();
        let says = Arc::new(Mutex::new(Confirmation::Served(revision())));
        let tasks = TaskTracker::new();
        let confirmation = Arc::clone(&says);
        let uploads = Uploads {
            token: Arc::new(TokenFile::to_write(token.path())),
            order: Order {
                cancel: shutdown.clone(),
                ..site.order()
            },
            stall_timeout,
            confirm: Arc::new(move |_| {
                let confirmation = confirmation.lock().unwrap().clone();
                Box::pin(std::future::ready(confirmation))
            }),
            metrics: Metrics::new("1.2.3"),
            tasks: tasks.clone(),
        };
        let router = router(Some(uploads));
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            header_timeout: PATIENCE,
            stall_timeout: PATIENCE,
            max_connections: 16,
            drain_timeout: PATIENCE,
            quota: None,
        };
        let serving = listen::serve(
            listener,
            router,
            limits,
            Metrics::new("1.2.3"),
            shutdown.clone(),
        );
        let done = TaskTracker::new().spawn(async move {
            serving.await;
            drop(token);
        });
        Self {
            site,
            address,
            says,
            tasks,
            shutdown,
            done,
        }
    }

    fn patient() -> Self {
        Self::start(PATIENCE)
    }

    /// Sends a request with its body and takes all that comes for the reply.
    async fn put(&self, headers: &str, body: &[u8]) -> Reply {
        put(self.address, headers, body).await
    }

    async fn begin(&self, headers: &str, body: &[u8]) -> TcpStream {
        begin(self.address, headers, body).await
    }

    /// A request that brings an archive is answered so, and changes nothing.
    async fn refused(&self, headers: &str, body: &[u8], status: u16) -> Reply {
        let before = self.site.contents();
        let reply = self.put(headers, body).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(
            reply.text.contains("application/problem+json"),
            "{}",
            reply.text
        );
        self.nothing_runs().await;
        assert_eq!(self.site.contents(), before);
        let path = self.site.path().to_str().unwrap();
        assert!(!reply.text.contains(path), "{}", reply.text);
        reply
    }

    /// Waits until no thread unpacks.
    async fn nothing_runs(&self) {
        until("an upload goes on", || self.tasks.is_empty()).await;
    }

    fn is_staging(&self) -> bool {
        let new = self.site.path().join(".code-ingest-tree/new");
        fs::read_dir(new).is_ok_and(|mut names| names.next().is_some())
    }
}

async fn begin(address: SocketAddr, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("PUT /code.tar.gz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

async fn put(address: SocketAddr, headers: &str, body: &[u8]) -> Reply {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    Reply::read(begin(address, &headers, body).await).await
}

async fn get_descriptor(address: SocketAddr) -> Value {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /code.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    Reply::read(stream).await.json()
}

struct Reply {
    status: u16,
    text: String,
}

impl Reply {
    async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, text }
    }

    fn has(&self, header: &str) -> bool {
        let head = self.text.split("\r\n\r\n").next().unwrap();
        head.to_lowercase().contains(&header.to_lowercase())
    }

    fn json(&self) -> Value {
        let body = self.text.split("\r\n\r\n").last().unwrap();
        serde_json::from_str(body).unwrap()
    }
}

fn revision() -> Revision {
    Revision::of_listing(Digest::of(b"new"))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// The routes of a site that has nothing yet.
fn router(uploads: Option<Uploads>) -> axum::Router {
    let downloads = Downloads {
        moving: 1,
        waiting: 1,
    };
    let (metrics, stop) = (Metrics::new("1.2.3"), CancellationToken::new());
    let site = Served {
        uploads,
        ..Served::open(Publication::new(), metrics, downloads, stop)
    };
    site.router()
}

#[tokio::test]
async fn an_upload_becomes_the_tree_and_its_revision_is_told() {
    let server = Server::patient();
    let reply = server.put(TOKEN, &gzip(&new_version())).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(reply.has(&format!("code-revision: {}", revision())));
    assert!(reply.has("content-type: application/json"));
    assert!(!reply.has("etag:"));
    let json = reply.json();
    assert_eq!(json["revision"], revision().to_string());
    assert_eq!(json["changed"], true);
    assert_eq!(json["files"], 3);
    assert_eq!(json["bytes"], 13 + 16 + 3000);
    assert_eq!(server.site.contents().len(), 7);
    *server.says.lock().unwrap() = Confirmation::Unchanged(revision());
    let reply = server.put(TOKEN, &new_version()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["changed"], false);
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let server = Server::patient();
    let archive = gzip(&new_version());
    let headers = format!("{TOKEN}Transfer-Encoding: chunked\r\n");
    let mut stream = server.begin(&headers, b"").await;
    for piece in archive.chunks(100) {
        let size = format!("{:x}\r\n", piece.len());
        stream.write_all(size.as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(Reply::read(stream).await.status, 200);
    assert_eq!(server.site.contents().len(), 7);
}

#[tokio::test]
async fn whoever_does_not_know_the_token_is_not_asked_for_the_body() {
    let server = Server::patient();
    let archive = new_version();
    for credentials in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Basic s3cret\r\n",
    ] {
        let reply = server.refused(credentials, &archive, 401).await;
        assert!(reply.has("www-authenticate: bearer"), "{}", reply.text);
        let waiting = format!("{credentials}Expect: 100-continue\r\nContent-Length: 5000\r\n");
        let reply = Reply::read(server.begin(&waiting, b"").await).await;
        assert_eq!(reply.status, 401, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_body_is_asked_for_once_the_lock_is_held_and_the_condition_holds() {
    let server = Server::patient();
    let archive = gzip(&new_version());
    let waiting = format!(
        "{TOKEN}Expect: 100-continue\r\nContent-Length: {}\r\n",
        archive.len()
    );
    let condition = format!("{waiting}If-Match: \"x\"\r\n");
    let reply = Reply::read(server.begin(&condition, b"").await).await;
    assert_eq!(reply.status, 412, "{}", reply.text);
    let mut stream = server.begin(&waiting, b"").await;
    let mut line = [0; 25];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&archive).await.unwrap();
    assert_eq!(Reply::read(stream).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_why() {
    let server = Server::patient();
    let with = |headers: &str| format!("{TOKEN}{headers}\r\n");
    let archive = new_version();
    server.refused(&with("If-Match: *"), &archive, 412).await;
    server
        .refused(&with("Content-Range: bytes 0-1/2"), &archive, 400)
        .await;
    let coded = with("Content-Encoding: gzip");
    let reply = server.refused(&coded, &archive, 415).await;
    assert!(reply.has("accept-encoding: identity"));
    let reply = server.refused(TOKEN, b"\x28\xb5\x2f\xfd zstd", 415).await;
    assert!(reply.text.contains("zstd"), "{}", reply.text);
    let text = b"neither a tar nor a tar.gz, and long enough for a header\n".repeat(20);
    let reply = server.refused(TOKEN, &text, 415).await;
    assert!(reply.text.contains("something else"), "{}", reply.text);
    let large = gzip(&tar(|tar| file(tar, "large", &vec![0; 5 << 20])));
    let reply = server.refused(TOKEN, &large, 413).await;
    assert!(reply.text.contains("4194304 bytes"), "{}", reply.text);
    let huge = with("Expect: 100-continue\r\nContent-Length: 4194305");
    let reply = Reply::read(server.begin(&huge, b"").await).await;
    assert_eq!(reply.status, 413, "{}", reply.text);
    let many = tar(|tar| (0..1001).for_each(|n| file(tar, &n.to_string(), b"")));
    server.refused(TOKEN, &gzip(&many), 413).await;
    let hostile = tar(|tar| raw(tar, tar::EntryType::Regular, "../x\u{1b}", ""));
    let reply = server.refused(TOKEN, &hostile, 422).await;
    assert!(
        reply.json()["detail"]
            .as_str()
            .unwrap()
            .contains("../x\\u{1b}")
    );
    let archive = gzip(&archive);
    let cut = &archive[..archive.len() - 20];
    server.refused(TOKEN, cut, 422).await;
    server.refused(TOKEN, b"", 422).await;
    let nothing = tar(|tar| file(tar, ".env", b"x"));
    server.refused(TOKEN, &nothing, 422).await;
}

#[tokio::test]
async fn whoever_sends_all_before_listening_is_answered_too() {
    let server = Server::patient();
    // More than the system takes for a server that does not.
    let large = vec![0x28; 32 << 20];
    server.refused("", &large, 401).await;
    let reply = server.refused(TOKEN, &large, 413).await;
    assert!(reply.text.contains("4194304 bytes"), "{}", reply.text);
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let server = Server::start(Duration::from_millis(50));
    let before = server.site.contents();
    let archive = new_version();
    for sent in [0, 700] {
        let headers = format!("{TOKEN}Content-Length: {}\r\n", archive.len());
        let stream = server.begin(&headers, &archive[..sent]).await;
        let reply = Reply::read(stream).await;
        assert_eq!(reply.status, 408, "{}", reply.text);
        assert_eq!(server.site.contents(), before);
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_anywhere_changes_nothing() {
    let server = Server::patient();
    let before = server.site.contents();
    let padded = [new_version(), vec![0; 5000]].concat();
    for archive in [gzip(&new_version()), padded] {
        let headers = format!("{TOKEN}Content-Length: {}\r\n", archive.len());
        for step in 0..50 {
            let length = step * (archive.len() - 1) / 49;
            drop(server.begin(&headers, &archive[..length]).await);
        }
    }
    // Whichever still has the lock lets go of it.
    let last = loop {
        let reply = server.put(TOKEN, b"no archive").await;
        if reply.status != 409 {
            break reply;
        }
    };
    assert_eq!(last.status, 422);
    server.nothing_runs().await;
    assert_eq!(server.site.contents(), before);
}

#[tokio::test]
async fn a_second_upload_is_told_to_come_again() {
    let server = Server::patient();
    let archive = new_version();
    let headers = format!("{TOKEN}Content-Length: {}\r\n", archive.len());
    let mut first = server.begin(&headers, &archive[..1024]).await;
    until("nothing is staged", || {
        server.site.path().join(".code-ingest-tree/new").exists()
    })
    .await;
    let reply = server.put(TOKEN, &archive).await;
    assert_eq!(reply.status, 409, "{}", reply.text);
    assert!(reply.has("retry-after:"));
    first.write_all(&archive[1024..]).await.unwrap();
    assert_eq!(Reply::read(first).await.status, 200);
    assert_eq!(server.site.contents().len(), 7);
}

#[tokio::test]
async fn a_server_that_stops_gives_an_upload_up() {
    let server = Server::patient();
    let before = server.site.contents();
    let archive = tar(|tar| file(tar, "large", &vec![b'x'; 1 << 20]));
    let headers = format!("{TOKEN}Content-Length: {}\r\n", archive.len());
    let stream = server.begin(&headers, &archive[..archive.len() / 2]).await;
    until("nothing is staged", || server.is_staging()).await;
    server.shutdown.cancel();
    let reply = Reply::read(stream).await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    timeout(PATIENCE, server.done).await.unwrap().unwrap();
    assert_eq!(server.site.contents(), before);
}

#[tokio::test]
async fn what_the_server_makes_of_it_is_told() {
    let server = Server::patient();
    *server.says.lock().unwrap() = Confirmation::Failed("a rule \u{1b}[2J".into());
    let reply = server.put(TOKEN, &new_version()).await;
    assert_eq!(reply.status, 500);
    let expected = "the code is in its place, but could not be built: a rule \\u{1b}[2J";
    assert_eq!(reply.json()["detail"], expected);
    *server.says.lock().unwrap() = Confirmation::TimedOut;
    let reply = server.put(TOKEN, &new_version()).await;
    assert_eq!(reply.status, 503);
    assert!(reply.has("retry-after:"));
    assert_eq!(server.site.contents().len(), 7);
}

#[tokio::test]
async fn a_root_that_cannot_be_exchanged_is_told_without_a_path() {
    let server = Server::patient();
    fs::rename(server.site.root(), server.site.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", server.site.root()).unwrap();
    let reply = server.put(TOKEN, &new_version()).await;
    assert_eq!(reply.status, 500);
    assert!(reply.text.contains("mount the volume one level higher"));
    assert!(!reply.text.contains("elsewhere"), "{}", reply.text);
}

#[tokio::test]
async fn only_the_archive_is_taken_and_only_where_there_is_a_token() {
    let server = Server::patient();
    let ask = async |address: SocketAddr, line: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{TOKEN}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Reply::read(stream).await
    };
    let reply = ask(server.address, "DELETE /code.tar.gz").await;
    assert!(
        reply.status == 405 && reply.has("allow: get, head, put"),
        "{}",
        reply.text
    );
    let reply = ask(server.address, "PUT /code.json").await;
    assert!(
        reply.status == 405 && reply.has("allow: get, head\r\n"),
        "{}",
        reply.text
    );
    let closed = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    let limits = Limits {
        header_timeout: PATIENCE,
        stall_timeout: PATIENCE,
        max_connections: 1,
        drain_timeout: PATIENCE,
        quota: None,
    };
    let router = router(None);
    let serving = TaskTracker::new().spawn(listen::serve(
        closed,
        router,
        limits,
        Metrics::new("1.2.3"),
        CancellationToken::new(),
    ));
    let reply = ask(address, "PUT /code.tar.gz").await;
    assert!(
        reply.status == 405 && reply.has("allow: get, head\r\n"),
        "{}",
        reply.text
    );
    serving.abort();
}

#[tokio::test]
async fn the_whole_server_serves_what_was_uploaded() {
    let site = Site::with_tree();
    let state = tempfile::tempdir().unwrap();
    let token = state.path().join("token");
    fs::write(&token, "s3cret").unwrap();
    let line = format!(
        "code-server serve {} --state-dir {} --write-token-file {}",
        site.root().display(),
        state.path().join("state").display(),
        token.display()
    );
    let Command::Serve(config) = Command::parse(line.split(' ').map(OsString::from)).unwrap()
    else {
        panic!("{line}");
    };
    let server = server::Server::new(&config).unwrap();
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = TaskTracker::new().spawn(server.run(listener, shutdown.clone()));
    let reply = put(address, TOKEN, &gzip(&new_version())).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let revision = site.revision().to_string();
    assert_eq!(reply.json()["revision"], revision);
    let descriptor = get_descriptor(address).await;
    assert_eq!(descriptor["revision"], revision);
    let intended = |descriptor: &Value| {
        let hex = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:");
        format!("{TOKEN}If-Match: \"{}\"\r\n", hex.unwrap())
    };
    let reply = put(address, &intended(&descriptor), &new_version()).await;
    assert_eq!(reply.json()["changed"], false, "{}", reply.text);
    let another = tar(|tar| file(tar, "another", b""));
    let reply = put(address, &intended(&descriptor), &another).await;
    assert_eq!(reply.json()["changed"], true, "{}", reply.text);
    let reply = put(address, &intended(&descriptor), &new_version()).await;
    assert_eq!(reply.status, 412, "{}", reply.text);
    let found = format!("code-revision: {}", site.revision());
    assert!(reply.has(&found), "{}", reply.text);
    assert!(site.root().join("another").exists());
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}
