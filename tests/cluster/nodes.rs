//! Nodes that are drained, and lost.

use std::time::Duration;

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::{until, until_within};
use crate::node::{Cordoned, Power, reaching};
use crate::object::Object;
use crate::tools;

/// What an attached volume takes to be let go of: Kubernetes waits six minutes for a node that does not answer, and the
/// provider takes its own time.
const LET_GO: Duration = Duration::from_mins(15);

/// Whether another node could take the server.
fn can_move(site: &Installation, home: &str) -> bool {
    let volume = site.volume();
    let elsewhere = reaching(&volume, site.nodes());
    elsewhere.iter().any(|node| *node != home)
        || tools::skip(
            false,
            &format!("the volume stays on {home}, so the server waits for it and does not move"),
        )
}

#[test]
fn a_drain_waits_until_a_pod_runs_elsewhere() {
    let Some(site) = Installation::alone(2) else {
        return;
    };
    let code = Code::new("drained");
    site.ingest(&code);
    let (_, away) = site.home_and_away();
    let application = {
        let others = site.nodes().iter().map(Object::name);
        let _cordoned: Vec<_> = others
            .filter(|node| *node != away)
            .map(|node| Cordoned::new(site.kubectl(), node))
            .collect();
        let application = Application::new(&site, &["pdb"], 1);
        application.check(1, &code);
        application
    };
    let available = application.available();
    let cordoned = Cordoned::new(site.kubectl(), away);
    let refused = cordoned.drain(site.instance(), 15).unwrap_err();
    assert!(refused.contains("disruption budget"), "{refused}");
    application.scale(2);
    cordoned.drain(site.instance(), 300).unwrap();
    application.check(2, &code);
    assert!(!application.nodes().contains(away));
    assert!(available.least() >= 1);
}

#[test]
fn a_drain_of_the_servers_node_leaves_the_pods_elsewhere_alone() {
    let Some(site) = Installation::alone(2) else {
        return;
    };
    let code = Code::new("moved");
    site.ingest(&code);
    let (home, away) = site.home_and_away();
    let application = Application::new(&site, &["pdb", "anti-affinity"], site.nodes().len());
    application.check(site.nodes().len(), &code);
    assert!(application.nodes().contains(away));

    let available = application.available();
    let cordoned = Cordoned::new(site.kubectl(), home);
    cordoned.drain(site.instance(), 300).unwrap();
    if can_move(&site, home) {
        assert_ne!(site.server().text("/spec/nodeName"), home);
        application.check(site.nodes().len(), &code);
    } else {
        until("the pod that was evicted waits", || {
            application.waiting().pop()
        });
    }
    drop(cordoned);
    application.check(site.nodes().len(), &code);
    assert_eq!(site.served(), code.revision());
    assert!(available.least() >= 1);
}

#[test]
fn pods_outlive_the_node_of_the_volume_and_new_ones_wait_for_it() {
    let Some(power) = Power::new() else {
        return;
    };
    let Some(site) = Installation::alone(2) else {
        return;
    };
    let code = Code::new("lost");
    site.ingest(&code);
    let (home, away) = site.home_and_away();
    let replicas = site.nodes().len();
    let application = Application::new(&site, &["anti-affinity"], replicas);
    application.check(replicas, &code);
    let pods = application.pods();
    let survivor = pods.iter().find(|pod| pod.text("/spec/nodeName") == away);
    let survivor = survivor.expect("pods are spread over the nodes");

    let lost = power.lose(site.kubectl(), home);
    let moves = can_move(&site, home);
    application.check_pod(survivor, &code);
    // The pod on the lost node is given up after half a minute, and its successor has to be elsewhere.
    until("a new pod is placed elsewhere", || {
        let mut pods = application.pods();
        pods.retain(|pod| pod.find("/spec/nodeName").is_some_and(|node| node != home));
        (pods.len() == replicas).then_some(())
    });
    if moves {
        until_within(LET_GO, "the server runs elsewhere", || {
            let server = site.running_server()?;
            (server.text("/spec/nodeName") != home).then_some(())
        });
        application.check(replicas, &code);
    } else {
        until("the new pod waits", || application.waiting().pop());
    }
    application.check_pod(survivor, &code);
    lost.returns();
    application.check(replicas, &code);
    assert_eq!(site.served(), code.revision());
}
