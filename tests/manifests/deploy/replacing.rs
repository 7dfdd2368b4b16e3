//! New code and the pods that are rolled to it; what is refused changes nothing.

use std::fs;

use serde_json::json;

use super::cluster::{Cluster, Said, deployment};
use crate::tools;

#[test]
fn a_directory_becomes_the_code_of_every_deployment_that_is_named() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("new/.git/config", "");
    let said = cluster.deploy("new web worker", 0);
    assert_eq!(said.stdout.trim_end(), cluster.served());
    cluster.serves(&["main.py"]);
    assert!(!cluster.setup.path(".git").exists());
    for name in ["web", "worker"] {
        assert_eq!(cluster.pin(name), cluster.served());
        assert!(
            cluster
                .calls()
                .contains(&format!("rollout status deployment/{name} --timeout 10m"))
        );
    }
}

#[test]
fn an_archive_is_sent_as_it_is() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    tools::output(
        tools::program("tar")
            .args(["czf", "a.tgz", "-C", "new", "."])
            .current_dir(cluster.path("")),
    );
    cluster
        .deploy("-n shop a.tgz web --timeout 30s", 0)
        .told("web: from whatever was served to sha256:");
    cluster.serves(&["main.py"]);
    assert_eq!(cluster.pin("worker"), "");
    assert!(
        cluster
            .calls()
            .lines()
            .all(|call| call.starts_with("--namespace shop "))
    );
    cluster
        .deploy("a.tgz web", 0)
        .told("web: is pinned to this revision already");
}

#[test]
fn nothing_is_rolled_if_that_is_wanted() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("--no-roll new", 0);
    cluster.serves(&["main.py"]);
    assert!(!cluster.calls().contains("patch"));
}

#[test]
fn a_roll_out_that_fails_says_why_and_how_to_go_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("fails", "");
    let said = cluster.deploy("-n shop new web worker", 74);
    said.told("web-0 fetch-code ended with 74: no room for it");
    said.told("kubectl -n shop rollout undo deployment/web");
    said.told("kubectl -n shop rollout undo deployment/worker");
}

#[test]
fn a_roll_out_that_waits_for_a_revision_says_so() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("fails", "they wait");
    cluster.write("logs/web-0", "it is not served\n");
    let said = cluster.deploy("new web", 69);
    said.told("web-0 fetch-code is at work: it is not served");
}

#[test]
fn an_undo_brings_the_revision_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let before = cluster.served();
    cluster.put("web", &deployment("web", &before));
    cluster.deploy("new web", 0);
    cluster
        .deploy("undo web", 0)
        .told(&format!("web: back to {before}"));
    assert_eq!(cluster.pin("web"), before);
}

/// What is refused before or by the server changes nothing.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &str, code: i32, sentence: &str) {
    cluster.deploy(arguments, code).told(sentence);
    assert!(!cluster.calls().contains("patch"), "{}", cluster.calls());
    cluster.serves(&["old.py"]);
}

#[test]
fn a_hostile_archive_changes_nothing() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let tar = "tar czPf hostile.tgz new/../new/main.py";
    tools::output(
        tools::program("sh")
            .args(["-c", tar])
            .current_dir(cluster.path("")),
    );
    refused(
        &cluster,
        "hostile.tgz web",
        65,
        "cannot lie beneath a directory",
    );
    cluster.write("cut.tgz", "no archive");
    refused(
        &cluster,
        "cut.tgz web",
        65,
        "cut.tgz was refused, and nothing was changed",
    );
}

#[test]
fn a_directory_without_code_is_refused_by_its_name() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("bare/.env", "SECRET=1\n");
    let sentence = "error: bare was refused, and nothing was changed";
    refused(&cluster, "bare web", 65, sentence);
}

#[test]
fn what_is_missing_is_told_before_anything_changes() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    refused(&cluster, "nowhere web", 78, "nowhere is not there");
    refused(
        &cluster,
        "new web other",
        78,
        "the Deployment other cannot be read",
    );
    refused(
        &cluster,
        "--server other new web",
        78,
        "the server other cannot be read",
    );
    cluster.has_pod("code-server", "", "Pending");
    refused(&cluster, "new web", 69, "no pod of code-server is running");
    refused(
        &cluster,
        "new web",
        69,
        "code-server-0 main waits: ContainerCreating",
    );
    assert!(!cluster.calls().contains("exec"));
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("KUBECTL", "kubectl-of-nobody")), 78)
        .told("there is no kubectl-of-nobody");
}

#[test]
fn a_file_that_cannot_be_read_is_not_left_out_in_silence() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    // Whoever runs the tests may read everything.
    let tar = cluster.path("bin/tar");
    cluster.write(
        "bin/tar",
        "#!/bin/sh\necho 'tar: ./main.py: Cannot open' >&2\nexit 2\n",
    );
    tools::output(tools::program("chmod").arg("+x").arg(tar));
    let path = format!(
        "{}:{}",
        cluster.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("PATH", path)), 74).told("new could not be read as a whole");
    assert!(!cluster.calls().contains("exec"));
}

#[test]
fn a_volume_that_is_read_only_is_told_with_the_remedy() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("read-only", "");
    refused(&cluster, "new web", 73, "add the component ingest");
}

#[test]
fn a_tree_that_is_not_the_servers_is_not_rolled_out() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut command = cluster.command("new web");
    let output = tools::run(command.env("STATE", cluster.path("nobody")));
    Said::by(output, 69).told("no server serves it");
    assert_eq!(cluster.pin("web"), "");
}

#[test]
fn a_deployment_that_does_not_read_its_annotation_is_warned_about() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut object = deployment("web", "");
    object["spec"]["template"]["spec"]["initContainers"] = json!([]);
    cluster.put("web", &object);
    cluster
        .deploy("new web", 0)
        .told("warning: the pods of web do not read the annotation");
}

#[test]
fn a_command_line_that_makes_no_sense_is_told() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    for line in [
        "",
        "new",
        "--no-roll new web",
        "--nonsense new web",
        "new web --timeout",
        "new web --timeout soon",
    ] {
        cluster.deploy(line, 64).told("see --help");
    }
    for line in ["undo", "destroy everything", "wait-for-deletion web"] {
        cluster.deploy(line, 64).told("see --help");
    }
    assert_eq!(cluster.calls(), "");
    cluster.deploy("--help", 0).told("usage: deploy");
}

#[test]
fn a_duration_with_a_leading_zero_is_no_octal_number() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("wait-for-deletion --timeout 08m --server nobody", 0);
}

#[test]
fn it_leaves_no_file_behind() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let scratch = cluster.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("TMPDIR", &scratch)), 0);
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
}
