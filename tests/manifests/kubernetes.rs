//! The tools that render: kubectl, whose kustomize needs no cluster, and helm.
//!
//! Both are taken from the path, or from where `tests/real/trees.sh` puts them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::object::{Object, objects};
use crate::tools;

/// Where what is under test lies.
pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// What a kustomization consists of; nothing where there is no kubectl.
pub(crate) fn kustomize(directory: &Path) -> Option<Vec<Object>> {
    let mut kubectl = kubectl()?;
    let rendered = tools::output(kubectl.arg("kustomize").arg(directory));
    Some(objects(&rendered))
}

/// What a chart consists of with these arguments of `helm template`; nothing where there is no helm.
pub(crate) fn template(chart: &Path, arguments: &[&str]) -> Option<Vec<Object>> {
    let mut helm = helm()?;
    let rendered = tools::output(helm.args(["template", "myapp"]).arg(chart).args(arguments));
    Some(objects(&rendered))
}

/// kubectl, if it is there.
pub(crate) fn kubectl() -> Option<Command> {
    named("kubectl")
}

/// helm, if it is there.
pub(crate) fn helm() -> Option<Command> {
    named("helm")
}

/// What checks objects against the schemas of Kubernetes, if it is there.
pub(crate) fn validator() -> Option<Command> {
    let library = prepared().join("lib");
    let reason = format!(
        "no kubernetes-validate in {}, make it with tests/real/trees.sh",
        library.display()
    );
    if !library.is_dir() {
        tools::skip(true, &reason);
        return None;
    }
    let mut python = tools::program("python3");
    python
        .args(["-m", "kubernetes_validate"])
        .env("PYTHONPATH", library);
    Some(python)
}

fn named(program: &str) -> Option<Command> {
    let here = prepared().join("bin").join(program);
    if here.is_file() {
        return Some(tools::program(here));
    }
    tools::installed(&[program]).then(|| tools::program(program))
}

/// Where `tests/real/trees.sh` puts tools.
fn prepared() -> PathBuf {
    let trees = env::var_os("CODE_SERVER_TEST_TREES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trees"),
        PathBuf::from,
    );
    trees.join("kubernetes")
}
