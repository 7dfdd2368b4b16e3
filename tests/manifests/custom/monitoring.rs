//! The Prometheus Operator's kinds (monitoring.coreos.com/v1): what to scrape.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rules::optional_duration;
use super::{Meaning, NumberOrText, Result, SecretKey, Selector, ensure, parts};

parts! {
    struct ServiceMonitor {
        endpoints: Vec<Endpoint>,
        selector: Selector,
        namespace_selector: Option<NamespaceSelector>,
        job_label: Option<String>,
        #[serde(default)]
        target_labels: Vec<String>,
        #[serde(default)]
        pod_target_labels: Vec<String>,
        scrape_class: Option<String>,
        sample_limit: Option<u64>,
        target_limit: Option<u64>,
        label_limit: Option<u64>,
        label_name_length_limit: Option<u64>,
        label_value_length_limit: Option<u64>,
        keep_dropped_targets: Option<u64>,
        body_size_limit: Option<String>,
        attach_metadata: Option<AttachMetadata>,
    }
    struct PodMonitor {
        pod_metrics_endpoints: Vec<Endpoint>,
        selector: Selector,
        namespace_selector: Option<NamespaceSelector>,
        job_label: Option<String>,
        #[serde(default)]
        pod_target_labels: Vec<String>,
        scrape_class: Option<String>,
        sample_limit: Option<u64>,
        target_limit: Option<u64>,
        label_limit: Option<u64>,
        label_name_length_limit: Option<u64>,
        label_value_length_limit: Option<u64>,
        keep_dropped_targets: Option<u64>,
        body_size_limit: Option<String>,
        attach_metadata: Option<AttachMetadata>,
    }
    struct NamespaceSelector {
        any: Option<bool>,
        #[serde(default)]
        match_names: Vec<String>,
    }
    struct AttachMetadata {
        node: Option<bool>,
    }
    struct Endpoint {
        port: Option<String>,
        port_number: Option<u16>,
        target_port: Option<NumberOrText>,
        path: Option<String>,
        scheme: Option<Scheme>,
        #[serde(default)]
        params: BTreeMap<String, Vec<String>>,
        interval: Option<String>,
        scrape_timeout: Option<String>,
        tls_config: Option<TlsConfig>,
        authorization: Option<Authorization>,
        basic_auth: Option<BasicAuth>,
        bearer_token_secret: Option<SecretKey>,
        honor_labels: Option<bool>,
        honor_timestamps: Option<bool>,
        track_timestamps_staleness: Option<bool>,
        #[serde(default)]
        relabelings: Vec<Relabeling>,
        #[serde(default)]
        metric_relabelings: Vec<Relabeling>,
        proxy_url: Option<String>,
        follow_redirects: Option<bool>,
        enable_http2: Option<bool>,
        filter_running: Option<bool>,
    }
    struct TlsConfig {
        ca: Option<SecretOrConfigMap>,
        ca_file: Option<String>,
        cert: Option<SecretOrConfigMap>,
        cert_file: Option<String>,
        key_secret: Option<SecretKey>,
        key_file: Option<String>,
        server_name: Option<String>,
        insecure_skip_verify: Option<bool>,
    }
    struct SecretOrConfigMap {
        secret: Option<SecretKey>,
        config_map: Option<SecretKey>,
    }
    struct Authorization {
        #[serde(rename = "type")]
        kind: Option<String>,
        credentials: Option<SecretKey>,
    }
    struct BasicAuth {
        username: Option<SecretKey>,
        password: Option<SecretKey>,
    }
    struct Relabeling {
        #[serde(default)]
        source_labels: Vec<String>,
        separator: Option<String>,
        target_label: Option<String>,
        regex: Option<String>,
        modulus: Option<u64>,
        replacement: Option<String>,
        action: Option<String>,
    }
}

#[derive(Debug, Deserialize)]
pub(super) enum Scheme {
    #[serde(alias = "HTTP")]
    #[serde(rename = "http")]
    Http,
    #[serde(alias = "HTTPS")]
    #[serde(rename = "https")]
    Https,
}

const ACTIONS: [&str; 11] = [
    "replace",
    "keep",
    "drop",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
    "keepequal",
    "dropequal",
];

impl Meaning for ServiceMonitor {
    fn check(&self) -> Result {
        self.selector.check()?;
        ensure(!self.endpoints.is_empty(), "there is no endpoint")?;
        let numbered = self
            .endpoints
            .iter()
            .any(|endpoint| endpoint.port_number.is_some());
        ensure(!numbered, "only a PodMonitor knows portNumber")?;
        self.endpoints.iter().try_for_each(Endpoint::check)
    }
}

impl Meaning for PodMonitor {
    fn check(&self) -> Result {
        self.selector.check()?;
        ensure(
            !self.pod_metrics_endpoints.is_empty(),
            "there is no endpoint",
        )?;
        self.pod_metrics_endpoints
            .iter()
            .try_for_each(Endpoint::check)
    }
}

impl Endpoint {
    fn check(&self) -> Result {
        let ports = [
            self.port.is_some(),
            self.port_number.is_some(),
            self.target_port.is_some(),
        ];
        let ports = ports.into_iter().filter(|given| *given).count();
        ensure(ports == 1, format!("an endpoint with {ports} ports"))?;
        let interval = optional_duration(self.interval.as_ref())?;
        let timeout = optional_duration(self.scrape_timeout.as_ref())?;
        if let (Some(interval), Some(timeout)) = (interval, timeout) {
            ensure(
                timeout <= interval,
                "a scrape takes longer than its interval",
            )?;
        }
        let mut relabelings = self.relabelings.iter().chain(&self.metric_relabelings);
        relabelings.try_for_each(Relabeling::check)
    }
}

impl Relabeling {
    fn check(&self) -> Result {
        let action = self.action.as_deref().unwrap_or("replace").to_lowercase();
        ensure(
            ACTIONS.contains(&action.as_str()),
            format!("there is no action {action}"),
        )?;
        let targeted = [
            "replace",
            "hashmod",
            "lowercase",
            "uppercase",
            "keepequal",
            "dropequal",
        ];
        ensure(
            self.target_label.is_some() || !targeted.contains(&action.as_str()),
            format!("{action} without a targetLabel"),
        )
    }
}
