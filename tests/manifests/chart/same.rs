//! The chart and the kustomizations are two ways to the same objects: compared field by field, so that they never differ.

use serde_json::{Map, Value};

use super::chart;
use crate::kubernetes::{kustomize, manifests, template};
use crate::object::{self, Object, only};
use crate::overlay::{REVISION, overlay};

const SERVER: (&str, &str) = ("Deployment", "myapp-code-server");
const APPLICATION: (&str, &str) = ("Deployment", "myapp-web");

/// Fails unless an object is the same, but for its metadata, with these components as with these settings of the chart.
fn check(components: &[&str], (kind, name): (&str, &str), settings: &[&str]) {
    let arguments: Vec<_> = settings
        .iter()
        .flat_map(|setting| ["--set-json", *setting])
        .collect();
    let (Some(theirs), Some(ours)) = (overlay(components), template(&chart(), &arguments)) else {
        return;
    };
    let expected = normal(only(&theirs, kind, name));
    let found = normal(only(&ours, kind, name));
    assert_eq!(found, expected, "{components:?} against {settings:?}");
}

/// The same of the server.
fn check_server(component: &str, settings: &[&str]) {
    check(&[component], SERVER, settings);
}

/// The same of an application that the chart makes, pinned like that of the overlay.
fn check_application(component: &str, object: (&str, &str), settings: &[&str]) {
    let revision = format!("application.revision={REVISION:?}");
    let mut all = vec![
        r#"application.name="myapp-web""#,
        "application.deployment.enabled=true",
        r#"application.deployment.containers=[{"name":"web","image":"web","volumeMounts":[{"name":"code","mountPath":"/app"}]}]"#,
        // Without this the Deployment says how many pods there are, and that of the overlay does not.
        "autoscaling.enabled=true",
        &revision,
    ];
    if !component.starts_with("anti-affinity") {
        all.push(r#"affinity="none""#);
    }
    all.extend(settings);
    check(&["fetch-init", "zero-downtime", component], object, &all);
}

/// Lists in one order, without what differs between the two on purpose: the version of images, the label of a
/// release, and a default that is spelt out.
fn normal(object: &Object) -> Value {
    let Value::Object(fields) = &object.0 else {
        panic!("an object is none: {object:?}");
    };
    let fields = fields.iter().filter(|(name, _)| *name != "metadata");
    sorted(&Value::Object(
        fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    ))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(sorted).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(fields) => Value::Object(fields.iter().filter_map(field).collect()),
        Value::String(text) => {
            let version = concat!(":", env!("CARGO_PKG_VERSION"));
            let name = text.strip_suffix(version).unwrap_or(text);
            // Kustomize has the name of the application with the prefix where it is a name, and without it in labels.
            Value::from(if name == "web" { "myapp-web" } else { name })
        }
        other => other.clone(),
    }
}

fn field((name, value): (&String, &Value)) -> Option<(String, Value)> {
    let empty = value.as_object().is_some_and(Map::is_empty);
    let default = name == "protocol" && value == "TCP";
    let kept = name != "app.kubernetes.io/instance" && !empty && !default;
    kept.then(|| (name.clone(), sorted(value)))
}

#[test]
fn without_a_setting_the_chart_is_the_base() {
    for kind in [
        "Deployment",
        "Service",
        "ServiceAccount",
        "PersistentVolumeClaim",
        "NetworkPolicy",
    ] {
        check(&[], (kind, "myapp-code-server"), &[]);
    }
}

#[test]
fn the_settings_of_the_server_are_its_components() {
    let secret = r#"tokens.existingSecret="code-server-token""#;
    check_server("ingest", &["ingest.enabled=true", secret]);
    let secret = r#"tls.existingSecret="code-server-tls""#;
    check_server("tls", &["tls.enabled=true", secret]);
    check_server("state-emptydir", &[r#"state.storage="emptyDir""#]);
    check_server(
        "prometheus-annotations",
        &["metrics.prometheusAnnotations=true"],
    );
    check(
        &["service-monitor"],
        ("ServiceMonitor", "myapp-code-server"),
        &["metrics.serviceMonitor.enabled=true"],
    );
}

#[test]
fn the_settings_of_the_application_are_its_components() {
    check_application("fetch-init", APPLICATION, &[]);
    let follow = "application.fetch.follow=true";
    check_application("fetch-sidecar", APPLICATION, &[follow]);
    let authority = r#"tls.caConfigMap="code-server-ca""#;
    check_application("fetch-tls", APPLICATION, &[authority]);
    check_application("anti-affinity", APPLICATION, &[]);
    let hard = r#"affinity="hard""#;
    check_application("anti-affinity-required", APPLICATION, &[hard]);
    let zone = r#"affinity="zone""#;
    check_application("anti-affinity-zone", APPLICATION, &[zone]);
    check_application("hpa", ("HorizontalPodAutoscaler", "myapp-web"), &[]);
    let budget = "podDisruptionBudget.enabled=true";
    check_application("pdb", ("PodDisruptionBudget", "myapp-web"), &[budget]);
}

#[test]
fn the_rules_for_the_adapter_are_those_of_the_component() {
    let settings = "customMetrics={\"enabled\":true,\"name\":\"myapp-custom-metrics\"}";
    let (Some(theirs), Some(ours)) = (
        overlay(&["custom-metrics"]),
        template(&chart(), &["--set-json", settings]),
    ) else {
        return;
    };
    let rules = |objects: &[Object]| {
        let map = only(objects, "ConfigMap", "myapp-custom-metrics");
        object::objects(map.text("/data/config.yaml"))
    };
    assert_eq!(rules(&ours), rules(&theirs));
    assert!(rules(&ours)[0].at("/rules/1").is_object());
}

#[test]
fn the_alerts_are_those_of_the_operator() {
    let settings = "metrics.prometheusRule.enabled=true";
    let directory = manifests().join("operating/prometheus");
    let (Some(theirs), Some(ours)) = (
        kustomize(&directory),
        template(&chart(), &["--set", settings]),
    ) else {
        return;
    };
    let theirs = only(&theirs, "PrometheusRule", "code-server");
    let ours = only(&ours, "PrometheusRule", "myapp-code-server");
    assert_eq!(ours.at("/spec"), theirs.at("/spec"));
}
