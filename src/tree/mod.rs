//! The live directory as found: which entries it has, which of them belong, and that they may have changed.
//!
//! A [`Tree`] is what one walk saw. Names and kinds in it were true when they were looked at; the content is read later, by
//! `snapshot`, which finds out whether a file is still what the walk saw.

mod floor;
mod rules;
mod scan;
pub mod watch;

pub use rules::{RuleError, Rules};
pub use scan::{BeforeListing, ScanError, Scope, scan, scan_with};

use std::collections::BTreeMap;
use std::fmt;

use crate::digest::{Digest, Hasher};
use crate::entry::{EntryKind, EntryPath, Escaped, Stamp, Timestamp};
use crate::root::Status;

/// The entries of a directory, and what was left out of them.
#[derive(Debug, Default)]
pub struct Tree {
    /// In the order of their paths.
    pub entries: Vec<Entry>,
    /// In the order of their paths. What lies beneath a directory that was left out is not looked at.
    pub left_out: Vec<LeftOut>,
}

impl Tree {
    /// How many names each rule left out.
    #[must_use]
    pub fn left_out_by_rule(&self) -> BTreeMap<String, u64> {
        count_by_rule(&self.left_out)
    }

    /// A hash by which two walks can be compared: it differs if an entry came or went, was renamed or written to, or has
    /// other permission bits, another kind or another target.
    ///
    /// The times of directories and links are no part of it: those of a directory also change with what was left out.
    /// Every other write shows, but for one within the tick of the file system's clock in which a walk looked.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::new();
        for entry in &self.entries {
            entry.add_to(&mut hasher);
        }
        hasher.finish()
    }
}

/// How many names each rule left out.
#[must_use]
pub fn count_by_rule(left_out: &[LeftOut]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for LeftOut { rule, .. } in left_out {
        *counts.entry(rule.clone()).or_default() += 1;
    }
    counts
}

/// One named thing that belongs to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies beneath the root.
    pub path: EntryPath,
    /// What it is.
    pub found: Found,
    /// Permission bits as found.
    pub mode: u32,
    /// When it was changed last.
    pub mtime: Timestamp,
}

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// As the walk saw it.
        stamp: Stamp,
        /// Whether it was let in for its content, and must be looked at again if it has changed since.
        sniffed: bool,
    },
    /// A symbolic link, with its target as written in it.
    Symlink(Box<[u8]>),
}

impl Entry {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        match self.found {
            Found::Directory => EntryKind::Directory,
            Found::File { .. } => EntryKind::File,
            Found::Symlink(_) => EntryKind::Symlink,
        }
    }

    /// Adds what tells this entry from any other; a zero byte ends what has no length of its own.
    fn add_to(&self, hasher: &mut Hasher) {
        hasher.update(self.path.as_bytes());
        hasher.update(&[0]);
        hasher.update(&self.mode.to_le_bytes());
        match &self.found {
            Found::Directory => hasher.update(b"d"),
            Found::File { stamp, .. } => {
                hasher.update(b"f");
                hasher.update(&stamp.size.to_le_bytes());
                hasher.update(&stamp.inode.to_le_bytes());
                for time in [stamp.mtime, stamp.ctime] {
                    hasher.update(&time.seconds.to_le_bytes());
                    hasher.update(&time.nanoseconds.to_le_bytes());
                }
            }
            Found::Symlink(target) => {
                hasher.update(b"l");
                hasher.update(target);
                hasher.update(&[0]);
            }
        }
    }
}

/// A name that does not belong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it lies beneath the root.
    pub path: EntryPath,
    /// The rule in the words of the one who wrote it.
    pub rule: String,
    /// What it is, if a rule left it out for its name and kind alone; `None` if more was looked at.
    pub by_name: Option<EntryKind>,
}

/// What to do with an entry that we may not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// Give up: an archive without it would be incomplete.
    #[default]
    Fail,
    /// Leave it out and report it.
    Skip,
}

/// The rule by which [`Unreadable::Skip`] leaves a name out.
pub const UNREADABLE: &str = "unreadable";

/// The facts a person needs to let us read an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `None` for the root.
    pub path: Option<EntryPath>,
    /// Its owner, group and mode, where they could be seen.
    pub status: Option<Status>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_ref().map_or(&b"."[..], EntryPath::as_bytes);
        write!(f, "no permission to read {}", Escaped(path))?;
        if let Some(status) = &self.status {
            write!(
                f,
                " (owner {}:{}, mode {:04o})",
                status.uid, status.gid, status.mode
            )?;
        }
        let uid = rustix::process::geteuid().as_raw();
        write!(
            f,
            " as user {uid}: run as its owner (runAsUser), let a group read it (fsGroup), or leave it out \
             (a line in .codeignore, or --unreadable=skip)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, found: Found) -> Entry {
        Entry {
            path: EntryPath::new(path.as_bytes()).unwrap(),
            found,
            mode: 0o644,
            mtime: Timestamp::default(),
        }
    }

    fn file(path: &str, change: impl FnOnce(&mut Stamp)) -> Entry {
        let mut stamp = Stamp {
            size: 1,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            inode: 1,
        };
        change(&mut stamp);
        let sniffed = false;
        entry(path, Found::File { stamp, sniffed })
    }

    fn fingerprint(entries: impl Into<Vec<Entry>>) -> Digest {
        let entries = entries.into();
        let left_out = Vec::new();
        Tree { entries, left_out }.fingerprint()
    }

    #[test]
    fn trees_that_differ_have_different_fingerprints() {
        let later = Timestamp {
            seconds: 0,
            nanoseconds: 1,
        };
        let link = |target: &str| entry("a", Found::Symlink(target.as_bytes().into()));
        let executable = Entry {
            mode: 0o755,
            ..file("a", |_| ())
        };
        let trees = [
            vec![],
            vec![file("a", |_| ())],
            vec![file("b", |_| ())],
            vec![file("a", |_| ()), file("b", |_| ())],
            vec![file("a", |stamp| stamp.size = 2)],
            vec![file("a", |stamp| stamp.inode = 2)],
            vec![file("a", |stamp| stamp.mtime = later)],
            vec![file("a", |stamp| stamp.ctime = later)],
            vec![executable],
            vec![link("x")],
            vec![link("y")],
            vec![entry("a", Found::Directory)],
        ];
        for (index, tree) in trees.iter().enumerate() {
            for other in &trees[..index] {
                assert_ne!(fingerprint(tree.clone()), fingerprint(other.clone()));
            }
        }
    }

    #[test]
    fn the_times_of_a_directory_are_no_part_of_a_fingerprint() {
        let touched = Entry {
            mtime: Timestamp {
                seconds: 1,
                nanoseconds: 0,
            },
            ..entry("a", Found::Directory)
        };
        let directory = entry("a", Found::Directory);
        assert_eq!(fingerprint([touched]), fingerprint([directory]));
    }
}
