//! What has which revision, and whether that is as it should be.

use super::cluster::{Cluster, deployment};

const NOBODYS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn the_status_of_what_is_as_it_should_be() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("new web", 0);
    let line = format!(
        "2026-11-22T22:28:11Z  INFO installed {}: 1 file\n",
        cluster.served()
    );
    cluster.write("logs/worker-0", line);
    let said = cluster.deploy("status", 0);
    let short = &cluster.served()[7..19];
    said.told(&format!("code-server serves {}", cluster.served()));
    said.told(&format!(
        "web: 1/1 ready, pinned to {short}, pods have 1 × {short}\n"
    ));
    said.told(&format!(
        "worker: 1/1 ready, pinned to nothing, pods have 1 × {short}\n"
    ));
}

#[test]
fn the_status_of_a_deployment_that_went_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let before = cluster.served();
    cluster.deploy("--no-roll new", 0);
    cluster.put("web", &deployment("web", &before));
    cluster.has_pod("web", &before, "Running");
    cluster
        .deploy("status web", 0)
        .told("; not what is served\n");
}

#[test]
fn the_status_of_pods_is_told_while_there_is_no_server() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let before = cluster.served();
    cluster.put("web", &deployment("web", &before));
    cluster.has_pod("web", &before, "Running");
    cluster.has_pod("code-server", "", "Pending");
    let short = &before[7..19];
    let said = cluster.deploy("status web", 69);
    said.told("no pod of code-server is running");
    said.told(&format!(
        "web: 1/1 ready, pinned to {short}, pods have 1 × {short}\n"
    ));
}

/// A Deployment that is pinned to one revision, and whose pod has another one.
#[track_caller]
fn drifted(pin: &str, pod: &str, phase: &str, sentence: &str) {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let now = cluster.served();
    let real = |revision: &str| revision.replace("NOW", &now);
    cluster.put("web", &deployment("web", &real(pin)));
    cluster.has_pod("web", &real(pod), phase);
    cluster.deploy("status web", 1).told(sentence);
}

#[test]
fn a_pod_of_another_revision_has_drifted() {
    drifted(
        "NOW",
        NOBODYS,
        "Running",
        "pods have 1 × 000000000000; drift: 1 of 1 pods",
    );
}

#[test]
fn a_pod_that_has_not_started_has_nothing_yet() {
    drifted(
        "NOW",
        "NOW",
        "Pending",
        "pods have 1 × none yet; drift: 1 of 1 pods",
    );
}

#[test]
fn a_revision_that_the_server_does_not_have_starts_no_pods() {
    drifted(
        NOBODYS,
        NOBODYS,
        "Running",
        "the server does not have 000000000000",
    );
}

#[test]
fn a_pod_that_is_not_pinned_has_drifted_if_it_has_another_revision() {
    drifted(
        "",
        "",
        "Running",
        "pinned to nothing, pods have 1 × none yet; drift",
    );
}
