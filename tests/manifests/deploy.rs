//! `manifests/bin/deploy` against a cluster that is a directory, with a server and a fetcher that are real.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::kubernetes;
use crate::live::{Server, Setup};
use crate::tools;

const NOBODYS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
/// What `destroy` finds besides pods.
const OBJECTS: &str = "\
deployment.apps/code-server
service/code-server
networkpolicy.networking.k8s.io/code-server
persistentvolumeclaim/code-server
";

/// A server with its pod, and the Deployments `web` and `worker`.
struct Cluster {
    setup: Setup,
    server: Server,
    kubectl: PathBuf,
}

impl Cluster {
    /// One of each, if the tools are there.
    fn new() -> Option<Self> {
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

    fn path(&self, name: &str) -> PathBuf {
        self.setup.parent().join("cluster").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn put(&self, name: &str, object: &Value) {
        self.write(&format!("deployments/{name}.json"), object.to_string());
    }

    /// The one pod of a Deployment, which has this annotation.
    fn has_pod(&self, name: &str, revision: &str, phase: &str) {
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
    fn command(&self, arguments: &str) -> Command {
        let mut command = tools::program(kubernetes::manifests().join("bin/deploy"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/cluster/kubectl");
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
    fn deploy(&self, arguments: &str, code: i32) -> Said {
        Said::by(tools::run(&mut self.command(arguments)), code)
    }

    /// What a Deployment is pinned to.
    fn pin(&self, name: &str) -> String {
        let file = self.path(&format!("deployments/{name}.json"));
        let object: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let pin = object.pointer("/spec/template/metadata/annotations/code-server~1revision");
        pin.unwrap().as_str().unwrap().to_owned()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    /// The revision that is served.
    fn served(&self) -> String {
        self.server.get("/code.tar.gz").headers["code-revision"].clone()
    }

    #[track_caller]
    fn serves(&self, names: &[&str]) {
        let files = self.server.files();
        assert_eq!(files.keys().collect::<Vec<_>>(), names);
    }

    fn objects(&self) -> String {
        fs::read_to_string(self.path("objects")).unwrap()
    }
}

/// What the script said.
struct Said {
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn by(output: Output, code: i32) -> Self {
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
        Self { stdout, stderr }
    }

    #[track_caller]
    fn told(&self, sentence: &str) {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(sentence), "{all}");
    }
}

fn deployment(name: &str, revision: &str) -> Value {
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

#[test]
fn a_directory_becomes_the_code_of_every_deployment_that_is_named() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("new/.git/config", "");
    let said = cluster.deploy("new web worker", 0);
    assert_eq!(said.stdout.trim_end(), cluster.served());
    cluster.serves(&["main.py"]);
    assert!(!cluster.setup.path(".git").exists());
    for name in ["web", "worker"] {
        assert_eq!(cluster.pin(name), cluster.served());
        assert!(
            cluster
                .calls()
                .contains(&format!("rollout status deployment/{name} --timeout 10m"))
        );
    }
}

#[test]
fn an_archive_is_sent_as_it_is() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    tools::output(
        tools::program("tar")
            .args(["czf", "a.tgz", "-C", "new", "."])
            .current_dir(cluster.path("")),
    );
    cluster
        .deploy("-n shop a.tgz web --timeout 30s", 0)
        .told("web: from whatever was served to sha256:");
    cluster.serves(&["main.py"]);
    assert_eq!(cluster.pin("worker"), "");
    assert!(
        cluster
            .calls()
            .lines()
            .all(|call| call.starts_with("--namespace shop "))
    );
    cluster
        .deploy("a.tgz web", 0)
        .told("web: is pinned to this revision already");
}

#[test]
fn nothing_is_rolled_if_that_is_wanted() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("--no-roll new", 0);
    cluster.serves(&["main.py"]);
    assert!(!cluster.calls().contains("patch"));
}

#[test]
fn a_roll_out_that_fails_says_why_and_how_to_go_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("fails", "");
    let said = cluster.deploy("-n shop new web worker", 74);
    said.told("web-0 fetch-code ended with 74: no room for it");
    said.told("kubectl -n shop rollout undo deployment/web");
    said.told("kubectl -n shop rollout undo deployment/worker");
}

#[test]
fn an_undo_brings_the_revision_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let before = cluster.served();
    cluster.put("web", &deployment("web", &before));
    cluster.deploy("new web", 0);
    cluster
        .deploy("undo web", 0)
        .told(&format!("web: back to {before}"));
    assert_eq!(cluster.pin("web"), before);
}

/// What is refused before or by the server changes nothing.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &str, code: i32, sentence: &str) {
    cluster.deploy(arguments, code).told(sentence);
    assert!(!cluster.calls().contains("patch"), "{}", cluster.calls());
    cluster.serves(&["old.py"]);
}

#[test]
fn a_hostile_archive_changes_nothing() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let tar = "tar czPf hostile.tgz new/../new/main.py";
    tools::output(
        tools::program("sh")
            .args(["-c", tar])
            .current_dir(cluster.path("")),
    );
    refused(
        &cluster,
        "hostile.tgz web",
        65,
        "cannot lie beneath a directory",
    );
    cluster.write("cut.tgz", "no archive");
    refused(
        &cluster,
        "cut.tgz web",
        65,
        "cut.tgz was refused, and nothing was changed",
    );
}

#[test]
fn what_is_missing_is_told_before_anything_changes() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    refused(&cluster, "nowhere web", 78, "nowhere is not there");
    refused(
        &cluster,
        "new web other",
        78,
        "the Deployment other cannot be read",
    );
    refused(
        &cluster,
        "--server other new web",
        78,
        "the server other cannot be read",
    );
    cluster.has_pod("code-server", "", "Pending");
    refused(&cluster, "new web", 69, "no pod of code-server is running");
    refused(
        &cluster,
        "new web",
        69,
        "code-server-0 main waits: ContainerCreating",
    );
    assert!(!cluster.calls().contains("exec"));
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("KUBECTL", "kubectl-of-nobody")), 78)
        .told("there is no kubectl-of-nobody");
}

#[test]
fn a_file_that_cannot_be_read_is_not_left_out_in_silence() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    // Whoever runs the tests may read everything.
    let tar = cluster.path("bin/tar");
    cluster.write(
        "bin/tar",
        "#!/bin/sh\necho 'tar: ./main.py: Cannot open' >&2\nexit 2\n",
    );
    tools::output(tools::program("chmod").arg("+x").arg(tar));
    let path = format!(
        "{}:{}",
        cluster.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("PATH", path)), 74).told("new could not be read as a whole");
    assert!(!cluster.calls().contains("exec"));
}

#[test]
fn a_volume_that_is_read_only_is_told_with_the_remedy() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.write("read-only", "");
    refused(&cluster, "new web", 73, "add the component ingest");
}

#[test]
fn a_tree_that_is_not_the_servers_is_not_rolled_out() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut command = cluster.command("new web");
    let output = tools::run(command.env("STATE", cluster.path("nobody")));
    Said::by(output, 69).told("no server serves it");
    assert_eq!(cluster.pin("web"), "");
}

#[test]
fn a_deployment_that_does_not_read_its_annotation_is_warned_about() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut object = deployment("web", "");
    object["spec"]["template"]["spec"]["initContainers"] = json!([]);
    cluster.put("web", &object);
    cluster
        .deploy("new web", 0)
        .told("warning: the pods of web do not read the annotation");
}

#[test]
fn the_status_of_what_is_as_it_should_be() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("new web", 0);
    let line = format!(
        "2026-11-22T22:28:11Z  INFO installed {}: 1 file\n",
        cluster.served()
    );
    cluster.write("logs/worker-0", line);
    let said = cluster.deploy("status", 0);
    let short = &cluster.served()[7..19];
    said.told(&format!("code-server serves {}", cluster.served()));
    said.told(&format!(
        "web: 1/1 ready, pinned to {short}, pods have 1 × {short}\n"
    ));
    said.told(&format!(
        "worker: 1/1 ready, pinned to nothing, pods have 1 × {short}\n"
    ));
}

#[test]
fn the_status_of_a_deployment_that_went_back() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let before = cluster.served();
    cluster.deploy("--no-roll new", 0);
    cluster.put("web", &deployment("web", &before));
    cluster.has_pod("web", &before, "Running");
    cluster
        .deploy("status web", 0)
        .told("; not what is served\n");
}

/// A Deployment that is pinned to one revision, and whose pod has another one.
#[track_caller]
fn drifted(pin: &str, pod: &str, phase: &str, sentence: &str) {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let now = cluster.served();
    let real = |revision: &str| revision.replace("NOW", &now);
    cluster.put("web", &deployment("web", &real(pin)));
    cluster.has_pod("web", &real(pod), phase);
    cluster.deploy("status web", 1).told(sentence);
}

#[test]
fn a_pod_of_another_revision_has_drifted() {
    drifted(
        "NOW",
        NOBODYS,
        "Running",
        "pods have 1 × 000000000000; drift: 1 of 1 pods",
    );
}

#[test]
fn a_pod_that_has_not_started_has_nothing_yet() {
    drifted(
        "NOW",
        "NOW",
        "Pending",
        "pods have 1 × none yet; drift: 1 of 1 pods",
    );
}

#[test]
fn a_revision_that_the_server_does_not_have_starts_no_pods() {
    drifted(
        NOBODYS,
        NOBODYS,
        "Running",
        "the server does not have 000000000000",
    );
}

#[test]
fn a_pod_that_is_not_pinned_has_drifted_if_it_has_another_revision() {
    drifted(
        "",
        "",
        "Running",
        "pinned to nothing, pods have 1 × none yet; drift",
    );
}

#[test]
fn destroying_leaves_the_data() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    fs::remove_dir_all(cluster.path("pods")).unwrap();
    let said = cluster.deploy("destroy --yes", 0);
    said.told("kept: persistentvolumeclaim/code-server");
    assert_eq!(cluster.objects(), "persistentvolumeclaim/code-server\n");
    let selector = "-l app.kubernetes.io/name=code-server,!app.kubernetes.io/instance";
    assert!(cluster.calls().contains(selector), "{}", cluster.calls());
    cluster
        .deploy("destroy --yes", 0)
        .told("nothing of code-server is there, or only its volume");
}

#[test]
fn destroying_with_the_data_leaves_nothing() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.deploy("destroy --yes --with-data", 0);
    assert_eq!(cluster.objects(), "");
}

#[test]
fn nothing_is_destroyed_unless_somebody_says_so() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let said = cluster.deploy("destroy --with-data", 64);
    said.told("  persistentvolumeclaim/code-server");
    said.told("say --yes");
    assert_eq!(cluster.objects(), OBJECTS);
}

#[test]
fn what_does_not_go_is_named_in_the_end() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let said = cluster.deploy("wait-for-deletion --timeout 1s", 69);
    said.told("still there after 1s: deployment.apps/code-server, service/code-server");
    cluster.write("objects", "persistentvolumeclaim/code-server\n");
    cluster.deploy("wait-for-deletion --timeout 1s", 0);
    cluster.deploy("wait-for-deletion --with-data --timeout 1s", 69);
}

#[test]
fn pods_are_waited_for_when_all_the_rest_is_gone() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    fs::remove_dir_all(cluster.path("deployments")).unwrap();
    cluster.write(
        "objects",
        "pod/code-server-two-5d4-x\npod/code-server-5d4-x\n",
    );
    let said = cluster.deploy("wait-for-deletion --timeout 1s", 69);
    said.told("still there after 1s: pod/code-server-5d4-x (");
    cluster.write("objects", "pod/code-server-two-5d4-x\n");
    cluster.deploy("wait-for-deletion --timeout 1s", 0);
}

#[test]
fn only_what_belongs_to_the_instance_is_destroyed() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let mut object = deployment("code-server", "");
    object["metadata"]["labels"]["app.kubernetes.io/instance"] = json!("myapp");
    cluster.put("code-server", &object);
    cluster.deploy("destroy --yes --with-data", 0);
    let selector = "-l app.kubernetes.io/name=code-server,app.kubernetes.io/instance=myapp ";
    assert!(cluster.calls().contains(selector), "{}", cluster.calls());
    object["metadata"]["labels"] = json!({"app": "code-server"});
    cluster.put("code-server", &object);
    cluster.deploy("destroy --yes", 78).told("say -k DIRECTORY");
}

#[test]
fn a_command_line_that_makes_no_sense_is_told() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    for line in [
        "",
        "new",
        "--no-roll new web",
        "--nonsense new web",
        "new web --timeout",
        "new web --timeout soon",
    ] {
        cluster.deploy(line, 64).told("see --help");
    }
    for line in ["undo", "destroy everything", "wait-for-deletion web"] {
        cluster.deploy(line, 64).told("see --help");
    }
    assert_eq!(cluster.calls(), "");
    cluster.deploy("--help", 0).told("usage: deploy");
}

#[test]
fn it_leaves_no_file_behind() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let scratch = cluster.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = cluster.command("new web");
    Said::by(tools::run(command.env("TMPDIR", &scratch)), 0);
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
}
