//! Objects against the schemas of their kinds: a misspelt field is an error.

use std::fs;

use crate::custom;
use crate::kubernetes;
use crate::object::Object;
use crate::tools;

/// Fails for an object that the API server, or the operator that it is for, would not take as it is meant.
pub(crate) fn validate(objects: &[Object]) {
    for object in objects {
        custom::check(object).unwrap_or_else(|reason| panic!("{reason}"));
    }
    let Some(mut validator) = kubernetes::validator() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.yaml");
    let documents: Vec<_> = objects
        .iter()
        .filter(|object| is_built_in(object))
        .map(|object| object.0.to_string())
        .collect();
    if documents.is_empty() {
        return;
    }
    fs::write(&file, documents.join("\n---\n")).unwrap();
    tools::output(validator.args(["--quiet", "--strict"]).arg(&file));
}

/// Whether Kubernetes itself knows the kind: its groups are plain words, or end with its own domain.
pub(crate) fn is_built_in(object: &Object) -> bool {
    match object.text("/apiVersion").split_once('/') {
        None => true,
        Some((group, _)) => !group.contains('.') || group.ends_with(".k8s.io"),
    }
}
