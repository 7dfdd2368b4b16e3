//! An archive's entries beneath a directory's handle. The archive may be hostile.
//!
//! Nothing is ever written outside the directory, and nothing that was not asked for: names that lead elsewhere, kinds
//! other than files, directories and links, and a name given twice are refused, and with them the whole archive. Symbolic
//! links are data; they are made when every file is written, so that there is none to write through. Hard links become
//! copies of what the same archive brought before. Set-id and sticky bits are dropped, and the process's umask is applied.
//!
//! The revision is computed from the bytes as they are written and the modes as the archive has them. Of an archive that an
//! earlier one resembles, entries that are there already can be kept: for them it is computed from what is told of them, and
//! nothing of them is touched before all else is written. Small files are written by several threads, large ones as they are
//! read; memory grows with the number of entries and with the length of their names, never with their content.

mod error;
mod member;
mod stage;
mod write;

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

pub use error::UnpackError;
pub use member::End;

use crate::digest::{Digest, Revision};
use crate::entry::{EntryKind, EntryPath, Mode, Timestamp};
use crate::root::Root;
use member::{Body, Head};
use stage::Stage;

/// How much an archive may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Directories, files and links, parents that are only implied included.
    pub entries: u64,
    /// Content of all files, in bytes.
    pub bytes: u64,
}

/// What an archive brought.
#[derive(Debug)]
pub struct Unpacked {
    /// Of the content as written.
    pub revision: Revision,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Content of all files, in bytes.
    pub bytes: u64,
    /// Whether the archive named every entry once, in the order of the paths.
    pub in_order: bool,
    /// The directories in the order of their paths: who moves their content has to set their modes and times again.
    pub directories: Vec<Directory>,
}

/// How a directory was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it lies.
    pub path: EntryPath,
    /// Its permission bits after the umask.
    pub mode: u32,
    /// Its time; `None` where the archive did not name it.
    pub mtime: Option<Timestamp>,
    /// Whether it lay there before, and nothing was put into it.
    pub is_kept: bool,
}

/// An entry that an earlier archive brought, as it has to be for a later one that has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub kind: EntryKind,
    /// As the archive had it.
    pub mode: Mode,
    /// Of the content or the link's target; `None` for a directory.
    pub digest: Option<Digest>,
    /// Of the content or the link's target, in bytes; 0 for a directory.
    pub size: u64,
    /// As the archive had it, if it named the entry.
    pub mtime: Option<Timestamp>,
    /// A directory's permission bits after the umask.
    pub masked: u32,
}

impl Held {
    /// Whether all but the content is that of a file as an archive has it.
    fn is_file(&self, head: &Head, size: u64) -> bool {
        self.kind == EntryKind::File
            && self.mode == head.mode
            && self.mtime == Some(head.mtime)
            && self.size == size
    }

    fn is_link(&self, head: &Head, target: &[u8]) -> bool {
        self.kind == EntryKind::Symlink
            && self.mtime == Some(head.mtime)
            && self.digest == Some(Digest::of(target))
    }
}

/// What is done with files and links that lie elsewhere already, and need not be written.
#[derive(Clone, Debug)]
pub enum Keeping {
    /// Nothing: they lie where the tree is to be.
    InPlace,
    /// They get a second name in the staged tree. Under the first one they lie beneath this root.
    Linked(Arc<Root>),
}

/// How an entry was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A directory, with its permission bits after the umask.
    Directory {
        /// Nine bits.
        masked: u32,
        /// As the archive has it, if it names the directory.
        mtime: Option<Timestamp>,
    },
    /// A file or a link that was made.
    Written {
        /// In bytes.
        size: u64,
        /// As the archive has it.
        mtime: Timestamp,
    },
    /// A file or a link that was there before.
    Kept,
}

/// Writes an archive's entries into a directory, which should be empty, and their listing to a writer.
///
/// Blocks. Reads up to the end of the archive, which must be there, and not a byte beyond: padding behind it is left. When
/// it fails, what was written so far lies beneath the directory, and beneath it alone. Until it returns, directories are as
/// open as the umask lets them be: who must not look in yet is kept out by the directory above.
pub fn unpack(
    tar: impl Read,
    into: &Arc<Root>,
    limits: Limits,
    workers: NonZeroUsize,
    listing: impl Write,
) -> Result<Unpacked, UnpackError> {
    let mut unpacking = Unpacking::new(into, limits, workers, Keeping::InPlace)?;
    unpacking.run(tar, End::Marked, |_| None, |_| {})?;
    unpacking.finish(listing, |_, _| Ok(()))
}

/// An archive that comes in runs of members, between which are entries that need not come.
pub struct Unpacking(Stage);

impl Unpacking {
    /// Begins with nothing.
    pub fn new(
        into: &Arc<Root>,
        limits: Limits,
        workers: NonZeroUsize,
        keeping: Keeping,
    ) -> Result<Self, UnpackError> {
        Stage::new(Arc::clone(into), limits, workers, keeping).map(Self)
    }

    /// Writes a run of members. What `held` gives for a path is kept in place of an entry that is the same. `passed` is told
    /// where each member's content lies, in bytes from the beginning of the run; the next one begins with the block behind.
    pub fn run(
        &mut self,
        tar: impl Read,
        end: End,
        mut held: impl FnMut(&EntryPath) -> Option<Held>,
        passed: impl FnMut(Range<u64>),
    ) -> Result<(), UnpackError> {
        let stage = &mut self.0;
        let place = |head: Head, body, content: &mut dyn Read| match body {
            Body::Directory => stage.directory(head),
            Body::HardLink { to } => stage.copy(head, &to),
            Body::File { size } => {
                let held = held(&head.path).filter(|held| held.is_file(&head, size));
                stage.file(head, size, held.and_then(|held| held.digest), content)
            }
            Body::Symlink { target } => match held(&head.path) {
                Some(held) if held.is_link(&head, &target) => stage.keep(head.path, held),
                _ => stage.symlink(head, target),
            },
        };
        member::for_each(tar, end, place, passed)
    }

    /// Takes an entry that is there already.
    pub fn keep(&mut self, path: EntryPath, held: Held) -> Result<(), UnpackError> {
        self.0.keep(path, held)
    }

    /// Waits until everything is written, and tells of each entry, in the order of the paths, how it was left.
    pub fn finish(
        self,
        listing: impl Write,
        left: impl FnMut(&EntryPath, Left) -> io::Result<()>,
    ) -> Result<Unpacked, UnpackError> {
        self.0.finish(listing, left)
    }
}

#[cfg(test)]
mod tests;
