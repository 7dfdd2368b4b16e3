//! Servers and pods that end before their time.

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::until;

/// So much that pods which fetch it at once, from a server with a tenth of a core, are not done in a moment.
const LARGE: usize = 24 << 20;

#[test]
fn pods_that_start_while_the_server_crashes_all_get_their_code() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::with_payload("large", LARGE);
    site.ingest(&code);
    let application = Application::new(&site, &[], 1);
    application.check(1, &code);

    let before = site.server();
    application.scale(8);
    until("a pod fetches its code", || application.waiting().pop());
    site.crash();
    assert!(application.number("/status/readyReplicas") < 8);
    application.check(8, &code);
    assert_ne!(
        site.server().at("/metadata/uid"),
        before.at("/metadata/uid")
    );
    assert_eq!(site.served(), code.revision());
}

#[test]
fn a_pod_that_is_deleted_is_replaced_by_one_with_the_code() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("again");
    site.ingest(&code);
    let application = Application::new(&site, &[], 2);
    application.check(2, &code);
    let pods = application.pods();
    site.kubectl()
        .output(&["delete", "pod", pods[0].name(), "--timeout=300s"]);
    application.check(2, &code);
    let left = |name: &str| application.pods().iter().any(|pod| pod.name() == name);
    assert!(!left(pods[0].name()) && left(pods[1].name()));
}

#[test]
fn a_container_that_restarts_finds_its_code_without_the_server() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("kept");
    site.ingest(&code);
    let application = Application::new(&site, &[], 1);
    application.check(1, &code);
    site.stop();
    let pod = application.pods().remove(0);
    // Whoever ends a container is in it, and may be ended with it.
    let _ = site
        .kubectl()
        .attempt(&["exec", pod.name(), "--", "kill", "1"]);
    let pod = until("the container has restarted", || {
        let pod = application.pods().pop()?;
        let status = pod.at("/status/containerStatuses/0");
        (status["restartCount"] == 1 && status["ready"] == true).then_some(pod)
    });
    application.check_pod(&pod, &code);
}
