//! The artifact of a Flux source-controller: a file that Go's file server has, in a tar whose names begin with no dot.

use std::fs;

use tar::Builder;

use crate::place::{Place, gzip};
use crate::support::server::{Answer, Request, Server};

const PATH: &str =
    "/gitrepository/flux-system/code/1e0a6ff8a1b1d2d5b9dd1f2a8c4c2b7f6f7f1a11.tar.gz";

/// As Go's `http.ServeContent` answers about a file that has no tag.
fn file_server(archive: &[u8], request: &Request) -> Answer {
    if request.path != PATH {
        return Answer::status(404).body(b"404 page not found\n".to_vec());
    }
    Answer::status(200)
        .with("Accept-Ranges", "bytes")
        .with("Content-Type", "application/gzip")
        .with("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
        .body(archive.to_vec())
}

fn archive(place: &Place) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    tar.follow_symlinks(false);
    let mut names: Vec<_> = place.tree().into_keys().collect();
    names.sort();
    for name in names {
        let path = place.path("source").join(&name);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            tar.append_dir(&name, &path).unwrap();
        } else {
            tar.append_path_with_name(&path, &name).unwrap();
        }
    }
    gzip(&tar.into_inner().unwrap())
}

#[tokio::test]
async fn an_artifact_of_a_source_controller_is_fetched() {
    let place = Place::new();
    let made = archive(&place);
    let given = made.clone();
    let server = Server::start(move |request, _| file_server(&given, request)).await;
    let url = format!("{}{PATH}", server.url());
    place.succeeds(&url, &made, &[]).await;
}

#[tokio::test]
async fn an_artifact_that_broke_off_comes_again_in_full() {
    let place = Place::new();
    let made = archive(&place);
    let given = made.clone();
    let server = Server::start(move |request, before| {
        let mut answer = file_server(&given, request);
        answer.cut = (before == 0).then_some(300_000);
        answer
    })
    .await;
    let url = format!("{}{PATH}", server.url());
    place.succeeds(&url, &made, &[]).await;
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("range").is_some())
        .collect();
    assert_eq!(ranges, [false, false]);
}

#[tokio::test]
async fn an_artifact_that_was_collected_is_not_waited_for() {
    let place = Place::new();
    let server = Server::start(|request, _| file_server(b"", request)).await;
    let url = format!("{}/gitrepository/flux-system/code/old.tar.gz", server.url());
    let log = place.fails(&url, &["--allow-unverified"], 69).await;
    assert!(log.contains("404 Not Found"), "{log}");
    assert_eq!(server.requests().len(), 1);
}
