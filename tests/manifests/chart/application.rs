//! The application by values, made by the chart or named by it.

use serde_json::{Value, json};

use super::{Case, check, variant};
use crate::object::{objects, only};
use crate::overlay::REVISION;

fn llama(kind: &'static str, pointer: &'static str, expected: Value) {
    check(&Case {
        variant: "application",
        kind,
        name: "llama",
        pointer,
        expected,
    });
}

fn backend(kind: &'static str, pointer: &'static str, expected: Value) {
    check(&Case {
        variant: "application-elsewhere",
        kind,
        name: "backend",
        pointer,
        expected,
    });
}

fn web(variant: &'static str, pointer: &'static str, expected: Value) {
    check(&Case {
        variant,
        kind: "Deployment",
        name: "web",
        pointer,
        expected,
    });
}

#[test]
fn an_autoscaler_has_the_numbers_of_the_values() {
    let autoscaler = |pointer, expected| llama("HorizontalPodAutoscaler", pointer, expected);
    autoscaler(
        "/spec/scaleTargetRef",
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"}),
    );
    autoscaler("/spec/minReplicas", json!(1));
    autoscaler("/spec/maxReplicas", json!(5));
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}});
    let queue = json!({"type": "Pods", "pods": {"metric": {"name": "inference_queue_depth"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    autoscaler("/spec/metrics", json!([cpu, queue]));
    let up = json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": [
        {"type": "Percent", "value": 100, "periodSeconds": 30},
        {"type": "Pods", "value": 2, "periodSeconds": 30},
    ]});
    let down = json!({"stabilizationWindowSeconds": 300, "selectPolicy": "Min", "policies": [
        {"type": "Percent", "value": 50, "periodSeconds": 60},
        {"type": "Pods", "value": 1, "periodSeconds": 60},
    ]});
    autoscaler("/spec/behavior", json!({"scaleUp": up, "scaleDown": down}));
    // Who says how many there are is the autoscaler alone.
    llama("Deployment", "/spec/replicas", Value::Null);
    web("tokens", "/spec/replicas", json!(1));
}

#[test]
fn a_budget_may_be_a_share() {
    llama("PodDisruptionBudget", "/spec/minAvailable", json!("50%"));
    llama(
        "PodDisruptionBudget",
        "/spec/selector/matchLabels",
        json!({"app.kubernetes.io/name": "llama"}),
    );
}

#[test]
fn what_the_user_adds_to_the_pod_stands_beside_what_fetches() {
    let pod = |pointer, expected| llama("Deployment", pointer, expected);
    let annotations = json!({"code-server/revision": REVISION, "prometheus.io/scrape": "true"});
    pod("/spec/template/metadata/annotations", annotations);
    pod("/spec/template/metadata/labels/model", json!("llama"));
    pod("/metadata/labels/code-server~1client", json!("true"));
    pod("/spec/template/spec/shareProcessNamespace", json!(true));
    pod(
        "/spec/template/spec/initContainers/0/name",
        json!("fetch-code"),
    );
    pod("/spec/template/spec/initContainers/1/name", json!("models"));
    pod("/spec/template/spec/containers/0/name", json!("llama"));
    pod("/spec/template/spec/volumes/0/name", json!("code"));
    pod("/spec/template/spec/volumes/1/name", json!("models"));
    pod(
        "/spec/template/spec/initContainers/0/image",
        json!("registry.example/fetch-init:0.2.0"),
    );
    pod(
        "/spec/template/spec/initContainers/0/args",
        json!(["$(CODE_URL)", "/code", "--deadline=10m"]),
    );
    pod(
        "/spec/template/spec/containers/1/args",
        json!([
            "$(CODE_URL)",
            "/code",
            "--follow",
            "--deadline=10m",
            "--signal=HUP=python"
        ]),
    );
}

#[test]
fn an_application_that_others_apply_is_scaled_and_protected() {
    let by = |name: &str, percent: u32| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}}});
    let autoscaler = "HorizontalPodAutoscaler";
    backend(
        autoscaler,
        "/spec/metrics",
        json!([by("cpu", 70), by("memory", 80)]),
    );
    backend(autoscaler, "/spec/minReplicas", json!(2));
    backend(autoscaler, "/spec/maxReplicas", json!(10));
    backend("PodDisruptionBudget", "/spec/minAvailable", json!(1));
    let Some(objects) = variant("application-elsewhere") else {
        return;
    };
    let made = objects
        .iter()
        .filter(|object| object.kind() == "Deployment");
    assert_eq!(made.count(), 1);
}

#[test]
fn an_application_is_given_the_token_and_the_authority_that_the_server_wants() {
    let token = json!({"name": "code-server-token", "secret": {"secretName": "tokens", "items": [{"key": "read", "path": "read"}]}});
    web("tokens", "/spec/template/spec/volumes/1", token);
    let variable = json!({"name": "FETCH_INIT_TOKEN_FILE", "value": "/secrets/token/read"});
    web(
        "tokens",
        "/spec/template/spec/initContainers/0/env/1",
        variable,
    );

    let authority = json!({"name": "code-server-ca", "secret": {"secretName": "certificate", "items": [{"key": "ca.crt", "path": "ca.crt"}]}});
    web("tls", "/spec/template/spec/volumes/1", authority);
    let url = json!({"name": "CODE_URL", "value": "https://myapp-code-server:8080"});
    web("tls", "/spec/template/spec/initContainers/0/env/0", url);
}

#[test]
fn the_tests_of_the_chart_ask_as_an_application_does() {
    let pod = |variant, name, pointer, expected| {
        check(&Case {
            variant,
            kind: "Pod",
            name,
            pointer,
            expected,
        });
    };
    let (reach, fetch) = (
        "myapp-code-server-test-reach",
        "myapp-code-server-test-fetch",
    );
    for name in [reach, fetch] {
        pod(
            "default",
            name,
            "/metadata/annotations/helm.sh~1hook",
            json!("test"),
        );
        pod(
            "default",
            name,
            "/metadata/labels/code-server~1client",
            json!("true"),
        );
        pod(
            "default",
            name,
            "/metadata/labels/app.kubernetes.io~1name",
            json!("code-server-test"),
        );
    }
    // What is asked first is there before any code is.
    let command = json!([
        "/code-server",
        "healthcheck",
        "$(CODE_URL)/revisions",
        "--timeout=5s"
    ]);
    pod("default", reach, "/spec/containers/0/command", command);
    pod(
        "default",
        reach,
        "/metadata/annotations/helm.sh~1hook-weight",
        json!("1"),
    );
    let command = json!([
        "/fetch-init",
        "$(CODE_URL)",
        "--print-revision",
        "--deadline=30s"
    ]);
    pod("default", fetch, "/spec/containers/0/command", command);
    pod(
        "tls-private",
        reach,
        "/spec/containers/0/env/0/value",
        json!("https://myapp-code-server:443"),
    );
    pod(
        "tls-private",
        reach,
        "/spec/volumes/1/configMap/name",
        json!("authority"),
    );
    pod(
        "tokens",
        fetch,
        "/spec/containers/0/env/1/name",
        json!("FETCH_INIT_TOKEN_FILE"),
    );
}

#[test]
fn rules_for_the_adapter_go_to_its_namespace() {
    let Some(rendered) = variant("monitoring") else {
        return;
    };
    let map = only(&rendered, "ConfigMap", "myapp-code-server-custom-metrics");
    assert_eq!(map.text("/metadata/namespace"), "monitoring");
    let rules = objects(map.text("/data/config.yaml"));
    assert_eq!(rules[0].text("/rules/1/name/as"), "${1}_per_second");

    let Some(rendered) = variant("application") else {
        return;
    };
    let map = only(&rendered, "ConfigMap", "rules");
    let rules = objects(map.text("/data/config.yaml"));
    let expected = json!([{"seriesQuery": "inference_queue_depth", "resources": {"template": "<<.Resource>>"}, "metricsQuery": "avg(avg_over_time(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)"}]);
    assert_eq!(rules[0].at("/rules"), &expected);
}
