//! What is served anew is installed, and nothing else happens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use crate::follower::{Place, version, wait_until};
use crate::server::Server;

#[test]
fn whatever_is_published_is_installed() {
    let (place, server) = (Place::new(), Server::start());
    let follower = place.follow(&server.url(), &[]);
    for number in [1, 2, 3, 2] {
        server.publish(&version(number));
        place.wait_until_it_holds(&version(number));
        let content = fs::read_to_string(place.target().join("version")).unwrap();
        assert_eq!(content, format!("version {number}\n"));
    }
    assert_eq!(follower.events("following").len(), 1);
}

#[test]
fn one_request_waits_and_no_more() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let _follower = place.follow(&server.url(), &[]);
    for number in [1, 2, 3] {
        server.publish(&version(number));
        place.wait_until_it_holds(&version(number));
    }
    wait_until("it waits", || server.seen.waiting() == 1);
    assert_eq!(server.seen.most_waiting(), 1);
    // Each version is heard of, and then fetched; the first one is asked for once more, for its tag.
    let asked = server.seen.of("/code.json");
    assert!(asked <= 8, "{asked}");
}

#[test]
fn after_many_changes_in_a_row_the_last_one_is_there() {
    let (place, server) = (Place::new(), Server::serving(&version(0)));
    let follower = place.follow(&server.url(), &["--on-change", "true"]);
    place.wait_until_it_holds(&version(0));
    for number in 1..=20 {
        server.publish(&version(number));
        // Some are seen and some are not: it is the follower that sets the pace.
        if number % 5 == 0 {
            place.wait_until_it_holds(&version(number));
        }
    }
    place.wait_until_it_holds(&version(20));
    let last = version(20).descriptor.revision.to_string();
    wait_until("the command ran for the last one", || {
        let ran = follower.events("ran");
        ran.last().is_some_and(|event| event["revision"] == last)
    });
    let hidden = fs::read_dir(place.target().join(".code-fetch")).unwrap();
    assert!(
        hidden
            .map(|entry| entry.unwrap().file_name())
            .all(|name| name != "staging")
    );
}

#[test]
fn a_server_that_restarts_is_found_again_with_what_it_has_then() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &[]);
    server.wait_until_it_is_followed();
    let address = server.address;
    drop(server);
    let server = Server::start_at(address);
    server.publish(&version(2));
    place.wait_until_it_holds(&version(2));
    drop(server);
    let server = Server::start_at(address);
    server.publish(&version(2));
    wait_until("it waits", || server.seen.waiting() == 1);
    server.publish(&version(3));
    place.wait_until_it_holds(&version(3));
    follower.wait_for("installed", 3);
}

#[test]
fn a_server_that_is_away_is_missed_in_one_line_and_so_is_its_return() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &[]);
    server.wait_until_it_is_followed();
    let address = server.address;
    drop(server);
    // Held by somebody who breaks each connection off, so that it can be told how often it was tried.
    let nobody = TcpListener::bind(address).unwrap();
    for _ in 0..5 {
        drop(nobody.accept().unwrap());
    }
    drop(nobody);
    let server = Server::start_at(address);
    server.publish(&version(2));
    place.wait_until_it_holds(&version(2));
    follower.wait_for("the server answers again", 1);
    let warnings = follower.events("trying again");
    let mut sentences: Vec<_> = warnings.iter().map(|event| &event["error"]).collect();
    let told = sentences.len();
    sentences.dedup();
    // Connections end otherwise when the server goes, while it is away, and when it comes.
    assert!(told <= 4 && sentences.len() == told, "{warnings:?}");
}

#[test]
fn a_fallback_that_lags_behind_takes_nothing_back() {
    let place = Place::new();
    let made = |number: u32| {
        let mut artifact = version(number);
        artifact.descriptor.created_at =
            SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * u64::from(number));
        artifact
    };
    let (server, mirror) = (Server::serving(&made(2)), Server::serving(&made(1)));
    let _follower = place.follow(&server.url(), &["--fallback", &mirror.url()]);
    server.wait_until_it_is_followed();
    assert!(place.holds(&made(2)));
    drop(server);
    wait_until("the mirror is asked", || mirror.seen.of("/code.json") >= 2);
    assert!(place.holds(&made(2)));
    mirror.publish(&made(3));
    place.wait_until_it_holds(&made(3));
}

#[test]
fn what_cannot_be_installed_is_told_once_and_the_next_one_is() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &["--max-entries", "1"]);
    place.wait_until_it_holds(&version(1));
    let mut two = version(2);
    two.descriptor.entries = 2;
    server.publish(&two);
    let warning = follower.wait_for("cannot follow, and going on trying", 1);
    let text = warning["error"].as_str().unwrap();
    assert!(text.contains("2 entries, and 1 are allowed"), "{text}");
    wait_until("it is tried again", || server.seen.of("/code.json") >= 6);
    server.publish(&version(3));
    place.wait_until_it_holds(&version(3));
    assert_eq!(
        follower.events("cannot follow, and going on trying").len(),
        1
    );
}

/// A server whose waits end with nothing new, one after the other.
#[test]
fn waits_that_bring_nothing_are_not_told() {
    let place = Place::new();
    let made = version(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let follower = place.follow(&url, &[]);
    let (descriptor, archive) = (made.descriptor.to_json(), &made.archive);
    let mut asked_with_the_tag = 0;
    let mut lines = 0;
    while asked_with_the_tag < 5 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
        let head = "ETag: \"x\"\r\nPreference-Applied: wait=55\r\n";
        let (status, body) = if request.contains("if-none-match: \"x\"") {
            asked_with_the_tag += 1;
            assert!(request.contains("prefer: wait=55"), "{request}");
            ("304 Not Modified", &[][..])
        } else if request.starts_with("get /code.json") {
            ("200 OK", &descriptor[..])
        } else {
            ("200 OK", &archive[..])
        };
        let head = if request.starts_with("get /code.json") {
            format!(
                "HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\n\r\n",
                body.len()
            )
        } else {
            format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
        };
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        if asked_with_the_tag == 1 {
            lines = follower.lines();
        }
    }
    assert_eq!(follower.lines(), lines);
    assert_eq!(follower.events("following").len(), 1);
}
