//! The application whose pods want the code.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::code::{Code, LOOK};
use crate::installation::Installation;
use crate::kubectl::{Kubectl, TIMEOUT};
use crate::object::Object;
use crate::overlay::Overlay;
use crate::watch::Watch;

const DEPLOYMENT: &str = "deployment/application";

/// A Deployment of pods that fetch their code before they start.
pub(crate) struct Application {
    kubectl: Kubectl,
    overlay: Overlay,
}

impl Application {
    /// One with these components besides those that bring the code, and with so many pods.
    pub(crate) fn new(site: &Installation, components: &[&str], replicas: usize) -> Self {
        let overlay = Overlay::application(site.settings(), site.instance(), components);
        let kubectl = site.kubectl().clone();
        kubectl.output(&["apply", "--kustomize", overlay.path()]);
        let application = Self { kubectl, overlay };
        application.scale(replicas);
        application
    }

    /// The overlay that it was made by.
    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Asks for so many pods.
    pub(crate) fn scale(&self, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.kubectl.output(&["scale", DEPLOYMENT, &replicas]);
    }

    /// Has all pods replaced by such that have this revision and no other.
    pub(crate) fn pin(&self, revision: &str) {
        self.patch(&json!({"metadata": {"annotations": {"code-server/revision": revision}}}));
    }

    /// Changes the template of the pods.
    pub(crate) fn patch(&self, template: &Value) {
        let patch = json!({"spec": {"template": template}}).to_string();
        self.kubectl
            .output(&["patch", DEPLOYMENT, "--patch", &patch]);
    }

    /// Takes the last change of the template back.
    pub(crate) fn undo(&self) {
        self.kubectl.output(&["rollout", "undo", DEPLOYMENT]);
    }

    /// How many pods are available, from now on.
    pub(crate) fn available(&self) -> Watch {
        Watch::new(&self.kubectl, DEPLOYMENT, ".status.availableReplicas")
    }

    /// A number of the Deployment; one that is absent is none.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let deployment = self.kubectl.get("deployment", "application");
        deployment
            .find(pointer)
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// The pods, without those that are being deleted.
    pub(crate) fn pods(&self) -> Vec<Object> {
        let selector = "app.kubernetes.io/name=application";
        let mut pods = self.kubectl.list("pods", selector);
        pods.retain(|pod| pod.find("/metadata/deletionTimestamp").is_none());
        pods
    }

    /// The pods that wait for their code.
    pub(crate) fn waiting(&self) -> Vec<Object> {
        let mut pods = self.pods();
        let fetches = "/status/initContainerStatuses/0/state/running";
        pods.retain(|pod| pod.find(fetches).is_some());
        pods
    }

    /// The nodes of the pods.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        let pods = self.pods();
        let nodes = pods.iter().map(|pod| pod.text("/spec/nodeName").to_owned());
        nodes.collect()
    }

    /// Waits until there are so many pods and no others, and looks whether each of them has this code.
    pub(crate) fn check(&self, replicas: usize, code: &Code) {
        self.kubectl
            .output(&["rollout", "status", DEPLOYMENT, TIMEOUT]);
        let pods = self.pods();
        assert_eq!(pods.len(), replicas);
        for pod in &pods {
            self.check_pod(pod, code);
        }
    }

    /// Looks whether a pod has this code, byte for byte.
    pub(crate) fn check_pod(&self, pod: &Object, code: &Code) {
        let exec = ["exec", pod.name(), "--container=application", "--"];
        let seen = self
            .kubectl
            .output(&[&exec[..], &["sh", "-c", LOOK]].concat());
        let seen: Vec<_> = seen.split_whitespace().take(3).collect();
        assert_eq!(seen, code.looks(), "{}", pod.name());
    }
}
