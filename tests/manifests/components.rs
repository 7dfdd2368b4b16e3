//! Each component alone: it renders over the base and an application, is valid, and does what it is for.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::kubernetes::manifests;
use crate::object::{Object, only};
use crate::overlay::{REVISION, overlay};
use crate::schema;

const SERVER: (&str, &str) = ("Deployment", "myapp-code-server");
const APPLICATION: (&str, &str) = ("Deployment", "myapp-web");
const AUTOSCALER: (&str, &str) = ("HorizontalPodAutoscaler", "myapp-web");
const BUDGET: (&str, &str) = ("PodDisruptionBudget", "myapp-web");

const POD: &str = "/spec/template/spec";
const TERM: &str = "/spec/template/spec/affinity/podAntiAffinity";

/// What `pointer` leads to in an object, with a component.
#[derive(Clone)]
struct Case {
    component: &'static str,
    object: (&'static str, &'static str),
    pointer: String,
    expected: Value,
}

fn case(
    component: &'static str,
    object: (&'static str, &'static str),
    pointer: impl Into<String>,
    expected: Value,
) -> Case {
    Case {
        component,
        object,
        pointer: pointer.into(),
        expected,
    }
}

fn server_cases() -> Vec<Case> {
    let container = |rest: &str| format!("{POD}/containers/0{rest}");
    vec![
        case(
            "ingest",
            SERVER,
            container("/env/0"),
            json!({"name": "CODE_SERVER_WRITE_TOKEN_FILE", "value": "/secrets/token/write"}),
        ),
        case(
            "ingest",
            SERVER,
            container("/volumeMounts/0"),
            json!({"name": "data", "mountPath": "/data", "readOnly": false}),
        ),
        case(
            "ingest",
            SERVER,
            format!("{POD}/volumes/0"),
            json!({"name": "token", "secret": {"secretName": "code-server-token", "optional": true, "defaultMode": 0o440}}),
        ),
        case(
            "state-emptydir",
            SERVER,
            container("/volumeMounts/0"),
            json!({"name": "state", "mountPath": "/var/lib/code-server"}),
        ),
        case(
            "state-emptydir",
            SERVER,
            container("/volumeMounts/1"),
            json!({"name": "data", "mountPath": "/data", "readOnly": true}),
        ),
        case(
            "state-emptydir",
            SERVER,
            container("/resources/limits"),
            json!({"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1152Mi"}),
        ),
        case(
            "tls",
            SERVER,
            container("/env/0/value"),
            json!("/secrets/tls/tls.crt"),
        ),
        case(
            "tls",
            SERVER,
            container("/env/1/value"),
            json!("/secrets/tls/tls.key"),
        ),
        case(
            "tls",
            SERVER,
            format!("{POD}/volumes/0/secret"),
            json!({"secretName": "code-server-tls", "defaultMode": 0o440}),
        ),
        case(
            "tls",
            SERVER,
            container("/livenessProbe/httpGet"),
            json!({"path": "/livez", "port": "metrics"}),
        ),
    ]
}

fn observing_cases() -> Vec<Case> {
    vec![
        case(
            "prometheus-annotations",
            SERVER,
            "/spec/template/metadata/annotations",
            json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics"}),
        ),
        case(
            "service-monitor",
            ("ServiceMonitor", "myapp-code-server"),
            "/spec/endpoints/0/port",
            json!("metrics"),
        ),
        case(
            "custom-metrics",
            ("ConfigMap", "myapp-custom-metrics"),
            "/kind",
            json!("ConfigMap"),
        ),
    ]
}

fn fetching_cases() -> Vec<Case> {
    vec![
        case(
            "fetch-init",
            APPLICATION,
            "/spec/template/metadata/labels/code-server~1client",
            json!("true"),
        ),
        case(
            "fetch-init",
            APPLICATION,
            "/spec/template/metadata/annotations/code-server~1revision",
            json!(REVISION),
        ),
        case(
            "fetch-init",
            APPLICATION,
            format!("{POD}/initContainers/0/args"),
            json!(["$(CODE_URL)", "/code"]),
        ),
        case(
            "fetch-init",
            APPLICATION,
            format!("{POD}/initContainers/0/env/0/value"),
            json!("http://myapp-code-server:8080"),
        ),
        case(
            "fetch-init",
            APPLICATION,
            format!("{POD}/initContainers/0/env/1/valueFrom/fieldRef/fieldPath"),
            json!("metadata.annotations['code-server/revision']"),
        ),
        case(
            "fetch-init",
            APPLICATION,
            format!("{POD}/volumes"),
            json!([{"name": "code", "emptyDir": {"sizeLimit": "1Gi"}}]),
        ),
        case(
            "fetch-sidecar",
            APPLICATION,
            format!("{POD}/initContainers/0/name"),
            json!("fetch-code"),
        ),
        case(
            "fetch-sidecar",
            APPLICATION,
            format!("{POD}/containers/0/name"),
            json!("web"),
        ),
        case(
            "fetch-sidecar",
            APPLICATION,
            format!("{POD}/containers/1/args"),
            json!(["$(CODE_URL)", "/code", "--follow"]),
        ),
        case(
            "fetch-sidecar",
            APPLICATION,
            format!("{POD}/containers/1/env/0/value"),
            json!("http://myapp-code-server:8080"),
        ),
        case(
            "zero-downtime",
            APPLICATION,
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}),
        ),
    ]
}

fn spreading_cases() -> Vec<Case> {
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "web"}}});
    let preferred =
        |weight: u32, key: &str| json!({"weight": weight, "podAffinityTerm": term(key)});
    let host = "kubernetes.io/hostname";
    let zone = "topology.kubernetes.io/zone";
    vec![
        case(
            "anti-affinity",
            APPLICATION,
            TERM,
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [preferred(100, host)]}),
        ),
        case(
            "anti-affinity-required",
            APPLICATION,
            TERM,
            json!({"requiredDuringSchedulingIgnoredDuringExecution": [term(host)]}),
        ),
        case(
            "anti-affinity-zone",
            APPLICATION,
            TERM,
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [preferred(100, zone), preferred(50, host)]}),
        ),
        case(
            "hpa",
            AUTOSCALER,
            "/spec/scaleTargetRef",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "myapp-web"}),
        ),
        case("pdb", BUDGET, "/spec/minAvailable", json!(1)),
        case(
            "pdb",
            BUDGET,
            "/spec/selector",
            json!({"matchLabels": {"app.kubernetes.io/name": "web"}}),
        ),
    ]
}

fn check(cases: &[Case]) {
    let components: BTreeSet<_> = cases.iter().map(|case| case.component).collect();
    for component in components {
        let Some(objects) = overlay(&[component]) else {
            return;
        };
        for case in cases.iter().filter(|case| case.component == component) {
            let (kind, name) = case.object;
            let found = only(&objects, kind, name).at(&case.pointer);
            assert_eq!(
                found, &case.expected,
                "{component}: {kind} {}",
                case.pointer
            );
        }
    }
}

#[test]
fn what_is_for_the_server_does_what_it_is_for() {
    check(&server_cases());
    check(&observing_cases());
}

#[test]
fn what_is_for_an_application_does_what_it_is_for() {
    check(&fetching_cases());
    check(&spreading_cases());
}

/// They have no meaning without the init container that they change, and are listed after it.
const SECOND: [&str; 3] = ["fetch-tls", "fetch-sidecar-tls", "pin-by-deploy"];

fn after_fetch_init(component: &str) -> Option<Object> {
    let objects = overlay(&["fetch-init", component])?;
    schema::validate(&objects);
    let (kind, name) = APPLICATION;
    Some(only(&objects, kind, name).clone())
}

#[test]
fn an_init_container_knows_its_server_by_https() {
    let Some(application) = after_fetch_init("fetch-tls") else {
        return;
    };
    let variable = json!({"name": "FETCH_INIT_CA_CERT", "value": "/certificates/ca.crt"});
    let container = application.at(&format!("{POD}/initContainers/0"));
    assert_eq!(container["env"][0], variable);
    assert_eq!(container["args"], json!(["$(CODE_URL)", "/code"]));
}

#[test]
fn a_follower_knows_its_server_by_https() {
    let Some(objects) = overlay(&["fetch-sidecar", "fetch-tls", "fetch-sidecar-tls"]) else {
        return;
    };
    schema::validate(&objects);
    let application = only(&objects, APPLICATION.0, APPLICATION.1);
    let containers = application.at(&format!("{POD}/containers"));
    assert_eq!(containers[0]["name"], json!("web"));
    let follower = &containers[1];
    let variable = json!({"name": "FETCH_INIT_CA_CERT", "value": "/certificates/ca.crt"});
    assert_eq!(follower["name"], json!("follow-code"));
    assert_eq!(follower["env"][0], variable);
    assert_eq!(follower["args"][2], json!("--follow"));
}

#[test]
fn a_pin_that_was_set_from_outside_is_not_applied_away() {
    let Some(application) = after_fetch_init("pin-by-deploy") else {
        return;
    };
    let annotations = application.find("/spec/template/metadata/annotations");
    assert_eq!(annotations.filter(|found| *found != &json!({})), None);
    let container = application.at(&format!("{POD}/initContainers/0"));
    assert_eq!(container["env"][1]["name"], json!("FETCH_INIT_REVISION"));
}

#[test]
fn each_component_is_valid_alone_and_leaves_the_settings_out() {
    let mut all = Vec::new();
    for component in components()
        .iter()
        .filter(|name| !SECOND.contains(&name.as_str()))
    {
        let Some(objects) = overlay(&[component]) else {
            return;
        };
        let settings = objects
            .iter()
            .filter(|object| object.name().ends_with("application"));
        assert_eq!(
            settings.map(Object::kind).collect::<Vec<_>>(),
            [""; 0],
            "{component}"
        );
        all.extend(objects);
    }
    // All at once: to read the schemas takes longer than to compare with them.
    schema::validate(&all);
}

#[test]
fn all_of_them_are_valid_together() {
    let contradicting = ["anti-affinity-required", "anti-affinity-zone", "fetch-init"];
    let components = components();
    let mut together: Vec<_> = components
        .iter()
        .map(String::as_str)
        .filter(|name| !contradicting.contains(name) && !SECOND.contains(name))
        .collect();
    together.extend(SECOND);
    let Some(objects) = overlay(&together) else {
        return;
    };
    schema::validate(&objects);
    let application = only(&objects, APPLICATION.0, APPLICATION.1);
    assert_eq!(
        application
            .at(&format!("{POD}/volumes"))
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn no_component_is_without_a_case() {
    let cases = [
        server_cases(),
        observing_cases(),
        fetching_cases(),
        spreading_cases(),
    ]
    .concat();
    let mut tested: BTreeSet<_> = cases.iter().map(|case| case.component.to_owned()).collect();
    tested.extend(SECOND.map(str::to_owned));
    assert_eq!(tested, components());
}

fn components() -> BTreeSet<String> {
    let directories = fs::read_dir(manifests().join("components")).unwrap();
    directories
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
