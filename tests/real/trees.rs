//! The trees: where they are, and how to tell that one works where it has arrived.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tools;

/// A tree of real code.
pub(crate) struct Tree {
    /// Where it lies.
    pub(crate) root: PathBuf,
    /// Whether nothing in it is to be left out.
    pub(crate) complete: bool,
    /// Uses a copy of it as its users would; fails if that does not work.
    pub(crate) try_out: fn(&Path),
}

/// Tree S: this repository.
pub(crate) fn repository() -> Tree {
    Tree {
        root: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        complete: false,
        try_out: |copy| assert!(copy.join("src/lib.rs").is_file()),
    }
}

/// Tree M, if it is there: an installation of Python packages.
pub(crate) fn python() -> Option<Tree> {
    let root = made("M", true)?;
    tools::installed(&["python3"]).then_some(Tree {
        root,
        complete: true,
        try_out: |copy| {
            // Certifi's bundle has the ending of a private key, and must not be taken for one.
            let script =
                "import django, pandas, certifi, os; assert os.path.exists(certifi.where())";
            let mut python = tools::program("python3");
            tools::output(python.args(["-B", "-c", script]).env("PYTHONPATH", copy));
        },
    })
}

/// Tree L, if it is there: an installation of Node.js packages.
pub(crate) fn node() -> Option<Tree> {
    let root = made("L", tools::is_set("CODE_SERVER_TEST_L"))?;
    tools::installed(&["node"]).then_some(Tree {
        root,
        complete: true,
        try_out: |copy| {
            let compiler = copy.join("node_modules/typescript/bin/tsc");
            let version = tools::output(tools::program("node").arg(compiler).arg("--version"));
            assert!(version.starts_with("Version "), "{version}");
        },
    })
}

fn made(name: &str, needed: bool) -> Option<PathBuf> {
    let trees = env::var_os("CODE_SERVER_TEST_TREES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trees"),
        PathBuf::from,
    );
    let root = trees.join(name);
    let reason = format!(
        "no tree {name} in {}, make it with tests/real/trees.sh",
        trees.display()
    );
    (root.is_dir() || tools::skip(needed, &reason)).then_some(root)
}

/// The paths that the server leaves out of a tree; of a directory left out, only its own.
pub(crate) fn left_out(tree: &Tree) -> BTreeSet<PathBuf> {
    let mut pack = tools::program(tools::CODE_SERVER);
    let pack = pack.arg("pack").arg(&tree.root).arg("--list-excluded");
    let lines = tools::output(pack);
    assert!(!tree.complete || lines.is_empty(), "{lines}");
    let paths = lines.lines().map(|line| {
        let (path, _rule) = line.split_once('\t').expect("a rule follows the path");
        PathBuf::from(path.trim_start_matches("./").trim_end_matches('/'))
    });
    paths.collect()
}

/// Every path below a directory, parents before children, in an order that does not depend on the disk.
pub(crate) fn paths(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(parent) = open.pop() {
        for entry in fs::read_dir(directory.join(&parent)).expect("a tree of ours can be read") {
            let entry = entry.expect("a tree of ours can be read");
            let path = parent.join(entry.file_name());
            if entry.file_type().expect("it is there").is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}
