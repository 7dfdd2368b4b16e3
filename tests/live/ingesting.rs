//! What is put in the place of the tree, by a running server or beside it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::server::{Files, PATIENCE, PROGRAM, Reply, Server, Setup, found, parse, wait_until};

const TOKEN: &str = "s3cret";

/// An empty root whose server takes uploads.
pub(crate) fn open_to_uploads(flags: &[&str]) -> Setup {
    let mut setup = Setup::new(flags);
    let token = setup.parent().join("token");
    fs::write(&token, TOKEN).unwrap();
    let flag = "--write-token-file".into();
    setup.flags.extend([flag, token.into_os_string()]);
    setup
}

/// What is beside the root, and beside what the test itself has there.
pub(crate) fn beside_the_root(setup: &Setup) -> Vec<PathBuf> {
    let entries = fs::read_dir(setup.parent()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let ours = [
        setup.root.clone(),
        setup.state.clone(),
        setup.parent().join("token"),
    ];
    paths.filter(|path| !ours.contains(path)).collect()
}

/// An archive of files alone, as tar.gz.
pub(crate) fn archive(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files.iter().filter(|(_, content)| *content != DIRECTORY) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, &**content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// How a directory is written in [`Files`].
pub(crate) const DIRECTORY: &[u8] = b"<directory>";

/// Sends the beginning of an upload.
pub(crate) fn begin_upload(server: &Server, archive: &[u8], sent: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = archive.len();
    write!(
        stream,
        "PUT /code.tar.gz HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(&archive[..sent])?;
    Ok(stream)
}

pub(crate) fn upload(server: &Server, archive: &[u8]) -> io::Result<Reply> {
    answer_to(begin_upload(server, archive, archive.len())?)
}

fn answer_to(mut stream: TcpStream) -> io::Result<Reply> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Starts `code-server ingest` beside the server.
pub(crate) fn start_ingest(setup: &Setup) -> Child {
    Command::new(PROGRAM)
        .arg("ingest")
        .arg(&setup.root)
        .arg("--state-dir")
        .arg(&setup.state)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs it to its end.
pub(crate) fn ingest(setup: &Setup, archive: &[u8]) -> Output {
    let mut child = start_ingest(setup);
    let mut input = child.stdin.take().unwrap();
    input.write_all(archive).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

fn small(version: &str) -> Files {
    let file = |name: &str, content: &str| (name.into(), content.as_bytes().to_vec());
    Files::from([
        file("main.py", &format!("print('{version}')\n")),
        file("same", &"the same in all\n".repeat(1000)),
    ])
}

#[track_caller]
fn check(output: &Output, code: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
}

#[test]
fn an_ingest_says_what_the_server_makes_of_it() {
    let setup = open_to_uploads(&["--settle", "10ms", "--rescan", "0"]);
    setup.write("main.py", "print('one')\n");
    let server = setup.serve();
    // Archive and record become visible one after the other, and either may be seen first.
    for version in 0..10 {
        let new = small(&version.to_string());
        let output = ingest(&setup, &archive(&new));
        check(&output, 0, "served\n");
        assert_eq!(server.files(), new);
        let revision = format!("{}\n", server.get("/code.json").headers["code-revision"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), revision);
        let output = ingest(&setup, &archive(&new));
        check(&output, 0, "unchanged: ");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), revision);
    }
    // An archive that is sound, and a server that has no place for what it makes of it.
    let artifacts = setup.state.join("artifacts");
    fs::rename(&artifacts, setup.state.join("elsewhere")).unwrap();
    let tag = server.tag();
    let last = small("last");
    let output = ingest(&setup, &archive(&last));
    let reason = "the new tree is in its place, but the server could not build it: ";
    check(&output, 74, reason);
    assert_eq!(found(&setup.root), last);
    assert_eq!(server.tag(), tag);
    fs::rename(setup.state.join("elsewhere"), &artifacts).unwrap();
    server.wait_for_files(&last);
    assert_eq!(server.terminate(), Some(0));
    let output = ingest(&setup, &archive(&small("nobody")));
    check(&output, 0, "not served: ");
}

#[test]
fn the_first_tree_of_a_new_volume_is_served_without_delay() {
    let setup = Setup::new(&["--settle-max", "10m", "--rescan", "0"]);
    fs::remove_dir(&setup.root).unwrap();
    let server = setup.start();
    server.wait_for_event("the build failed");
    let began = Instant::now();
    check(&ingest(&setup, &archive(&small("one"))), 0, "served");
    server.wait_for_files(&small("one"));
    // A request for what is not there yet is held for five seconds, if it does not ask for the contrary.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_upload_that_is_cut_anywhere_changes_nothing() {
    let setup = open_to_uploads(&["--settle", "10ms"]);
    setup.write("main.py", "print('one')\n");
    setup.write("only/here", "kept");
    let server = setup.serve();
    let (before, tag) = (found(&setup.root), server.tag());
    let upload_of = archive(&small("two"));
    let offsets = (0..50).map(|step| step * (upload_of.len() - 1) / 49);
    for sent in offsets.clone() {
        let stream = begin_upload(&server, &upload_of, sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let status = answer_to(stream).unwrap().status;
        assert!([400, 422].contains(&status), "{status} for {sent} bytes");
        assert_eq!(found(&setup.root), before, "{sent} bytes");
        assert_eq!(beside_the_root(&setup), Vec::<PathBuf>::new());
    }
    // And again, by those who do not wait for their answer nor for each other.
    for sent in offsets {
        drop(begin_upload(&server, &upload_of, sent).unwrap());
    }
    wait_until("nobody uploads any more", || {
        let status = upload(&server, b"no archive").unwrap().status;
        status == 422 && beside_the_root(&setup).is_empty()
    });
    assert_eq!(found(&setup.root), before);
    assert_eq!(server.tag(), tag);
    wait_until("a whole one is taken", || {
        upload(&server, &upload_of).unwrap().status == 200
    });
    assert_eq!(server.files(), small("two"));
    assert_eq!(server.terminate(), Some(0));
}
