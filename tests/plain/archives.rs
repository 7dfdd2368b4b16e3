//! Archives by everybody's tar, under each name that tells one.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::place::{Place, gzip, serving};
use crate::tools;

/// Packs the tree by a line of shell, in which `$SOURCE` is the tree and `$ARCHIVE` the archive, and fetches it.
async fn packed_by(programs: &[&str], script: &str) {
    if !tools::installed(programs) {
        return;
    }
    let place = Place::new();
    let archive = place.path("site/code.tar.gz");
    pack(script, &place.path("source"), &archive);
    let archive = fs::read(archive).unwrap();
    let server = serving(archive.clone()).await;
    let url = format!("{}/code.tar.gz", server.url());
    place.succeeds(&url, &archive, &[]).await;
}

fn pack(script: &str, source: &Path, archive: &Path) {
    let packed = Command::new("sh")
        .args(["-euc", script])
        .env("SOURCE", source)
        .env("ARCHIVE", archive)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&packed.stderr);
    assert!(packed.status.success(), "{script}: {log}");
}

#[tokio::test]
async fn the_archive_of_gnu_tar_is_fetched() {
    packed_by(&["tar"], r#"tar czf "$ARCHIVE" -C "$SOURCE" ."#).await;
}

#[tokio::test]
async fn the_archive_of_gnu_tar_with_pax_headers_is_fetched() {
    packed_by(
        &["tar"],
        r#"tar --format=posix -czf "$ARCHIVE" -C "$SOURCE" ."#,
    )
    .await;
}

#[tokio::test]
async fn the_archive_of_busybox_is_fetched() {
    packed_by(&["busybox"], r#"busybox tar czf "$ARCHIVE" -C "$SOURCE" ."#).await;
}

#[tokio::test]
async fn the_archive_of_bsdtar_is_fetched() {
    packed_by(&["bsdtar"], r#"bsdtar czf "$ARCHIVE" -C "$SOURCE" ."#).await;
}

#[tokio::test]
async fn the_archive_of_python_is_fetched() {
    packed_by(
        &["python3"],
        r#"python3 -c 'import os, tarfile
with tarfile.open(os.environ["ARCHIVE"], "w:gz", format=tarfile.PAX_FORMAT) as tar:
    tar.add(os.environ["SOURCE"], ".")'"#,
    )
    .await;
}

#[tokio::test]
async fn members_of_gzip_may_follow_one_another() {
    let place = Place::new();
    let tar = place.tar();
    let (first, second) = tar.split_at(tar.len() / 3);
    let archive = [gzip(first), gzip(b""), gzip(second)].concat();
    let server = serving(archive.clone()).await;
    place
        .succeeds(&format!("{}/code.tgz", server.url()), &archive, &[])
        .await;
}

#[tokio::test]
async fn a_tar_is_fetched_as_it_is() {
    let place = Place::new();
    let archive = place.tar();
    let server = serving(archive.clone()).await;
    place
        .succeeds(&format!("{}/code.tar", server.url()), &archive, &[])
        .await;
}

#[tokio::test]
async fn a_name_in_capitals_is_that_of_an_archive_too() {
    let place = Place::new();
    let archive = place.tar_gz();
    let server = serving(archive.clone()).await;
    place
        .succeeds(&format!("{}/CODE.TGZ", server.url()), &archive, &[])
        .await;
}
