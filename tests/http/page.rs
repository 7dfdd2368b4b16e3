//! `/`: one address for a person with a browser, a person with a terminal, and a program.

use std::time::Duration;

use code_server::metrics::BuildResult;
use code_server::publication::PastBuild;

use super::*;

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
const PROGRAM: &str = "Accept: application/json\r\n";
const CURL: &str = "Accept: */*\r\n";

fn failure(error: &str) -> PastBuild {
    PastBuild {
        began: SystemTime::now(),
        took: Duration::from_millis(1500),
        result: BuildResult::Torn,
        outcome: Err(error.into()),
        times: 1,
    }
}

#[tokio::test]
async fn everybody_gets_the_form_that_they_ask_for() {
    let server = Server::start();
    for (headers, media_type, begins) in [
        (BROWSER, "text/html; charset=utf-8", "<!doctype html>"),
        (PROGRAM, "application/json", "{\"version\":"),
        (CURL, "text/plain; charset=utf-8", "code-server   "),
        ("", "text/plain; charset=utf-8", "code-server   "),
    ] {
        for path in ["/", "/?form=other"] {
            let reply = server.get(path, headers).await;
            reply.expect(200, &[("content-type", media_type), ("vary", "Accept")]);
            let text = String::from_utf8(reply.body).unwrap();
            assert!(text.starts_with(begins), "{headers}: {text:.50}");
        }
        let head = server.ask("HEAD", "/", headers).await;
        head.expect(200, &[("content-type", media_type)]);
        assert_eq!(head.body, b"");
    }
    let post = server.ask("POST", "/", BROWSER).await;
    post.expect_problem(405);
    post.expect(405, &[("allow", "GET, HEAD")]);
    server.stop().await;
}

#[tokio::test]
async fn the_page_may_do_nothing_but_run_its_own_script() {
    let server = Server::start();
    let reply = server.get("/", BROWSER).await;
    let page = std::str::from_utf8(&reply.body).unwrap();
    let hash = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        format!("'sha256-{}'", Digest::of(content.as_bytes()).base64())
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    );
    let expected = [
        ("content-security-policy", &*policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ];
    for headers in [BROWSER, PROGRAM, CURL] {
        server.get("/", headers).await.expect(200, &expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_program_is_told_the_facts() {
    let server = Server::start();
    server.publication.note(failure("a/b changed"));
    let facts: Value = serde_json::from_slice(&server.get("/", PROGRAM).await.body).unwrap();
    let descriptor = server.get("/code.json", "").await;
    let current = &facts["current"];
    assert_eq!(
        Some(current["tag"].as_str().unwrap()),
        descriptor.header("etag")
    );
    let revision = descriptor.header("code-revision").unwrap();
    assert_eq!(current["revision"], revision);
    assert_eq!(current["size"], ARCHIVE.len());
    assert_eq!(current["published_at"], "2023-11-14T22:13:20Z");
    assert_eq!(facts["revisions"][0]["revision"], revision);
    assert_eq!(facts["revisions"][0]["current"], true);
    assert_eq!(facts["uploads"], false);
    assert_eq!(facts["downloads"]["running"], 0);
    let build = &facts["builds"][0];
    assert_eq!(build["result"], "torn");
    assert_eq!(build["seconds"], 1.5);
    assert_eq!(build["error"], "a/b changed");
    assert_eq!(build["revision"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn a_person_with_a_terminal_is_told_the_facts() {
    let server = Server::start();
    server
        .publication
        .note(failure("\x1b[2J\nrevision      forged"));
    let reply = server.get("/", CURL).await;
    let text = String::from_utf8(reply.body).unwrap();
    let revision = Revision::of_listing(Digest::of(LISTING));
    for line in [
        "code-server   0.1.0".to_owned(),
        format!("revision      {revision}"),
        format!("digest        sha256:{}", Digest::of(ARCHIVE).hex()),
        "archive       10 B".to_owned(),
        "uncompressed  10.0 KiB (10240 bytes)".to_owned(),
        "entries       2 (0 files)".to_owned(),
        "left out      nothing".to_owned(),
        "downloads     0 running, 0 waiting".to_owned(),
        "fetch         curl -fsS http://test/code.tar.gz | tar xz -C DIRECTORY".to_owned(),
        format!("pin           fetch-init --revision {revision} http://test DIRECTORY"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.contains("\\u{1b}[2J\\nrevision      forged"), "{text}");
    let controls = text.chars().filter(|&c| c.is_control() && c != '\n');
    assert_eq!(controls.count(), 0);
    let starts = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((starts("revision "), starts("curl")), (1, 0));
    server.stop().await;
}

#[tokio::test]
async fn there_is_a_page_before_the_first_artifact() {
    let server = Server::empty(LIMITS);
    let page = server.get("/", BROWSER).await;
    page.expect(200, &[("content-type", "text/html; charset=utf-8")]);
    let facts: Value = serde_json::from_slice(&server.get("/", PROGRAM).await.body).unwrap();
    assert_eq!(
        (&facts["current"], &facts["revisions"]),
        (&Value::Null, &Value::Array(vec![]))
    );
    let text = server.get("/", CURL).await.body;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("revision      none: nothing is published yet\n"),
        "{text}"
    );
    assert!(!text.contains("--revision"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_download_that_runs_is_told_of() {
    let server = Server::of(&large_archive(), LIMITS);
    let client = Client::begin_download(&server).await;
    let facts: Value = serde_json::from_slice(&server.get("/", PROGRAM).await.body).unwrap();
    assert_eq!(facts["downloads"]["running"], 1);
    let text = String::from_utf8(server.get("/", CURL).await.body).unwrap();
    assert!(
        text.contains("downloads     1 running, 0 waiting\n"),
        "{text}"
    );
    drop(client);
    server.stop().await;
}
