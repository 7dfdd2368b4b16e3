//! The scripts of the examples, against a cluster that writes down what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use crate::fake::Cluster;
use crate::object::{Object, objects};
use crate::pod;
use crate::schema;
use crate::tools;

const SCALING: &str = "web/manual-scaling.sh";
const LOAD: &str = "web/load-test.sh";

/// How a script ends, and what it says on standard error.
fn check(cluster: &Cluster, arguments: &[&str], code: i32, said: &str) {
    let output = cluster.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(error.contains(said), "{arguments:?}: {error}");
}

/// Nothing was changed, whatever was asked.
fn changed(cluster: &Cluster) -> Vec<String> {
    let verbs = ["scale ", "patch ", "apply ", "create ", "delete "];
    let calls = cluster.get("calls");
    let changes = calls
        .lines()
        .filter(|call| verbs.iter().any(|verb| call.contains(verb)));
    changes.map(ToOwned::to_owned).collect()
}

#[test]
fn a_wrong_command_line_touches_nothing() {
    for (script, arguments, said) in [
        (SCALING, &[][..], "which Deployment?"),
        (SCALING, &["a", "b"], "one Deployment, not a and b"),
        (SCALING, &["-x"], "there is no option -x"),
        (SCALING, &["web", "--by"], "--by wants a value"),
        (SCALING, &["web", "--by", "0"], "from 1 to 10, not 0"),
        (SCALING, &["web", "--by", "11"], "from 1 to 10, not 11"),
        (SCALING, &["Web;"], "Web; is no name"),
        (LOAD, &[], "which Service?"),
        (LOAD, &["a", "b"], "one Service, not a and b"),
        (LOAD, &["-x"], "there is no option -x"),
        (
            LOAD,
            &["web", "-d", "0"],
            "--duration is a number from 1 to 900, not 0",
        ),
        (
            LOAD,
            &["web", "-d", "901"],
            "--duration is a number from 1 to 900, not 901",
        ),
        (
            LOAD,
            &["web", "-c", "0"],
            "--concurrency is a number from 1 to 64, not 0",
        ),
        (
            LOAD,
            &["web", "-c", "65"],
            "--concurrency is a number from 1 to 64, not 65",
        ),
        (
            LOAD,
            &["web", "-c", "4x"],
            "--concurrency is a number from 1 to 64, not 4x",
        ),
        (
            LOAD,
            &["web", "--after", "901"],
            "--after is a number from 0 to 900, not 901",
        ),
        (
            LOAD,
            &["web", "--port", "65536"],
            "--port is a number from 1 to 65535, not 65536",
        ),
        (
            LOAD,
            &["web", "--path", "/\" $(id)"],
            "--path is /, letters",
        ),
        (LOAD, &["we b"], "we b is no name"),
    ] {
        let cluster = Cluster::new(script);
        check(&cluster, arguments, 64, said);
        assert_eq!(cluster.get("calls"), "", "{script} {arguments:?}");
    }
}

#[test]
fn help_is_on_standard_output() {
    for script in [SCALING, LOAD] {
        let output = Cluster::new(script).run(&["--help"]);
        assert!(output.status.success());
        assert!(output.stdout.starts_with(b"usage: "));
    }
}

#[test]
fn three_ways_of_scaling_end_where_they_began() {
    let cluster = Cluster::new(SCALING);
    check(&cluster, &["-n", "web", "backend"], 0, "");
    let expected = [
        "--namespace web scale deployment backend --replicas=3",
        "--namespace web patch deployment backend --patch {\"spec\":{\"replicas\":4}}",
        "--namespace web patch --local -f - --patch {\"spec\":{\"replicas\":3}} -o json",
        "--namespace web apply -f -",
        "--namespace web apply set-last-applied -f -",
        "--namespace web scale deployment backend --replicas=2",
    ];
    let mut changes = changed(&cluster);
    // The two ends of a pipe start in any order.
    changes[2..4].sort_by_key(|call| call.contains("apply"));
    assert_eq!(changes, expected);
    assert_eq!(cluster.get("replicas"), "2\n");
    assert_eq!(cluster.get("last").trim(), "{\"as\": \"applied\"}");
}

#[test]
fn what_was_not_applied_is_not_applied() {
    let cluster = Cluster::new(SCALING);
    cluster.set("manifest", "");
    check(&cluster, &["backend"], 0, "");
    let applied = changed(&cluster).iter().any(|call| call.contains("apply"));
    assert!(!applied);
    assert_eq!(cluster.get("replicas"), "2\n");
}

#[test]
fn an_autoscaler_is_not_fought() {
    let cluster = Cluster::new(SCALING);
    cluster.set(
        "autoscalers",
        "Deployment/other one\nStatefulSet/backend two\nDeployment/backend three\n",
    );
    check(&cluster, &["backend"], 77, "the autoscaler three decides");
    assert_eq!(changed(&cluster), [""; 0]);
    cluster.set(
        "autoscalers",
        "Deployment/other one\nStatefulSet/backend two\n",
    );
    check(&cluster, &["backend"], 0, "");
}

#[test]
fn pods_that_never_become_ready_end_it_and_the_number_goes_back() {
    let cluster = Cluster::new(SCALING);
    cluster.set("stuck", "");
    check(
        &cluster,
        &["--by", "5", "backend"],
        69,
        "not all of 7 pods were ready within 120s",
    );
    assert_eq!(cluster.get("replicas"), "2\n");
}

#[test]
fn an_interrupted_scaling_goes_back() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let cluster = Cluster::new(SCALING);
        let output = cluster.interrupt(signal, &["backend"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let calls = changed(&cluster);
        assert_eq!(calls[0], "scale deployment backend --replicas=3");
        assert_eq!(cluster.get("replicas"), "2\n");
    }
}

#[test]
fn replicas_are_shown_before_during_and_after_the_load() {
    let cluster = Cluster::new(LOAD);
    let output = cluster.run(&["--every", "1", "--after", "1", "backend"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let moments: Vec<_> = shown
        .lines()
        .filter(|line| line.contains("2 (2)"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(moments[..2], ["before", "during"], "{shown}");
    assert_eq!(moments[moments.len() - 2..], ["after", "after"], "{shown}");
    assert!(shown.contains("12 answers, 1 failures in 120 seconds, 8 at a time"));
    let deleted = "delete pod load-test --ignore-not-found --now --wait=false";
    assert_eq!(changed(&cluster), ["create -f -", deleted]);
}

#[test]
fn a_load_that_nobody_answers_is_a_failure() {
    let cluster = Cluster::new(LOAD);
    cluster.set("phase", "Succeeded");
    cluster.set("result", "0 answers, 9 failures\n");
    check(
        &cluster,
        &["backend"],
        69,
        "nothing answered at backend:8000/",
    );
    cluster.set("phase", "Failed");
    cluster.set("result", "");
    check(
        &cluster,
        &["backend"],
        69,
        "the load ended without a result",
    );
}

#[test]
fn the_load_of_somebody_else_is_left_alone() {
    let cluster = Cluster::new(LOAD);
    cluster.set("taken", "");
    check(
        &cluster,
        &["backend"],
        75,
        "the pod load-test cannot be made",
    );
    assert_eq!(changed(&cluster), ["create -f -"]);
}

#[test]
fn a_deployment_that_is_missing_is_not_loaded() {
    let cluster = Cluster::new(LOAD);
    let arguments = ["--deployment", "missing", "backend"];
    check(&cluster, &arguments, 78, "there is no Deployment missing");
    assert_eq!(changed(&cluster), [""; 0]);
}

#[test]
fn an_interrupted_load_is_taken_away() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let cluster = Cluster::new(LOAD);
        let output = cluster.interrupt(signal, &["--every", "1", "backend"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let calls = changed(&cluster);
        assert!(
            calls.last().unwrap().starts_with("delete pod load-test"),
            "{calls:?}"
        );
    }
}

/// The pod that a load-test of three seconds and two workers makes.
fn load() -> Object {
    let cluster = Cluster::new(LOAD);
    cluster.set("phase", "Succeeded");
    check(
        &cluster,
        &["-d", "3", "-c", "2", "--path", "/a?b=c", "backend"],
        0,
        "",
    );
    objects(&cluster.get("pod.yaml")).remove(0)
}

#[test]
fn the_load_has_no_privilege_and_ends_by_itself() {
    let load = load();
    schema::validate(std::slice::from_ref(&load));
    assert_eq!(pod::privileges(&load), [""; 0]);
    assert_eq!(load.at("/spec/activeDeadlineSeconds"), &json!(63));
    assert_eq!(load.at("/spec/restartPolicy"), &json!("Never"));
    let url = load.at("/spec/containers/0/env/0/value");
    assert_eq!(url, &json!("http://backend:8000/a?b=c"));
}

#[test]
fn the_load_counts_what_was_answered() {
    if !tools::installed(&["busybox"]) {
        return;
    }
    let (url, answered) = server();
    let load = load();
    let command = load.at("/spec/containers/0/command");
    let mut shell = tools::program("busybox");
    for word in command.as_array().unwrap() {
        shell.arg(word.as_str().unwrap());
    }
    shell
        .env("URL", url)
        .env("DURATION", "2")
        .env("CONCURRENCY", "3");
    let said = tools::output(&mut shell);
    let answers = answered.load(Ordering::SeqCst);
    assert!(answers > 3, "{said}");
    assert_eq!(said.trim(), format!("{answers} answers, 0 failures"));
}

/// Answers whoever asks, as long as the test runs, and counts.
fn server() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&answered);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let read = stream.read(&mut [0; 1024]).unwrap();
            assert!(read > 0);
            count.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            stream.write_all(answer).unwrap();
        }
    });
    (url, answered)
}
