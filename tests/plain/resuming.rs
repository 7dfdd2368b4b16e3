//! Downloads that break off: gone on with where that is safe, begun anew elsewhere, and never a mixture of two archives.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use code_server::digest::Digest;

use crate::place::{Place, noise, tagged};
use crate::support::server::{Answer, Request, Server};

const TAG: &str = "\"first\"";
/// Stands for no range.
const ALL: &str = "all";

/// The ranges that were asked for.
fn asked(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let range = |request: &Request| request.header("range").unwrap_or(ALL).to_owned();
    requests.iter().map(range).collect()
}

fn from(byte: usize) -> String {
    format!("bytes={byte}-")
}

/// A server whose first answer is cut, and whose later ones are changed by a function of their number.
async fn breaking(
    archive: Vec<u8>,
    change: impl Fn(&mut Answer, &Request, usize) + Send + Sync + 'static,
) -> Server {
    Server::start(move |request, before| {
        let mut answer = tagged(&archive, TAG, request);
        if before == 0 {
            answer.cut = Some(300_000);
        }
        change(&mut answer, request, before);
        answer
    })
    .await
}

fn url(server: &Server) -> String {
    format!("{}/code.tar.gz", server.url())
}

#[tokio::test]
async fn what_broke_off_is_gone_on_with() {
    let place = Place::new();
    let archive = place.tar_gz();
    let server = breaking(archive.clone(), |answer, _, before| {
        if before == 1 {
            answer.cut = Some(100_000);
        }
    });
    let server = server.await;
    place.succeeds(&url(&server), &archive, &[]).await;
    assert_eq!(asked(&server), [ALL, &from(300_000), &from(400_000)]);
    assert_eq!(server.requests()[1].header("if-range"), Some(TAG));
}

#[tokio::test]
async fn a_range_may_begin_before_the_byte_that_was_asked_for() {
    let place = Place::new();
    let archive = place.tar_gz();
    let whole = archive.clone();
    let server = breaking(archive.clone(), move |answer, _, before| {
        let size = whole.len();
        if before == 1 {
            *answer = Answer::status(206)
                .with("ETag", TAG)
                .with("Content-Range", format!("bytes 0-{}/{size}", size - 1))
                .body(whole.clone());
        }
    });
    let server = server.await;
    place.succeeds(&url(&server), &archive, &[]).await;
    assert_eq!(asked(&server), [ALL, &from(300_000)]);
}

#[tokio::test]
async fn a_server_that_answers_with_the_whole_is_listened_to_from_the_beginning() {
    let place = Place::new();
    let archive = place.tar_gz();
    let whole = archive.clone();
    let server = breaking(archive.clone(), move |answer, _, before| {
        if before > 0 {
            *answer = Answer::status(200).with("ETag", TAG).body(whole.clone());
        }
    });
    let server = server.await;
    place.succeeds(&url(&server), &archive, &[]).await;
    assert_eq!(asked(&server), [ALL, &from(300_000)]);
}

#[tokio::test]
async fn a_part_that_cannot_be_the_rest_is_asked_for_again_in_full() {
    for (status, tag, range) in [
        (206, "\"second\"", "bytes 300000-LAST/SIZE"),
        (206, TAG, "bytes 300001-LAST/SIZE"),
        (206, TAG, "bytes 300000-LAST/9999999"),
        (206, TAG, ""),
        (416, TAG, "bytes */SIZE"),
        (412, TAG, ""),
    ] {
        let place = Place::new();
        let archive = place.tar_gz();
        let size = archive.len();
        let range = range
            .replace("LAST", &(size - 1).to_string())
            .replace("SIZE", &size.to_string());
        let server = breaking(archive.clone(), move |answer, _, before| {
            if before == 1 {
                *answer = Answer::status(status)
                    .with("ETag", tag)
                    .with("Content-Range", range.clone())
                    .body(vec![b'x'; size - 300_000]);
            }
        });
        let server = server.await;
        place.succeeds(&url(&server), &archive, &[]).await;
        assert_eq!(asked(&server), [ALL, &from(300_000), ALL], "{status}");
    }
}

#[tokio::test]
async fn a_server_without_a_tag_that_is_strong_is_never_asked_for_a_part() {
    for tag in ["W/\"first\"", ""] {
        let place = Place::new();
        let archive = place.tar_gz();
        let whole = archive.clone();
        let server = breaking(archive.clone(), move |answer, _, before| {
            *answer = Answer::status(200).with("ETag", tag).body(whole.clone());
            answer.cut = (before == 0).then_some(300_000);
        });
        let server = server.await;
        place.succeeds(&url(&server), &archive, &[]).await;
        assert_eq!(asked(&server), [ALL, ALL], "{tag}");
    }
}

#[tokio::test]
async fn what_nobody_verifies_comes_in_one_piece() {
    let place = Place::new();
    let server = breaking(place.tar_gz(), |_, _, _| {}).await;
    let ended = place.fetch(&url(&server), &["--allow-unverified"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    place.assert_fetched();
    assert_eq!(asked(&server), [ALL, ALL]);
}

/// Two archives of one length, whose halves do not fit together; the second is that of the place.
fn two() -> (Place, Vec<u8>, Vec<u8>) {
    let place = Place::new();
    let first = place.tar();
    place.write("app/noise", &noise(2, 700_000));
    let second = place.tar();
    assert_eq!(first.len(), second.len());
    (place, first, second)
}

#[tokio::test]
async fn an_archive_that_was_swapped_is_fetched_anew() {
    let (place, first, second) = two();
    let wanted = second.clone();
    let server = Server::start(move |request, before| match before {
        0 => {
            let mut answer = tagged(&first, TAG, request);
            answer.cut = Some(300_000);
            answer
        }
        _ => tagged(&second, "\"second\"", request),
    })
    .await;
    let url = format!("{}/code.tar", server.url());
    place.succeeds(&url, &wanted, &[]).await;
    assert_eq!(asked(&server), [ALL, &from(300_000)]);
}

#[tokio::test]
async fn a_mixture_of_two_archives_under_one_tag_is_found_and_fetched_anew() {
    let (place, first, second) = two();
    let wanted = second.clone();
    let server = Server::start(move |request, before| {
        let archive = if before == 0 { &first } else { &second };
        let mut answer = tagged(archive, TAG, request);
        // The last one is whole.
        answer.cut = (before % 2 == 0 && before < 4).then_some(300_000);
        answer
    })
    .await;
    let url = format!("{}/code.tar", server.url());
    place.succeeds(&url, &wanted, &[]).await;
    // Who was caught is not trusted again.
    assert_eq!(asked(&server), [ALL, &from(300_000), ALL, ALL]);
}

/// A mirror has other bytes of the same tree; that of the first is the wanted one, and it breaks.
async fn mirrored(flags: impl Fn(&str) -> Vec<String>) -> (Vec<String>, Vec<String>) {
    let place = Place::new();
    let first = place.tar();
    // The owner is no part of the tree, nor is the sum of the header that has it.
    let second = with_another_owner(&first);
    assert!(first.len() == second.len() && first != second);
    let wanted = Digest::of(&second).hex();
    let breaking = Server::start(move |request, before| {
        let mut answer = tagged(&first, TAG, request);
        answer.cut = (before == 0).then_some(300_000);
        answer.status = if before == 0 { 200 } else { 503 };
        answer
    });
    let breaking = breaking.await;
    let mirror = Server::start(move |request, _| tagged(&second, TAG, request)).await;
    let fallback = format!("{}/code.tar", mirror.url());
    let mut flags = flags(&wanted);
    flags.extend(["--fallback".into(), fallback]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let url = format!("{}/code.tar", breaking.url());
    let ended = place.fetch(&url, &flags).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    place.assert_fetched();
    (asked(&breaking), asked(&mirror))
}

/// The same tar, but for the user id that each header has.
fn with_another_owner(tar: &[u8]) -> Vec<u8> {
    let mut changed = tar.to_vec();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let at = usize::try_from(entry.raw_header_position()).unwrap();
        let mut header = entry.header().clone();
        header.set_uid(4242);
        header.set_cksum();
        changed[at..at + 512].copy_from_slice(header.as_bytes());
    }
    changed
}

#[tokio::test]
async fn what_broke_off_at_one_mirror_is_begun_anew_at_the_next() {
    let verified = |wanted: &str| vec!["--sha256".into(), wanted.into()];
    let (first, second) = mirrored(verified).await;
    assert_eq!(
        (&first[..1], &second[..]),
        (&[ALL.into()][..], &[ALL.into()][..])
    );
    let (first, second) = mirrored(|_| vec!["--allow-unverified".into()]).await;
    assert_eq!(
        (&first[..1], &second[..]),
        (&[ALL.into()][..], &[ALL.into()][..])
    );
}

/// A server that ends its answers by ending the connection. The first is cut, the second is not.
fn without_length(archive: Vec<u8>, cut: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/code.tar.gz", listener.local_addr().unwrap());
    let answer = move |mut stream: TcpStream, body: &[u8]| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
    };
    let serving = std::thread::spawn(move || {
        answer(listener.accept().unwrap().0, &archive[..cut]);
        answer(listener.accept().unwrap().0, &archive);
    });
    (url, serving)
}

#[tokio::test]
async fn an_answer_without_a_length_is_whole_only_if_the_archive_is() {
    let place = Place::new();
    let archive = place.tar_gz();
    let cut = archive.len() - 4;
    let (url, serving) = without_length(archive, cut);
    let ended = place.fetch(&url, &["--allow-unverified"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.log.contains("gzip stream is cut off"),
        "{}",
        ended.log
    );
    place.assert_fetched();
    serving.join().unwrap();
}
