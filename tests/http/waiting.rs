//! Requests that are held until there is an answer worth sending.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncBufRead;

use super::*;

const RESOURCES: [&str; 3] = ["code.tar.gz", "code.json", "code.list"];

/// A client whose request the server has begun to hold.
async fn held(server: &Server, method: &str, path: &str, headers: &str) -> Client {
    let mut client = Client::connect(server).await;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    client.send(&request).await;
    assert_is_held(server, &mut client).await;
    client
}

/// Looks for an answer once the server has had time to make one: it has answered others that came later.
async fn assert_is_held(server: &Server, client: &mut Client) {
    for _ in 0..3 {
        server.get("/livez", "").await.expect(200, &[]);
    }
    let answer = poll_fn(|context| {
        let answer = Pin::new(&mut client.stream).poll_fill_buf(context);
        Poll::Ready(answer.map_ok(<[u8]>::to_vec))
    });
    assert!(answer.await.is_pending(), "an answer came early");
}

fn known(bytes: &[u8], seconds: u64) -> String {
    let tag = etag(bytes);
    format!("If-None-Match: {tag}\r\nPrefer: wait={seconds}\r\n")
}

#[tokio::test]
async fn who_comes_before_the_first_artifact_gets_it_as_soon_as_it_is_there() {
    let server = Server::empty(LIMITS);
    let mut clients = Vec::new();
    for name in RESOURCES {
        for headers in ["", "Prefer: wait=50\r\n"] {
            clients.push(held(&server, "GET", &format!("/{name}"), headers).await);
        }
    }
    let mut head = held(&server, "HEAD", "/code.tar.gz", "").await;
    server.publication.publish(artifact(ARCHIVE, LISTING));
    for mut client in clients {
        client.reply().await.expect(200, &[]);
    }
    let length = ARCHIVE.len().to_string();
    head.head()
        .await
        .expect(200, &[("content-length", &length)]);
}

#[tokio::test]
async fn conditions_and_range_of_who_was_held_still_count() {
    let server = Server::empty(LIMITS);
    let mut part = held(&server, "GET", "/code.tar.gz", "Range: bytes=1-2\r\n").await;
    let mut other = held(&server, "GET", "/code.tar.gz", "If-Match: \"a\"\r\n").await;
    server.publication.publish(artifact(ARCHIVE, LISTING));
    let reply = part.reply().await;
    reply.expect(206, &[("content-range", "bytes 1-2/10")]);
    assert_eq!(reply.body, &ARCHIVE[1..=2]);
    other.reply().await.expect_problem(412);
}

#[tokio::test]
async fn who_waits_in_vain_is_told_to_come_back() {
    let server = Server::empty(LIMITS);
    let reply = server.get("/code.json", "Prefer: wait=1\r\n").await;
    reply.expect_problem(503);
    reply.expect(503, &[("preference-applied", "wait=1")]);
    let path = format!("/revisions/{}/code.json", revision());
    let reply = server.get(&path, "Prefer: wait=1\r\n").await;
    reply.expect_problem(404);
    reply.expect(404, &[("preference-applied", "wait=1")]);
}

#[tokio::test]
async fn probes_are_never_held() {
    let server = Server::empty(LIMITS);
    for path in ["/readyz", "/healthz"] {
        let reply = server.get(path, "Prefer: wait=50\r\n").await;
        reply.expect(503, &[]);
        assert_eq!(reply.header("preference-applied"), None);
    }
    server
        .get("/livez", "Prefer: wait=50\r\n")
        .await
        .expect(200, &[]);
}

#[tokio::test]
async fn who_has_the_current_one_is_held_until_it_changes() {
    let server = Server::start();
    let json = artifact(ARCHIVE, LISTING).descriptor().to_json();
    let mut clients = Vec::new();
    for (name, bytes) in [
        ("code.tar.gz", ARCHIVE),
        ("code.json", &json),
        ("code.list", LISTING),
    ] {
        let headers = known(bytes, 50);
        clients.push(held(&server, "GET", &format!("/{name}"), &headers).await);
    }
    let mut head = held(&server, "HEAD", "/code.tar.gz", &known(ARCHIVE, 50)).await;
    // The same bytes are no news, though they were published again.
    server.publication.publish(artifact(ARCHIVE, LISTING));
    for client in clients.iter_mut().chain([&mut head]) {
        assert_is_held(&server, client).await;
    }
    server
        .publication
        .publish(artifact(b"new", b"d 0755 -  new\n"));
    let applied = [("preference-applied", "wait=50")];
    for mut client in clients {
        client.reply().await.expect(200, &applied);
    }
    let reply = head.head().await;
    reply.expect(200, &applied);
    reply.expect(200, &[("etag", &etag(b"new")), ("content-length", "3")]);
}

#[tokio::test]
async fn only_the_resource_that_changes_is_news() {
    let server = Server::start();
    let mut listing = held(&server, "GET", "/code.list", &known(LISTING, 50)).await;
    let mut archive = held(&server, "GET", "/code.tar.gz", &known(ARCHIVE, 50)).await;
    // The same content, packed at another level.
    server.publication.publish(artifact(b"new", LISTING));
    assert_eq!(archive.reply().await.body, b"new");
    assert_is_held(&server, &mut listing).await;
}

#[tokio::test]
async fn what_comes_and_is_known_too_is_no_news() {
    let server = Server::start();
    let tags = format!("{}, {}", etag(ARCHIVE), etag(b"new"));
    let headers = format!("If-None-Match: {tags}\r\nPrefer: wait=50\r\n");
    let mut client = held(&server, "GET", "/code.tar.gz", &headers).await;
    server.publication.publish(artifact(b"new", b"new"));
    assert_is_held(&server, &mut client).await;
    server.publication.publish(artifact(b"newer", b"newer"));
    assert_eq!(client.reply().await.body, b"newer");
}

#[tokio::test]
async fn where_nothing_changes_a_304_comes_in_the_end() {
    let server = Server::start();
    let reply = server.get("/code.tar.gz", &known(ARCHIVE, 1)).await;
    let headers = [("preference-applied", "wait=1"), ("etag", &etag(ARCHIVE))];
    reply.expect(304, &headers);
    assert!(reply.body.is_empty());
    let reply = server.get("/code.tar.gz", &known(ARCHIVE, 0)).await;
    reply.expect(304, &[("preference-applied", "wait=0")]);
}

#[tokio::test]
async fn who_has_another_one_or_says_nothing_is_answered_at_once() {
    let server = Server::start();
    let applied = [("preference-applied", "wait=55")];
    let reply = server.get("/code.tar.gz", &known(b"other", 99)).await;
    reply.expect(200, &applied);
    let reply = server.get("/code.tar.gz", "Prefer: wait=99\r\n").await;
    reply.expect(200, &applied);
    let condition = format!("If-None-Match: {}\r\n", etag(ARCHIVE));
    let reply = server.get("/code.tar.gz", &condition).await;
    reply.expect(304, &[]);
    assert_eq!(reply.header("preference-applied"), None);
}

#[tokio::test]
async fn what_is_withdrawn_is_waited_for_again() {
    let (server, store, _directory) = with_store();
    let old = publish(&server, &store, "old");
    let tag = format!("\"{}\"", old.digest.hex());
    let headers = format!("If-None-Match: {tag}\r\nPrefer: wait=50\r\n");
    let mut client = held(&server, "GET", "/code.tar.gz", &headers).await;
    server.publication.withdraw(&old.digest).await;
    assert_is_held(&server, &mut client).await;
    let new = publish(&server, &store, "new");
    let tag = format!("\"{}\"", new.digest.hex());
    client.reply().await.expect(200, &[("etag", &tag)]);
}

#[tokio::test]
async fn a_revision_is_waited_for_until_exactly_that_one_is_served() {
    let server = Server::start();
    let wanted = Digest::of(b"wanted").to_string();
    let mut clients = Vec::new();
    for name in RESOURCES {
        let path = format!("/revisions/{wanted}/{name}");
        clients.push(held(&server, "GET", &path, "Prefer: wait=50\r\n").await);
    }
    server.publication.publish(artifact(b"other", b"other"));
    for client in &mut clients {
        assert_is_held(&server, client).await;
    }
    server.publication.publish(artifact(b"new", b"wanted"));
    for mut client in clients {
        let expected = [
            ("code-revision", &*wanted),
            ("preference-applied", "wait=50"),
        ];
        client.reply().await.expect(200, &expected);
    }
}

#[tokio::test]
async fn a_revision_that_came_and_went_is_found_among_the_predecessors() {
    let (server, store, _directory) = with_store();
    publish(&server, &store, "old");
    let wanted = Digest::of(b"wanted").to_string();
    let path = format!("/revisions/{wanted}/code.list");
    let mut client = held(&server, "GET", &path, "Prefer: wait=50\r\n").await;
    // On this test's one thread nobody is served between the two.
    publish(&server, &store, "wanted");
    publish(&server, &store, "new");
    assert_eq!(client.reply().await.body, b"wanted");
}

#[tokio::test]
async fn predecessors_are_found_as_soon_as_there_is_a_store() {
    let (full, store, directory) = with_store();
    let old = publish(&full, &store, "old");
    full.stop().await;
    drop(store);
    let server = Server::empty(LIMITS);
    let path = format!("/revisions/{}/code.list", old.revision);
    let mut client = held(&server, "GET", &path, "Prefer: wait=50\r\n").await;
    let store = Store::try_open(directory.path()).unwrap().unwrap();
    server.publication.keep_in(Arc::new(store));
    assert_eq!(client.reply().await.body, b"old");
}

#[tokio::test]
async fn what_is_no_revision_is_not_waited_for() {
    let server = Server::start();
    for revision in ["x", "sha256:", "%ff"] {
        let path = format!("/revisions/{revision}/code.json");
        let reply = server.get(&path, "Prefer: wait=50\r\n").await;
        reply.expect_problem(404);
    }
}

#[tokio::test]
async fn a_stopping_server_answers_everybody_with_what_there_is() {
    let server = Server::empty(LIMITS);
    let mut first = held(&server, "GET", "/code.tar.gz", "Prefer: wait=50\r\n").await;
    server.shutdown.cancel();
    let reply = first.reply().await;
    reply.expect_problem(503);
    reply.expect(503, &[("retry-after", "1"), ("connection", "close")]);
    soon(server.done).await.unwrap();

    let server = Server::start();
    let mut change = held(&server, "GET", "/code.tar.gz", &known(ARCHIVE, 50)).await;
    let path = format!("/revisions/{}/code.json", Digest::of(b"wanted"));
    let mut wanted = held(&server, "GET", &path, "Prefer: wait=50\r\n").await;
    server.shutdown.cancel();
    change.head().await.expect(304, &[("connection", "close")]);
    let reply = wanted.reply().await;
    reply.expect_problem(404);
    reply.expect(
        404,
        &[("code-revision", &revision()), ("connection", "close")],
    );
    soon(server.done).await.unwrap();
}

#[tokio::test]
async fn who_goes_away_is_not_held_any_longer() {
    let limits = Limits {
        max_connections: 2,
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    let client = held(&server, "GET", "/code.tar.gz", &known(ARCHIVE, 55)).await;
    let mut other = Client::connect(&server).await;
    other
        .send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    other.reply().await.expect(200, &[]);
    drop(client);
    // The other one keeps its place: there is room only once the first has ended.
    server.get("/livez", "").await.expect(200, &[]);
    other
        .send("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    other.reply().await.expect(200, &[]);
}

#[tokio::test]
async fn one_publication_answers_hundreds() {
    let limits = Limits {
        max_connections: 1000,
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    let request = format!(
        "GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n{}\r\n",
        known(ARCHIVE, 50)
    );
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect(&server).await;
        client.send(&request).await;
        clients.push(client);
    }
    assert_is_held(&server, clients.last_mut().unwrap()).await;
    server.publication.publish(artifact(b"new", b"new"));
    for mut client in clients {
        assert_eq!(client.reply().await.body, b"new");
    }
}
