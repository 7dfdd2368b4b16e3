//! The examples: each number that they promise, asserted from what is rendered.

use serde_json::{Value, json};

use crate::kubernetes::{kustomize, manifests};
use crate::object::{Object, only};
use crate::schema;

const MODELS: [&str; 3] = ["llama", "qwen", "deepseek"];
const AFFINITY: &str = "/spec/template/spec/affinity";

fn rendered(example: &str) -> Option<Vec<Object>> {
    kustomize(&manifests().join("examples").join(example))
}

/// What pointers lead to in the object of this kind and name of an example.
fn check(example: &str, kind: &str, name: &str, expected: &[(&str, Value)]) {
    let Some(objects) = rendered(example) else {
        return;
    };
    let object = only(&objects, kind, name);
    for (pointer, expected) in expected {
        let found = object.at(pointer);
        assert_eq!(found, expected, "{example}: {kind} {name} {pointer}");
    }
}

fn utilization(name: &str, percent: u32) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": name, "target": target}})
}

fn policies(window: u32, percent: u32, pods: u32, period: u32, select: &str) -> Value {
    json!({
        "stabilizationWindowSeconds": window,
        "policies": [
            {"type": "Percent", "value": percent, "periodSeconds": period},
            {"type": "Pods", "value": pods, "periodSeconds": period},
        ],
        "selectPolicy": select,
    })
}

fn target(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name})
}

#[test]
fn each_model_scales_on_its_queue_and_on_processor_time() {
    let queue = json!({"type": "Pods", "pods": {
        "metric": {"name": "inference_queue_depth"},
        "target": {"type": "AverageValue", "averageValue": "10"},
    }});
    for model in MODELS {
        let expected = [
            ("/apiVersion", json!("autoscaling/v2")),
            ("/spec/scaleTargetRef", target(model)),
            ("/spec/minReplicas", json!(1)),
            ("/spec/maxReplicas", json!(5)),
            ("/spec/metrics", json!([utilization("cpu", 70), queue])),
            ("/spec/behavior/scaleUp", policies(60, 100, 2, 30, "Max")),
            ("/spec/behavior/scaleDown", policies(300, 50, 1, 60, "Min")),
        ];
        check("inference", "HorizontalPodAutoscaler", model, &expected);
    }
}

#[test]
fn one_pod_of_each_part_stays_while_a_node_is_drained() {
    let parts = ["gateway", "agent-router", "postgres", "redis", "qdrant"];
    for part in MODELS.into_iter().chain(parts) {
        let selector = json!({"matchLabels": {"app.kubernetes.io/name": part}});
        let expected = [
            ("/apiVersion", json!("policy/v1")),
            ("/spec/minAvailable", json!(1)),
            ("/spec/selector", selector),
        ];
        check("inference", "PodDisruptionBudget", part, &expected);
    }
}

fn term(key: &str, model: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app.kubernetes.io/name": model}}})
}

fn check_affinity(example: &str, expected: impl Fn(&str) -> Value) {
    for model in MODELS {
        let own = json!(model);
        let label = "/spec/template/metadata/labels/app.kubernetes.io~1name";
        let affinity = json!({"podAntiAffinity": expected(model)});
        check(
            example,
            "Deployment",
            model,
            &[(AFFINITY, affinity), (label, own)],
        );
    }
}

fn preferred(terms: &[(u32, Value)]) -> Value {
    let terms = terms
        .iter()
        .map(|(weight, term)| json!({"weight": weight, "podAffinityTerm": term}));
    json!({"preferredDuringSchedulingIgnoredDuringExecution": terms.collect::<Vec<_>>()})
}

#[test]
fn pods_of_a_model_go_to_different_nodes_where_they_can() {
    check_affinity("inference", |model| {
        preferred(&[(100, term("kubernetes.io/hostname", model))])
    });
}

#[test]
fn pods_of_a_model_go_to_different_zones_first() {
    check_affinity("inference/multi-zone", |model| {
        preferred(&[
            (100, term("topology.kubernetes.io/zone", model)),
            (50, term("kubernetes.io/hostname", model)),
        ])
    });
}

#[test]
fn pods_of_a_model_never_share_a_node_where_that_is_required() {
    check_affinity(
        "inference/required",
        |model| json!({"requiredDuringSchedulingIgnoredDuringExecution": [term("kubernetes.io/hostname", model)]}),
    );
}

#[test]
fn each_model_is_scraped_and_fetches_its_code() {
    let scrape = json!({
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
        "prometheus.io/path": "/metrics",
        "code-server/revision": "",
    });
    let environment = |model: &str| {
        json!([
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            {"name": "MODEL", "value": model},
        ])
    };
    for model in MODELS {
        let expected = [
            ("/spec/template/metadata/annotations", scrape.clone()),
            (
                "/spec/template/spec/initContainers/0/name",
                json!("fetch-code"),
            ),
            (
                "/spec/template/spec/initContainers/0/env/0/value",
                json!("http://code-server:8080"),
            ),
            ("/spec/template/spec/containers/0/env", environment(model)),
        ];
        check("inference", "Deployment", model, &expected);
    }
}

#[test]
fn the_queue_is_read_from_the_models_and_smoothed_over_two_minutes() {
    let Some(objects) = rendered("inference/monitoring") else {
        return;
    };
    let rules = only(&objects, "ConfigMap", "inference-rules");
    let rules = crate::object::objects(rules.text("/data/config.yaml"));
    let query = rules[0].text("/rules/0/metricsQuery");
    let smoothed = "avg_over_time(inference_queue_depth{<<.LabelMatchers>>}[2m])";
    assert!(query.contains(smoothed), "{query}");
    let monitor = only(&objects, "ServiceMonitor", "inference");
    let Some(models) = rendered("inference") else {
        return;
    };
    let labels = monitor.at("/spec/selector/matchLabels");
    for model in MODELS {
        let service = only(&models, "Service", model);
        let component = "app.kubernetes.io/component";
        assert_eq!(service.at("/metadata/labels")[component], labels[component]);
        let port = service.at("/spec/ports/0/name");
        assert_eq!(port, monitor.at("/spec/endpoints/0/port"));
        let namespace = service.at("/metadata/namespace");
        assert_eq!(
            namespace,
            monitor.at("/spec/namespaceSelector/matchNames/0")
        );
    }
}

#[test]
fn the_backend_follows_the_load_at_once_and_gives_back_slowly() {
    let expected = [
        ("/spec/scaleTargetRef", target("backend")),
        ("/spec/minReplicas", json!(2)),
        ("/spec/maxReplicas", json!(10)),
        (
            "/spec/metrics",
            json!([utilization("cpu", 70), utilization("memory", 80)]),
        ),
        ("/spec/behavior/scaleUp", policies(0, 100, 4, 30, "Max")),
        ("/spec/behavior/scaleDown", policies(300, 50, 2, 60, "Min")),
    ];
    check("web", "HorizontalPodAutoscaler", "backend", &expected);
}

#[test]
fn the_frontend_scales_on_processor_time_alone() {
    let expected = [
        ("/spec/scaleTargetRef", target("frontend")),
        ("/spec/minReplicas", json!(2)),
        ("/spec/maxReplicas", json!(8)),
        ("/spec/metrics", json!([utilization("cpu", 60)])),
    ];
    check("web", "HorizontalPodAutoscaler", "frontend", &expected);
}

#[test]
fn what_scales_by_itself_has_no_number_in_its_manifest() {
    for example in ["inference", "web"] {
        let Some(objects) = rendered(example) else {
            return;
        };
        let scaled: Vec<_> = objects
            .iter()
            .filter(|object| object.kind() == "HorizontalPodAutoscaler")
            .map(|object| object.text("/spec/scaleTargetRef/name"))
            .collect();
        assert!(!scaled.is_empty());
        for name in scaled {
            let deployment = only(&objects, "Deployment", name);
            assert_eq!(deployment.find("/spec/replicas"), None, "{example} {name}");
            let requests = deployment.at("/spec/template/spec/containers/0/resources/requests");
            assert!(requests["cpu"].is_string(), "{example} {name}");
        }
        schema::validate(&objects);
    }
}
