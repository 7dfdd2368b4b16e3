//! How many agents there are: what KEDA is told.

use serde_json::json;

use super::{check, example, made, pool, refused, windows};
use crate::object::only;

#[test]
fn pending_tasks_bring_one_agent_more_every_half_minute_and_none_brings_them_back() {
    let Some(objects) = example() else { return };
    let scaled = only(&objects, "ScaledObject", "iac-agent-production");
    let expected = [
        ("/spec/scaleTargetRef/name", json!("iac-agent-production")),
        ("/spec/minReplicaCount", json!(0)),
        ("/spec/maxReplicaCount", json!(10)),
        ("/spec/pollingInterval", json!(30)),
        ("/spec/cooldownPeriod", json!(30)),
        ("/spec/triggers/0/type", json!("metrics-api")),
        ("/spec/triggers/0/metricType", json!("AverageValue")),
        ("/spec/triggers/0/useCachedMetrics", json!(true)),
        (
            "/spec/triggers/0/metadata/url",
            json!("http://iac-platform:8080/api/v1/agent-pools/production/pending-tasks"),
        ),
    ];
    for (pointer, value) in expected {
        assert_eq!(scaled.at(pointer), &value, "{pointer}");
    }
    let behavior = scaled.at("/spec/advanced/horizontalPodAutoscalerConfig/behavior");
    let up = json!([{"type": "Pods", "value": 1, "periodSeconds": 30}]);
    let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    assert_eq!(
        behavior["scaleUp"],
        json!({"stabilizationWindowSeconds": 0, "policies": up})
    );
    assert_eq!(
        behavior["scaleDown"],
        json!({"stabilizationWindowSeconds": 0, "policies": down})
    );
    let least = only(&objects, "ScaledObject", "iac-agent-staging");
    assert_eq!(least.at("/spec/minReplicaCount"), &json!(1));
}

#[test]
fn one_pending_task_asks_for_as_many_agents_as_there_may_be() {
    let most = 900;
    let Some(objects) = made(&pool(&json!({"max_replicas": most}))) else {
        return;
    };
    let scaled = only(&objects, "ScaledObject", "iac-agent-a");
    let target: f64 = scaled
        .text("/spec/triggers/0/metadata/targetValue")
        .parse()
        .unwrap();
    // An autoscaler lets a tenth pass, and counts in thousandths.
    assert!(1.0 / target >= 1.1 * f64::from(most) && target >= 0.001);
    refused(&pool(&json!({"max_replicas": most + 1})), "max_replicas");
}

#[test]
fn a_pool_of_at_most_none_is_switched_off() {
    let off = json!({"max_replicas": 0, "freeze_schedules": [windows::NIGHT.parsed()]});
    check(&off, "/spec/replicas", &json!(0));
    if let Some(objects) = made(&pool(&off)) {
        assert_eq!(objects.len(), 1);
    }
}

#[test]
fn whoever_asks_for_the_tasks_shows_a_token_if_there_is_one() {
    let mut configuration = pool(&json!({}));
    configuration["pending_tasks"] = json!({"token_secret": {"name": "s", "key": "k"}});
    let Some(objects) = made(&configuration) else {
        return;
    };
    let name = "iac-agent-pending-tasks";
    let scaled = only(&objects, "ScaledObject", "iac-agent-a");
    assert_eq!(scaled.text("/spec/triggers/0/authenticationRef/name"), name);
    assert_eq!(scaled.text("/spec/triggers/0/metadata/authMode"), "bearer");
    let authentication = only(&objects, "TriggerAuthentication", name);
    let reference = json!([{"parameter": "token", "name": "s", "key": "k"}]);
    assert_eq!(authentication.at("/spec/secretTargetRef"), &reference);
}
