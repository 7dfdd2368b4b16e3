//! Nothing stays behind.

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::{TIMEOUT, until};
use crate::overlay::INSTANCE;
use crate::tools;

#[test]
fn what_was_applied_is_deleted_without_a_trace() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("gone");
    site.ingest(&code);
    let application = Application::new(&site, &["pdb", "hpa", "anti-affinity"], 2);
    application.check(2, &code);
    let volume = site.volume();
    assert!(!left(&site).is_empty());

    let delete = |directory: &str| {
        let delete = ["delete", "--kustomize", directory, TIMEOUT];
        site.kubectl().output(&delete);
    };
    delete(application.overlay().path());
    delete(site.overlay().path());
    until("nothing is left", || left(&site).is_empty().then_some(()));
    if volume.text("/spec/persistentVolumeReclaimPolicy") == "Delete" {
        until("the volume is gone", || {
            let get = ["get", "pv", volume.name(), "--ignore-not-found"];
            site.kubectl().output(&get).is_empty().then_some(())
        });
    } else {
        tools::skip(false, "volumes of this class stay after their claims");
    }
}

/// Everything with the label of this installation, of whatever kind.
fn left(site: &Installation) -> String {
    let kubectl = site.kubectl();
    let listed = ["--namespaced", "--verbs=list,delete", "--output=name"];
    let kinds = kubectl.output(&[&["api-resources"], &listed[..]].concat());
    let kinds: Vec<_> = kinds.split_whitespace().collect();
    let selector = format!("--selector={INSTANCE}={}", site.instance());
    kubectl.output(&[
        "get",
        &kinds.join(","),
        &selector,
        "--ignore-not-found",
        "--output=name",
    ])
}
