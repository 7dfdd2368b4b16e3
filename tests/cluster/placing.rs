//! Pods on one node and on several, with a volume that one node alone can mount.

use std::collections::BTreeSet;

use serde_json::json;

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::until;

#[test]
fn a_pod_that_is_early_waits_for_the_first_code() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let application = Application::new(&site, &[], 1);
    until("the pod waits", || application.waiting().pop());
    let code = Code::new("first");
    site.ingest(&code);
    application.check(1, &code);
}

#[test]
fn several_pods_on_one_node_each_have_the_code() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("together");
    site.ingest(&code);
    let home = site.server().text("/spec/nodeName").to_owned();
    // The other node where there is one: there the volume cannot be mounted.
    let nodes = site.nodes().iter();
    let other = nodes.rev().find(|node| node.name() != home);
    let node = other.unwrap_or(&site.nodes()[0]);
    let application = Application::new(&site, &[], 4);
    let host = node.at("/metadata/labels/kubernetes.io~1hostname");
    application.patch(&json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": host}}}));
    application.check(4, &code);
    assert_eq!(
        application.nodes(),
        BTreeSet::from([node.name().to_owned()])
    );
}

#[test]
fn pods_spread_over_all_nodes_have_the_code_of_a_volume_of_one() {
    let Some(site) = Installation::new(2) else {
        return;
    };
    let code = Code::new("apart");
    site.ingest(&code);
    assert_eq!(
        site.volume().at("/spec/accessModes"),
        &json!(["ReadWriteOnce"])
    );
    let replicas = site.nodes().len();
    let application = Application::new(&site, &["anti-affinity-required"], replicas);
    application.check(replicas, &code);
    assert_eq!(application.nodes().len(), replicas);
}
