//! Overlays of what is shipped: the images of this cluster, a namespace, and a label by which everything is found.

use std::env;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubernetes::manifests;
use crate::settings::{Image, Settings};

/// The label that everything in a namespace has, with the namespace's name as its value.
pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";

const APPLICATION: &str = include_str!("application.yaml");

/// A directory with a kustomization.
pub(crate) struct Overlay(TempDir);

impl Overlay {
    /// The server, whose code can be replaced.
    pub(crate) fn server(settings: &Settings, namespace: &str) -> Self {
        let mut kustomization = common(settings, namespace);
        kustomization["resources"] = json!([shipped("base")]);
        kustomization["components"] = json!([shipped("components/ingest")]);
        if let Some(class) = &settings.storage_class {
            let patch = json!([{"op": "add", "path": "/spec/storageClassName", "value": class}]);
            kustomization["patches"] = patches("PersistentVolumeClaim", &patch);
        }
        Self::new(&kustomization)
    }

    /// The application with its code and with these components.
    pub(crate) fn application(settings: &Settings, namespace: &str, components: &[&str]) -> Self {
        let components: Vec<_> = ["fetch-init", "zero-downtime"]
            .iter()
            .chain(components)
            .map(|name| shipped(&format!("components/{name}")))
            .collect();
        let mut kustomization = common(settings, namespace);
        kustomization["resources"] = json!(["application.yaml"]);
        kustomization["components"] = json!(components);
        if settings.fetcher.is_none() {
            // The image of the server, which starts that one unless it is told otherwise.
            let command = "/spec/template/spec/initContainers/0/command";
            let patch = json!([{"op": "add", "path": command, "value": ["/fetch-init"]}]);
            kustomization["patches"] = patches("Deployment", &patch);
        }
        Self::new(&kustomization)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().expect("it is made of plain names")
    }

    fn new(kustomization: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        // JSON is YAML.
        write("kustomization.yaml", &kustomization.to_string());
        write("application.yaml", APPLICATION);
        Self(directory)
    }
}

fn common(settings: &Settings, namespace: &str) -> Value {
    let fetcher = settings.fetcher.as_ref().unwrap_or(&settings.server);
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "labels": [{"pairs": {INSTANCE: namespace}, "includeSelectors": true}],
        "images": [
            replaced("code-server", &settings.server),
            replaced("fetch-init", fetcher),
            replaced("application", &settings.application),
        ],
    })
}

fn replaced(name: &str, image: &Image) -> Value {
    let mut entry = json!({"name": name, "newName": image.name});
    if let Some((kind, version)) = &image.version {
        entry[*kind] = json!(version);
    }
    entry
}

fn patches(kind: &str, patch: &Value) -> Value {
    json!([{"target": {"kind": kind}, "patch": patch.to_string()}])
}

/// The way to what is shipped: kustomize wants it to be relative, so it leads up to the root, wherever an overlay lies.
fn shipped(part: &str) -> PathBuf {
    let overlays = env::temp_dir().canonicalize().unwrap();
    // As many as there are names in the path of an overlay: the root, which is one less, is the place of its own name.
    let up = overlays.components().map(|_| "..");
    let part = manifests().join(part).canonicalize().unwrap();
    up.collect::<PathBuf>()
        .join(part.strip_prefix("/").unwrap())
}
