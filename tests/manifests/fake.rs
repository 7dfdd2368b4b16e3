//! A cluster that is none: scripts find a kubectl that writes down what it was asked, see `fake-kubectl.sh`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::kubernetes::manifests;
use crate::tools;

/// One Deployment of two replicas without an autoscaler, and a script that meets it.
pub(crate) struct Cluster {
    directory: TempDir,
    script: &'static str,
}

impl Cluster {
    /// The script is named by its path below the examples.
    pub(crate) fn new(script: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Self { directory, script };
        for (file, content) in [
            ("calls", ""),
            ("replicas", "2\n"),
            ("autoscalers", ""),
            ("manifest", "{\"as\": \"applied\"}"),
            ("phase", "Running\n"),
            ("result", "12 answers, 1 failures\n"),
        ] {
            cluster.set(file, content);
        }
        cluster
    }

    /// Has the cluster answer otherwise.
    pub(crate) fn set(&self, file: &str, content: &str) {
        fs::write(self.path(file), content).unwrap();
    }

    /// What became of one of its files; nothing where there is none.
    pub(crate) fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Runs the script to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        tools::run(&mut self.command(arguments))
    }

    /// Runs it until it waits for the cluster, and sends it a signal as a terminal does, with all that it has started.
    pub(crate) fn interrupt(&self, signal: &str, arguments: &[&str]) -> Output {
        let reached = self.path("reached");
        tools::output(tools::program("mkfifo").arg(&reached));
        let mut command = self.command(arguments);
        let child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that never waits must not keep the test waiting.
        tools::output(tools::program("timeout").args(["60", "cat"]).arg(&reached));
        fs::remove_file(&reached).unwrap();
        let group = format!("-{}", child.id());
        tools::output(tools::program("kill").args(["-s", signal, "--", &group]));
        child.wait_with_output().unwrap()
    }

    /// Signals that were ignored when the tests began would be so for the script, whatever it traps.
    fn command(&self, arguments: &[&str]) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = tools::program("env");
        command
            .args(["--default-signal=INT,TERM", "--"])
            .arg(manifests().join("examples").join(self.script))
            .args(arguments)
            .env("KUBECTL", here.join("tests/manifests/fake-kubectl.sh"))
            .env("FAKE", self.directory.path());
        command
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}
