//! What is no proper request, is too much, or comes too slowly: each costs its own connection, and nobody else anything.

use super::*;

/// What a server may do to a client that talks nonsense.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Answer with this status, and close.
    Refused(u16),
    /// Close without a word.
    Closed,
}

use End::{Closed, Refused};

/// Sends these bytes, and tells the statuses of what came back until the server closed the connection.
async fn statuses(server: &Server, bytes: &[u8]) -> Vec<u16> {
    let mut client = Client::connect(server).await;
    // A server that has seen enough may close before it has taken all.
    drop(client.stream.write_all(bytes).await);
    let answer = read_away(&mut client).await;
    let text = String::from_utf8_lossy(&answer);
    let lines = text.lines().filter(|line| line.starts_with("HTTP/1."));
    lines
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect()
}

/// All that comes until the connection is closed, in order or not.
async fn read_away(client: &mut Client) -> Vec<u8> {
    let mut answer = Vec::new();
    drop(soon(client.stream.read_to_end(&mut answer)).await);
    answer
}

/// None of these is answered with anything but what is said, and all others go on as if nothing had been.
async fn check(cases: &[(&str, Vec<u8>, End)]) {
    let server = Server::start();
    let mut witness = Client::connect(&server).await;
    for (name, bytes, end) in cases {
        let statuses = statuses(&server, bytes).await;
        match end {
            Refused(status) => assert_eq!(statuses, [*status], "{name}"),
            Closed => assert!(statuses.is_empty(), "{name}: {statuses:?}"),
        }
        witness
            .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n")
            .await;
        assert_eq!(witness.reply().await.body, ARCHIVE, "{name}");
    }
}

fn case(name: &'static str, text: &str, end: End) -> (&'static str, Vec<u8>, End) {
    (name, text.into(), end)
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_and_its_connection_closed() {
    check(&[
        case("no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        case("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        case("no version", "GET /\r\nHost: a\r\n\r\n", Refused(400)),
        case("HTTP/0.9", "GET /code.tar.gz\r\n", Refused(400)),
        case("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Closed),
        case(
            "HTTP/1.2",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
        case("HTTP/3", "GET / HTTP/3\r\nHost: a\r\n\r\n", Refused(400)),
        case(
            "lower case",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
        case(
            "a method of colons",
            "G:T / HTTP/1.1\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
        case(
            "NUL in the target",
            "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
        case(
            "NUL in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            Refused(400),
        ),
        case(
            "NUL in a name",
            "GET / HTTP/1.1\r\nHost: a\r\nX\0Y: a\r\n\r\n",
            Refused(400),
        ),
        case(
            "DEL in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
            Refused(400),
        ),
        case(
            "CR alone in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            Refused(400),
        ),
        case(
            "a name with a space",
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n",
            Refused(400),
        ),
        // RFC 9112 §5.1: what stands before the colon has led servers and proxies to read two things.
        case(
            "a space before the colon",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            Refused(400),
        ),
        case(
            "no name",
            "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
            Refused(400),
        ),
        case(
            "no colon",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            Refused(400),
        ),
        // RFC 9112 §5.2.
        case(
            "a folded line",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            Refused(400),
        ),
        case(
            "a folded first line",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            Refused(400),
        ),
    ])
    .await;
}

#[tokio::test]
async fn noise_is_refused() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40);
    let random: Vec<u8> = (0_u32..5_000)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    check(&[
        ("a TLS ClientHello", hello, Refused(400)),
        ("zeros", vec![0; 100], Refused(400)),
        ("noise", random, Refused(400)),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), Refused(400)),
        (
            "a proxy's preface",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
            Refused(400),
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let of = |name: &str, length: usize| format!("{name}: {}\r\n", "x".repeat(length));
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    let many = "X: y\r\n".repeat(200);
    check(&[
        case(
            "a header",
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", of("X", 20_000)),
            Refused(431),
        ),
        case(
            "a name",
            &format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}: a\r\n\r\n",
                "x".repeat(20_000)
            ),
            Refused(431),
        ),
        case(
            "many headers",
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            Refused(431),
        ),
        case("a target", &target, Refused(431)),
        ("a line without an end", b"x".repeat(10 << 20), Refused(431)),
        (
            "a header without an end",
            [b"GET / HTTP/1.1\r\nX: ".to_vec(), b"x".repeat(10 << 20)].concat(),
            Refused(431),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_host_must_be_there_once_and_be_one() {
    check(&[
        case(
            "none",
            "GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
            Refused(400),
        ),
        case(
            "two",
            "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
            Refused(400),
        ),
        case(
            "a path",
            "GET /livez HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
            Refused(400),
        ),
        case(
            "a user",
            "GET /livez HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\n\r\n",
            Refused(400),
        ),
        case(
            "a list",
            "GET /livez HTTP/1.1\r\nHost: a, b\r\nConnection: close\r\n\r\n",
            Refused(400),
        ),
    ])
    .await;
}

/// RFC 9112 §6.3: a length that can be read in two ways is how one request is hidden in another. Of the two, the coding
/// counts, and the connection ends behind the answer.
#[tokio::test]
async fn nobody_hides_one_request_in_another() {
    let smuggled = "0\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    let with = |headers: &str| format!("GET /livez HTTP/1.1\r\nHost: a\r\n{headers}\r\n{smuggled}");
    let server = Server::start();
    for (headers, status) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 200),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 200),
        ("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            400,
        ),
        ("Transfer-Encoding: xchunked\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5, 6\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 5 5\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 99999999999999999999\r\n", 400),
    ] {
        let statuses = statuses(&server, with(headers).as_bytes()).await;
        assert_eq!(statuses, [status], "{headers}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_read_away_before_the_next_request() {
    let server = Server::start();
    let next = "GET /code.tar.gz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 5\r\n", "GET /"),
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "GET /"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nGET /\r\n0\r\n\r\n"),
        (
            "Transfer-Encoding: CHUNKED\r\n",
            "5;a=b\r\nGET /\r\n0\r\nX: y\r\n\r\n",
        ),
    ] {
        let request = format!("GET /livez HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}{next}");
        let statuses = statuses(&server, request.as_bytes()).await;
        assert_eq!(statuses, [200, 200], "{headers}");
    }
}

#[tokio::test]
async fn a_chunk_that_cannot_be_read_ends_the_connection() {
    let server = Server::start();
    let next = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "x\r\n",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nabcdeX\r\n",
        "5 5\r\n",
        "5\nabcde\n0\n\n",
    ] {
        let head = "GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let statuses = statuses(&server, format!("{head}{body}{next}").as_bytes()).await;
        assert_eq!(statuses, [200], "{body:?}");
    }
}

/// RFC 9112 §2.2 lets a recipient take a line feed alone for the end of a line, and empty lines before a request.
#[tokio::test]
async fn line_feeds_alone_and_empty_lines_change_nothing() {
    let server = Server::start();
    for request in [
        "GET /livez HTTP/1.1\nHost: a\nConnection: close\n\n",
        "\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(
            statuses(&server, request.as_bytes()).await,
            [200],
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_loses_its_own_connection_alone() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        ..LIMITS
    };
    let server = Server::of(ARCHIVE, limits);
    let mut slow = Client::connect(&server).await;
    slow.send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\nX: ")
        .await;
    let trickle = async {
        let mut answer = Vec::new();
        loop {
            let read = slow.stream.read_to_end(&mut answer);
            if timeout(Duration::from_millis(20), read).await.is_ok() {
                return answer;
            }
            server.get("/code.tar.gz", "").await.expect(200, &[]);
            drop(slow.stream.write_all(b"x").await);
        }
    };
    assert_eq!(soon(trickle).await, b"");
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_leaves_nothing() {
    let limits = Limits {
        max_connections: 1,
        ..LIMITS
    };
    let server = Server::of(&large_archive(), limits);
    for beginning in [
        "",
        "GET",
        "GET /livez HTTP/1.1\r\nHost: test\r\nX",
        "GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nabc",
        "GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\nGET /code.tar.gz HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        let mut client = Client::connect(&server).await;
        client.send(beginning).await;
        drop(client);
        // There is room for one connection only.
        server.get("/livez", "").await.expect(200, &[]);
    }
}

#[tokio::test]
async fn who_has_sent_all_it_has_to_say_is_answered() {
    let server = Server::start();
    let mut client = Client::connect(&server).await;
    client
        .send("GET /code.tar.gz HTTP/1.1\r\nHost: test\r\n")
        .await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(read_away(&mut client).await, b"");
}

#[tokio::test]
async fn those_who_read_nothing_keep_nobody_else_waiting() {
    let archive = large_archive();
    let server = Server::of(&archive, LIMITS);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Client::begin_download(&server).await);
    }
    let mut client = Client::begin_download(&server).await;
    assert!(client.exactly(LARGE).await == archive);
}
