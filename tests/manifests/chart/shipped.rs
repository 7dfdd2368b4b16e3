//! The chart as it is handed on: packed, described, and with a word about what to do next.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{chart, isolated, variants};
use crate::kubernetes::{manifests, template};
use crate::object::objects;
use crate::tools;

fn description(directory: &str) -> Value {
    let file = manifests().join("helm").join(directory).join("Chart.yaml");
    objects(&fs::read_to_string(file).unwrap()).remove(0).0
}

/// Fails unless the notes after an installation with these values have all of these lines, and none of those.
fn check_notes(variant: &str, lines: &[&str], others: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let Some(mut helm) = isolated(home.path()) else {
        return;
    };
    let values = variants().join(format!("{variant}.yaml"));
    let install = helm.args(["install", "myapp", "--namespace", "web", "--dry-run=client"]);
    let said = tools::output(install.arg(chart()).arg("--values").arg(values));
    let (_, notes) = said.split_once("\nNOTES:\n").expect("there are notes");
    let notes: Vec<_> = notes.lines().map(str::trim).collect();
    for line in lines {
        assert!(
            notes.contains(line),
            "{variant} has no {line:?}: {notes:#?}"
        );
    }
    for line in others {
        assert!(!notes.contains(line), "{variant} has {line:?}: {notes:#?}");
    }
    let width = notes.iter().map(|line| line.len()).max();
    assert!(width < Some(180), "{notes:#?}");
}

const INGEST: &str = "tar cz -C myapp . | kubectl -n web exec -i deploy/myapp-code-server -- /code-server ingest /data/workspace";
const REACH: &str = "helm test myapp -n web --filter name=myapp-code-server-test-reach    # works before there is code";
const TEST: &str = "helm test myapp -n web";
const PIN: &str =
    "helm upgrade myapp CHART -n web --reuse-values --set application.revision=sha256:...";
const WRITABLE: &str = "helm upgrade myapp CHART -n web --reuse-values --set ingest.enabled=true";
const UNDO: &str = "kubectl -n web rollout undo deployment/backend";

#[test]
fn notes_tell_the_next_command() {
    check_notes("default", &[WRITABLE, REACH, TEST], &[INGEST, PIN]);
    check_notes("ingest", &[INGEST, REACH], &[WRITABLE]);
    check_notes("tokens", &[INGEST, TEST, PIN], &[REACH]);
    check_notes("application-elsewhere", &[UNDO], &[PIN]);
    let certificate = "kubectl -n web create secret generic myapp-code-server-tls --type=kubernetes.io/tls --from-file=tls.crt --from-file=tls.key --from-file=ca.crt";
    check_notes("tls", &[], &[certificate]);
    check_notes("tls-private", &[certificate], &[]);
    check_notes("application", &["--set rules.existing=rules"], &[]);
}

#[test]
fn versions_are_those_of_the_programs() {
    let (server, library) = (description("code-server"), description("fetch-init"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(server["appVersion"], version);
    assert_eq!(library["appVersion"], version);
    assert_eq!(server["dependencies"][0]["version"], library["version"]);
}

#[test]
fn a_package_renders_the_same_without_the_checkout() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut helm) = isolated(directory.path()) else {
        return;
    };
    let package = helm.arg("package").arg(chart());
    tools::output(package.arg("--destination").arg(directory.path()));
    let version = description("code-server")["version"].clone();
    let file = format!("code-server-{}.tgz", version.as_str().unwrap());
    let file = directory.path().join(file);
    let values = variants().join("application.yaml");
    let arguments = ["--values", values.to_str().unwrap()];
    assert_eq!(template(&file, &arguments), template(&chart(), &arguments));
    let mut tar = Command::new("tar");
    let listed = tools::output(tar.arg("tzf").arg(&file));
    assert!(listed.contains("code-server/README.md"), "{listed}");
}

#[test]
fn every_value_is_known_to_the_schema_and_to_the_readme() {
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let values = objects(&read("values.yaml")).remove(0).0;
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let readme = read("README.md");
    let names: BTreeSet<_> = values.as_object().unwrap().keys().collect();
    let mut known: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
    // What helm itself hands down.
    known.retain(|name| !["global", "fetch-init"].contains(&name.as_str()));
    assert_eq!(names, known);
    for path in paths(&values, "") {
        assert!(
            readme.contains(&format!("`{path}`")),
            "the table has no {path}"
        );
    }
}

/// The values that can be set, two levels deep: `image.tag`, or `affinity`.
fn paths(values: &Value, prefix: &str) -> Vec<String> {
    let fields = values.as_object().unwrap().iter();
    let paths = fields.flat_map(|(name, value)| match value.as_object() {
        Some(fields) if prefix.is_empty() && !fields.is_empty() && !is_verbatim(name) => {
            paths(value, &format!("{name}."))
        }
        _ => vec![format!("{prefix}{name}")],
    });
    paths.collect()
}

/// What is in Kubernetes' own words.
fn is_verbatim(name: &str) -> bool {
    ["resources", "readinessProbe", "livenessProbe"].contains(&name)
}
