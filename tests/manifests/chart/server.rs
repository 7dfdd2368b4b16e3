//! The server by values: what each variant is for, where the components have nothing like it.

use serde_json::{Value, json};

use super::{Case, check, names, variant};
use crate::object::only;

const SERVER: &str = "myapp-code-server";
const CONTAINER: &str = "/spec/template/spec/containers/0";

pub(super) fn deployment(variant: &'static str, pointer: &'static str, expected: Value) {
    check(&Case {
        variant,
        kind: "Deployment",
        name: SERVER,
        pointer,
        expected,
    });
}

pub(super) fn object(
    variant: &'static str,
    kind: &'static str,
    pointer: &'static str,
    expected: Value,
) {
    check(&Case {
        variant,
        kind,
        name: SERVER,
        pointer,
        expected,
    });
}

#[test]
fn whatever_the_values_there_is_one_pod_at_a_time_without_a_privilege() {
    for name in names() {
        let Some(objects) = variant(&name) else {
            return;
        };
        let fullname = if name == "names" { "source" } else { SERVER };
        let deployment = only(&objects, "Deployment", fullname);
        assert_eq!(deployment.at("/spec/replicas"), &json!(1), "{name}");
        let strategy = deployment.at("/spec/strategy");
        assert_eq!(strategy, &json!({"type": "Recreate"}), "{name}");
        let root = deployment.at(&format!(
            "{CONTAINER}/securityContext/readOnlyRootFilesystem"
        ));
        assert_eq!(root, &json!(true), "{name}");
        for limit in ["cpu", "memory", "ephemeral-storage"] {
            let pointer = format!("{CONTAINER}/resources/limits/{limit}");
            assert!(deployment.at(&pointer).is_string(), "{name}");
        }
        let service = only(&objects, "Service", fullname);
        let early = service.at("/spec/publishNotReadyAddresses");
        assert_eq!(early, &json!(true), "{name}");
        for other in ["HorizontalPodAutoscaler", "PodDisruptionBudget"] {
            let about = |object: &&crate::object::Object| {
                object.kind() == other && object.name() == fullname
            };
            assert_eq!(objects.iter().find(about), None, "{name}");
        }
    }
}

#[test]
fn tokens_are_given_or_those_of_a_secret() {
    object(
        "ingest",
        "Deployment",
        "/spec/template/spec/volumes/1/secret",
        json!({"secretName": "myapp-code-server-token", "optional": true, "defaultMode": 0o440}),
    );
    check(&Case {
        variant: "ingest",
        kind: "Secret",
        name: "myapp-code-server-token",
        pointer: "/stringData",
        expected: json!({"write": "written-with-this"}),
    });
    deployment(
        "tokens",
        "/spec/template/spec/volumes/1/secret/secretName",
        json!("tokens"),
    );
    let variables = json!([
        {"name": "CODE_SERVER_STATE_DIR", "value": "/var/lib/code-server/state"},
        {"name": "CODE_SERVER_METRICS_LISTEN", "value": ":9090"},
        {"name": "CODE_SERVER_WRITE_TOKEN_FILE", "value": "/secrets/token/write"},
        {"name": "CODE_SERVER_READ_TOKEN_FILE", "value": "/secrets/token/read"},
    ]);
    deployment("tokens", "/spec/template/spec/containers/0/env", variables);
    let Some(objects) = variant("tokens") else {
        return;
    };
    assert!(objects.iter().all(|object| object.kind() != "Secret"));
}

#[test]
fn names_images_and_accounts_may_be_others() {
    let source = |kind, pointer, expected| {
        check(&Case {
            variant: "names",
            kind,
            name: "source",
            pointer,
            expected,
        });
    };
    source(
        "Deployment",
        "/spec/template/spec/containers/0/image",
        json!(
            "registry.example/code-server@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
    );
    source(
        "Deployment",
        "/spec/template/spec/imagePullSecrets",
        json!([{"name": "registry"}]),
    );
    source(
        "Deployment",
        "/spec/template/spec/serviceAccountName",
        json!("reader"),
    );
    source(
        "Deployment",
        "/spec/template/metadata/labels/team",
        json!("web"),
    );
    source("Service", "/metadata/labels/team", json!("web"));
    source("Service", "/spec/type", json!("LoadBalancer"));
    source(
        "Service",
        "/metadata/annotations/example.com~1internal",
        json!("true"),
    );
    deployment(
        "open",
        "/spec/template/spec/serviceAccountName",
        json!("default"),
    );
}

#[test]
fn the_pod_runs_where_and_as_the_values_say() {
    let pod = |pointer, expected| deployment("scheduling", pointer, expected);
    pod("/spec/template/spec/priorityClassName", json!("high"));
    pod(
        "/spec/template/spec/nodeSelector",
        json!({"disktype": "ssd"}),
    );
    pod(
        "/spec/template/spec/tolerations",
        json!([{"key": "storage", "operator": "Exists"}]),
    );
    pod(
        "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/values/0",
        json!("a"),
    );
    pod(
        "/spec/template/spec/topologySpreadConstraints/0/maxSkew",
        json!(1),
    );
    pod(
        "/spec/template/spec/terminationGracePeriodSeconds",
        json!(60),
    );
    pod("/spec/template/metadata/labels/tier", json!("code"));
    pod(
        "/spec/template/metadata/annotations",
        json!({"example.com/note": "yes"}),
    );
    pod(
        "/spec/template/spec/containers/0/livenessProbe/failureThreshold",
        json!(12),
    );
    pod(
        "/spec/template/spec/containers/0/livenessProbe/timeoutSeconds",
        json!(10),
    );
    pod(
        "/spec/template/spec/containers/0/resources/limits",
        json!({"cpu": "1", "memory": "256Mi", "ephemeral-storage": "128Mi"}),
    );
}

#[test]
fn metrics_are_for_whom_the_values_name() {
    object(
        "monitoring",
        "ServiceMonitor",
        "/metadata/labels/release",
        json!("prometheus"),
    );
    object(
        "monitoring",
        "PrometheusRule",
        "/metadata/labels/release",
        json!("prometheus"),
    );
    object(
        "monitoring",
        "ServiceMonitor",
        "/spec/endpoints/0/interval",
        json!("15s"),
    );
    object(
        "monitoring",
        "ServiceMonitor",
        "/spec/selector/matchLabels/app.kubernetes.io~1instance",
        json!("myapp"),
    );
    object(
        "monitoring",
        "NetworkPolicy",
        "/spec/ingress/1/from/0/namespaceSelector/matchLabels",
        json!({"kubernetes.io/metadata.name": "monitoring"}),
    );
    object(
        "closed",
        "NetworkPolicy",
        "/spec/ingress/0/from",
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}}]),
    );
    object("closed", "NetworkPolicy", "/spec/ingress/1", Value::Null);
    let Some(objects) = variant("open") else {
        return;
    };
    assert!(
        objects
            .iter()
            .all(|object| object.kind() != "NetworkPolicy")
    );
}
