//! The chart: every variant of values in `tests/manifests/values` renders what Kubernetes takes, and what it is for.

mod application;
mod library;
mod refused;
mod same;
mod server;
mod shipped;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kubernetes::{helm, manifests, template};
use crate::object::{Object, only};
use crate::pod::privileges;
use crate::schema;
use crate::tools;

fn chart() -> PathBuf {
    manifests().join("helm/code-server")
}

fn variants() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/values")
}

/// The chart with one of the files of values; nothing where there is no helm.
fn variant(name: &str) -> Option<Vec<Object>> {
    let file = variants().join(format!("{name}.yaml"));
    template(&chart(), &["--values", file.to_str().unwrap()])
}

/// What `pointer` leads to in an object of a variant.
struct Case {
    variant: &'static str,
    kind: &'static str,
    name: &'static str,
    pointer: &'static str,
    expected: Value,
}

fn check(case: &Case) {
    let Some(objects) = variant(case.variant) else {
        return;
    };
    let object = only(&objects, case.kind, case.name);
    let found = object.find(case.pointer).unwrap_or(&Value::Null);
    assert_eq!(
        found, &case.expected,
        "{}: {} {}",
        case.variant, case.kind, case.pointer
    );
}

/// Helm with nothing of the user's: neither their repositories nor their cluster.
fn isolated(home: &Path) -> Option<Command> {
    let mut helm = helm()?;
    for place in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(place, home.join(place));
    }
    helm.env("KUBECONFIG", home.join("none"));
    Some(helm)
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(variants()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = paths
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_variant_renders_what_the_api_server_takes() {
    for name in names() {
        let Some(objects) = variant(&name) else {
            return;
        };
        schema::validate(&objects);
    }
}

#[test]
fn every_variant_passes_the_lint_of_helm() {
    for name in names() {
        let Some(mut helm) = helm() else { return };
        let file = variants().join(format!("{name}.yaml"));
        let lint = helm.args(["lint", "--strict"]).arg(chart());
        tools::output(lint.arg("--values").arg(file));
    }
}

#[test]
fn what_the_chart_itself_runs_is_admitted_to_a_restricted_namespace() {
    for name in names() {
        let Some(objects) = variant(&name) else {
            return;
        };
        // The containers of an application are the user's.
        let own = objects.iter().filter(|object| is_own(object));
        let found: Vec<_> = own.flat_map(privileges).collect();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

fn is_own(object: &Object) -> bool {
    let name = "/metadata/labels/app.kubernetes.io~1name";
    object
        .find(name)
        .is_some_and(|name| name.as_str().unwrap().starts_with("code-server"))
}
