//! What was served before is kept, and served again at once after a restart.

use std::fs;

use crate::server::{Setup, found, wait_until};

const FLAGS: [&str; 4] = ["--rescan", "0", "--settle", "10ms"];

#[test]
fn a_restart_serves_the_last_archive_before_it_has_looked_at_the_tree() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one");
    let server = setup.serve();
    let tag = server.tag();
    wait_until("it is kept", || setup.state.join("current").exists());
    server.kill();
    setup.write("file", "two");
    // Nothing can be built now, and so whatever is served was kept.
    setup.write(".code-hold", "");
    let server = setup.serve();
    assert_eq!(server.tag(), tag);
    server.wait_for_event("nothing is built while the hold file stands");
    assert_eq!(server.tag(), tag);
    fs::remove_file(setup.path(".code-hold")).unwrap();
    server.wait_for_files(&found(&setup.root));
}

#[test]
fn a_restart_builds_nothing_if_nothing_has_changed() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one");
    let server = setup.serve();
    let archive = server.archive().0.body;
    wait_until("it is kept", || setup.state.join("current").exists());
    assert_eq!(server.terminate(), Some(0));
    let server = setup.serve();
    wait_until("the tree is looked at", || {
        server.metric("codeserver_builds_total{result=\"unchanged\"}") > 0.5
    });
    assert!(server.archive().0.body == archive);
    assert!(server.metric("codeserver_builds_total{result=\"published\"}") < 0.5);
}

#[test]
fn what_could_not_be_kept_is_kept_when_that_has_become_possible() {
    let setup = Setup::new(&["--rescan", "100ms", "--settle", "10ms"]);
    setup.write("file", "one");
    let current = setup.state.join("current");
    let server = setup.start();
    wait_until("it is kept", || current.is_file());
    fs::remove_file(&current).unwrap();
    // No file gets the name of a directory.
    fs::create_dir_all(current.join("x")).unwrap();
    setup.write("file", "two");
    server.wait_for_event("cannot keep what is served for the next start");
    server.wait_for_files(&found(&setup.root));
    fs::remove_dir_all(&current).unwrap();
    wait_until("it is kept", || current.is_file());
}

#[test]
fn a_damaged_archive_is_withdrawn_and_built_anew() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one".repeat(1000));
    let server = setup.serve();
    let archive = server.archive().0;
    wait_until("it is kept", || setup.state.join("current").exists());
    assert_eq!(server.terminate(), Some(0));
    let hex = archive.headers["etag"].trim_matches('"').to_owned();
    let path = setup.state.join(format!("artifacts/{hex}.tar.gz"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let server = setup.start();
    server.wait_for_event("the archive on disk is damaged: it is served no longer");
    wait_until("it is built again", || server.get("/readyz").status == 200);
    assert!(server.archive().0.body == archive.body);
}

#[test]
fn what_was_served_before_stays_and_can_be_asked_for_by_its_revision() {
    let setup = Setup::new(&[
        "--rescan",
        "200ms",
        "--settle",
        "10ms",
        "--keep",
        "2",
        "--keep-for",
        "0",
    ]);
    let mut revisions = Vec::new();
    setup.write("file", "version 0");
    let server = setup.serve();
    for version in 0..4 {
        setup.write("file", format!("version {version}"));
        server.wait_for_files(&found(&setup.root));
        revisions.push(server.get("/code.json").headers["code-revision"].clone());
    }
    let retained =
        |index: usize| server.get(&format!("/revisions/{}/code.tar.gz", revisions[index]));
    // Not while they are downloaded, and so perhaps not behind the last build, but behind a look.
    wait_until("the oldest are retired", || retained(1).status == 404);
    assert_eq!(retained(0).status, 404);
    for index in [2, 3] {
        let files = crate::server::unpacked(&retained(index).body);
        assert_eq!(files["file"], format!("version {index}").as_bytes());
    }
    let list = String::from_utf8(server.get("/revisions").body).unwrap();
    let position = |index: usize| list.find(&revisions[index]);
    assert!(position(3).unwrap() < position(2).unwrap(), "{list}");
    assert_eq!((position(0), position(1)), (None, None), "{list}");
}

#[test]
fn going_back_to_older_code_serves_the_archive_that_was_kept() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one");
    let server = setup.serve();
    let first = server.archive().0;
    let time = fs::metadata(setup.path("file"))
        .unwrap()
        .modified()
        .unwrap();
    let root_time = fs::metadata(&setup.root).unwrap().modified().unwrap();
    setup.write("file", "two");
    server.wait_for_files(&found(&setup.root));
    setup.write("file", "one");
    fs::File::options()
        .append(true)
        .open(setup.path("file"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::File::open(&setup.root)
        .unwrap()
        .set_modified(root_time)
        .unwrap();
    wait_until("the first archive is back", || {
        server.tag() == first.headers["etag"]
    });
    assert!(server.archive().0.body == first.body);
}

#[test]
fn a_second_server_waits_until_the_first_is_gone() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one");
    let first = setup.serve();
    wait_until("it is kept", || setup.state.join("current").exists());
    let second = setup.start();
    assert_eq!(second.get("/livez").status, 200);
    assert_eq!(second.get("/readyz").status, 503);
    first.kill();
    wait_until("the second takes over", || {
        second.get("/readyz").status == 200
    });
    setup.write("file", "two");
    second.wait_for_files(&found(&setup.root));
}

#[test]
fn a_state_directory_that_takes_no_more_is_named_and_mended_without_a_restart() {
    let setup = Setup::new(&FLAGS);
    setup.write("file", "one");
    let server = setup.serve();
    wait_until("it is kept", || setup.state.join("current").exists());
    let (staging, elsewhere) = (setup.state.join("staging"), setup.state.join("elsewhere"));
    fs::rename(&staging, &elsewhere).unwrap();
    let tag = server.tag();
    setup.write("file", "two");
    let failure = server.wait_for_event("the build failed");
    let error = failure["error"].as_str().unwrap();
    assert!(error.contains(setup.state.to_str().unwrap()), "{error}");
    assert_eq!(server.tag(), tag);
    setup.write("file", "one");
    fs::rename(&elsewhere, &staging).unwrap();
    server.wait_for_event("a build succeeds again, and what is served is what the tree holds");
    setup.write("file", "three");
    server.wait_for_files(&found(&setup.root));
}
