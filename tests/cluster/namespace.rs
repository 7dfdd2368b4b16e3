//! A namespace for one test.

use std::io::{self, Write};
use std::thread;

use crate::kubectl::{Kubectl, TIMEOUT};

/// A namespace with a name that nobody else has. Dropping it removes it and what is in it, and tells what that was if the
/// test has failed.
pub(crate) struct Namespace {
    name: String,
    kubectl: Kubectl,
}

/// What is told of a test that failed.
const ACCOUNT: &[&[&str]] = &[
    &["get", "all,pvc,pdb", "--output=wide"],
    &[
        "get",
        "events",
        "--field-selector=type!=Normal",
        "--sort-by=.lastTimestamp",
    ],
    &[
        "logs",
        "--selector=app.kubernetes.io/name=code-server",
        "--tail=40",
    ],
    &[
        "logs",
        "--selector=code-server/client=true",
        "--container=fetch-code",
        "--tail=5",
    ],
];

impl Namespace {
    /// A new one.
    pub(crate) fn new() -> Self {
        let name = format!("code-server-test-{:08x}", fastrand::u32(..));
        let kubectl = Kubectl::new(&name);
        kubectl.output(&["create", "namespace", &name]);
        Self { name, kubectl }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// kubectl for what is in it.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    fn tell(&self) {
        for arguments in ACCOUNT {
            let told = self
                .kubectl
                .attempt(arguments)
                .unwrap_or_else(|error| error);
            let _ = writeln!(io::stderr(), "\n# kubectl {}\n{told}", arguments.join(" "));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        let removed = self
            .kubectl
            .attempt(&["delete", "namespace", &self.name, TIMEOUT]);
        if let Err(error) = removed {
            let _ = writeln!(io::stderr(), "{} is left behind: {error}", self.name);
        }
    }
}
