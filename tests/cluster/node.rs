//! Nodes, and what is done to them and undone.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::kubectl::{Kubectl, until};
use crate::object::Object;
use crate::overlay::INSTANCE;
use crate::settings::set;
use crate::tools;

/// The nodes on which any pod may be placed.
pub(crate) fn schedulable(kubectl: &Kubectl) -> Vec<Object> {
    let mut nodes = kubectl.list("nodes", "");
    nodes.retain(|node| is_ready(node) && is_free(node));
    nodes
}

fn is_ready(node: &Object) -> bool {
    let conditions = node.at("/status/conditions").as_array().unwrap();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn is_free(node: &Object) -> bool {
    let taints = node.find("/spec/taints").and_then(Value::as_array);
    let keeps_out = |taint: &Value| taint["effect"] != "PreferNoSchedule";
    !taints.is_some_and(|taints| taints.iter().any(keeps_out))
}

/// A node on which no pod is placed any more, until this is dropped.
pub(crate) struct Cordoned<'a> {
    kubectl: &'a Kubectl,
    node: &'a str,
}

impl<'a> Cordoned<'a> {
    /// Keeps new pods from a node.
    pub(crate) fn new(kubectl: &'a Kubectl, node: &'a str) -> Self {
        kubectl.output(&["cordon", node]);
        Self { kubectl, node }
    }

    /// Evicts the pods of one instance from it, or says why that is not done in this time.
    pub(crate) fn drain(&self, instance: &str, seconds: u32) -> Result<String, String> {
        self.kubectl.attempt(&[
            "drain",
            self.node,
            &format!("--pod-selector={INSTANCE}={instance}"),
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            &format!("--timeout={seconds}s"),
        ])
    }
}

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kubectl.attempt(&["uncordon", self.node]) {
            let _ = writeln!(io::stderr(), "{} stays cordoned: {error}", self.node);
        }
    }
}

/// How a node is powered off and on, where that is told.
pub(crate) struct Power {
    off: String,
    on: String,
}

impl Power {
    /// The two commands of the environment.
    pub(crate) fn new() -> Option<Self> {
        let told = set("CODE_SERVER_TEST_LOSE_NODE").zip(set("CODE_SERVER_TEST_RETURN_NODE"));
        let Some((off, on)) = told else {
            let reason =
                "CODE_SERVER_TEST_LOSE_NODE and CODE_SERVER_TEST_RETURN_NODE name no commands";
            tools::skip(false, reason);
            return None;
        };
        Some(Self { off, on })
    }

    /// Powers a node off, and waits until the cluster has noticed.
    pub(crate) fn lose<'a>(&'a self, kubectl: &'a Kubectl, node: &'a str) -> Lost<'a> {
        let lost = Lost {
            power: self,
            kubectl,
            node,
        };
        tools::output(&mut with_node(&self.off, node));
        until("the node is not ready", || {
            (!is_ready(&kubectl.get("node", node))).then_some(())
        });
        lost
    }
}

/// A node that is off, until this is dropped.
pub(crate) struct Lost<'a> {
    power: &'a Power,
    kubectl: &'a Kubectl,
    node: &'a str,
}

impl Lost<'_> {
    /// Powers it on, and waits until it takes pods.
    pub(crate) fn returns(self) {
        let Self { kubectl, node, .. } = self;
        drop(self);
        until("the node is back", || {
            let node = kubectl.get("node", node);
            (is_ready(&node) && is_free(&node)).then_some(())
        });
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        let output = tools::run(&mut with_node(&self.power.on, self.node));
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let _ = writeln!(io::stderr(), "{} stays off: {error}", self.node);
        }
    }
}

fn with_node(command: &str, node: &str) -> std::process::Command {
    let mut shell = tools::program("sh");
    shell.args(["-c", &format!("{command} \"$0\""), node]);
    shell
}

/// The nodes on which a volume may be mounted, by their names.
pub(crate) fn reaching<'a>(volume: &Object, nodes: &'a [Object]) -> BTreeSet<&'a str> {
    let terms = volume.find("/spec/nodeAffinity/required/nodeSelectorTerms");
    let reached = nodes.iter().filter(|node| match terms {
        None => true,
        Some(terms) => terms
            .as_array()
            .unwrap()
            .iter()
            .any(|term| is_selected(node, term)),
    });
    reached.map(Object::name).collect()
}

/// Whether a node has one of the values for each of the keys; volumes say it in no other way.
fn is_selected(node: &Object, term: &Value) -> bool {
    let expressions = |part: &str| term[part].as_array().cloned().unwrap_or_default();
    let has = |expression: &Value, value: &Value| {
        let values = expression["values"].as_array();
        expression["operator"] == "In" && values.is_some_and(|values| values.contains(value))
    };
    let labels = node.at("/metadata/labels");
    expressions("matchExpressions").iter().all(|expression| {
        let key = expression["key"].as_str().unwrap_or_default();
        labels.get(key).is_some_and(|value| has(expression, value))
    }) && expressions("matchFields")
        .iter()
        .all(|expression| has(expression, node.at("/metadata/name")))
}

#[test]
fn a_volume_is_reached_where_its_affinity_says_so() {
    let node = |name: &str, zone: &str| {
        Object(json!({"metadata": {"name": name, "labels": {"zone": zone}}}))
    };
    let nodes = [node("a", "north"), node("b", "north"), node("c", "south")];
    let check = |terms: Option<Value>, expected: &[&str]| {
        let volume = Object(match terms {
            None => json!({"spec": {}}),
            Some(terms) => {
                json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}})
            }
        });
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        assert_eq!(reaching(&volume, &nodes), expected);
    };
    let among = |part: &str, key: &str, operator: &str, value: &str| json!({part: [{"key": key, "operator": operator, "values": [value]}]});
    let zone = |value: &str| among("matchExpressions", "zone", "In", value);
    let name = |value: &str| among("matchFields", "metadata.name", "In", value);
    check(None, &["a", "b", "c"]);
    check(Some(json!([zone("north")])), &["a", "b"]);
    check(Some(json!([zone("south"), name("a")])), &["a", "c"]);
    check(Some(json!([zone("east")])), &[]);
    let unknown = among("matchExpressions", "zone", "NotIn", "north");
    check(Some(json!([unknown])), &[]);
}
