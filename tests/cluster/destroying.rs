//! Nothing stays behind.

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::{self, until};
use crate::kubernetes::manifests;
use crate::overlay::INSTANCE;
use crate::tools;

#[test]
fn to_destroy_keeps_the_code_until_told_otherwise_and_then_leaves_nothing() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("gone");
    site.ingest(&code);
    let application = Application::new(&site, &["pdb", "hpa", "anti-affinity"], 2);
    application.check(2, &code);
    let volume = site.volume();
    assert!(!left(&site).is_empty());

    destroy(&site, &["-k", application.overlay().path()]);
    destroy(&site, &["-k", site.overlay().path()]);
    until("the code alone is left", || {
        (left(&site).trim() == "persistentvolumeclaim/code-server").then_some(())
    });
    destroy(&site, &["--with-data", "-k", site.overlay().path()]);
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

/// Has the script delete what a kustomization consists of.
fn destroy(site: &Installation, options: &[&str]) {
    let mut deploy = tools::program("timeout");
    deploy
        .args(["--kill-after=5", "600"])
        .arg(manifests().join("bin/deploy"))
        .args(["--namespace", site.instance(), "destroy", "--yes"])
        .args(options)
        .env("KUBECTL", kubectl::words());
    tools::output(&mut deploy);
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
