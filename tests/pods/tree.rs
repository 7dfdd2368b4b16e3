//! Trees of code that a test makes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{self, output, program};

/// A new tree of these files in a directory.
pub(crate) fn make(directory: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let tree = directory.join(format!("tree-{:016x}", fastrand::u64(..)));
    fs::create_dir(&tree).unwrap();
    for (name, bytes) in files {
        fs::write(tree.join(name), bytes).unwrap();
    }
    tree
}

/// A tree as an archive, which lies beside it.
pub(crate) fn archive(tree: &Path) -> PathBuf {
    let archive = tree.with_extension("tar.gz");
    let mut tar = program("tar");
    output(tar.arg("czf").arg(&archive).arg("-C").arg(tree).arg("."));
    archive
}

/// The revision of a tree: the digest of its list, which lies beside it afterwards.
pub(crate) fn revision(tree: &Path) -> String {
    let list = tree.with_extension("list");
    let mut pack = program(tools::CODE_SERVER);
    let listed = output(pack.arg("pack").arg(tree).arg("--list"));
    fs::write(&list, listed).unwrap();
    format!("sha256:{}", tools::sha256(&list))
}
