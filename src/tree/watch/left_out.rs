//! The names that do not belong whatever is in them: what happens to those is no change.
//!
//! Memory: sixteen bytes a name, however long it is. A name that belongs is taken for one of them with a probability of
//! one in 10¹⁴ where there are a hundred thousand; the next rescan finds what was missed by that.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::entry::EntryKind;
use crate::tree::rules::CODEIGNORE;
use crate::tree::{LeftOut, Tree};

/// What the last walk that came to its end left out by name.
#[derive(Debug, Default)]
pub(super) struct LeftOutNames {
    hasher: RandomState,
    names: HashSet<u64>,
    /// A walk is under way, and may come to other rules.
    walking: bool,
    /// What happened meanwhile to names that the last walk left out.
    touched: HashSet<u64>,
}

impl LeftOutNames {
    /// From here on it is not certain that what was left out still is.
    pub(super) fn begin_walk(&mut self) {
        self.walking = true;
    }

    /// Takes over what the walk left out. Tells whether something has happened to a name that belongs by now.
    #[must_use]
    pub(super) fn end_walk(&mut self, tree: &Tree) -> bool {
        let by_name = |name: &LeftOut| {
            let is_dir = name.by_name? == EntryKind::Directory;
            Some(self.hash(name.path.as_bytes(), is_dir))
        };
        self.names = tree.left_out.iter().filter_map(by_name).collect();
        self.walking = false;
        let touched = std::mem::take(&mut self.touched);
        !touched.is_subset(&self.names)
    }

    /// Whether something that happened to this name changes nothing. `appeared` tells whether it is a directory that came
    /// under the name: a rule may be about directories alone. It is asked only for names that were left out, and not
    /// given where nothing appeared.
    pub(super) fn ignore(&mut self, path: &[u8], appeared: Option<&dyn Fn() -> bool>) -> bool {
        // What is in these decides what belongs.
        if path.rsplit(|&byte| byte == b'/').next() == Some(CODEIGNORE.as_bytes()) {
            return false;
        }
        let known = [true, false].map(|is_dir| self.hash(path, is_dir));
        let Some(&name) = known.iter().find(|hash| self.names.contains(hash)) else {
            return false;
        };
        if appeared.is_some_and(|is_dir| self.hash(path, is_dir()) != name) {
            return false;
        }
        if self.walking {
            self.touched.insert(name);
        }
        true
    }

    fn hash(&self, path: &[u8], is_dir: bool) -> u64 {
        self.hasher.hash_one((path, is_dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryPath;

    /// What a walk gives that left these out: names alone, or with more than the name looked at (`?`), directories with `/`.
    fn tree(names: &[&str]) -> Tree {
        let left_out = names.iter().map(|name| {
            let path = name.trim_end_matches(['/', '?']);
            let by_name = match name.as_bytes().last() {
                Some(b'?') => None,
                Some(b'/') => Some(EntryKind::Directory),
                _ => Some(EntryKind::File),
            };
            LeftOut {
                path: EntryPath::new(path.as_bytes()).unwrap(),
                rule: "x".into(),
                by_name,
            }
        });
        Tree {
            left_out: left_out.collect(),
            ..Tree::default()
        }
    }

    fn after(names: &[&str]) -> LeftOutNames {
        let mut left_out = LeftOutNames::default();
        assert!(!left_out.end_walk(&tree(names)));
        left_out
    }

    #[test]
    fn names_alone_are_ignored_and_rules_never_are() {
        let mut left_out = after(&["a.log", "d/", "tls.key?", ".codeignore", "a/.codeignore"]);
        let mut check = |name: &str, expected| {
            assert_eq!(left_out.ignore(name.as_bytes(), None), expected, "{name}");
        };
        check("a.log", true);
        check("d", true);
        check("tls.key", false);
        check(".codeignore", false);
        check("a/.codeignore", false);
        check("b.log", false);
        check("a.log/x", false);
    }

    #[test]
    fn a_name_that_appears_as_another_kind_is_not_ignored() {
        let mut left_out = after(&["build/", "x.log"]);
        let mut check = |name: &str, is_dir: bool, expected| {
            let appeared: &dyn Fn() -> bool = &|| is_dir;
            let ignored = left_out.ignore(name.as_bytes(), Some(appeared));
            assert_eq!(ignored, expected, "{name} {is_dir}");
        };
        check("build", true, true);
        check("build", false, false);
        check("x.log", false, true);
        check("x.log", true, false);
    }

    #[test]
    fn what_happens_during_a_walk_counts_if_the_rules_have_changed() {
        let check = |next: &[&str], expected| {
            let mut left_out = after(&["a.log", "b.log"]);
            left_out.begin_walk();
            assert!(left_out.ignore(b"a.log", None));
            assert_eq!(left_out.end_walk(&tree(next)), expected, "{next:?}");
            assert!(!left_out.end_walk(&tree(next)));
        };
        check(&["a.log", "b.log"], false);
        check(&["a.log"], false);
        check(&["b.log"], true);
        check(&["a.log?"], true);
    }
}
