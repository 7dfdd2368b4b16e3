//! KEDA's kinds (keda.sh/v1alpha1): what to scale, by what, and how to be let in there.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scaling::Behavior;
use super::{Meaning, Result, ensure, parts};

parts! {
    struct ScaledObject {
        scale_target_ref: Target,
        polling_interval: Option<u32>,
        initial_cooldown_period: Option<u32>,
        cooldown_period: Option<u32>,
        idle_replica_count: Option<u32>,
        min_replica_count: Option<u32>,
        max_replica_count: Option<u32>,
        advanced: Option<Advanced>,
        triggers: Vec<Trigger>,
        fallback: Option<Fallback>,
    }
    struct Target {
        name: String,
        api_version: Option<String>,
        kind: Option<String>,
        env_source_container_name: Option<String>,
    }
    struct Advanced {
        horizontal_pod_autoscaler_config: Option<AutoscalerConfig>,
        restore_to_original_replica_count: Option<bool>,
        scaling_modifiers: Option<Modifiers>,
    }
    struct AutoscalerConfig {
        name: Option<String>,
        behavior: Option<Behavior>,
    }
    struct Modifiers {
        formula: String,
        target: String,
        activation_target: Option<String>,
        metric_type: Option<MetricType>,
    }
    struct Fallback {
        failure_threshold: u32,
        replicas: u32,
        behavior: Option<FallbackBehavior>,
    }
    struct Trigger {
        #[serde(rename = "type")]
        kind: String,
        name: Option<String>,
        use_cached_metrics: Option<bool>,
        metadata: BTreeMap<String, String>,
        authentication_ref: Option<AuthenticationRef>,
        metric_type: Option<MetricType>,
    }
    struct AuthenticationRef {
        name: String,
        kind: Option<AuthenticationKind>,
    }
    struct TriggerAuthentication {
        pod_identity: Option<PodIdentity>,
        #[serde(default)]
        secret_target_ref: Vec<Reference>,
        #[serde(default)]
        config_map_target_ref: Vec<Reference>,
        #[serde(default)]
        env: Vec<Variable>,
    }
    struct PodIdentity {
        provider: Provider,
        identity_id: Option<String>,
        identity_tenant_id: Option<String>,
        identity_authority_host: Option<String>,
        role_arn: Option<String>,
        identity_owner: Option<String>,
    }
    struct Reference {
        parameter: String,
        name: String,
        key: String,
    }
    struct Variable {
        parameter: String,
        name: String,
        container_name: Option<String>,
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(super) enum MetricType {
    AverageValue,
    Value,
    Utilization,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum FallbackBehavior {
    Static,
    CurrentReplicas,
    CurrentReplicasIfHigher,
    CurrentReplicasIfLower,
}

#[derive(Debug, Deserialize)]
pub(super) enum AuthenticationKind {
    TriggerAuthentication,
    ClusterTriggerAuthentication,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Provider {
    None,
    AzureWorkload,
    Gcp,
    Aws,
    AwsEks,
}

/// What a trigger's metadata must and may say; `numbers` are those of both that must be numbers.
struct Scaler {
    kind: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    numbers: &'static [&'static str],
}

const SCALERS: [Scaler; 6] = [
    Scaler {
        kind: "metrics-api",
        required: &["url", "valueLocation", "targetValue"],
        optional: &[
            "activationTargetValue",
            "aggregateFromKubeServiceEndpoints",
            "aggregationType",
            "authMode",
            "format",
            "keyParamName",
            "method",
            "timeout",
            "unsafeSsl",
        ],
        numbers: &["targetValue", "activationTargetValue"],
    },
    Scaler {
        kind: "prometheus",
        required: &["serverAddress", "query", "threshold"],
        optional: &[
            "activationThreshold",
            "authModes",
            "customHeaders",
            "ignoreNullValues",
            "namespace",
            "queryParameters",
            "timeout",
            "unsafeSsl",
        ],
        numbers: &["threshold", "activationThreshold"],
    },
    Scaler {
        kind: "cron",
        required: &["timezone", "start", "end", "desiredReplicas"],
        optional: &[],
        numbers: &["desiredReplicas"],
    },
    Scaler {
        kind: "kubernetes-workload",
        required: &["podSelector", "value"],
        optional: &["activationValue"],
        numbers: &["value", "activationValue"],
    },
    resource("cpu"),
    resource("memory"),
];

const fn resource(kind: &'static str) -> Scaler {
    Scaler {
        kind,
        required: &["value"],
        optional: &["containerName"],
        numbers: &["value"],
    }
}

impl Meaning for ScaledObject {
    fn check(&self) -> Result {
        let least = self.min_replica_count.unwrap_or(0);
        let most = self.max_replica_count.unwrap_or(100);
        ensure(most > 0, "no autoscaler can have 0 replicas at most")?;
        ensure(
            least <= most,
            format!("at least {least} replicas are more than at most {most}"),
        )?;
        if let Some(idle) = self.idle_replica_count {
            // The autoscaler takes nothing else, says KEDA.
            ensure(idle == 0, format!("idle at {idle} replicas, not at 0"))?;
            ensure(least > 0, "idle replicas are not below the least ones")?;
        }
        ensure(!self.triggers.is_empty(), "there is no trigger")?;
        let only_resources = self.triggers.iter().all(Trigger::is_resource);
        ensure(
            least > 0 || !only_resources,
            "cpu and memory alone cannot tell when to leave 0 replicas",
        )?;
        self.triggers.iter().try_for_each(Trigger::check)?;
        let config = self.advanced.iter().find_map(|advanced| {
            advanced
                .horizontal_pod_autoscaler_config
                .as_ref()?
                .behavior
                .as_ref()
        });
        config.map_or(Ok(()), Meaning::check)
    }
}

impl Trigger {
    /// Whether Kubernetes measures it itself, and then cannot tell when to leave zero.
    fn is_resource(&self) -> bool {
        ["cpu", "memory"].contains(&self.kind.as_str())
    }

    fn check(&self) -> Result {
        let scaler = SCALERS
            .iter()
            .find(|scaler| scaler.kind == self.kind)
            .ok_or_else(|| format!("nothing is known here of a trigger of type {}", self.kind))?;
        self.check_metadata(scaler)?;
        let utilization = self.metric_type == Some(MetricType::Utilization);
        let value = self.metric_type == Some(MetricType::Value);
        ensure(
            if self.is_resource() {
                self.metric_type.is_some() && !value
            } else {
                !utilization
            },
            format!(
                "the metricType does not fit a trigger of type {}",
                self.kind
            ),
        )?;
        let format = self.metadata.get("format").map_or("json", String::as_str);
        ensure(
            ["json", "xml", "yaml", "prometheus"].contains(&format),
            format!("there is no format {format}"),
        )
    }

    fn check_metadata(&self, scaler: &Scaler) -> Result {
        for required in scaler.required {
            ensure(
                self.metadata.contains_key(*required),
                format!("a trigger of type {} without {required}", self.kind),
            )?;
        }
        for (key, value) in &self.metadata {
            let key = key.as_str();
            ensure(
                scaler.required.contains(&key) || scaler.optional.contains(&key),
                format!("a trigger of type {} knows no {key}", self.kind),
            )?;
            ensure(
                !scaler.numbers.contains(&key) || value.parse::<f64>().is_ok(),
                format!("{key} is {value:?}, no number"),
            )?;
        }
        Ok(())
    }
}

impl Meaning for TriggerAuthentication {
    fn check(&self) -> Result {
        let empty = self.pod_identity.is_none()
            && self.secret_target_ref.is_empty()
            && self.config_map_target_ref.is_empty()
            && self.env.is_empty();
        ensure(!empty, "it refers to nothing")
    }
}
