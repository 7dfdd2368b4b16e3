//! What is rendered from the manifests, as far as pods are made of it.

use serde_json::json;

use crate::kubernetes::{kustomize, manifests};
use crate::object::{Object, only};

/// What is rendered from a directory of the manifests.
pub(crate) struct Rendered(Vec<Object>);

/// Renders a directory of the manifests; nothing where there is no kubectl.
pub(crate) fn rendered(directory: &str) -> Option<Rendered> {
    kustomize(&manifests().join(directory)).map(Rendered)
}

impl Rendered {
    /// Its Deployment of this name.
    pub(crate) fn deployment(&self, name: &str) -> &Object {
        only(&self.0, "Deployment", name)
    }

    /// The name by which its pods find this Service.
    pub(crate) fn service(&self, name: &str) -> &str {
        only(&self.0, "Service", name).name()
    }
}

/// The Deployment after `kubectl patch`: its pods want this revision.
pub(crate) fn pinned(deployment: &Object, revision: &str) -> Object {
    let mut deployment = deployment.clone();
    let annotations = &mut deployment.0["spec"]["template"]["metadata"]["annotations"];
    annotations["code-server/revision"] = json!(revision);
    deployment
}
