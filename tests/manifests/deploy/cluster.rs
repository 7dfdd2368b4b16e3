//! A cluster that is a directory, with a server and a fetcher that are real; `kubectl` beside this plays the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::kubernetes;
use crate::live::{Server, Setup};
use crate::tools;

/// What `destroy` finds besides pods.
pub(super) const OBJECTS: &str = "\
deployment.apps/code-server
service/code-server
networkpolicy.networking.k8s.io/code-server
persistentvolumeclaim/code-server
";

/// A server with its pod, and the Deployments `web` and `worker`.
pub(super) struct Cluster {
    pub(super) setup: Setup,
    server: Server,
    kubectl: PathBuf,
}

impl Cluster {
    /// One of each, if the tools are there.
    pub(super) fn new() -> Option<Self> {
        let kubectl = PathBuf::from(kubernetes::kubectl()?.get_args().nth(2).unwrap());
        if !tools::installed(&["bash", "tar"]) {
            return None;
        }
        let setup = Setup::new(&["--settle", "10ms"]);
        setup.write("old.py", "print('old')\n");
        let server = setup.serve();
        let cluster = Self {
            setup,
            server,
            kubectl,
        };
        for directory in ["deployments", "pods", "logs", "new"] {
            fs::create_dir_all(cluster.path(directory)).unwrap();
        }
        cluster.write("objects", OBJECTS);
        cluster.write("new/main.py", "print('new')\n");
        for name in ["web", "worker"] {
            cluster.put(name, &deployment(name, ""));
            cluster.has_pod(name, "", "Running");
        }
        cluster.put("code-server", &deployment("code-server", ""));
        cluster.has_pod("code-server", "", "Running");
        Some(cluster)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.setup.parent().join("cluster").join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn put(&self, name: &str, object: &Value) {
        self.write(&format!("deployments/{name}.json"), object.to_string());
    }

    /// The one pod of a Deployment, which has this annotation.
    pub(super) fn has_pod(&self, name: &str, revision: &str, phase: &str) {
        let state = if phase == "Running" {
            "running"
        } else {
            "waiting"
        };
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("{name}-0"), "annotations": {"code-server/revision": revision}},
            "status": {"phase": phase, "containerStatuses": [
                {"name": "main", "state": {state: {"reason": "ContainerCreating"}}}
            ]},
        });
        let file = format!("pods/app={name}/{name}-0.json");
        self.write(&file, pod.to_string());
    }

    /// The script with these arguments, separated by spaces.
    pub(super) fn command(&self, arguments: &str) -> Command {
        let mut command = tools::program(kubernetes::manifests().join("bin/deploy"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/deploy/kubectl");
        command
            .args(arguments.split_whitespace())
            .current_dir(self.path(""))
            .env("KUBECTL", here)
            .env("KUBECONFIG", "/dev/null")
            .env("REAL_KUBECTL", &self.kubectl)
            .env("CLUSTER", self.path(""))
            .env("CODE_SERVER", tools::CODE_SERVER)
            .env("FETCH_INIT", tools::FETCH_INIT)
            .env("SERVER", format!("http://{}", self.server.address))
            .env("TREE", &self.setup.root)
            .env("STATE", &self.setup.state);
        command
    }

    /// Runs it, and panics with what it said if it ends in another way.
    #[track_caller]
    pub(super) fn deploy(&self, arguments: &str, code: i32) -> Said {
        Said::by(tools::run(&mut self.command(arguments)), code)
    }

    /// What a Deployment is pinned to.
    pub(super) fn pin(&self, name: &str) -> String {
        let file = self.path(&format!("deployments/{name}.json"));
        let object: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let pin = object.pointer("/spec/template/metadata/annotations/code-server~1revision");
        pin.unwrap().as_str().unwrap().to_owned()
    }

    pub(super) fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    /// The revision that is served.
    pub(super) fn served(&self) -> String {
        self.server.get("/code.tar.gz").headers["code-revision"].clone()
    }

    #[track_caller]
    pub(super) fn serves(&self, names: &[&str]) {
        let files = self.server.files();
        assert_eq!(files.keys().collect::<Vec<_>>(), names);
    }

    pub(super) fn objects(&self) -> String {
        fs::read_to_string(self.path("objects")).unwrap()
    }
}

/// What the script said.
pub(super) struct Said {
    pub(super) stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    pub(super) fn by(output: Output, code: i32) -> Self {
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
        Self { stdout, stderr }
    }

    #[track_caller]
    pub(super) fn told(&self, sentence: &str) {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(sentence), "{all}");
    }
}

pub(super) fn deployment(name: &str, revision: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"code-server/revision": revision}},
                "spec": {
                    "initContainers": [{"name": "fetch-code", "image": "fetch-init", "env": [{
                        "name": "FETCH_INIT_REVISION",
                        "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['code-server/revision']"}},
                    }]}],
                    "containers": [{
                        "name": "main",
                        "image": "main",
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }],
                },
            },
        },
        "status": {"readyReplicas": 1},
    })
}
