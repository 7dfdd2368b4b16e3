//! Who is answered: tokens, and the port for probes.

use std::fs;
use std::path::PathBuf;

use code_server::http::{Access, Guard, Site, TokenFile};
use data_encoding::BASE64;
use tempfile::TempDir;

use super::*;

/// Resources that say something about the code, or whether there is any.
const GUARDED: [&str; 7] = [
    "/code.tar.gz",
    "/code.json",
    "/code.list",
    "/revisions",
    "/revisions/sha256:0/code.json",
    "/nowhere",
    "/livez/",
];
const OPEN: [&str; 4] = ["/livez", "/readyz", "/healthz", "/metrics"];

/// A server that serves `ARCHIVE` to those who may read it.
struct Guarded {
    server: Server,
    directory: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("read"), "reader\n").unwrap();
        fs::write(directory.path().join("write"), "writer\n").unwrap();
        let guard = Guard {
            read: Arc::new(TokenFile::to_read(&directory.path().join("read"))),
            write: Some(Arc::new(TokenFile::to_write(
                &directory.path().join("write"),
            ))),
        };
        let access = Access {
            guard: Some(guard),
            ..Access::default()
        };
        Self {
            server: listening(&site(access), Site::router),
            directory,
        }
    }

    fn read_token(&self) -> PathBuf {
        self.directory.path().join("read")
    }

    async fn status(&self, path: &str, authorization: &str) -> u16 {
        let header = format!("Authorization: {authorization}\r\n");
        self.server.get(path, &header).await.status
    }

    /// Asks until the answer is another one: the file is looked at once a second.
    async fn becomes(&self, authorization: &str, status: u16) {
        soon(async {
            while self.status("/code.json", authorization).await != status {
                yield_now().await;
            }
        })
        .await;
    }
}

/// A site that serves `ARCHIVE` to those who may ask.
fn site(access: Access) -> Site {
    let publication = Publication::new();
    publication.publish(artifact(ARCHIVE, LISTING));
    let (metrics, stop) = (Metrics::new("1.2.3"), CancellationToken::new());
    Site {
        access,
        ..Site::open(publication, metrics, DOWNLOADS, stop)
    }
}

fn listening(site: &Site, routes: fn(&Site) -> axum::Router) -> Server {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (metrics, shutdown) = (site.metrics.clone(), site.stop.clone());
    Server {
        address: listener.local_addr().unwrap(),
        publication: site.publication.clone(),
        shutdown: shutdown.clone(),
        done: TaskTracker::new().spawn(listen::serve(
            listener,
            routes(site),
            LIMITS,
            metrics,
            shutdown,
        )),
    }
}

fn basic(pair: &str) -> String {
    format!("Basic {}", BASE64.encode(pair.as_bytes()))
}

#[tokio::test]
async fn without_a_token_nothing_is_said_but_that_there_is_none() {
    let guarded = Guarded::start();
    let unknown = guarded.server.get("/nowhere", "").await;
    for path in GUARDED {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = guarded.server.ask(method, path, "").await;
            assert_eq!(reply.status, 401, "{method} {path}");
            assert_eq!(reply.body, unknown.body, "{method} {path}");
            let challenges: Vec<_> = reply.headers.get_all("www-authenticate").iter().collect();
            assert_eq!(
                challenges,
                [
                    "Bearer realm=\"code-server\"",
                    "Basic realm=\"code-server\", charset=\"UTF-8\""
                ]
            );
            for header in ["code-revision", "etag", "last-modified"] {
                assert_eq!(reply.header(header), None, "{method} {path}");
            }
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
        let head = guarded.server.ask("HEAD", path, "").await;
        assert_eq!(head.status, 401, "{path}");
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn either_token_admits_as_bearer_or_as_password() {
    let guarded = Guarded::start();
    for token in ["reader", "writer"] {
        let ways = [
            format!("Bearer {token}"),
            basic(&format!("anybody:{token}")),
            basic(&format!(":{token}")),
        ];
        for way in ways {
            assert_eq!(guarded.status("/code.tar.gz", &way).await, 200, "{way}");
            assert_eq!(guarded.status("/nowhere", &way).await, 404, "{way}");
        }
    }
    for wrong in [
        "Bearer reade",
        "Bearer readers",
        "Bearer ",
        "Digest reader",
        &basic("reader:"),
        &basic("reader"),
    ] {
        assert_eq!(guarded.status("/code.tar.gz", wrong).await, 401, "{wrong}");
    }
    let twice = "Authorization: Bearer reader\r\nAuthorization: Bearer reader\r\n";
    assert_eq!(guarded.server.get("/code.json", twice).await.status, 401);
    guarded.server.stop().await;
}

#[tokio::test]
async fn probes_and_metrics_need_no_token() {
    let guarded = Guarded::start();
    for path in OPEN {
        assert_eq!(guarded.server.get(path, "").await.status, 200, "{path}");
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_old_one_and_none_admits_nobody() {
    let guarded = Guarded::start();
    let path = guarded.read_token();
    guarded.becomes("Bearer reader", 200).await;
    fs::write(&path, "renewed").unwrap();
    guarded.becomes("Bearer renewed", 200).await;
    assert_eq!(guarded.status("/code.json", "Bearer reader").await, 401);
    fs::write(&path, "").unwrap();
    guarded.becomes("Bearer renewed", 401).await;
    assert_eq!(guarded.status("/code.json", "Bearer ").await, 401);
    assert_eq!(guarded.status("/code.json", &basic("x:")).await, 401);
    fs::remove_file(&path).unwrap();
    assert_eq!(guarded.status("/code.json", "Bearer renewed").await, 401);
    assert_eq!(guarded.status("/code.json", "Bearer writer").await, 200);
    guarded.server.stop().await;
}

#[tokio::test]
async fn what_is_observed_elsewhere_is_unknown_here() {
    let access = Access {
        observed_elsewhere: true,
        ..Access::default()
    };
    let site = site(access);
    let server = listening(&site, Site::router);
    let elsewhere = listening(&site, Site::observation);
    for path in OPEN {
        assert_eq!(server.get(path, "").await.status, 404, "{path}");
        assert_eq!(elsewhere.get(path, "").await.status, 200, "{path}");
    }
    for path in ["/code.json", "/revisions", "/nowhere"] {
        assert_eq!(elsewhere.get(path, "").await.status, 404, "{path}");
    }
    assert_eq!(server.get("/code.json", "").await.status, 200);
    assert_eq!(elsewhere.ask("POST", "/livez", "").await.status, 405);
    let without_host = elsewhere.say("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(without_host.await.status, 400);
    elsewhere.stop().await;
    server.stop().await;
}
