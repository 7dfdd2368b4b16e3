//! Where code and archives lie, by values.

use serde_json::{Value, json};

use super::server::{deployment, object};
use super::variant;

#[test]
fn the_volume_is_of_the_size_and_class_that_is_asked_for() {
    let kept = "/metadata/annotations/helm.sh~1resource-policy";
    let claim = "PersistentVolumeClaim";
    object("default", claim, kept, json!("keep"));
    object("volume", claim, kept, Value::Null);
    object("volume", claim, "/spec/storageClassName", json!("fast"));
    object(
        "volume",
        claim,
        "/spec/accessModes",
        json!(["ReadWriteOncePod"]),
    );
    object(
        "volume",
        claim,
        "/spec/resources/requests/storage",
        json!("20Gi"),
    );
}

#[test]
fn a_claim_that_is_there_is_mounted_where_it_is_wanted() {
    let elsewhere = "volume-elsewhere";
    deployment(
        elsewhere,
        "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName",
        json!("myapp-code-pvc"),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/containers/0/args",
        json!(["serve", "/code/workspace"]),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/containers/0/volumeMounts/0",
        json!({"name": "data", "mountPath": "/code", "readOnly": true}),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/containers/0/env/2",
        json!({"name": "CODE_SERVER_EXCLUDE", "value": "__pycache__/\n*.log"}),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/containers/0/env/3",
        json!({"name": "CODE_SERVER_SETTLE", "value": "1s"}),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/securityContext/runAsUser",
        json!(1000),
    );
    deployment(
        elsewhere,
        "/spec/template/spec/securityContext/runAsNonRoot",
        json!(true),
    );
    let Some(objects) = variant(elsewhere) else {
        return;
    };
    let claims = objects
        .iter()
        .filter(|object| object.kind() == "PersistentVolumeClaim");
    assert_eq!(claims.count(), 0);
}

#[test]
fn state_on_the_node_has_bounds_of_its_own() {
    let node = "state-emptydir";
    deployment(
        node,
        "/spec/template/spec/containers/0/env/2",
        json!({"name": "CODE_SERVER_STATE_SIZE", "value": "1Gi"}),
    );
    deployment(
        node,
        "/spec/template/spec/containers/0/resources",
        json!({
            "requests": {"cpu": "50m", "memory": "32Mi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "2Gi"},
        }),
    );
    deployment(
        node,
        "/spec/template/spec/volumes/1",
        json!({"name": "state", "emptyDir": {"sizeLimit": "2Gi"}}),
    );
}
