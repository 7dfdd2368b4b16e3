//! What is counted of requests, as a scrape shows it.

use std::io;
use std::process::{Command, Stdio};

use super::*;

#[tokio::test]
async fn metrics_are_there_for_prometheus() {
    let server = Server::empty(LIMITS);
    let reply = server.get("/metrics", "").await;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let headers = [
        ("content-type", content_type),
        ("cache-control", "no-store"),
    ];
    reply.expect(200, &headers);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("\ncodeserver_build_info{version=\"1.2.3\"} 1\n"));
    let head = server.ask("HEAD", "/metrics", "").await;
    head.expect(200, &headers);
    assert!(head.body.is_empty());
}

impl Server {
    async fn scrape(&self) -> String {
        String::from_utf8(self.get("/metrics", "").await.body).unwrap()
    }

    /// The value of a metric, labels included in its name.
    async fn metric(&self, name: &str) -> u64 {
        let text = self.scrape().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// Waits until a metric has this value.
    async fn wait_for(&self, name: &str, value: u64) {
        soon(async {
            while self.metric(name).await != value {
                yield_now().await;
            }
        })
        .await;
    }
}

/// How many requests there were.
fn requests(route: &str, method: &str, code: u16) -> String {
    format!(
        "codeserver_http_requests_total{{route=\"{route}\",method=\"{method}\",code=\"{code}\"}}"
    )
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let server = Server::start();
    let revision = server.get("/code.json", "").await;
    let revision = revision.header("code-revision").unwrap().to_owned();
    let of_revision = format!("/revisions/{revision}/code.list");
    for (method, path, headers, pattern, code) in [
        ("GET", "/code.tar.gz", "", "/code.tar.gz", 200),
        (
            "GET",
            "/code.tar.gz",
            "Range: bytes=0-1\r\n",
            "/code.tar.gz",
            206,
        ),
        (
            "GET",
            "/code.list",
            "If-None-Match: *\r\n",
            "/code.list",
            304,
        ),
        ("HEAD", "/code.tar.gz", "", "/code.tar.gz", 200),
        ("DELETE", "/code.tar.gz", "", "/code.tar.gz", 405),
        (
            "GET",
            &of_revision,
            "",
            "/revisions/{revision}/code.list",
            200,
        ),
        (
            "GET",
            "/revisions/x/code.json",
            "",
            "/revisions/{revision}/code.json",
            404,
        ),
        ("GET", "/revisions", "", "/revisions", 200),
        ("GET", "/livez", "", "/livez", 200),
        ("GET", "/readyz", "", "/readyz", 200),
        ("GET", "/healthz", "", "/healthz", 200),
        ("GET", "/nowhere", "", "other", 404),
        ("GET", "/code.list/", "Host: twice\r\n", "other", 400),
    ] {
        server.ask(method, path, headers).await.expect(code, &[]);
        let method = if method == "DELETE" { "other" } else { method };
        assert_eq!(
            server.metric(&requests(pattern, method, code)).await,
            1,
            "{method} {path}"
        );
    }
    assert!(server.metric(&requests("/metrics", "GET", 200)).await > 10);
}

#[tokio::test]
async fn downloads_and_their_bytes_are_counted_when_they_end() {
    let server = Server::of(&large_archive(), LIMITS);
    let before = server.metric("codeserver_http_response_bytes_total").await;
    assert!(before < LARGE as u64);
    server.get("/code.tar.gz", "").await;
    server
        .wait_for("codeserver_downloads_total{result=\"complete\"}", 1)
        .await;
    assert!(server.metric("codeserver_http_response_bytes_total").await >= before + LARGE as u64);
    drop(Client::begin_download(&server).await);
    server
        .wait_for("codeserver_downloads_total{result=\"aborted\"}", 1)
        .await;
    server.ask("HEAD", "/code.tar.gz", "").await;
    assert_eq!(
        server
            .metric("codeserver_downloads_total{result=\"complete\"}")
            .await,
        1
    );
}

#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let server = Server::start();
    // One is that of the scrape.
    server.wait_for("codeserver_connections_active", 1).await;
    let clients = [
        Client::connect(&server).await,
        Client::connect(&server).await,
    ];
    server.wait_for("codeserver_connections_active", 3).await;
    drop(clients);
    server.wait_for("codeserver_connections_active", 1).await;
}

#[tokio::test]
async fn what_asked_to_be_held_is_not_timed() {
    let server = Server::start();
    let timed = "codeserver_http_request_duration_seconds_count";
    server.get("/code.json", "").await;
    server.get("/code.json", "Prefer: wait=1\r\n").await;
    server.get("/livez", "").await;
    assert_eq!(server.metric(timed).await, 1);
}

#[tokio::test]
async fn no_client_makes_series() {
    let server = Server::start();
    let ask = async |number: usize| {
        server.get(&format!("/{number}"), "").await;
        server.ask(&format!("M{number}"), "/code.json", "").await;
        server
            .get(&format!("/revisions/sha256:{number:064x}/code.list"), "")
            .await;
        let id = format!("X-Request-Id: {number}\r\nUser-Agent: {number}\r\n");
        server.get(&format!("/code.json?{number}"), &id).await;
    };
    ask(0).await;
    server.scrape().await;
    let before = server.scrape().await.lines().count();
    for number in 1..250 {
        ask(number).await;
    }
    assert_eq!(server.scrape().await.lines().count(), before);
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_of() {
    if !promtool_is_installed() {
        return;
    }
    let server = Server::of(&large_archive(), LIMITS);
    server.get("/code.tar.gz", "").await;
    server.get("/revisions/x/code.json", "").await;
    server.ask("BREW", "/", "").await;
    drop(Client::begin_download(&server).await);
    let text = server.scrape().await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}

/// Says so where it is not, which is a failure where nothing may be missing.
fn promtool_is_installed() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        let required =
            std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_some_and(|value| value == "1");
        assert!(
            !required,
            "promtool is not installed, and CODE_SERVER_TEST_REQUIRE is set"
        );
        // Written past the test harness, which keeps to itself what a passing test prints.
        writeln!(io::stderr(), "skipped: promtool is not installed")
            .expect("standard error is open");
    }
    found
}
