//! What a server tells of itself, read from one that runs; and whether a query asks for what there is.
//!
//! A name, a label or a value that nobody exposes is no error to Prometheus: such a query finds nothing, for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::live::Setup;

/// What every target has by how it is found.
const OF_TARGETS: [&str; 4] = ["namespace", "pod", "job", "instance"];
/// What others expose, with their labels: kube-state-metrics, the kubelet and Prometheus itself.
const OF_OTHERS: [(&str, &[&str]); 6] = [
    ("kube_pod_init_container_status_ready", &["container"]),
    ("kube_pod_status_phase", &["phase"]),
    ("kube_pod_status_scheduled", &["condition"]),
    (
        "kube_pod_container_resource_limits",
        &["container", "resource"],
    ),
    (
        "kubelet_volume_stats_available_bytes",
        &["persistentvolumeclaim"],
    ),
    (
        "kubelet_volume_stats_capacity_bytes",
        &["persistentvolumeclaim"],
    ),
];
/// Labels that have all their values from the beginning.
const COMPLETE: [&str; 2] = ["result", "source"];

type Labels = BTreeMap<String, BTreeSet<String>>;

/// Names of metrics, their labels, and the values of those.
pub(crate) struct Exposed(BTreeMap<String, Labels>);

impl Exposed {
    /// What a server has that has published something.
    pub(crate) fn by_a_server() -> Self {
        let setup = Setup::new(&[]);
        setup.write("main.py", "print('hello')\n");
        let server = setup.serve();
        let mut exposed = Self::read(&String::from_utf8(server.get("/metrics").body).unwrap());
        for (name, labels) in OF_OTHERS {
            let labels = labels.iter().map(|&label| (label.into(), BTreeSet::new()));
            exposed.0.insert(name.into(), labels.collect());
        }
        exposed
    }

    fn read(text: &str) -> Self {
        let mut metrics = BTreeMap::<String, Labels>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, matchers, _) = selector(line);
            let labels = metrics.entry(name.into()).or_default();
            for (label, value) in matchers {
                labels.entry(label).or_default().insert(value);
            }
        }
        Self(metrics)
    }

    /// Panics if an expression, or a legend, names what there is not.
    pub(crate) fn check(&self, expression: &str) {
        if let Err(what) = self.judge(expression) {
            panic!("{what}, as it is asked for in: {expression}");
        }
    }

    fn judge(&self, expression: &str) -> Result<(), String> {
        for grouped in groupings(expression) {
            if !self.has_label(grouped) {
                return Err(format!("nothing has a label {grouped}"));
            }
        }
        for (name, matchers) in selectors(expression) {
            let labels = self.0.get(name).ok_or(format!("there is no {name}"))?;
            for (label, value) in matchers {
                judge_label(name, labels, &label, &value)?;
            }
        }
        Ok(())
    }

    /// What the server itself has, without what a histogram consists of.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let names = self.0.keys().filter(|name| !name.starts_with("kube"));
        let parts = ["_bucket", "_sum", "_count"];
        let whole = names.map(|name| {
            let whole = parts.iter().find_map(|part| name.strip_suffix(part));
            whole.unwrap_or(name).to_owned()
        });
        whole.collect()
    }

    /// Whether any metric has it.
    pub(crate) fn has_label(&self, label: &str) -> bool {
        OF_TARGETS.contains(&label) || self.0.values().any(|labels| labels.contains_key(label))
    }
}

fn judge_label(name: &str, labels: &Labels, label: &str, value: &str) -> Result<(), String> {
    if OF_TARGETS.contains(&label) {
        return Ok(());
    }
    let values = labels
        .get(label)
        .ok_or(format!("{name} has no label {label}"))?;
    let unknown = value.split('|').find(|one| !values.contains(*one));
    match unknown {
        Some(one) if COMPLETE.contains(&label) => Err(format!("no {label} of {name} is {one}")),
        _ => Ok(()),
    }
}

/// The metrics that an expression names, each with the labels and values that it wants.
fn selectors(expression: &str) -> Vec<(&str, Vec<(String, String)>)> {
    const PREFIXES: [&str; 4] = ["codeserver_", "process_", "kube_", "kubelet_"];
    let mut found = Vec::new();
    let mut rest = expression;
    while !rest.is_empty() {
        let (word, matchers, after) = selector(rest);
        if PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
            found.push((word, matchers));
        }
        rest = if word.is_empty() {
            rest.get(1..).unwrap_or_default()
        } else {
            after
        };
    }
    found
}

/// `name{label="value",…}` at the beginning of a text, and what follows.
fn selector(text: &str) -> (&str, Vec<(String, String)>, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let Some((inner, after)) = inner else {
        return (name, Vec::new(), rest);
    };
    (name, matchers(inner), after)
}

fn matchers(inner: &str) -> Vec<(String, String)> {
    let parts: Vec<_> = inner.split('"').collect();
    let pairs = parts.chunks_exact(2);
    let matchers = pairs.map(|pair| {
        let label = pair[0].trim_matches(|letter: char| !letter.is_ascii_alphabetic());
        (label.to_owned(), pair[1].to_owned())
    });
    matchers.collect()
}

/// The labels in `by (…)` and `on (…)`.
fn groupings(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in [" by (", " on ("] {
        for after in expression.split(word).skip(1) {
            let inner = after.split(')').next().unwrap_or_default();
            found.extend(inner.split(',').map(str::trim));
        }
    }
    found.retain(|label| *label != "le");
    found
}

fn judged(expression: &str) -> String {
    let text = r#"codeserver_builds_total{result="failed"} 0
codeserver_artifact_info{revision="sha256:1"} 1
codeserver_http_requests_total{route="/",method="GET",code="200"} 0"#;
    Exposed::read(text)
        .judge(expression)
        .err()
        .unwrap_or_default()
}

#[track_caller]
fn check(expression: &str, complaint: &str) {
    assert_eq!(judged(expression), complaint, "{expression}");
}

#[test]
fn a_query_for_what_there_is_is_taken() {
    check(
        r#"sum by (pod, result) (rate(codeserver_builds_total{namespace=~"$namespace",result="failed"}[5m])) > 0"#,
        "",
    );
    check(
        r#"codeserver_http_requests_total{code=~"5..",code!="503"}"#,
        "",
    );
}

#[test]
fn a_misspelt_metric_is_told() {
    check(
        "rate(codeserver_build_total[5m])",
        "there is no codeserver_build_total",
    );
}

#[test]
fn a_misspelt_label_is_told() {
    check(
        r#"codeserver_builds_total{results="failed"}"#,
        "codeserver_builds_total has no label results",
    );
    check(
        "sum by (reslt) (codeserver_builds_total)",
        "nothing has a label reslt",
    );
}

#[test]
fn a_value_that_never_comes_is_told() {
    check(
        r#"codeserver_builds_total{result=~"failed|failure"}"#,
        "no result of codeserver_builds_total is failure",
    );
}
