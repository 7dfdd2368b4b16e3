//! A server in a namespace of its own.

use std::process::Stdio;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::code::Code;
use crate::kubectl::{self, Kubectl, until};
use crate::namespace::Namespace;
use crate::node;
use crate::object::Object;
use crate::overlay::Overlay;
use crate::settings::{Settings, settings};
use crate::tools;

/// Tests that do something to nodes have all of them for themselves.
static NODES: RwLock<()> = RwLock::new(());

/// Whether a test shares the nodes with others. What is in it is held, and never looked at.
enum Nodes {
    Shared { _by: RwLockReadGuard<'static, ()> },
    Own { _by: RwLockWriteGuard<'static, ()> },
}

/// A server, which has no code yet.
pub(crate) struct Installation {
    // Gone before the next one may have the nodes.
    namespace: Namespace,
    server: Overlay,
    settings: Settings,
    nodes: Vec<Object>,
    _turn: Nodes,
}

/// The pods of the server.
const SERVER: &str = "app.kubernetes.io/name=code-server";

impl Installation {
    /// One that shares so many nodes at least with other tests; nothing where there are not as many.
    pub(crate) fn new(nodes: usize) -> Option<Self> {
        Self::with(nodes, || Nodes::Shared {
            _by: NODES.read().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// One that has the nodes for itself.
    pub(crate) fn alone(nodes: usize) -> Option<Self> {
        Self::with(nodes, || Nodes::Own {
            _by: NODES.write().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn with(needed: usize, turn: impl FnOnce() -> Nodes) -> Option<Self> {
        let settings = settings()?;
        kubectl::program()?;
        let turn = turn();
        let nodes = node::schedulable(&Kubectl::new("default"));
        if nodes.len() < needed {
            let reason = format!("{needed} schedulable nodes are needed, not {}", nodes.len());
            tools::skip(false, &reason);
            return None;
        }
        let namespace = Namespace::new();
        let server = Overlay::server(&settings, namespace.name());
        let installation = Self {
            namespace,
            server,
            settings,
            nodes,
            _turn: turn,
        };
        let kubectl = installation.kubectl();
        kubectl.output(&["apply", "--kustomize", installation.server.path()]);
        Some(installation)
    }

    /// kubectl for what is in the namespace.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        self.namespace.kubectl()
    }

    /// The value of the label that everything here has.
    pub(crate) fn instance(&self) -> &str {
        self.namespace.name()
    }

    /// The images.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The nodes that take pods.
    pub(crate) fn nodes(&self) -> &[Object] {
        &self.nodes
    }

    /// The overlay of the server.
    pub(crate) fn overlay(&self) -> &Overlay {
        &self.server
    }

    /// The pod of the server, once it runs.
    pub(crate) fn server(&self) -> Object {
        until("the server runs", || self.running_server())
    }

    /// The pod of the server, if it runs now.
    pub(crate) fn running_server(&self) -> Option<Object> {
        let pods = self.kubectl().list("pods", SERVER).into_iter();
        let mut stay = pods.filter(|pod| pod.find("/metadata/deletionTimestamp").is_none());
        stay.find(|pod| {
            pod.find("/status/containerStatuses/0/state/running")
                .is_some()
        })
    }

    /// The node of the server, which its volume is on, and another one.
    pub(crate) fn home_and_away(&self) -> (&str, &str) {
        let server = self.server();
        let at_home = |node: &&Object| node.name() == server.text("/spec/nodeName");
        let (home, away): (Vec<_>, Vec<_>) = self.nodes.iter().partition(at_home);
        (home[0].name(), away[0].name())
    }

    /// Replaces the code, as a person would from a laptop.
    pub(crate) fn ingest(&self, code: &Code) {
        let name = self.server().name().to_owned();
        let mut tar = code.tar().stdout(Stdio::piped()).spawn().unwrap();
        let arguments = ["exec", "--stdin", &name, "--"];
        let ingest = ["/code-server", "ingest", "/data/workspace"];
        let mut ingest = self.kubectl().command(&[&arguments[..], &ingest].concat());
        let printed = tools::output(ingest.stdin(tar.stdout.take().expect("it is piped")));
        assert!(tar.wait().unwrap().success());
        assert_eq!(printed.trim(), code.revision());
    }

    /// The revision that is served.
    pub(crate) fn served(&self) -> String {
        let name = self.server().name().to_owned();
        let ask = ["/fetch-init", "http://127.0.0.1:8080", "--print-revision"];
        let printed = self
            .kubectl()
            .output(&[&["exec", &name, "--"], &ask[..]].concat());
        printed.trim().to_owned()
    }

    /// Ends the server as a crash does, without a word of warning.
    pub(crate) fn crash(&self) {
        let forced = ["--force", "--grace-period=0"];
        let delete = ["delete", "pods", "--selector", SERVER];
        self.kubectl().output(&[&delete[..], &forced].concat());
    }

    /// Ends the server for good.
    pub(crate) fn stop(&self) {
        let none = ["scale", "deployment/code-server", "--replicas=0"];
        self.kubectl().output(&none);
        until("the server has ended", || {
            self.kubectl().list("pods", SERVER).is_empty().then_some(())
        });
    }

    /// The volume with the code.
    pub(crate) fn volume(&self) -> Object {
        let claim = self.kubectl().get("persistentvolumeclaim", "code-server");
        self.kubectl()
            .get("persistentvolume", claim.text("/spec/volumeName"))
    }
}
