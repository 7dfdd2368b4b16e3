//! Which directories are watched, by path and by identity.
//!
//! The kernel watches inodes and tells of an inode that is watched under two paths by one of them alone; taking the other
//! path back would end the watch for both. So each inode is watched under one path, and a directory that is found under a
//! new one changes over: its old watch is taken back first, the new one set after that, and only then is it listed.
//!
//! Memory: for each directory its path once, and some 200 bytes.

use std::collections::HashMap;
use std::sync::Arc;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// A path beneath the root; empty for the root itself.
pub(super) type Beneath = Arc<[u8]>;

/// The directories of the tree that are watched, and those that a walk has come by.
#[derive(Debug, Default)]
pub(super) struct Directories {
    by_path: HashMap<Beneath, Watched>,
    by_identity: HashMap<Identity, Beneath>,
    walk: u64,
}

#[derive(Debug)]
struct Watched {
    identity: Identity,
    /// The walk that came by last.
    walk: u64,
    /// Something happened to its name: the watch may be gone, or on another directory.
    doubtful: bool,
}

/// What is to be done so that a directory is watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entering {
    /// Nothing: it is.
    Watched,
    /// These watches are taken back, then its own is set.
    Watch { unwatch: Vec<Beneath> },
}

impl Directories {
    /// Begins to count anew which directories a walk comes by.
    pub(super) fn begin_walk(&mut self) {
        self.walk += 1;
    }

    /// A walk is about to list this directory. It counts as watched from here on.
    pub(super) fn enter(&mut self, path: &[u8], identity: Identity) -> Entering {
        let walk = self.walk;
        let mut unwatch = Vec::new();
        if let Some(watched) = self.by_path.get_mut(path) {
            if watched.identity == identity && !watched.doubtful {
                watched.walk = walk;
                return Entering::Watched;
            }
            unwatch.extend(self.forget(path));
        }
        if let Some(elsewhere) = self.by_identity.get(&identity).cloned() {
            unwatch.extend(self.forget(&elsewhere));
        }
        let path: Beneath = path.into();
        let watched = Watched {
            identity,
            walk,
            doubtful: false,
        };
        self.by_identity.insert(identity, Arc::clone(&path));
        self.by_path.insert(path, watched);
        Entering::Watch { unwatch }
    }

    /// Something happened to this name: if it is a directory's, its watch is set anew by the next walk.
    pub(super) fn doubt(&mut self, path: &[u8]) {
        if let Some(watched) = self.by_path.get_mut(path) {
            watched.doubtful = true;
        }
    }

    /// Anything may have happened to any name.
    pub(super) fn doubt_all(&mut self) {
        for watched in self.by_path.values_mut() {
            watched.doubtful = true;
        }
    }

    /// Takes a directory out; gives its path back if it was in.
    pub(super) fn forget(&mut self, path: &[u8]) -> Option<Beneath> {
        let (path, watched) = self.by_path.remove_entry(path)?;
        self.by_identity.remove(&watched.identity);
        Some(path)
    }

    /// Takes out those that the walk has not come by.
    pub(super) fn end_walk(&mut self) -> Vec<Beneath> {
        let walk = self.walk;
        self.forget_if(|watched| watched.walk != walk)
    }

    /// Takes out all of them.
    pub(super) fn clear(&mut self) -> Vec<Beneath> {
        self.forget_if(|_| true)
    }

    fn forget_if(&mut self, condition: impl Fn(&Watched) -> bool) -> Vec<Beneath> {
        let gone: Vec<_> = self
            .by_path
            .iter()
            .filter(|(_, watched)| condition(watched))
            .map(|(path, _)| Arc::clone(path))
            .collect();
        for path in &gone {
            self.forget(path);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHED: Entering = Entering::Watched;

    fn watch(unwatch: &[&str]) -> Entering {
        let unwatch = unwatch.iter().map(|path| path.as_bytes().into()).collect();
        Entering::Watch { unwatch }
    }

    fn paths(mut paths: Vec<Beneath>) -> Vec<String> {
        paths.sort();
        let text = |path: &Beneath| String::from_utf8(path.to_vec()).unwrap();
        paths.iter().map(text).collect()
    }

    #[test]
    fn a_directory_is_watched_once_as_long_as_nothing_happens_to_it() {
        let mut directories = Directories::default();
        for expected in [watch(&[]), WATCHED, WATCHED] {
            directories.begin_walk();
            assert_eq!(directories.enter(b"", (1, 1)), expected);
            assert!(directories.end_walk().is_empty());
        }
    }

    #[test]
    fn a_renamed_directory_changes_over_to_its_new_path() {
        let mut directories = Directories::default();
        directories.enter(b"a", (1, 1));
        directories.enter(b"a/x", (1, 2));
        directories.begin_walk();
        assert_eq!(directories.enter(b"b", (1, 1)), watch(&["a"]));
        assert_eq!(directories.enter(b"b/x", (1, 2)), watch(&["a/x"]));
        assert!(directories.end_walk().is_empty());
        assert_eq!(directories.enter(b"b/x", (1, 2)), WATCHED);
    }

    #[test]
    fn two_directories_that_change_names_are_both_watched() {
        let mut directories = Directories::default();
        directories.enter(b"a", (1, 1));
        directories.enter(b"b", (1, 2));
        assert_eq!(directories.enter(b"a", (1, 2)), watch(&["a", "b"]));
        assert_eq!(directories.enter(b"b", (1, 1)), watch(&[]));
        assert_eq!(directories.enter(b"a", (1, 2)), WATCHED);
        assert_eq!(directories.enter(b"b", (1, 1)), WATCHED);
    }

    #[test]
    fn a_name_that_was_touched_is_watched_anew_although_its_inode_is_the_same() {
        let mut directories = Directories::default();
        directories.enter(b"a", (1, 1));
        directories.doubt(b"a");
        directories.doubt(b"a-file");
        assert_eq!(directories.enter(b"a", (1, 1)), watch(&["a"]));
        assert_eq!(directories.enter(b"a", (1, 1)), WATCHED);
        directories.doubt_all();
        assert_eq!(directories.enter(b"a", (1, 1)), watch(&["a"]));
    }

    #[test]
    fn directories_that_a_walk_does_not_come_by_are_let_go() {
        let mut directories = Directories::default();
        for path in ["a", "b", "c"] {
            directories.enter(path.as_bytes(), (1, path.as_bytes()[0].into()));
        }
        directories.begin_walk();
        directories.enter(b"b", (1, b'b'.into()));
        assert_eq!(paths(directories.end_walk()), ["a", "c"]);
        assert_eq!(paths(directories.clear()), ["b"]);
        assert_eq!(directories.enter(b"b", (1, b'b'.into())), watch(&[]));
    }
}
