//! Bodies on their way: in turn, from several artifacts, to clients that take them or do not.

use super::*;

/// A server that sends one archive at a time, and lets so many wait.
fn one_at_a_time(waiting: usize) -> Server {
    let server = Server::admitting(Downloads { moving: 1, waiting }, LIMITS);
    server
        .publication
        .publish(artifact(&large_archive(), LISTING));
    server
}

async fn waiting(server: &Server, expected: &str) {
    let line = format!("codeserver_downloads_waiting {expected}\n");
    let mut text = String::new();
    while !text.contains(&line) {
        text = String::from_utf8(server.get("/metrics", "").await.body).unwrap();
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_turn_to_the_next_and_goes_on_later() {
    let server = one_at_a_time(10);
    let mut stalled = Client::begin_download(&server).await;
    let next = server.get("/code.tar.gz", "").await;
    assert!(next.status == 200 && next.body == large_archive());
    assert!(stalled.exactly(LARGE).await == large_archive());
}

#[tokio::test]
async fn who_asks_for_little_does_not_wait() {
    let server = one_at_a_time(0);
    let _stalled = Client::begin_download(&server).await;
    let tag = format!("If-None-Match: {}\r\n", etag(&large_archive()));
    for (method, path, headers, status) in [
        ("GET", "/code.tar.gz", "Range: bytes=0-1048575\r\n", 206),
        ("GET", "/code.tar.gz", "Range: bytes=-1\r\n", 206),
        ("GET", "/code.tar.gz", &tag, 304),
        ("HEAD", "/code.tar.gz", "", 200),
        ("GET", "/code.json", "", 200),
        ("GET", "/code.list", "", 200),
        ("GET", "/livez", "", 200),
    ] {
        let reply = server.ask(method, path, headers).await;
        assert_eq!(reply.status, status, "{method} {path} {headers}");
    }
}

#[tokio::test]
async fn beyond_the_bound_clients_are_told_to_come_back() {
    let server = one_at_a_time(0);
    let _stalled = Client::begin_download(&server).await;
    for headers in ["", "Range: bytes=0-1048576\r\n"] {
        let reply = server.get("/code.tar.gz", headers).await;
        reply.expect_problem(503);
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((2..=10).contains(&seconds), "{seconds}");
        assert_eq!(reply.header("etag"), None);
    }
}

#[tokio::test]
async fn who_goes_away_while_it_waits_leaves_the_queue() {
    let server = one_at_a_time(1);
    let mut stalled = Client::begin_download(&server).await;
    let mut impatient = Client::connect(&server).await;
    impatient
        .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    waiting(&server, "1").await;
    drop(impatient);
    waiting(&server, "0").await;
    // There is room for another one.
    let (next, _) = tokio::join!(server.get("/code.tar.gz", ""), stalled.exactly(LARGE));
    assert_eq!(next.status, 200);
}

#[tokio::test]
async fn one_connection_gets_parts_of_several_artifacts_one_after_the_other() {
    let server = Server::of(&large_archive(), LIMITS);
    let mut client = Client::connect(&server).await;
    let range = |range: &str| {
        format!("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\nRange: bytes={range}\r\n\r\n")
    };
    let whole = large_archive();
    // The first is sent in part when the next artifact is published, and the others are asked for in one go.
    client.send(&range("1000000-")).await;
    assert_eq!(client.head().await.status, 206);
    let mut other = whole.clone();
    other[7] ^= 1;
    server.publication.publish(artifact(&other, LISTING));
    client
        .send(&[range("0-9"), range("0-9"), range("5-2000004")].concat())
        .await;
    let rest = client.exactly(LARGE - 1_000_000).await;
    assert!(rest == whole[1_000_000..]);
    for part in [0..10, 0..10, 5..2_000_005] {
        let reply = client.reply().await;
        assert_eq!(reply.status, 206);
        assert!(reply.body == other[part]);
    }
}

#[tokio::test]
async fn an_archive_that_the_kernel_cannot_send_in_one_piece_comes_whole_to_a_slow_reader() {
    let server = Server::of(&large_archive(), LIMITS);
    let mut client = Client::begin_download(&server).await;
    let mut received = Vec::new();
    for length in [1, 10, 100_000, 1, LARGE / 2] {
        received.extend(client.exactly(length).await);
        yield_now().await;
    }
    received.extend(client.exactly(LARGE - received.len()).await);
    assert!(received == large_archive());
}

#[tokio::test]
async fn a_stopping_server_sends_those_away_who_wait_for_their_turn() {
    let server = one_at_a_time(10);
    let mut stalled = Client::begin_download(&server).await;
    let mut queued = Client::connect(&server).await;
    queued
        .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    waiting(&server, "1").await;
    server.shutdown.cancel();
    let reply = queued.reply().await;
    reply.expect_problem(503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(stalled.exactly(LARGE).await == large_archive());
    server.stop().await;
}
