//! SIGTERM ends a follower within a second and with 0, whatever it does at the moment.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, geteuid};

use crate::artifact::{artifact, sample};
use crate::follower::{Follower, Place, children_of, is_running, shell, version, wait_until};
use crate::server::Server;

#[track_caller]
fn check_ends(follower: Follower) {
    let pid = follower.pid();
    check_ends_as(follower, pid);
}

#[track_caller]
fn check_ends_as(follower: Follower, pid: Pid) {
    let (code, took) = follower.terminate_as(pid);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn while_it_waits_for_the_next_tree() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &[]);
    server.wait_until_it_is_followed();
    check_ends(follower);
    assert!(place.holds(&version(1)));
}

#[test]
fn before_there_is_a_first_tree() {
    let (place, server) = (Place::new(), Server::start());
    let follower = place.follow(&server.url(), &[]);
    wait_until("it waits", || server.seen.waiting() == 1);
    check_ends(follower);
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 0);
}

#[test]
fn while_the_server_is_away() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &[]);
    server.wait_until_it_is_followed();
    drop(server);
    follower.wait_for("trying again", 1);
    check_ends(follower);
}

#[test]
fn in_the_middle_of_a_download() {
    let place = Place::new();
    let made = artifact(&sample(1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let follower = place.follow(&url, &[]);
    let ok = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let answer = |head: String, body: &[u8]| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    };
    let descriptor = made.descriptor.to_json();
    drop(answer(ok(descriptor.len()), &descriptor));
    let _stalled = answer(ok(made.archive.len()), &made.archive[..200_000]);
    wait_until("a part is staged", || {
        place.target().join(".code-fetch/staging/tree/app").exists()
    });
    check_ends(follower);
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 0);
}

#[test]
fn in_the_middle_of_a_command_which_ends_as_well() {
    for script in [
        "echo $$ > pid; exec sleep 1000",
        "trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done",
    ] {
        let (place, server) = (Place::new(), Server::serving(&version(1)));
        let follower = place.follow(&server.url(), &["--on-change", &shell(script)]);
        wait_until("the command runs", || place.read("pid").ends_with('\n'));
        let pid = place.read("pid");
        assert!(is_running(&pid));
        check_ends(follower);
        assert!(!is_running(&pid), "{script}");
    }
}

#[test]
fn as_the_first_process_of_a_container() {
    if !geteuid().is_root() {
        // Nobody else can be sure to be allowed a namespace.
        return;
    }
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let mut outside = Command::new("unshare");
    outside.args(["--pid", "--mount-proc", "--fork", "--kill-child"]);
    outside.arg(env!("CARGO_BIN_EXE_fetch-init"));
    // What it leaves behind is inherited by the first process.
    let script = shell("echo $$ > pid; sleep 0 &");
    let follower =
        Follower::start(place.command_by(outside, &server.url(), &["--on-change", &script]));
    follower.wait_for("ran", 1);
    assert!(place.read("pid").trim().parse::<u32>().unwrap() < 20);
    wait_until("it waits", || server.seen.waiting() == 1);
    let inside = children_of(follower.pid())[0];
    for number in [2, 3] {
        server.publish(&version(number));
        follower.wait_for("ran", usize::try_from(number).unwrap());
    }
    wait_until("they are taken notice of", || {
        children_of(inside).is_empty()
    });
    check_ends_as(follower, inside);
}
