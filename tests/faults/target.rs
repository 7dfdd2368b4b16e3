//! What a target holds, and what was left in it.

use std::fs;
use std::path::{Path, PathBuf};

use code_server::config::fetch::Layout;

use crate::client::KEEP;
use crate::trees::{Tree, Trees, describe};

/// What an installation keeps for the next one.
const RECORDS: [&str; 4] = ["installed", "segments", "stamps", "revisions"];

/// A directory that is to hold a tree.
pub(crate) struct Target<'a> {
    pub(crate) path: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) trees: &'a Trees,
}

/// What a target holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Nothing,
    /// This tree, whole, and it says so.
    Tree(&'static str),
    /// Something, and it does not say what.
    Unsaid,
    /// Something else than it says.
    Wrong(String),
}

impl Target<'_> {
    pub(crate) fn holding(&self) -> Holding {
        match self.layout {
            Layout::Direct => self.direct(),
            Layout::Versioned => self.versioned(),
        }
    }

    fn direct(&self) -> Holding {
        let says = fs::read_to_string(self.path.join(".code-revision"));
        match says {
            Ok(says) => self.compare(&self.path, says.trim_end()),
            Err(_) if !self.path.exists() || describe(&self.path).is_empty() => Holding::Nothing,
            Err(_) => Holding::Unsaid,
        }
    }

    fn versioned(&self) -> Holding {
        let current = self.path.join("current");
        let Ok(names) = fs::read_link(&current) else {
            return if self.revisions().is_empty() {
                Holding::Nothing
            } else {
                Holding::Unsaid
            };
        };
        let hex = names
            .strip_prefix("revisions")
            .unwrap_or(Path::new("elsewhere"));
        let revision = format!("sha256:{}", hex.display());
        self.compare(&self.path.join(&names), &revision)
    }

    fn compare(&self, root: &Path, revision: &str) -> Holding {
        let Some(tree) = self.tree(revision) else {
            return Holding::Wrong(format!("it says that it is {revision}"));
        };
        match difference(&tree.description, &describe(root)) {
            None => Holding::Tree(tree.name),
            Some(difference) => Holding::Wrong(format!("tree {}:\n{difference}", tree.name)),
        }
    }

    fn tree(&self, revision: &str) -> Option<&Tree> {
        let mut trees = self.trees.all();
        trees.find(|tree| tree.revision.to_string() == revision)
    }

    /// The names of the directories for revisions.
    fn revisions(&self) -> Vec<String> {
        names(&self.path.join("revisions"))
    }

    /// What no installation that has ended leaves.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let hidden = names(&self.path.join(".code-fetch")).into_iter();
        let mut left: Vec<String> = hidden
            .filter(|name| !RECORDS.contains(&&**name))
            .map(|name| format!(".code-fetch/{name}"))
            .collect();
        if self.layout == Layout::Versioned {
            let own = [".code-fetch", ".code-revision", "current", "revisions"];
            left.extend(
                names(&self.path)
                    .into_iter()
                    .filter(|name| !own.contains(&&**name)),
            );
            let revisions = self.revisions();
            let is_whole = |hex: &String| {
                let root = self.path.join("revisions").join(hex);
                matches!(
                    self.compare(&root, &format!("sha256:{hex}")),
                    Holding::Tree(_)
                )
            };
            let (whole, broken): (Vec<_>, Vec<_>) = revisions.into_iter().partition(is_whole);
            left.extend(broken);
            left.extend(whole.into_iter().skip(KEEP));
        }
        left
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

/// The lines that only one of two has.
fn difference(expected: &str, found: &str) -> Option<String> {
    let only = |these: &str, those: &str| -> Vec<String> {
        let lines = these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line));
        lines.map(Into::into).collect()
    };
    let told = || {
        let (missing, extra) = (only(expected, found), only(found, expected));
        format!("missing: {missing:#?}, instead: {extra:#?}")
    };
    (expected != found).then(told)
}
