//! The Prometheus Operator's kinds (monitoring.coreos.com/v1): what to scrape, and which rules to keep.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

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
    struct PrometheusRule {
        groups: Vec<Group>,
    }
    struct Group {
        name: String,
        interval: Option<String>,
        #[serde(rename = "query_offset")]
        query_offset: Option<String>,
        limit: Option<u64>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        rules: Vec<Rule>,
    }
    struct Rule {
        record: Option<String>,
        alert: Option<String>,
        expr: NumberOrText,
        #[serde(rename = "for")]
        lasting: Option<String>,
        #[serde(rename = "keep_firing_for")]
        keep_firing_for: Option<String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
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

impl Meaning for PrometheusRule {
    fn check(&self) -> Result {
        let mut names = BTreeSet::new();
        for group in &self.groups {
            ensure(
                names.insert(&group.name),
                format!("two groups are named {}", group.name),
            )?;
            optional_duration(group.interval.as_ref())?;
            optional_duration(group.query_offset.as_ref())?;
            ensure(
                !group.rules.is_empty(),
                format!("group {} has no rule", group.name),
            )?;
            group.rules.iter().try_for_each(Rule::check)?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result {
        let name = self.alert.as_ref().or(self.record.as_ref());
        let name = name.ok_or("a rule that neither alerts nor records")?;
        ensure(
            self.alert.is_none() || self.record.is_none(),
            format!("{name} alerts and records"),
        )?;
        ensure(
            !self.expr.text().trim().is_empty(),
            format!("{name} has an empty expr"),
        )?;
        optional_duration(self.lasting.as_ref())?;
        optional_duration(self.keep_firing_for.as_ref())?;
        let alerting = self.lasting.is_some()
            || self.keep_firing_for.is_some()
            || !self.annotations.is_empty();
        ensure(
            self.alert.is_some() || !alerting,
            format!("{name} records, and says what only an alert may say"),
        )
    }
}

fn optional_duration(text: Option<&String>) -> std::result::Result<Option<u64>, String> {
    let read = |text: &String| milliseconds(text).ok_or_else(|| format!("{text:?} is no duration"));
    text.map(read).transpose()
}

/// What Prometheus takes for a duration: whole numbers with units, the larger before the smaller.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum, mut units) = (text, 0, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let letters = rest[digits..].find(|letter: char| letter.is_ascii_digit());
        let end = letters.map_or(rest.len(), |letters| digits + letters);
        let place = units
            .iter()
            .position(|(unit, _)| *unit == &rest[digits..end])?;
        sum += rest[..digits].parse::<u64>().ok()? * units[place].1;
        (rest, units) = (&rest[end..], &units[place + 1..]);
    }
    (!text.is_empty()).then_some(sum)
}
