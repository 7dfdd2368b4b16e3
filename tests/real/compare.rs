//! Whether a tree has arrived as it was.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{tools, trees};

/// Whose times a program restores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// Those of every entry.
    All,
    /// Not those of symbolic links.
    NotOfLinks,
    /// Those of files only.
    OfFiles,
}

/// Fails unless `copy` is `source` less what was left out: contents and links by `diff`, modes as an archive has them,
/// times to the second. What the fetcher notes for itself may lie in it besides.
pub(crate) fn assert_same(source: &Path, copy: &Path, left_out: &BTreeSet<PathBuf>, times: Times) {
    assert_same_contents(source, copy, left_out);
    for path in trees::paths(copy) {
        if is_note(&path) {
            continue;
        }
        let original = fs::symlink_metadata(source.join(&path)).expect("diff has found it in both");
        let copied = fs::symlink_metadata(copy.join(&path)).expect("it was listed just now");
        let path = path.display();
        let mode = copied.mode() & 0o7777;
        assert!(mode == archived_mode(&original), "mode of {path}: {mode:o}");
        if is_restored(&original, times) {
            assert_eq!(original.mtime(), copied.mtime(), "time of {path}");
        }
    }
}

fn assert_same_contents(source: &Path, copy: &Path, left_out: &BTreeSet<PathBuf>) {
    for path in left_out {
        let is_in = |root: &Path| fs::symlink_metadata(root.join(path)).is_ok();
        let path = path.display();
        assert!(is_in(source), "{path} cannot be left out of nothing");
        assert!(!is_in(copy), "{path} was to be left out");
    }
    let mut diff = tools::program("diff");
    diff.args(["-r", "-q", "--no-dereference"]);
    let output = tools::run(diff.arg(source).arg(copy));
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(trouble.is_empty(), "{trouble}");
    let report = String::from_utf8_lossy(&output.stdout);
    let differences: Vec<_> = report
        .lines()
        .filter(|line| {
            !only_in(source, line).is_some_and(|path| left_out.contains(&path))
                && !only_in(copy, line).is_some_and(|path| is_note(&path))
        })
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// The path below `root` that a line of `diff` says is nowhere else.
fn only_in(root: &Path, line: &str) -> Option<PathBuf> {
    let (parent, name) = line.strip_prefix("Only in ")?.split_once(": ")?;
    let parent = Path::new(parent).strip_prefix(root).ok()?;
    Some(parent.join(name))
}

/// What the fetcher lays beside the code.
fn is_note(path: &Path) -> bool {
    [".code-revision", ".code-fetch"]
        .iter()
        .any(|note| path.starts_with(note))
}

fn archived_mode(original: &Metadata) -> u32 {
    let executable = original.mode() & 0o111 != 0;
    match original.file_type() {
        kind if kind.is_symlink() => 0o777,
        kind if kind.is_file() && !executable => 0o644,
        _ => 0o755,
    }
}

fn is_restored(original: &Metadata, times: Times) -> bool {
    match times {
        Times::All => true,
        Times::NotOfLinks => !original.is_symlink(),
        Times::OfFiles => original.is_file(),
    }
}
