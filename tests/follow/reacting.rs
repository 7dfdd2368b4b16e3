//! What happens after a change: the command, and then the signal.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, geteuid};

use crate::follower::{Place, is_running, shell, version, wait_until};
use crate::server::Server;

#[test]
fn the_command_sees_both_revisions_and_runs_for_changes_alone() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let script = shell("echo \"$CODE_PREVIOUS_REVISION>$CODE_REVISION\" >> seen");
    let flags = ["--on-change", &script];
    let [one, two, three] = [1, 2, 3].map(|number| version(number).descriptor.revision);
    {
        let follower = place.follow(&server.url(), &flags);
        follower.wait_for("ran", 1);
        server.publish(&version(2));
        follower.wait_for("ran", 2);
        assert_eq!(place.read("seen"), format!(">{one}\n{one}>{two}\n"));
    }
    // What was there when it started was installed by the one before.
    let follower = place.follow(&server.url(), &flags);
    follower.wait_for("following", 1);
    server.publish(&version(3));
    let ran = follower.wait_for("ran", 1);
    assert_eq!(
        place.read("seen"),
        format!(">{one}\n{one}>{two}\n{two}>{three}\n")
    );
    assert_eq!(ran["failures"], 0);
}

#[test]
fn the_command_is_not_a_shells() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &["--on-change", "touch $HOME ';'"]);
    let ran = follower.wait_for("ran", 1);
    assert_eq!(ran["program"], "touch");
    assert!(place.path("$HOME").exists() && place.path(";").exists());
}

const FAILED: &str = "the command after a change failed";

#[test]
fn a_command_that_fails_is_told_and_counted_and_following_goes_on() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let script = shell("test -e good && exit 0; test -e bad && exit 3; kill -9 $$");
    let follower = place.follow(&server.url(), &["--on-change", &script]);
    assert_eq!(
        follower.wait_for(FAILED, 1)["outcome"],
        "ended by signal KILL"
    );
    fs::write(place.path("bad"), "").unwrap();
    server.publish(&version(2));
    let event = follower.wait_for(FAILED, 2);
    assert_eq!(event["outcome"], "exit status 3");
    assert_eq!((&event["runs"], &event["failures"]), (&2.into(), &2.into()));
    fs::write(place.path("good"), "").unwrap();
    server.publish(&version(3));
    let event = follower.wait_for("ran", 1);
    assert_eq!((&event["runs"], &event["failures"]), (&3.into(), &2.into()));
}

#[test]
fn a_command_that_hangs_is_ended_with_all_that_it_has_started() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let script = shell("test -e good && exit 0; sleep 1000 & echo $! > pid; wait");
    let flags = ["--on-change", &script, "--on-change-timeout", "300ms"];
    let follower = place.follow(&server.url(), &flags);
    let event = follower.wait_for(FAILED, 1);
    assert_eq!(event["outcome"], "it took too long and was ended");
    let pid = place.read("pid");
    wait_until("what it had started is gone", || !is_running(&pid));
    fs::write(place.path("good"), "").unwrap();
    server.publish(&version(2));
    follower.wait_for("ran", 1);
}

#[test]
fn a_command_that_does_not_want_to_end_is_killed() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let script = shell("trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done");
    let flags = ["--on-change", &script, "--on-change-timeout", "300ms"];
    let follower = place.follow(&server.url(), &flags);
    follower.wait_for(FAILED, 1);
    assert!(!is_running(&place.read("pid")));
    server.publish(&version(2));
    place.wait_until_it_holds(&version(2));
}

#[test]
fn a_command_that_is_not_found_is_told_each_time() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &["--on-change", "nobody-has-this"]);
    let event = follower.wait_for(FAILED, 1);
    let outcome = event["outcome"].as_str().unwrap();
    assert!(
        outcome.starts_with("cannot start it: No such file"),
        "{outcome}"
    );
    server.publish(&version(2));
    follower.wait_for(FAILED, 2);
    place.wait_until_it_holds(&version(2));
}

#[test]
fn what_can_never_be_run_is_refused_at_the_start() {
    let place = Place::new();
    fs::write(place.path("termination-log"), "").unwrap();
    for (flags, code, named) in [
        (&["--on-change", "'"][..], 64, "--on-change"),
        (&["--on-change", " "], 64, "--on-change"),
        (&["--signal", "HOP=nginx"], 64, "HOP"),
        (&["--on-change", "/nowhere/reload"], 78, "/nowhere/reload"),
    ] {
        let mut command = place.command("http://127.0.0.1:1", flags);
        let output = command.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(log.contains(named), "{log}");
    }
    assert!(place.read("termination-log").contains("/nowhere/reload"));
    assert!(!place.target().exists());
}

/// A process that does nothing, under a name of its own, and does not outlive the test.
struct Sleeper(Child);

impl Sleeper {
    fn start(place: &Place, name: &str, user: Option<u32>) -> Self {
        let program = place.path(name);
        symlink("/bin/sleep", &program).unwrap();
        let mut command = Command::new(program);
        command.arg("1000").stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user);
        }
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_signal_reaches_the_processes_of_that_name_after_the_command() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let mut wanted = ["follow-a-wanted", "2/follow-a-wanted"].map(|name| {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        Sleeper::start(&place, name, None)
    });
    let mut other = Sleeper::start(&place, "follow-another", None);
    let script = shell("kill -0 $(cat pid) && touch still-there");
    fs::write(place.path("pid"), wanted[0].0.id().to_string()).unwrap();
    // Whoever runs the tests beneath nohup has SIGHUP ignored by all of them.
    let flags = ["--signal", "USR1=follow-a-wanted", "--on-change", &script];
    let follower = place.follow(&server.url(), &flags);
    let event = follower.wait_for("signalled", 1);
    assert_eq!(
        (&event["signal"], &event["processes"]),
        (&"USR1".into(), &2.into())
    );
    for wanted in &mut wanted {
        let status = wanted.0.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::USR1.as_raw()));
    }
    assert_eq!(other.0.try_wait().unwrap(), None);
    assert!(place.path("still-there").exists());
}

#[test]
fn a_signal_for_nobody_says_what_a_pod_needs() {
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let follower = place.follow(&server.url(), &["--signal", "HUP=nobody-has-this"]);
    let hint = "nobody was signalled: no process of this name is seen, which takes shareProcessNamespace: true in the pod";
    // Before the first tree, nobody need be there.
    follower.wait_for(
        "nobody was signalled: no process of this name is seen yet",
        1,
    );
    assert!(follower.events(hint).is_empty());
    server.publish(&version(2));
    assert_eq!(follower.wait_for(hint, 1)["process"], "nobody-has-this");
}

#[test]
fn a_process_of_another_user_is_left_alone_and_told() {
    if !geteuid().is_root() {
        // Nobody else can start a process as another user.
        return;
    }
    let (place, server) = (Place::new(), Server::serving(&version(1)));
    let mut other = Sleeper::start(&place, "follow-foreign", Some(65_534));
    let follower = place.follow(&server.url(), &["--signal", "KILL=follow-foreign"]);
    let told =
        "nobody was signalled: the process runs as another user, and both must run as the same";
    follower.wait_for(told, 1);
    assert_eq!(other.0.try_wait().unwrap(), None);
}
