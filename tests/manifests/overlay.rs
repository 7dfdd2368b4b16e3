//! What a user writes around the base: an application of their own, its settings, and the components that they choose.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::kubernetes::{kustomize, manifests};
use crate::object::Object;

const APPLICATION: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {code-server/client: "true"}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: web}}
  template:
    metadata: {labels: {app.kubernetes.io/name: web}}
    spec:
      containers:
      - name: web
        image: web
        volumeMounts: [{name: code, mountPath: /app}]
"#;

const SETTINGS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: application
  annotations: {config.kubernetes.io/local-config: "true"}
data:
  name: web
  url: http://myapp-code-server:8080
  revision: REVISION
"#;

/// The revision in the settings.
pub(crate) const REVISION: &str =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Base and application with these components, names prefixed with `myapp-`; nothing where there is no kubectl.
pub(crate) fn overlay(components: &[&str]) -> Option<Vec<Object>> {
    let directory = tempfile::tempdir().unwrap();
    let manifests = from(directory.path(), &manifests());
    let mut kustomization = format!(
        "namePrefix: myapp-\nresources: [{}, application.yaml, settings.yaml]\ncomponents:\n",
        manifests.join("base").display()
    );
    for component in components {
        let path = manifests.join("components").join(component);
        writeln!(kustomization, "- {}", path.display()).unwrap();
    }
    let settings = SETTINGS.replace("REVISION", REVISION);
    for (name, text) in [
        ("kustomization.yaml", kustomization.as_str()),
        ("application.yaml", APPLICATION),
        ("settings.yaml", &settings),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    kustomize(directory.path())
}

/// The relative path that kustomize wants, by way of the root.
fn from(directory: &Path, to: &Path) -> PathBuf {
    let directory = directory.canonicalize().unwrap();
    let up = directory.components().skip(1).map(|_| "..");
    let to = to.canonicalize().unwrap();
    up.collect::<PathBuf>().join(to.strip_prefix("/").unwrap())
}
