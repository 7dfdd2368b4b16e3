//! The generator of agent pools: what it makes of their configuration, number by number, and what it refuses.

mod minutes;
mod refusals;
mod scaling;
mod windows;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::kubernetes::{helm, manifests, template};
use crate::object::{Object, only};
use crate::pod;
use crate::schema;
use crate::tools;

fn chart() -> PathBuf {
    manifests().join("examples/agent-pool")
}

/// A configuration of one pool that is as small as it may be, but for what is in `extra`.
fn pool(extra: &Value) -> Value {
    let mut pool = json!({"pool_id": "a", "name": "A", "image": "agent", "max_replicas": 10});
    let extra = extra.as_object().unwrap().clone();
    pool.as_object_mut().unwrap().extend(extra);
    json!({"pools": [pool]})
}

/// What is made of a configuration; nothing where there is no helm.
fn made(configuration: &Value) -> Option<Vec<Object>> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pools.json");
    fs::write(&file, configuration.to_string()).unwrap();
    template(&chart(), &["-f", file.to_str().unwrap()])
}

/// The configuration is refused, with these words.
#[track_caller]
fn refused(configuration: &Value, words: &str) {
    let Some(mut helm) = helm() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pools.json");
    fs::write(&file, configuration.to_string()).unwrap();
    let output = tools::run(
        helm.args(["template", "x"])
            .arg(chart())
            .arg("-f")
            .arg(file),
    );
    assert!(!output.status.success(), "{configuration} is taken");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(words), "{error}");
}

/// A part of the Deployment of the pool that is described so.
#[track_caller]
fn check(extra: &Value, pointer: &str, expected: &Value) {
    if let Some(objects) = made(&pool(extra)) {
        let deployment = only(&objects, "Deployment", "iac-agent-a");
        assert_eq!(deployment.find(pointer).unwrap_or(&Value::Null), expected);
    }
}

fn example() -> Option<Vec<Object>> {
    let file = chart().join("pools.json");
    template(&chart(), &["-f", file.to_str().unwrap()])
}

/// The variable of a container, with all that is said of it.
fn variable<'a>(deployment: &'a Object, name: &str) -> &'a Value {
    let variables = deployment.at("/spec/template/spec/containers/0/env");
    let mut variables = variables.as_array().unwrap().iter();
    variables
        .find(|variable| variable["name"] == name)
        .unwrap_or_else(|| panic!("no variable {name}"))
}

#[test]
fn every_object_is_one_that_the_api_server_takes() {
    let secret = json!({"pending_tasks": {"token_secret": {"name": "s", "key": "k"}}});
    let mut with_secret = pool(&json!({"secrets": ["tokens"], "service_account": "agent"}));
    with_secret
        .as_object_mut()
        .unwrap()
        .extend(secret.as_object().unwrap().clone());
    for objects in [example(), made(&with_secret)].into_iter().flatten() {
        schema::validate(&objects);
        for object in &objects {
            assert_eq!(pod::privileges(object), [""; 0]);
            assert_eq!(object.text("/metadata/namespace"), "terraform");
        }
    }
}

#[test]
fn the_chart_itself_is_in_order() {
    if let Some(mut helm) = helm() {
        let file = chart().join("pools.json");
        tools::output(
            helm.args(["lint", "--strict"])
                .arg(chart())
                .arg("-f")
                .arg(file),
        );
    }
}

#[test]
fn a_pool_is_a_deployment_with_its_labels() {
    let Some(objects) = example() else { return };
    let deployment = only(&objects, "Deployment", "iac-agent-production");
    for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
        let labels = json!({
            "app": "iac-platform", "component": "agent", "pool-id": "production", "pool-name": "Production",
            "code-server/client": "true",
        });
        assert_eq!(deployment.at(place), &labels);
    }
    let selector = json!({"app": "iac-platform", "component": "agent", "pool-id": "production"});
    assert_eq!(deployment.at("/spec/selector/matchLabels"), &selector);
    assert_eq!(deployment.find("/spec/replicas"), None);
    only(&objects, "Deployment", "iac-agent-staging");
}

#[test]
fn an_agent_knows_its_pool_and_where_to_go() {
    let Some(objects) = example() else { return };
    let deployment = only(&objects, "Deployment", "iac-agent-production");
    let values = [
        ("POOL_ID", "production"),
        ("POOL_NAME", "Production"),
        ("POOL_TYPE", "k8s"),
        ("API_ENDPOINT", "https://iac.example.com"),
        ("CC_SERVER_PORT", "8090"),
        ("SERVER_PORT", "8080"),
        ("CUSTOM_VAR", "value"),
    ];
    for (name, value) in values {
        assert_eq!(variable(deployment, name)["value"], value, "{name}");
    }
    let fields = [
        ("HOST_IP", "status.hostIP"),
        ("IAC_AGENT_NAME", "metadata.name"),
    ];
    for (name, path) in fields {
        let field = &variable(deployment, name)["valueFrom"]["fieldRef"]["fieldPath"];
        assert_eq!(field, path, "{name}");
    }
}

#[test]
fn a_pool_has_variables_of_its_own() {
    let mut configuration = pool(&json!({"env": {"SERVER_PORT": "9000", "A": "b"}}));
    configuration["host_ip"] = json!("10.0.0.1");
    let Some(objects) = made(&configuration) else {
        return;
    };
    let deployment = only(&objects, "Deployment", "iac-agent-a");
    let values = [
        ("SERVER_PORT", "9000"),
        ("CC_SERVER_PORT", "8090"),
        ("A", "b"),
        ("HOST_IP", "10.0.0.1"),
    ];
    for (name, value) in values {
        assert_eq!(variable(deployment, name)["value"], value, "{name}");
    }
}

#[test]
fn an_agent_is_run_as_its_pool_says() {
    let told = json!({
        "image_pull_policy": "Always",
        "command": ["agent"],
        "args": ["--verbose"],
        "secrets": ["tokens"],
        "run_as_user": 1000,
        "service_account": "agent",
        "grace_period": 3600,
        "resources": {"requests": {"cpu": "100m"}},
    });
    let container = |name: &str| format!("/spec/template/spec/containers/0/{name}");
    let pod = |name: &str| format!("/spec/template/spec/{name}");
    let expected = [
        (container("image"), json!("agent")),
        (container("imagePullPolicy"), json!("Always")),
        (container("command"), json!(["agent"])),
        (container("args"), json!(["--verbose"])),
        (
            container("envFrom"),
            json!([{"secretRef": {"name": "tokens"}}]),
        ),
        (container("securityContext/runAsUser"), json!(1000)),
        (container("resources/requests"), json!({"cpu": "100m"})),
        (pod("serviceAccountName"), json!("agent")),
        (pod("automountServiceAccountToken"), json!(null)),
        (pod("terminationGracePeriodSeconds"), json!(3600)),
    ];
    for (pointer, value) in expected {
        check(&told, &pointer, &value);
    }
    check(
        &json!({}),
        &pod("automountServiceAccountToken"),
        &json!(false),
    );
    check(
        &json!({}),
        &pod("terminationGracePeriodSeconds"),
        &json!(300),
    );
}

#[test]
fn an_agent_has_its_limits() {
    let limits = "/spec/template/spec/containers/0/resources/limits";
    check(
        &json!({}),
        limits,
        &json!({"cpu": "500m", "memory": "512Mi"}),
    );
    let more = json!({"resources": {"limits": {"cpu": "2"}}});
    check(&more, limits, &json!({"cpu": "2", "memory": "512Mi"}));
}

#[test]
fn the_agents_fetch_their_code() {
    let container = "/spec/template/spec/containers/0/volumeMounts";
    check(
        &json!({}),
        container,
        &json!([{"name": "code", "mountPath": "/app", "readOnly": true}]),
    );
    let init = "/spec/template/spec/initContainers/0";
    check(&json!({}), &format!("{init}/name"), &json!("fetch-code"));
    check(&json!({}), &format!("{init}/image"), &json!("fetch-init"));
    check(
        &json!({}),
        &format!("{init}/args"),
        &json!(["$(CODE_URL)", "/code"]),
    );
    check(
        &json!({}),
        &format!("{init}/env/0/value"),
        &json!("http://code-server:8080"),
    );
    let path = json!("metadata.annotations['code-server/revision']");
    check(
        &json!({}),
        &format!("{init}/env/1/valueFrom/fieldRef/fieldPath"),
        &path,
    );
    let annotation = "/spec/template/metadata/annotations/code-server~1revision";
    check(&json!({}), annotation, &json!(""));
    let revision = format!("sha256:{}", "0f".repeat(32));
    check(
        &json!({"revision": &revision}),
        annotation,
        &json!(revision),
    );
}

#[test]
fn the_init_container_is_the_component_s() {
    let file = manifests().join("components/fetch-init/patch.yaml");
    let patch = crate::object::objects(&fs::read_to_string(file).unwrap());
    for part in ["initContainers", "volumes"] {
        let pointer = format!("/spec/template/spec/{part}");
        check(&json!({}), &pointer, patch[0].at(&pointer));
    }
}

#[test]
fn a_pool_a_file_is_the_same_as_a_list_of_one() {
    let list = pool(&json!({}));
    let alone = json!({"pool": list["pools"][0]});
    assert_eq!(made(&list), made(&alone));
}

#[test]
fn what_stands_in_the_configuration_stays_in_its_place() {
    let window = json!([{"from_time": "23:00", "to_time": "02:00", "weekdays": [1]}]);
    let mut configuration = pool(&json!({"freeze_schedules": window}));
    configuration["namespace"] = json!("123");
    configuration["freeze"] = json!({"time_zone": "UTC\n  suspend: true"});
    let Some(objects) = made(&configuration) else {
        return;
    };
    for object in &objects {
        assert_eq!(object.at("/metadata/namespace"), "123");
    }
    let freeze = only(&objects, "CronJob", "freeze-2300-a");
    assert_eq!(freeze.at("/spec/timeZone"), "UTC\n  suspend: true");
    assert_eq!(freeze.0.pointer("/spec/suspend"), None);
}
