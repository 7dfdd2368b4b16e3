//! Values that make no sense are refused with a sentence about them, and not rendered into something else.

use super::{chart, isolated};
use crate::tools;

/// Fails unless these settings are refused with all of these words.
fn check(settings: &[&str], words: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let Some(mut helm) = isolated(home.path()) else {
        return;
    };
    helm.args(["template", "myapp"]).arg(chart());
    for setting in settings {
        helm.args(["--set-json", setting]);
    }
    let output = tools::run(&mut helm);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{settings:?} is taken");
    for word in words {
        assert!(said.contains(word), "{settings:?}: {said}");
    }
}

#[test]
fn a_name_that_is_misspelt_is_refused() {
    check(&["ingst.enabled=true"], &["ingst"]);
    check(&["ingest.enable=true"], &["/ingest", "enable"]);
    check(&["persistence.storageclass=\"fast\""], &["storageclass"]);
    check(&["metrics.serviceMonitor.label={}"], &["label"]);
    check(
        &["networkPolicy.clients=[{\"podselector\":{}}]"],
        &["podselector"],
    );
    check(&["application.deployment.container=[]"], &["container"]);
    check(&["autoscaling.targetCPU=50"], &["targetCPU"]);
    check(&["autoscaling.behavior={\"scaleup\":{}}"], &["scaleup"]);
    check(
        &["pod.affinity={\"podAntiaffinity\":{}}"],
        &["podAntiaffinity"],
    );
    check(&["extraEnv=[{\"name\":\"A\",\"val\":\"1\"}]"], &["val"]);
}

#[test]
fn a_value_of_another_kind_is_refused() {
    check(&["affinity=\"strict\""], &["/affinity"]);
    check(&["state.storage=\"disk\""], &["/state/storage"]);
    check(&["image.digest=\"1234\""], &["/image/digest"]);
    check(&["application.revision=\"v2\""], &["/application/revision"]);
    check(&["persistence.size=\"5 GB\""], &["/persistence/size"]);
    check(&["service.port=\"http\""], &["/service/port"]);
    check(
        &["podDisruptionBudget.minAvailable=\"half\""],
        &["/podDisruptionBudget/minAvailable"],
    );
    check(
        &["commonLabels={\"app.kubernetes.io/name\":\"web\"}"],
        &["invalid propertyName", "app.kubernetes.io/name"],
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    check(&["code.root=\"/data\""], &["code.root is /data", "beneath"]);
    check(
        &["code.mountPath=\"/code\""],
        &["beneath code.mountPath, which is /code"],
    );
    check(&["autoscaling.enabled=true"], &["set application.name"]);
    check(
        &["podDisruptionBudget.enabled=true"],
        &["set application.name"],
    );
    check(
        &["application.deployment.enabled=true"],
        &["set application.name"],
    );
    let name = "application.name=\"web\"";
    check(
        &[name, "application.deployment.enabled=true"],
        &["none mounts the volume `code`"],
    );
    check(
        &[name, "autoscaling.enabled=true", "autoscaling.cpu=0"],
        &["say by what"],
    );
    check(
        &[
            name,
            "autoscaling.enabled=true",
            "autoscaling.minReplicas=6",
        ],
        &["6 is more than maxReplicas 5"],
    );
    let secret = "tokens.existingSecret=\"mine\"";
    check(
        &[secret, "tokens.read=\"x\""],
        &["either existingSecret, or values"],
    );
    let variable = "extraEnv=[{\"name\":\"CODE_SERVER_STATE_SIZE\",\"value\":\"1Gi\"}]";
    check(
        &[variable, "state.storage=\"emptyDir\""],
        &["CODE_SERVER_STATE_SIZE is set by the chart"],
    );
    let variable = "extraEnv=[{\"name\":\"CODE_SERVER_LISTEN\",\"value\":\":80\"}]";
    check(&[variable], &["CODE_SERVER_LISTEN is set by the chart"]);
}
