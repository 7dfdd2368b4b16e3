//! The direction of the modules: data flows one way, and so do their references.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, in the order of the data, with the modules that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("digest", &[]),
    ("telemetry", &[]),
    ("ordered", &[]),
    ("entry", &[]),
    ("exit", &["entry"]),
    ("shutdown", &["exit"]),
    ("reread", &["digest"]),
    ("machine", &[]),
    ("root", &["entry"]),
    ("config", &["digest", "entry", "exit", "telemetry"]),
    ("listing", &["digest", "entry"]),
    ("descriptor", &["digest"]),
    ("tree", &["config", "digest", "entry", "root"]),
    ("snapshot", &["digest", "entry", "listing", "root", "tree"]),
    (
        "archive",
        &[
            "descriptor",
            "digest",
            "entry",
            "ordered",
            "root",
            "snapshot",
            "tree",
        ],
    ),
    (
        "unpack",
        &["digest", "entry", "exit", "listing", "ordered", "root"],
    ),
    ("artifact", &["descriptor", "digest"]),
    ("metrics", &["telemetry"]),
    ("store", &["artifact", "descriptor", "digest", "entry"]),
    (
        "publication",
        &[
            "archive",
            "artifact",
            "config",
            "descriptor",
            "digest",
            "entry",
            "exit",
            "metrics",
            "root",
            "snapshot",
            "store",
            "tree",
        ],
    ),
    (
        "ingest",
        &[
            "archive",
            "config",
            "digest",
            "entry",
            "exit",
            "publication",
            "root",
            "snapshot",
            "tree",
            "unpack",
        ],
    ),
    (
        "listen",
        &["artifact", "exit", "machine", "metrics", "reread"],
    ),
    (
        "fetch",
        &[
            "archive",
            "config",
            "descriptor",
            "digest",
            "entry",
            "exit",
            "listing",
            "ordered",
            "root",
            "unpack",
        ],
    ),
    (
        "confirm",
        &["config", "descriptor", "digest", "exit", "fetch", "store"],
    ),
    (
        "http",
        &[
            "artifact",
            "descriptor",
            "digest",
            "entry",
            "exit",
            "ingest",
            "listen",
            "metrics",
            "publication",
            "reread",
            "unpack",
        ],
    ),
    (
        "pack",
        &["archive", "config", "exit", "publication", "tree"],
    ),
    (
        "server",
        &[
            "config",
            "exit",
            "http",
            "ingest",
            "listen",
            "machine",
            "metrics",
            "publication",
            "shutdown",
            "store",
            "tree",
            "unpack",
        ],
    ),
];

#[test]
fn modules_use_only_what_lies_before_them() {
    let modules = modules_in_use();
    for (module, uses) in &modules {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == module) else {
            panic!("src/{module} has no place in the table");
        };
        for used in uses {
            assert!(allowed.contains(&used.as_str()), "{module} uses {used}");
        }
    }
    for (module, allowed) in MAY_USE {
        let uses = modules
            .get(*module)
            .unwrap_or_else(|| panic!("there is no src/{module}"));
        for allowed in *allowed {
            assert!(
                uses.contains(*allowed),
                "{module} no longer uses {allowed}: take it out of the table"
            );
        }
    }
}

#[test]
fn the_table_itself_points_backwards() {
    for (index, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            assert!(
                MAY_USE[..index].iter().any(|(name, _)| name == used),
                "{module} → {used}"
            );
        }
    }
}

/// The top-level modules, each with those that its code mentions; tests are left out.
fn modules_in_use() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "bin" || inside.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let uses = modules.entry(module.clone()).or_default();
        uses.extend(mentioned(code).filter(|used| *used != module));
    }
    modules
}

/// The names that follow `crate::` outside of comments.
fn mentioned(code: &str) -> impl Iterator<Item = String> {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            assert!(
                !rest.starts_with('{'),
                "name each module by its own path: crate::{rest}"
            );
            rest.chars()
                .take_while(|&letter| letter.is_alphanumeric() || letter == '_')
                .collect()
        })
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
