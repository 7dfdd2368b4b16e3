//! Every kustomization that is shipped, found by looking for it: it renders, and what it renders is valid and may run in a
//! namespace that restricts its pods.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kubernetes::{kustomize, manifests};
use crate::pod;
use crate::schema;

/// What a directory with a kustomization.yaml is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// It can be applied.
    Kustomization,
    /// It is for others to take in.
    Component,
}

fn kind(directory: &Path) -> Option<Kind> {
    let text = fs::read_to_string(directory.join("kustomization.yaml")).ok()?;
    let said = text.lines().find_map(|line| line.strip_prefix("kind: "));
    match said {
        Some("Kustomization") => Some(Kind::Kustomization),
        Some("Component") => Some(Kind::Component),
        other => panic!("{} is of kind {other:?}", directory.display()),
    }
}

/// All of them that lie under the manifests.
fn found(wanted: Kind) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![manifests()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        open.extend(paths.filter(|path| path.is_dir()));
        if kind(&directory) == Some(wanted) {
            found.push(directory);
        }
    }
    found
}

#[test]
fn every_kustomization_renders_what_the_api_server_takes() {
    let directories = found(Kind::Kustomization);
    assert!(directories.contains(&manifests().join("base")));
    let mut all = Vec::new();
    for directory in directories {
        let Some(objects) = kustomize(&directory) else {
            return;
        };
        assert!(!objects.is_empty(), "{}", directory.display());
        for object in objects.iter().filter(|object| schema::is_built_in(object)) {
            let privileges = pod::privileges(object);
            assert_eq!(privileges, [""; 0], "{}", directory.display());
        }
        all.extend(objects);
    }
    schema::validate(&all);
}
