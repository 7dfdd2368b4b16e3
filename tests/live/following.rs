//! What changes in the tree is served, soon and for its price.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::server::{Setup, Stop, found, pause, wait_until};

const PUBLISHED: &str = "codeserver_builds_total{result=\"published\"}";
const UNCHANGED: &str = "codeserver_builds_total{result=\"unchanged\"}";

fn check_follows(setup: &Setup) {
    setup.write("main.py", "one");
    setup.write("lib/a.py", "a");
    let server = setup.serve();
    let follows = || server.wait_for_files(&found(&setup.root));
    follows();
    setup.write("main.py", "two");
    follows();
    // A directory that is new, with files that are there before anybody could watch it.
    setup.write("new/deep/er/file", "x");
    follows();
    setup.write("new/deep/er/later", "y");
    follows();
    fs::rename(setup.path("lib"), setup.path("library")).unwrap();
    follows();
    setup.write("library/b.py", "b");
    follows();
    fs::remove_dir_all(setup.path("new")).unwrap();
    follows();
    symlink("main.py", setup.path("link")).unwrap();
    follows();
    fs::remove_file(setup.path("link")).unwrap();
    symlink("library", setup.path("link")).unwrap();
    follows();
    let tag = server.tag();
    fs::set_permissions(setup.path("main.py"), fs::Permissions::from_mode(0o755)).unwrap();
    wait_until("the mode is served", || server.tag() != tag);
}

#[test]
fn whatever_changes_is_served() {
    check_follows(&Setup::new(&["--rescan", "0", "--settle", "50ms"]));
}

#[test]
fn whatever_changes_is_served_where_no_event_tells_of_it() {
    check_follows(&Setup::new(&[
        "--watch", "poll", "--rescan", "1s", "--settle", "50ms",
    ]));
}

#[test]
fn a_tree_is_looked_at_in_any_case_after_a_while() {
    check_follows(&Setup::new(&[
        "--watch", "off", "--rescan", "100ms", "--settle", "50ms",
    ]));
}

/// Whatever a look finds has changed again by the next one.
#[test]
fn a_tree_that_never_holds_still_is_served_after_a_while() {
    let setup = Setup::new(&["--watch", "poll", "--settle", "1h", "--settle-max", "1s"]);
    setup.write("file", "content");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for count in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                setup.write(&format!("{count}"), "new");
                pause(Duration::from_millis(5));
            }
        });
        let _stop = Stop(&done);
        let server = setup.serve();
        let tag = server.tag();
        wait_until("the next state of it is served", || server.tag() != tag);
    });
}

#[test]
fn a_file_that_is_written_again_and_again_is_served_again_and_again() {
    for watch in ["inotify", "poll"] {
        let setup = Setup::new(&["--watch", watch, "--settle-max", "1s", "--rescan", "0"]);
        setup.write("busy", "0");
        let server = setup.serve();
        let mut count = 0;
        for _ in 0..3 {
            let tag = server.tag();
            wait_until("the next archive", || {
                count += 1;
                setup.write("busy", format!("{count}"));
                // Each write stands for long enough to be read, and too short for the tree to be quiet.
                pause(Duration::from_millis(100));
                server.tag() != tag
            });
        }
    }
}

#[test]
fn sighup_has_the_tree_looked_at_now() {
    let setup = Setup::new(&["--watch", "off", "--rescan", "0"]);
    setup.write("file", "one");
    let server = setup.serve();
    setup.write("file", "two");
    server.signal(Signal::HUP);
    server.wait_for_files(&found(&setup.root));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_the_server_reads_is_no_change() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "0"]);
    for index in 0..50 {
        setup.write(&format!("{}/file-{index}", index % 7), "content");
    }
    let server = setup.serve();
    let built_by = |count: f64| {
        wait_until("a build", || server.builds() >= count);
        assert!((server.builds() - count).abs() < 0.5);
    };
    built_by(1.0);
    // Whatever the first build raised is there before the event of this one.
    setup.write("file", "content");
    wait_until("the change is published", || server.metric(PUBLISHED) > 1.5);
    setup.write("another", "content");
    wait_until("the change is published", || server.metric(PUBLISHED) > 2.5);
    // Making a file and writing to it may be seen apart, but reading fifty of them is not.
    assert!(server.builds() < 6.5, "{}", server.builds());
}

#[test]
fn a_touch_publishes_nothing() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "50ms"]);
    setup.write("file", "content");
    let server = setup.serve();
    let tag = server.tag();
    let file = fs::File::options().append(true).open(setup.path("file"));
    let yesterday = SystemTime::now() - Duration::from_hours(24);
    file.unwrap().set_modified(yesterday).unwrap();
    wait_until("the touch is noticed", || server.metric(UNCHANGED) > 0.5);
    assert_eq!(server.tag(), tag);
    assert!(server.metric(PUBLISHED) < 1.5);
}

#[test]
fn a_long_copy_gives_a_handful_of_builds() {
    let source = tempfile::tempdir().unwrap();
    for index in 0..10_000 {
        let directory = source.path().join(format!("{}", index % 100));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{index}")), format!("file {index}")).unwrap();
    }
    let setup = Setup::new(&[]);
    setup.write("first", "x");
    let server = setup.serve();
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(source.path()).arg(setup.path("copy"));
    assert!(copy.status().unwrap().success());
    server.wait_for_files(&found(&setup.root));
    let builds = server.builds();
    assert!((1.5..=6.5).contains(&builds), "{builds}");
}

#[test]
fn writes_to_what_is_left_out_neither_cause_nor_delay_a_build() {
    let setup = Setup::new(&["--exclude", "*.log", "--rescan", "0", "--settle-max", "1h"]);
    setup.write("main.py", "one");
    setup.write("noisy.log", "");
    let server = setup.serve();
    let noise = || setup.write("noisy.log", format!("{:?}", Instant::now()));
    noise();
    setup.write("main.py", "two");
    let tag = server.tag();
    wait_until("the change is served", || {
        noise();
        server.tag() != tag
    });
    assert_eq!(server.files()["main.py"], b"two");
}

#[test]
fn an_emptied_tree_is_never_served() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "10ms"]);
    setup.write("file", "content");
    let server = setup.serve();
    let tag = server.tag();
    fs::remove_file(setup.path("file")).unwrap();
    let failed = server.wait_for_event("the build failed");
    assert!(
        failed["error"].as_str().unwrap().contains("--allow-empty"),
        "{failed}"
    );
    assert_eq!(server.tag(), tag);
    assert_eq!(server.get("/readyz").status, 200);
    setup.write("file", "again");
    server.wait_for_files(&found(&setup.root));
}

#[test]
fn a_rule_that_makes_no_sense_leaves_what_is_served() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "10ms"]);
    setup.write("file", "content");
    let server = setup.serve();
    let tag = server.tag();
    setup.write(".codeignore", "[z-a]\n");
    server.wait_for_event("the build failed");
    assert_eq!(server.tag(), tag);
    fs::remove_file(setup.path(".codeignore")).unwrap();
    setup.write("file", "mended");
    server.wait_for_files(&found(&setup.root));
}

#[test]
fn a_server_with_a_change_under_way_ends_with_0() {
    let setup = Setup::new(&[]);
    setup.write("file", "content");
    let server = setup.serve();
    setup.write("file", "changed");
    assert_eq!(server.terminate(), Some(0));
}
