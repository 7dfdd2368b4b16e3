//! An archive's entries beneath a directory's handle. The archive may be hostile.
//!
//! Nothing is ever written outside the directory, and nothing that was not asked for: names that lead elsewhere, kinds
//! other than files, directories and links, and a name given twice are refused, and with them the whole archive. Symbolic
//! links are data; they are made when every file is written, so that there is none to write through. Hard links become
//! copies of what the same archive brought before. Set-id and sticky bits are dropped, and the process's umask is applied.
//!
//! The revision is computed from the bytes as they are written and the modes as the archive has them. Small files are
//! written by several threads, large ones as they are read; memory grows with the number of entries and with the length of
//! their names, never with their content.

mod error;
mod member;
mod stage;
mod write;

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

pub use error::UnpackError;

use crate::digest::Revision;
use crate::entry::{EntryPath, Timestamp};
use crate::root::Root;
use member::Body;
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
    let mut stage = Stage::new(Arc::clone(into), limits, workers)?;
    member::for_each(tar, |head, body, content| match body {
        Body::Directory => stage.directory(head),
        Body::File { size } => stage.file(head, size, content),
        Body::HardLink { to } => stage.copy(head, &to),
        Body::Symlink { target } => stage.symlink(head, target),
    })?;
    stage.finish(listing)
}

#[cfg(test)]
mod tests;
