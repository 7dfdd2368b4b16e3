//! What is not taken: the target stays as it was, and one sentence tells why.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use code_server::digest::{Digest, Revision};
use tar::{Builder, EntryType, Header};

use crate::place::{Place, gzip, serving};
use crate::support::server::{Answer, Server};
use crate::tools;

/// Fetches an archive that must be refused with the code of bad data, by a sentence with these parts.
async fn refused(archive: Vec<u8>, flags: &[&str], parts: &[&str]) {
    let place = Place::new();
    let server = serving(archive).await;
    let url = format!("{}/code.tar.gz", server.url());
    let log = place.fails(&url, flags, 65).await;
    let told = log.lines().last().unwrap();
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in {log}");
    }
}

const ANY: &[&str] = &["--allow-unverified"];

#[tokio::test]
async fn nothing_is_asked_before_it_is_known_what_the_archive_has_to_be() {
    let place = Place::new();
    let server = serving(place.tar_gz()).await;
    let url = format!("{}/code.tar.gz?key=s3cret", server.url());
    let log = place.fails(&url, &[], 64).await;
    for part in ["--sha256", "--allow-unverified", "http://code:8080"] {
        assert!(log.contains(part), "{log}");
    }
    assert!(!log.contains("s3cret"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn zstd_is_not_supported_yet() {
    let place = Place::new();
    let url = "http://127.0.0.1:1/code.tar.zst?s3cret";
    let log = place.fails(url, ANY, 64).await;
    assert!(log.contains("zstd is not supported yet"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn another_archive_than_the_wanted_one_is_named_by_both_digests() {
    let place = Place::new();
    let archive = place.tar_gz();
    let (wanted, found) = (Digest::of(b"other").hex(), Digest::of(&archive).hex());
    refused(
        archive,
        &["--sha256", &wanted],
        &[&wanted, &found, "5 times"],
    )
    .await;
}

#[tokio::test]
async fn a_revision_is_as_good_as_a_digest() {
    let place = Place::new();
    let archive = place.tar_gz();
    let server = serving(archive.clone()).await;
    let url = format!("{}/code.tar.gz", server.url());
    let ended = place.fetch(&url, ANY).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let digest = Digest::of(&archive).hex();
    assert!(ended.log.contains(&digest), "{}", ended.log);
    let mut revision = String::new();
    fs::File::open(place.path("target/.code-revision"))
        .unwrap()
        .read_to_string(&mut revision)
        .unwrap();
    let ended = place.fetch(&url, &["--revision", revision.trim()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    place.assert_fetched();
    let wanted = Revision::of_listing(Digest::of(b"other")).to_string();
    refused(
        archive,
        &["--revision", &wanted],
        &[&wanted, revision.trim()],
    )
    .await;
}

#[tokio::test]
async fn a_page_is_no_archive_and_its_beginning_is_shown() {
    let page = b"<!DOCTYPE html>\r\n<title>Sign in</title>\x1b[2J".to_vec();
    let parts = [
        "neither a gzip nor a tar",
        "begins with \"<!DOCTYPE html>\"",
    ];
    refused(page, ANY, &parts).await;
    refused(Vec::new(), ANY, &["it is empty"]).await;
}

#[tokio::test]
async fn what_is_cut_off_is_refused() {
    let place = Place::new();
    let (tar, whole) = (place.tar(), place.tar_gz());
    for length in [100, 300_000, whole.len() - 8, whole.len() - 1] {
        refused(whole[..length].to_vec(), ANY, &["gzip stream is cut off"]).await;
    }
    refused(tar[..600_000].to_vec(), ANY, &["the archive is cut off"]).await;
    refused(gzip(&tar[..600_000]), ANY, &["the archive is cut off"]).await;
}

#[tokio::test]
async fn what_is_damaged_or_followed_by_something_is_refused() {
    let whole = Place::new().tar_gz();
    let mut damaged = whole.clone();
    let sum = whole.len() - 8;
    damaged[sum] ^= 1;
    refused(damaged, ANY, &["gzip stream is damaged"]).await;
    let followed = [&whole[..], b"garbage"].concat();
    refused(followed, ANY, &["follows its end"]).await;
    let followed = [whole, gzip(b"garbage")].concat();
    refused(followed, ANY, &["follows its end"]).await;
}

#[tokio::test]
async fn a_bomb_is_left_as_soon_as_it_is_one() {
    let mut header = Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    let mut tar = Builder::new(Vec::new());
    let zeros = std::io::repeat(0).take(64 << 20);
    tar.append_data(&mut header, "zeros", zeros).unwrap();
    let bomb = gzip(&tar.into_inner().unwrap());
    assert!(bomb.len() < 1 << 20);
    refused(
        bomb,
        &["--allow-unverified", "--max-size=1Mi"],
        &["1048576"],
    )
    .await;

    // The same directory again and again takes no place, but time.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_path("again/").unwrap();
    header.set_cksum();
    let bomb = gzip(&header.as_bytes().repeat(10_000));
    let flags = ["--allow-unverified", "--max-size=1Mi"];
    refused(bomb, &flags, &["more than 1048576 bytes", "--max-size"]).await;

    let mut tar = Builder::new(Vec::new());
    for index in 0..100 {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        tar.append_data(&mut header, index.to_string(), &[][..])
            .unwrap();
    }
    let many = gzip(&tar.into_inner().unwrap());
    let flags = ["--allow-unverified", "--max-entries=99"];
    refused(many, &flags, &["more than 99 entries"]).await;
}

#[tokio::test]
async fn what_is_longer_than_allowed_is_not_even_downloaded() {
    let place = Place::new();
    let server = Server::start(|_, _| {
        let mut answer = Answer::status(200).with("Content-Length", "2000000");
        answer.stall = true;
        answer
    })
    .await;
    let url = format!("{}/code.tar", server.url());
    let flags = ["--allow-unverified", "--max-size=1Mi"];
    let log = place.fails(&url, &flags, 65).await;
    assert!(log.contains("more than 1048576 bytes"), "{log}");
}

#[tokio::test]
async fn an_archive_that_leads_out_of_the_target_is_refused_at_once() {
    let place = Place::new();
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.as_mut_bytes()[..10].copy_from_slice(b"../outside");
    header.set_cksum();
    let archive = [header.as_bytes(), &[0; 1024][..]].concat();
    let server = serving(gzip(&archive)).await;
    let url = format!("{}/code.tar.gz", server.url());
    let log = place.fails(&url, ANY, 65).await;
    assert!(log.contains("../outside"), "{log}");
    assert!(!place.path("outside").exists());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_again_and_one_that_has_nothing_is_not() {
    let place = Place::new();
    let archive = place.tar_gz();
    let given = archive.clone();
    let server = Server::start(move |_, before| match before {
        0 => Answer::status(503),
        1 => Answer::status(429).with("Retry-After", "0"),
        _ => Answer::status(200).body(given.clone()),
    })
    .await;
    let url = format!("{}/code.tar.gz", server.url());
    place.succeeds(&url, &archive, &[]).await;
    let server = Server::start(|_, _| Answer::status(404)).await;
    let url = format!("{}/code.tar.gz", server.url());
    let place = Place::new();
    let log = place.fails(&url, ANY, 69).await;
    assert!(log.contains("answered \"404 Not Found\""), "{log}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_deadline_tells_how_far_it_was() {
    let place = Place::new();
    let archive = place.tar_gz();
    let size = archive.len();
    let server = Server::start(move |_, _| {
        let mut answer = Answer::status(200).body(archive.clone());
        (answer.cut, answer.stall) = (Some(300_000), true);
        answer
    })
    .await;
    let url = format!("{}/code.tar.gz?s3cret", server.url());
    let flags = ["--allow-unverified", "--deadline=1200ms"];
    let log = place.fails(&url, &flags, 69).await;
    let expected = format!("/code.tar.gz?… had sent 300000 of the archive's {size} bytes by then");
    assert!(log.contains(&expected), "{log}");
}

/// Runs the program where a volume is mounted on a name in the target; how it ended, and what it said.
fn fetched_around(place: &Place, mounted: &str, url: &str) -> (Option<i32>, String) {
    const SCRIPT: &str = r#"mount -t tmpfs none "$1" && exec "$2" "$3" "$4" --allow-unverified"#;
    let target = place.path("target");
    let mount_point = target.join(mounted);
    fs::create_dir_all(&mount_point).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", SCRIPT, "sh"])
        .arg(mount_point)
        .arg(env!("CARGO_BIN_EXE_fetch-init"))
        .arg(url)
        .arg(target)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn a_volume_within_the_target_is_named_before_anything_changes() {
    let may_mount = Command::new("unshare").args(["-rm", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        tools::skip(false, "nothing can be mounted here");
        return;
    }
    for (mounted, code) in [("app", 73), ("app/empty", 0)] {
        let place = Place::new();
        let server = serving(place.tar_gz()).await;
        let url = format!("{}/code.tar.gz", server.url());
        let run = tokio::task::spawn_blocking(move || {
            let ended = fetched_around(&place, mounted, &url);
            let is_ready = place.path("target/.code-fetch/staging/ready").exists();
            (ended, is_ready, place.path("target/main.py").exists())
        });
        let ((ended, log), is_ready, is_installed) = run.await.unwrap();
        assert_eq!(ended, Some(code), "{log}");
        assert_eq!((is_ready, is_installed), (false, code == 0));
        assert!(code == 0 || log.contains("mounted on \"app\""), "{log}");
    }
}
