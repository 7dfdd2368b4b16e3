//! A network, a volume and images of a test's own, the pods that it plays there, and that nothing of it stays.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::object::Object;
use crate::play::{self, Stage};
use crate::pod::Pod;
use crate::podman::{podman, text};
use crate::rendered::Rendered;
use crate::tools::{installed, output, program, run, skip};
use crate::tree;

/// The directory on the volume that is served.
const TREE: &str = "workspace";

/// All that a test leaves behind if it leaves anything: each has the suffix in its name.
const LISTS: [&[&str]; 5] = [
    &["ps", "--all", "--format", "{{.Names}} in {{.PodName}}"],
    &["pod", "ps", "--format", "{{.Name}}"],
    &["volume", "ls", "--format", "{{.Name}}"],
    &["network", "ls", "--format", "{{.Name}}"],
    &["secret", "ls", "--format", "{{.Name}}"],
];

/// Where a test has everything that it makes. It is removed when this is dropped.
pub(crate) struct Site {
    suffix: String,
    images: [(&'static str, String); 3],
    directory: TempDir,
    mount_point: PathBuf,
}

/// Gives a site to a test, and looks afterwards that nothing is left; skips it where there are no images.
pub(crate) fn with(test: impl FnOnce(&Site)) {
    let Some(image) = env::var("CODE_SERVER_TEST_IMAGE").ok() else {
        // What makes the image runs after the tests, so this holds even where nothing may be missing.
        skip(false, "CODE_SERVER_TEST_IMAGE names no image");
        return;
    };
    if !installed(&["podman", "busybox"]) {
        return;
    }
    let fetcher = env::var("CODE_SERVER_TEST_FETCH_IMAGE");
    let site = Site::new(
        image,
        fetcher.unwrap_or("localhost/fetch-init:ci".to_owned()),
    );
    test(&site);
    let suffix = site.suffix.clone();
    drop(site);
    assert_eq!(left(&suffix), [""; 0]);
}

impl Site {
    fn new(server: String, fetcher: String) -> Self {
        let suffix = format!("{:08x}", fastrand::u32(..));
        let mut site = Self {
            images: [
                ("code-server", server),
                ("fetch-init", fetcher),
                ("busybox:1.36", busybox(&suffix)),
            ],
            directory: tempfile::tempdir().unwrap(),
            mount_point: PathBuf::new(),
            suffix,
        };
        output(&mut podman(&["volume", "create", &site.named("data")]));
        let format = "--format={{.Mountpoint}}";
        let path = output(&mut podman(&[
            "volume",
            "inspect",
            format,
            &site.named("data"),
        ]));
        site.mount_point = PathBuf::from(path.trim());
        output(&mut podman(&[
            "network",
            "create",
            "--internal",
            &site.named("net"),
        ]));
        site.build_busybox();
        site
    }

    /// An image of what the manifests take from a registry, made of the busybox of this host.
    fn build_busybox(&self) {
        let root = self.directory.path().join("busybox");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir(root.join("tmp")).unwrap();
        fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        let busybox = output(program("sh").args(["-c", "command -v busybox"]));
        fs::copy(busybox.trim(), root.join("bin/busybox")).unwrap();
        for applet in [
            "cat", "dd", "gzip", "httpd", "sh", "sleep", "tar", "touch", "wget",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let recipe = root.with_file_name("Dockerfile");
        fs::write(&recipe, "FROM scratch\nCOPY . /\nENV PATH=/bin\n").unwrap();
        let (_, image) = &self.images[2];
        let build = [
            "build",
            "--quiet",
            "--pull=never",
            "--network=none",
            "--tag",
            image,
        ];
        output(podman(&build).arg("--file").arg(recipe).arg(root));
    }

    /// Puts other code in the place of what is on the volume, as one step, and gives its revision.
    pub(crate) fn write(&self, files: &[(&str, &[u8])]) -> String {
        let tree = tree::make(self.directory.path(), files);
        let served = self.mount_point.join(TREE);
        let next = self.mount_point.join("next");
        output(program("cp").arg("-r").arg(&tree).arg(&next));
        if served.exists() {
            fs::rename(
                &served,
                self.mount_point.join(format!("old-{}", fastrand::u64(..))),
            )
            .unwrap();
        }
        fs::rename(next, served).unwrap();
        tree::revision(&tree)
    }

    /// The same as an archive, and its revision.
    pub(crate) fn archive(&self, files: &[(&str, &[u8])]) -> (PathBuf, String) {
        let tree = tree::make(self.directory.path(), files);
        (tree::archive(&tree), tree::revision(&tree))
    }

    /// Plays the server, found by the name of its Service; it need not be ready.
    pub(crate) fn serve(&self, rendered: &Rendered, name: &str) -> Pod {
        let deployment = rendered.deployment(name);
        self.own_volume(deployment);
        let alias = format!("{}:alias={}", self.named("net"), rendered.service(name));
        self.play(deployment, &alias).expect("a server starts")
    }

    /// What a kubelet does for a group of the file system: all of the volume belongs to it, and it may write there.
    fn own_volume(&self, deployment: &Object) {
        let state = self.mount_point.join(".code-server");
        fs::create_dir_all(&state).unwrap();
        if let Some(group) = deployment.find("/spec/template/spec/securityContext/fsGroup") {
            output(
                program("chgrp")
                    .args(["-R", &group.to_string()])
                    .arg(&self.mount_point),
            );
            output(
                program("chmod")
                    .args(["-R", "g+rwX,g+s"])
                    .arg(&self.mount_point),
            );
        }
    }

    /// Plays an application, and waits until it runs; what its init container says if that fails.
    pub(crate) fn start(&self, deployment: &Object) -> Result<Pod, String> {
        self.play(deployment, &self.named("net"))
    }

    fn play(&self, deployment: &Object, network: &str) -> Result<Pod, String> {
        let name = format!(
            "{}-{:08x}-{}",
            deployment.name(),
            fastrand::u32(..),
            self.suffix
        );
        let volume = self.named("data");
        let stage = Stage {
            images: &self.images,
            volume: (&volume, &self.mount_point),
            directories: self.directory.path(),
        };
        let file = self.directory.path().join(format!("{name}.yaml"));
        let pod = play::pod(deployment, &name, &stage);
        Self::make_directories(&pod);
        fs::write(&file, pod.to_string()).unwrap();
        let mut podman_play = podman(&["kube", "play", "--network", network]);
        // Where podman works, it leaves a file that says so when a container's memory runs out.
        let played = run(podman_play.arg(file).current_dir(self.directory.path()));
        if played.status.success() {
            return Ok(Pod::new(name, self.directory.path()));
        }
        let logs = run(&mut podman(&["pod", "logs", &name]));
        Err([&played.stderr, &logs.stdout, &logs.stderr]
            .map(|bytes| text(bytes))
            .concat())
    }

    /// Those that a pod has for itself, as a kubelet makes them: empty, and everybody's.
    fn make_directories(pod: &Value) {
        for volume in pod["spec"]["volumes"].as_array().unwrap() {
            let path = volume.pointer("/hostPath/path").and_then(Value::as_str);
            if let Some(path) = path.filter(|path| !Path::new(path).exists()) {
                fs::create_dir(path).unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            }
        }
    }

    /// The pods that have got anything: for each, whether it has got all of its code.
    pub(crate) fn arrivals(&self) -> Vec<bool> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("-code"))
            .filter(|path| fs::read_dir(path).is_ok_and(|mut files| files.next().is_some()))
            .map(|path| path.join(".code-revision").exists())
            .collect()
    }

    fn named(&self, what: &str) -> String {
        format!("{what}-{}", self.suffix)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let filter = format!("name={}", self.suffix);
        let list = run(&mut podman(&[
            "pod",
            "ps",
            "--quiet",
            "--no-trunc",
            "--filter",
            &filter,
        ]));
        let pods = text(&list.stdout);
        // Some may not be there; `with` looks whether any of it is left.
        drop(run(
            podman(&["pod", "rm", "--force", "--time=0"]).args(pods.lines())
        ));
        let list = run(&mut podman(&[
            "volume", "ls", "--quiet", "--filter", &filter,
        ]));
        let volumes = text(&list.stdout);
        drop(run(podman(&["volume", "rm"]).args(volumes.lines())));
        drop(run(&mut podman(&["network", "rm", &self.named("net")])));
        drop(run(&mut podman(&["rmi", &self.images[2].1])));
    }
}

/// The name of a site's own image.
fn busybox(suffix: &str) -> String {
    format!("localhost/busybox-{suffix}:test")
}

/// What there still is of a site.
fn left(suffix: &str) -> Vec<String> {
    // Other images come and go meanwhile, which a list of them does not bear.
    let image = run(&mut podman(&["image", "exists", &busybox(suffix)]));
    assert!(!image.status.success(), "{} is left", busybox(suffix));
    let lists = LISTS.map(|list| output(&mut podman(list)));
    let lines = lines(&lists).filter(|line| line.contains(suffix));
    lines.map(str::to_owned).collect()
}

fn lines(texts: &[String]) -> impl Iterator<Item = &str> {
    texts.iter().flat_map(|text| text.lines())
}
