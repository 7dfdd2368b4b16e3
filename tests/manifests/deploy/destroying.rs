//! What is deleted, and what is waited for.

use std::fs;

use serde_json::json;

use super::cluster::{Cluster, OBJECTS, deployment};

#[test]
fn destroying_leaves_the_data() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    fs::remove_dir_all(cluster.path("pods")).unwrap();
    let said = cluster.deploy("destroy --yes", 0);
    said.told("kept: persistentvolumeclaim/code-server");
    assert_eq!(cluster.objects(), "persistentvolumeclaim/code-server\n");
    let selector = "-l app.kubernetes.io/name=code-server,!app.kubernetes.io/instance";
    assert!(cluster.calls().contains(selector), "{}", cluster.calls());
    cluster
        .deploy("destroy --yes", 0)
        .told("nothing of code-server is there, or only its volume");
}

#[test]
fn destroying_with_the_data_leaves_nothing() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("destroy --yes --with-data", 0);
    assert_eq!(cluster.objects(), "");
}

#[test]
fn nothing_is_destroyed_unless_somebody_says_so() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let said = cluster.deploy("destroy --with-data", 64);
    said.told("  persistentvolumeclaim/code-server");
    said.told("say --yes");
    assert_eq!(cluster.objects(), OBJECTS);
}

#[test]
fn what_does_not_go_is_named_in_the_end() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let said = cluster.deploy("wait-for-deletion --timeout 1s", 69);
    said.told("still there after 1s: deployment.apps/code-server, service/code-server");
    cluster.write("objects", "persistentvolumeclaim/code-server\n");
    cluster.deploy("wait-for-deletion --timeout 1s", 0);
    cluster.deploy("wait-for-deletion --with-data --timeout 1s", 69);
}

#[test]
fn pods_are_waited_for_when_all_the_rest_is_gone() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    fs::remove_dir_all(cluster.path("deployments")).unwrap();
    cluster.write(
        "objects",
        "pod/code-server-two-5d4-x\npod/code-server-5d4-x\n",
    );
    let said = cluster.deploy("wait-for-deletion --timeout 1s", 69);
    said.told("still there after 1s: pod/code-server-5d4-x (");
    cluster.write("objects", "pod/code-server-two-5d4-x\n");
    cluster.deploy("wait-for-deletion --timeout 1s", 0);
}

#[test]
fn only_what_belongs_to_the_instance_is_destroyed() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut object = deployment("code-server", "");
    object["metadata"]["labels"]["app.kubernetes.io/instance"] = json!("myapp");
    cluster.put("code-server", &object);
    cluster.deploy("destroy --yes --with-data", 0);
    let selector = "-l app.kubernetes.io/name=code-server,app.kubernetes.io/instance=myapp ";
    assert!(cluster.calls().contains(selector), "{}", cluster.calls());
    object["metadata"]["labels"] = json!({"app": "code-server"});
    cluster.put("code-server", &object);
    cluster.deploy("destroy --yes", 78).told("say -k DIRECTORY");
}
