//! The example of a Flux `MiniCluster`: its sizes, its autoscalers, and pods that wait for their code.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::custom;
use crate::kubernetes::{kustomize, manifests};
use crate::object::{Object, only};
use crate::server::Server;
use crate::tools;

fn variant(name: &str) -> PathBuf {
    manifests().join("examples/minicluster").join(name)
}

/// What a variant says at these places: kind, JSON pointer and value.
#[track_caller]
fn check(name: &str, expected: &[(&str, &str, Value)]) {
    let Some(objects) = kustomize(&variant(name)) else {
        return;
    };
    for (kind, pointer, value) in expected {
        let object = only(&objects, kind, "simulation");
        assert_eq!(object.at(pointer), value, "{kind} {pointer}");
    }
    for object in &objects {
        assert_eq!(custom::check(object), Ok(()));
        assert_eq!(object.text("/metadata/namespace"), "minicluster");
    }
}

#[test]
fn a_cluster_has_two_pods_and_may_have_four() {
    let expected = [
        ("MiniCluster", "/spec/size", json!(2)),
        ("MiniCluster", "/spec/maxSize", json!(4)),
        (
            "MiniCluster",
            "/spec/pod/labels/code-server~1client",
            json!("true"),
        ),
    ];
    check("cluster", &expected);
    if let Some(objects) = kustomize(&variant("cluster")) {
        assert!(
            objects
                .iter()
                .all(|object| object.kind() != "HorizontalPodAutoscaler")
        );
        assert!(objects.iter().any(|object| object.name() == "code-server"));
    }
}

/// What an autoscaler of this version scales.
fn target() -> Value {
    json!({"apiVersion": "flux-framework.org/v1alpha2", "kind": "MiniCluster", "name": "simulation"})
}

#[test]
fn an_autoscaler_of_the_first_version_goes_up_to_four() {
    let kind = "HorizontalPodAutoscaler";
    let expected = [
        (kind, "/apiVersion", json!("autoscaling/v1")),
        (kind, "/spec/scaleTargetRef", target()),
        (kind, "/spec/minReplicas", json!(2)),
        (kind, "/spec/maxReplicas", json!(4)),
        (kind, "/spec/targetCPUUtilizationPercentage", json!(70)),
        ("MiniCluster", "/spec/maxSize", json!(4)),
    ];
    check("hpa-v1", &expected);
}

#[test]
fn an_autoscaler_of_the_second_version_goes_up_to_ten() {
    let kind = "HorizontalPodAutoscaler";
    let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}});
    let expected = [
        (kind, "/apiVersion", json!("autoscaling/v2")),
        (kind, "/spec/scaleTargetRef", target()),
        (kind, "/spec/minReplicas", json!(2)),
        (kind, "/spec/maxReplicas", json!(10)),
        (
            kind,
            "/spec/metrics",
            json!([{"type": "Resource", "resource": cpu}]),
        ),
        ("MiniCluster", "/spec/size", json!(2)),
        ("MiniCluster", "/spec/maxSize", json!(10)),
    ];
    check("hpa-v2", &expected);
}

#[test]
fn an_autoscaler_finds_a_request_in_each_container() {
    let Some(objects) = kustomize(&variant("hpa-v2")) else {
        return;
    };
    for container in containers(&objects) {
        assert!(
            container["resources"]["requests"]["cpu"].is_string(),
            "{container}"
        );
    }
}

#[test]
fn the_application_may_set_the_size_of_its_own_cluster_and_of_no_other() {
    let rules = json!([{
        "apiGroups": ["flux-framework.org"],
        "resources": ["miniclusters", "miniclusters/scale"],
        "resourceNames": ["simulation"],
        "verbs": ["get", "patch"],
    }]);
    let subject =
        json!([{"kind": "ServiceAccount", "name": "simulation", "namespace": "minicluster"}]);
    let expected = [
        ("Role", "/rules", rules),
        ("RoleBinding", "/roleRef/name", json!("simulation")),
        ("RoleBinding", "/subjects", subject),
        ("ServiceAccount", "/kind", json!("ServiceAccount")),
        (
            "MiniCluster",
            "/spec/pod/serviceAccountName",
            json!("simulation"),
        ),
        (
            "MiniCluster",
            "/spec/pod/automountServiceAccountToken",
            json!(true),
        ),
    ];
    check("cluster", &expected);
}

fn containers(objects: &[Object]) -> &Vec<Value> {
    let cluster = only(objects, "MiniCluster", "simulation");
    cluster.at("/spec/containers").as_array().unwrap()
}

/// The container of this name.
fn container<'a>(objects: &'a [Object], name: &str) -> &'a Value {
    let mut containers = containers(objects).iter();
    containers
        .find(|container| container["name"] == name)
        .unwrap()
}

#[test]
fn the_code_comes_into_the_volume_that_all_containers_have() {
    let Some(objects) = kustomize(&variant("cluster")) else {
        return;
    };
    let fetch = container(&objects, "fetch-code");
    assert_eq!(fetch["image"], "fetch-init");
    assert_eq!(fetch["noWrapEntrypoint"], true);
    let shared = only(&objects, "MiniCluster", "simulation").text("/spec/flux/container/mountPath");
    let target = fetch["environment"]["FETCH_INIT_TARGET"].as_str().unwrap();
    assert_eq!(target, format!("{shared}/code"));
    let wait = wait(&objects);
    assert_eq!(
        wait.matches(&format!("{target}/.code-revision")).count(),
        2,
        "{wait}"
    );
}

/// What the application's container does before all else.
fn wait(objects: &[Object]) -> String {
    let mut containers = containers(objects).iter();
    let runs_flux = containers.find(|container| container["runFlux"] == true);
    runs_flux.unwrap()["commands"]["init"]
        .as_str()
        .unwrap()
        .into()
}

/// The waiting of an application whose volume is this directory, for so many seconds at most.
fn waiting(objects: &[Object], volume: &str, seconds: u32) -> Command {
    let wait = wait(objects).replace("/mnt/flux", volume);
    assert!(wait.contains("seq 300"), "{wait}");
    let mut bash = tools::program("bash");
    bash.arg("-c")
        .arg(wait.replace("seq 300", &format!("seq {seconds}")))
        .stdout(Stdio::piped());
    bash
}

/// The fetching into it, with the environment that the manifest gives it.
fn fetching(objects: &[Object], volume: &str, url: &str) -> Command {
    let mut program = tools::program(tools::FETCH_INIT);
    let environment = &container(objects, "fetch-code")["environment"];
    for (name, value) in environment.as_object().unwrap() {
        program.env(name, value.as_str().unwrap().replace("/mnt/flux", volume));
    }
    let log = format!("{volume}/termination-log");
    program
        .env("FETCH_INIT_URL", url)
        .env("FETCH_INIT_TERMINATION_LOG", log);
    program
}

#[test]
fn the_application_starts_once_its_code_is_there() {
    let Some(objects) = kustomize(&variant("cluster")) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::create_dir(at("volume")).unwrap();
    fs::write(at("tree/main.py"), "print()").unwrap();
    let volume = at("volume").display().to_string();
    let application = waiting(&objects, &volume, 120).spawn().unwrap();
    let server = Server::start(&at("tree"), &at("state"));
    tools::output(&mut fetching(&objects, &volume, &server.url()));
    let output = application.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read(at("volume/code/main.py")).unwrap(), b"print()");
}

#[test]
fn an_application_that_waits_in_vain_says_where_to_look() {
    let Some(objects) = kustomize(&variant("cluster")) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let output = tools::run(&mut waiting(
        &objects,
        directory.path().to_str().unwrap(),
        1,
    ));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        output.stdout,
        b"no code: see the log of container fetch-code\n"
    );
}
