//! Code to be distributed.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::tools;

/// A tree that is told from others by one word in it, with a payload that cannot be compressed.
pub(crate) struct Code {
    directory: TempDir,
    version: &'static str,
    revision: String,
}

impl Code {
    /// A tree of a few files.
    pub(crate) fn new(version: &'static str) -> Self {
        Self::with_payload(version, 1 << 16)
    }

    /// The same with so many bytes besides.
    pub(crate) fn with_payload(version: &'static str, bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("package");
        fs::create_dir(&package).unwrap();
        let mut payload = vec![0; bytes];
        fastrand::fill(&mut payload);
        fs::write(directory.path().join("payload"), payload).unwrap();
        fs::write(directory.path().join("version"), version).unwrap();
        fs::write(
            package.join("module.py"),
            format!("VERSION = '{version}'\n"),
        )
        .unwrap();
        let revision = revision(directory.path());
        Self {
            directory,
            version,
            revision,
        }
    }

    /// The revision, computed here and not by the server that serves it.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    /// `tar` that writes the tree to standard output.
    pub(crate) fn tar(&self) -> Command {
        let mut tar = tools::program("tar");
        tar.arg("czC").arg(self.directory.path()).arg(".");
        tar
    }

    /// What [`LOOK`] finds where this is in place: revision, version, and digest of the payload.
    pub(crate) fn looks(&self) -> [String; 3] {
        let payload = tools::sha256(&self.directory.path().join("payload"));
        [self.revision.clone(), self.version.to_owned(), payload]
    }
}

/// Looks at the code in a pod.
pub(crate) const LOOK: &str =
    "echo $(cat /app/.code-revision) $(cat /app/version) $(sha256sum < /app/payload)";

fn revision(tree: &Path) -> String {
    let mut pack = tools::program(tools::CODE_SERVER);
    let listing = tools::output(pack.arg("pack").arg(tree).arg("--list"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), listing).unwrap();
    format!("sha256:{}", tools::sha256(file.path()))
}
