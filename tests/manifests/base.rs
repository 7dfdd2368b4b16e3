//! The server as it is applied: one pod with the volume, within its budget and without a privilege.

use std::sync::LazyLock;

use serde_json::json;

use crate::kubernetes::{kustomize, manifests};
use crate::object::{Object, only};
use crate::schema;

static BASE: LazyLock<Option<Vec<Object>>> = LazyLock::new(|| kustomize(&manifests().join("base")));

fn check(kind: &str, pointer: &str, expected: &serde_json::Value) {
    let Some(objects) = &*BASE else { return };
    let object = only(objects, kind, "code-server");
    assert_eq!(object.at(pointer), expected, "{kind} {pointer}");
}

fn check_pod(pointer: &str, expected: &serde_json::Value) {
    check(
        "Deployment",
        &format!("/spec/template/spec{pointer}"),
        expected,
    );
}

fn check_container(pointer: &str, expected: &serde_json::Value) {
    check_pod(&format!("/containers/0{pointer}"), expected);
}

#[test]
fn every_object_is_one_that_the_api_server_takes() {
    let Some(objects) = &*BASE else { return };
    schema::validate(objects);
    let mut kinds: Vec<_> = objects.iter().map(Object::kind).collect();
    kinds.sort_unstable();
    let expected = [
        "Deployment",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn no_second_pod_wants_the_volume_before_the_first_has_let_go() {
    check("Deployment", "/spec/replicas", &json!(1));
    check("Deployment", "/spec/strategy", &json!({"type": "Recreate"}));
    check(
        "PersistentVolumeClaim",
        "/spec/accessModes",
        &json!(["ReadWriteOnce"]),
    );
}

#[test]
fn the_pod_stays_within_its_budget() {
    let budget = json!({
        "requests": {"cpu": "50m", "memory": "32Mi", "ephemeral-storage": "16Mi"},
        "limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "128Mi"},
    });
    check_container("/resources", &budget);
}

#[test]
fn the_pod_has_no_privilege() {
    let container = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    check_container("/securityContext", &container);
    check_pod("/securityContext/runAsNonRoot", &json!(true));
    check_pod("/securityContext/runAsUser", &json!(65532));
    check_pod(
        "/securityContext/seccompProfile",
        &json!({"type": "RuntimeDefault"}),
    );
    check_pod("/automountServiceAccountToken", &json!(false));
    check(
        "ServiceAccount",
        "/automountServiceAccountToken",
        &json!(false),
    );
    check_pod("/enableServiceLinks", &json!(false));
}

#[test]
fn a_slow_server_is_not_taken_for_a_dead_one() {
    let liveness = json!({
        "httpGet": {"path": "/livez", "port": "metrics"},
        "periodSeconds": 20,
        "timeoutSeconds": 10,
        "failureThreshold": 6,
    });
    check_container("/livenessProbe", &liveness);
    check_container(
        "/readinessProbe/httpGet",
        &json!({"path": "/readyz", "port": "metrics"}),
    );
    // Running downloads have 20 s to end.
    check_pod("/terminationGracePeriodSeconds", &json!(30));
}

#[test]
fn a_lost_node_is_given_up_within_half_a_minute() {
    let toleration = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30});
    check_pod(
        "/tolerations",
        &json!([toleration("not-ready"), toleration("unreachable")]),
    );
}

#[test]
fn early_requests_are_held_and_not_refused() {
    check("Service", "/spec/publishNotReadyAddresses", &json!(true));
}

#[test]
fn the_volume_is_mounted_above_the_tree_and_holds_the_state_as_well() {
    check_container("/args", &json!(["serve", "/data/workspace"]));
    let mounts = json!([
        {"name": "data", "mountPath": "/data", "readOnly": true},
        {"name": "data", "mountPath": "/var/lib/code-server", "subPath": ".code-server"},
    ]);
    check_container("/volumeMounts", &mounts);
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "code-server"}}]);
    check_pod("/volumes", &volumes);
}

#[test]
fn only_applications_and_the_scraper_get_in_and_only_names_are_asked_for() {
    let among = |key: &str, value: &str| json!({"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]});
    let ingress = json!([
        {
            "from": [{"podSelector": among("code-server/client", "true")}],
            "ports": [{"port": "http", "protocol": "TCP"}],
        },
        {
            "from": [{"namespaceSelector": {}, "podSelector": among("app.kubernetes.io/name", "prometheus")}],
            "ports": [{"port": "metrics", "protocol": "TCP"}],
        },
    ]);
    check("NetworkPolicy", "/spec/ingress", &ingress);
    let egress =
        json!([{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]);
    check("NetworkPolicy", "/spec/egress", &egress);
    check(
        "NetworkPolicy",
        "/spec/policyTypes",
        &json!(["Ingress", "Egress"]),
    );
}
