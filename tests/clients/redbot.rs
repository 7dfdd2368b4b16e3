//! `REDbot`, which knows what a web server may do wrong.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::site::Site;
use crate::tools;

/// What it must say of each resource, since the absence of a complaint may also mean that it did not look.
const PRAISE: [&str; 6] = [
    "CL_CORRECT",
    "CONTENT_TYPE_OPTIONS",
    "DATE_CORRECT",
    "IMS_304",
    "INM_304",
    "RANGE_CORRECT",
];

/// Where it was installed.
fn installed() -> Option<PathBuf> {
    let trees = env::var_os("CODE_SERVER_TEST_TREES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trees"),
        PathBuf::from,
    );
    let redbot = trees.join("redbot");
    let reason = format!(
        "no redbot in {}, make it with tests/real/trees.sh",
        trees.display()
    );
    (redbot.is_dir() || tools::skip(true, &reason)).then_some(redbot)
}

fn check(resource: &str) {
    let Some(redbot) = installed() else { return };
    let Some(site) = Site::for_clients(&["python3"]) else {
        return;
    };
    let report = site.run(&format!(
        "PYTHONPATH='{}' python3 -B -m redbot.cli -o har $URL/{resource}",
        redbot.display()
    ));
    let report: Value = serde_json::from_str(&report.succeeds()).unwrap();
    let notes = notes(&report);
    let complaints: Vec<_> = notes
        .values()
        .filter(|note| !["GOOD", "INFO"].contains(&level(note)))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    for praise in PRAISE {
        let note = notes.get(praise);
        assert!(
            note.is_some_and(|note| level(note) == "GOOD"),
            "{praise}: {notes:#?}"
        );
    }
}

/// All that it has to say, by the names of its notes.
fn notes(report: &Value) -> BTreeMap<&str, &Value> {
    let mut open: Vec<_> = report["log"]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|entry| entry["_red_messages"].as_array().unwrap())
        .collect();
    let mut notes = BTreeMap::new();
    while let Some(note) = open.pop() {
        notes.insert(note["note_id"].as_str().unwrap(), note);
        open.extend(note["subnotes"].as_array().into_iter().flatten());
    }
    notes
}

fn level(note: &Value) -> &str {
    note["level"].as_str().unwrap()
}

#[test]
fn there_is_nothing_to_complain_of_about_the_archive() {
    check("code.tar.gz");
}

#[test]
fn there_is_nothing_to_complain_of_about_the_descriptor() {
    check("code.json");
}

#[test]
fn there_is_nothing_to_complain_of_about_the_listing() {
    check("code.list");
}
