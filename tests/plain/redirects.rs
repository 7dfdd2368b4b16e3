//! Redirects: followed as far as that is safe, with no secret told to anybody else.

use std::fs;
use std::process::{Command, Stdio};

use crate::place::{Place, serving};
use crate::support::artifact::{artifact, sample};
use crate::support::server::{Answer, Server, answer};
use crate::tools;

fn to(status: u16, location: impl Into<String>) -> Answer {
    Answer::status(status).with("Location", location)
}

#[tokio::test]
async fn each_kind_of_redirect_is_followed_wherever_it_leads_on_the_server() {
    for (status, location) in [
        (301, "/other/code.tar.gz"),
        (302, "../other/code.tar.gz"),
        (303, "?a=b"),
        (307, "//HOST/other/code.tar.gz"),
        (308, "http://HOST/other/code.tar.gz#fragment"),
    ] {
        let place = Place::new();
        let archive = place.tar_gz();
        let given = archive.clone();
        let server = Server::start(move |request, before| match before {
            0 => to(
                status,
                location.replace("HOST", request.header("host").unwrap()),
            ),
            _ => Answer::status(200).body(given.clone()),
        })
        .await;
        let url = format!("{}/app/code.tar.gz", server.url());
        place.succeeds(&url, &archive, &[]).await;
        let expected = if status == 303 {
            "/app/code.tar.gz?a=b"
        } else {
            "/other/code.tar.gz"
        };
        assert_eq!(server.requests()[1].path, expected);
    }
}

#[tokio::test]
async fn a_presigned_url_on_another_host_is_followed_without_the_token_and_never_shown() {
    let place = Place::new();
    let archive = place.tar_gz();
    let bucket = serving(archive.clone()).await;
    let port = bucket.url().port();
    let signed = format!("http://localhost:{port}/code.tar.gz?X-Amz-Signature=s3cret");
    let front = Server::start(move |_, _| to(307, signed.clone())).await;
    fs::write(place.path("token"), "t0ken\n").unwrap();
    let token = place.path("token");
    let flags = ["--token-file", token.to_str().unwrap()];
    let url = format!("{}/code.tar.gz?key=s3cret", front.url());
    let ended = place.succeeds(&url, &archive, &flags).await;
    assert!(!ended.log.contains("s3cret"), "{}", ended.log);
    let asked = &front.requests()[0];
    assert_eq!(asked.path, "/code.tar.gz?key=s3cret");
    assert_eq!(asked.header("authorization"), Some("Bearer t0ken"));
    let asked = &bucket.requests()[0];
    assert_eq!(asked.path, "/code.tar.gz?X-Amz-Signature=s3cret");
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("host"), Some(&*format!("localhost:{port}")));
}

#[tokio::test]
async fn a_presigned_url_that_is_refused_is_told_without_what_it_says() {
    let place = Place::new();
    let bucket = Server::start(|_, _| Answer::status(403)).await;
    let url = format!("{}/code.tar.gz?X-Amz-Signature=s3cret", bucket.url());
    let log = place.fails(&url, &["--allow-unverified"], 77).await;
    assert!(log.contains("/code.tar.gz?…"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn the_token_does_not_come_back_by_way_of_another_server() {
    let place = Place::new();
    let archive = place.tar_gz();
    let given = archive.clone();
    let back = Server::start(move |request, _| {
        to(
            302,
            format!("{}/found.tar.gz", request.path.trim_start_matches("/?")),
        )
    })
    .await;
    let there = back.url();
    let front = Server::start(move |request, before| match before {
        0 => to(
            302,
            format!("{there}/?http://{}", request.header("host").unwrap()),
        ),
        _ => Answer::status(200).body(given.clone()),
    })
    .await;
    fs::write(place.path("token"), "t0ken").unwrap();
    let token = place.path("token");
    let url = format!("{}/code.tar.gz", front.url());
    place
        .succeeds(&url, &archive, &["--token-file", token.to_str().unwrap()])
        .await;
    let shown: Vec<_> = front
        .requests()
        .iter()
        .map(|request| request.header("authorization").is_some())
        .collect();
    assert_eq!(shown, [true, false]);
}

#[tokio::test]
async fn redirects_in_a_circle_are_left_and_both_places_named() {
    let place = Place::new();
    let server = Server::start(|request, _| match &*request.path {
        "/a.tar.gz" => to(302, "/b.tar.gz"),
        _ => to(302, "/a.tar.gz"),
    })
    .await;
    let url = format!("{}/a.tar.gz", server.url());
    let log = place.fails(&url, &["--allow-unverified"], 69).await;
    for part in ["/b.tar.gz redirects to ", "/a.tar.gz, ", "circle"] {
        assert!(log.contains(part), "{log}");
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_sixth_redirect_is_one_too_many() {
    let place = Place::new();
    let server = Server::start(|_, before| to(302, format!("/{before}.tar.gz?s3cret"))).await;
    let url = format!("{}/first.tar.gz", server.url());
    let log = place.fails(&url, &["--allow-unverified"], 69).await;
    let expected = format!(
        "{0}/4.tar.gz?… redirects to {0}/5.tar.gz?…, which would be redirect number 6",
        server.url()
    );
    assert!(log.contains(&expected), "{log}");
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_redirect_to_what_cannot_be_asked_is_named() {
    let place = Place::new();
    let server = Server::start(|_, _| to(302, "ftp://host/code.tar.gz?s3cret")).await;
    let url = format!("{}/code.tar.gz", server.url());
    let log = place.fails(&url, &["--allow-unverified"], 69).await;
    assert!(
        log.contains("redirects to ftp://host/code.tar.gz?…"),
        "{log}"
    );
}

#[tokio::test]
async fn a_code_server_behind_a_redirect_is_found() {
    let place = Place::new();
    let made = artifact(&sample(1));
    let given = made.clone();
    let server = Server::start(move |request, _| match request.path.strip_prefix("/app") {
        Some(path) => {
            let mut request = request.clone();
            request.path = path.into();
            answer(&given, &request)
        }
        None => to(301, format!("/app{}", request.path)),
    })
    .await;
    let ended = place.fetch(&server.url().to_string(), &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let held = fs::read_to_string(place.path("target/.code-revision")).unwrap();
    assert_eq!(held.trim(), made.descriptor.revision.to_string());
}

#[tokio::test]
async fn a_probe_takes_a_redirect_for_what_it_is() {
    let server = Server::start(|_, _| to(302, "/ready")).await;
    let mut probe = Command::new(tools::CODE_SERVER);
    probe
        .env_clear()
        .args(["healthcheck", &format!("{}/readyz", server.url())])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || probe.output());
    let output = output.await.unwrap().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{log}");
    assert_eq!(server.requests().len(), 1);
}
