//! What is logged of requests, and the ids by which they are found again.

use std::io;
use std::sync::Mutex;

use tower_service::Service;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Collects the lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Collects what this thread logs from now on, as an object a line.
    fn collect(level: Level) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines about requests; every line is an object.
    fn requests(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line.is_object(), "{line}");
            line
        });
        let of_requests = |line: &Value| {
            let target = line["target"].as_str().unwrap();
            ["code_server::http::log", "code_server::http::exchange"].contains(&target)
        };
        lines.filter(of_requests).collect()
    }
}

/// Some members of a line.
fn members(line: &Value, names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| line[name].clone()).collect()
}

#[tokio::test]
async fn a_download_is_a_line_with_what_became_of_it() {
    let (lines, _logged) = Lines::collect(Level::INFO);
    let server = Server::of(&large_archive(), LIMITS);
    let whole = server.get("/code.tar.gz", "").await;
    let revision = whole.header("code-revision").unwrap().to_owned();
    server
        .get(
            &format!("/revisions/{revision}/code.tar.gz"),
            "Range: bytes=5-9\r\n",
        )
        .await
        .expect(206, &[]);
    drop(Client::begin_download(&server).await);
    server.stop().await;

    let requests = lines.requests();
    let all = requests.iter().all(|line| {
        line["client"].as_str().unwrap().starts_with("127.0.0.1:")
            && line["revision"] == *revision
            && line["level"] == "INFO"
            && line["message"] == "download"
            && line["elapsed"].is_string()
            && line.get("trace_id").is_none()
    });
    assert!(all, "{requests:?}");
    let names = ["status", "range", "bytes", "length", "outcome"];
    let complete = |status: u16, range: Value, bytes: usize| {
        vec![
            status.into(),
            range,
            bytes.into(),
            bytes.into(),
            "complete".into(),
        ]
    };
    assert_eq!(
        members(&requests[0], &names),
        complete(200, Value::Null, LARGE)
    );
    assert_eq!(
        members(&requests[1], &names),
        complete(206, "5-9".into(), 5)
    );
    assert_eq!(requests[2]["outcome"], "aborted");
    assert_eq!(requests[2]["length"], LARGE);
    assert!(requests[2]["bytes"].as_u64().unwrap() < LARGE as u64);
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn what_a_fleet_asks_all_day_is_no_news() {
    let (lines, _logged) = Lines::collect(Level::INFO);
    let server = Server::start();
    let tag = server.get("/code.json", "").await;
    let tag = format!("If-None-Match: {}\r\n", tag.header("etag").unwrap());
    server.get("/code.json", &tag).await.expect(304, &[]);
    server
        .ask("HEAD", "/code.tar.gz", "")
        .await
        .expect(200, &[]);
    server.get("/nowhere", "").await.expect(404, &[]);
    for probe in ["/livez", "/readyz", "/healthz", "/metrics"] {
        server.get(probe, "").await.expect(200, &[]);
    }
    server.stop().await;
    assert_eq!(lines.requests(), Vec::<Value>::new());
}

#[tokio::test]
async fn at_debug_every_request_is_a_line_but_for_probes() {
    let (lines, _logged) = Lines::collect(Level::DEBUG);
    let server = Server::start();
    server
        .get("/code.json?secret", "Range: bytes=0-6\r\n")
        .await;
    server.ask("HEAD", "/code.tar.gz", "").await;
    server.get("/code.list", "If-None-Match: *\r\n").await;
    let unknown = server.get("/revisions/\u{9b}x/code.json", "").await;
    let refused = server.ask("POST", "/code.list", "").await;
    let nowhere = server.get("/nowhere", "").await;
    for silent in ["/livez", "/readyz", "/healthz", "/metrics"] {
        server.get(silent, "").await;
    }
    server.stop().await;

    let requests = lines.requests();
    let lines: Vec<_> = requests
        .iter()
        .map(|line| members(line, &["method", "path", "status", "bytes"]))
        .collect();
    let line = |method: &str, path: &str, status: u16, bytes: usize| -> Vec<Value> {
        vec![method.into(), path.into(), status.into(), bytes.into()]
    };
    assert_eq!(
        lines,
        [
            line("GET", "/code.json", 206, 7),
            line("HEAD", "/code.tar.gz", 200, 0),
            line("GET", "/code.list", 304, 0),
            line(
                "GET",
                "/revisions/\\u{9b}x/code.json",
                404,
                unknown.body.len()
            ),
            line("POST", "/code.list", 405, refused.body.len()),
            line("GET", "/nowhere", 404, nowhere.body.len()),
        ]
    );
    assert!(requests.iter().all(|line| line["message"] == "request"));
}

#[tokio::test]
async fn an_id_is_taken_over_or_made_and_told_to_both_sides() {
    let (lines, _logged) = Lines::collect(Level::DEBUG);
    let server = Server::start();
    let mut told = Vec::new();
    for (path, given, expected) in [
        (
            "/code.tar.gz",
            "X-Request-Id: 4f90-81be/x\r\n",
            Some("4f90-81be/x"),
        ),
        (
            "/code.json",
            "x-request-id: {\"a\":1}\r\n",
            Some("{\"a\":1}"),
        ),
        ("/code.list", "X-Request-Id: a b\r\n", None),
        ("/code.list", "X-Request-Id: a\tb\r\n", None),
        ("/code.list", "X-Request-Id: \u{e4}\r\n", None),
        ("/nowhere", "", None),
    ] {
        let reply = server.get(path, given).await;
        let id = reply.header("x-request-id").unwrap().to_owned();
        match expected {
            Some(expected) => assert_eq!(id, expected),
            None => assert!(
                id.len() == 16 && u64::from_str_radix(&id, 16).is_ok(),
                "{id}"
            ),
        }
        told.push(id);
    }
    let probe = server.get("/livez", "X-Request-Id: probe\r\n").await;
    probe.expect(200, &[("x-request-id", "probe")]);
    server.stop().await;
    let requests = lines.requests();
    let logged: Vec<_> = requests
        .iter()
        .map(|line| line["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(logged, told);
}

#[tokio::test]
async fn the_trace_of_a_request_is_in_its_line_and_goes_no_further() {
    let (lines, _logged) = Lines::collect(Level::DEBUG);
    let server = Server::start();
    let given = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=b\r\n");
    for path in ["/code.tar.gz", "/code.json"] {
        let reply = server.get(path, &given).await;
        assert_eq!(reply.header("traceparent"), None);
    }
    let broken = format!("traceparent: 00-{TRACE}-{PARENT}\r\n");
    server.get("/code.json", &broken).await.expect(200, &[]);
    server.stop().await;
    let requests = lines.requests();
    for line in &requests[..2] {
        assert_eq!(members(line, &["trace_id", "parent_id"]), [TRACE, PARENT]);
    }
    assert!(requests[2].get("trace_id").is_none() && requests.len() == 3);
}

#[tokio::test]
async fn nothing_that_a_client_sends_breaks_a_line() {
    let (lines, _logged) = Lines::collect(Level::TRACE);
    let server = Server::start();
    let nasty = "\u{9b}\u{85}\u{2028}\"},{\u{feff}\\n";
    for request in [
        format!("GET /{nasty} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        format!(
            "GET /x HTTP/1.1\r\nHost: test\r\nX-Request-Id: {nasty}\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: test\r\ntraceparent: {nasty}\r\nConnection: close\r\n\r\n"
        ),
        "M'`|~#$%^&*+ /x HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".into(),
    ] {
        server.say(&request).await;
    }
    for request in [
        "GET /\u{1b}[2J\u{7} HTTP/1.1\r\n\r\n",
        "G\u{0}T / HTTP/1.1\r\n\r\n",
        "{}\n{}\n\n",
    ] {
        let mut client = Client::connect(&server).await;
        client.send(request).await;
        client.rest().await.unwrap();
    }
    server.stop().await;
    // That each line is an object is seen by reading them.
    assert!(lines.requests().len() >= 3);
}

#[tokio::test]
async fn an_answer_that_tells_of_a_fault_here_is_a_warning() {
    let (lines, _logged) = Lines::collect(Level::INFO);
    let publication = Publication::new();
    publication.publish(artifact(ARCHIVE, LISTING));
    let (metrics, stop) = (Metrics::new("1"), CancellationToken::new());
    let mut router = Site::open(publication, metrics, DOWNLOADS, stop).router();
    // Without a connection it can send nothing.
    let request = http::Request::get("/code.json").header("host", "test");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = router.call(request).await.unwrap();
    assert_eq!(response.status(), 500);
    let requests = lines.requests();
    let names = ["level", "message", "path", "status"];
    let expected: [Value; 4] = [
        "WARN".into(),
        "request failed".into(),
        "/code.json".into(),
        500.into(),
    ];
    assert_eq!(members(&requests[0], &names), expected);
    assert_eq!(requests.len(), 1);
}
