//! The live directory as found: which entries it has, and which of them belong.
//!
//! A [`Tree`] is what one walk saw. Names and kinds in it were true when they were looked at; the content is read later, by
//! `snapshot`, which finds out whether a file is still what the walk saw.

mod floor;
mod rules;
mod scan;

pub use rules::{RuleError, Rules};
pub use scan::{ScanError, Scope, scan};

use std::collections::BTreeMap;
use std::fmt;

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
}

/// A name that does not belong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it lies beneath the root.
    pub path: EntryPath,
    /// The rule in the words of the one who wrote it.
    pub rule: String,
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
