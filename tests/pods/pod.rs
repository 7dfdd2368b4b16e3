//! A pod that was played, and what can be asked of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::podman::{podman, until};
use crate::process::Process;
use crate::tools::{output, run};

/// A pod that was played.
pub(crate) struct Pod {
    name: String,
    /// Where podman works: where memory runs out, it leaves a file that says so.
    directory: PathBuf,
}

impl Pod {
    /// The one of this name, which works in a directory.
    pub(crate) fn new(name: String, directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self { name, directory }
    }

    /// Runs a command in one of its containers.
    pub(crate) fn run(&self, container: &str, command: &[&str]) -> Output {
        run(&mut self.command("--interactive=false", container, command))
    }

    /// Gives a command in one of its containers a file to read.
    pub(crate) fn feed(&self, container: &str, command: &[&str], file: &Path) -> Output {
        let mut podman = self.command("--interactive", container, command);
        run(podman.stdin(File::open(file).unwrap()))
    }

    /// What a command writes, which must succeed.
    pub(crate) fn output(&self, container: &str, command: &[&str]) -> String {
        output(&mut self.command("--interactive=false", container, command))
    }

    fn command(&self, option: &str, container: &str, command: &[&str]) -> Command {
        let mut podman = podman(&["exec", option, &self.container(container)]);
        podman.args(command).current_dir(&self.directory);
        podman
    }

    /// The first process of a container.
    pub(crate) fn process(&self, container: &str) -> Process {
        Process(self.inspect(container, "{{.State.Pid}}").parse().unwrap())
    }

    /// What podman says of a container.
    fn inspect(&self, container: &str, format: &str) -> String {
        let container = self.container(container);
        output(&mut podman(&["inspect", "--format", format, &container]))
            .trim()
            .to_owned()
    }

    /// Waits until the server that it is has something to serve.
    pub(crate) fn wait_until_ready(&self) {
        until("the server is ready", || {
            self.run("code-server", &["/code-server", "healthcheck"])
                .status
                .success()
        });
    }

    fn container(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }
}
