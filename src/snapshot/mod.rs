//! What the entries of a tree hold: contents read whole or not at all, digests, and the listing made of them.
//!
//! A file counts as read only if nobody wrote to it meanwhile: its stamp is the same before and after, and its last change
//! lay long enough back, before the first byte was read, that a further one would have shown in the stamp. Otherwise it is
//! torn. So each file in a snapshot is one that the file system really held at one moment (but for writers through shared
//! memory maps, whose changes show in no stamp).

pub mod cache;
mod reading;
mod still;

use std::io::{self, Write};

pub use reading::{Content, ReadError, Reading, read_again};

use crate::digest::{Digest, Revision};
use crate::entry::{EntryKind, EntryPath, Mode, Modes};
use crate::listing::{Line, ListingWriter};
use crate::root::Root;
use crate::tree::{Entry, Found};

/// How many bytes are read at once where only their digest is wanted.
const READ_AT_ONCE: u64 = 256 << 10;

/// What a tree held: the identity of its content, and how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The identity.
    pub revision: Revision,
    /// Length of the listing in bytes.
    pub listing_size: u64,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
}

/// Builds a [`Snapshot`] entry by entry, in the order of their paths, and writes its listing on the way.
#[derive(Debug)]
pub struct SnapshotWriter<W: Write> {
    listing: ListingWriter<W>,
    modes: Modes,
    entries: u64,
    files: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins an empty snapshot whose listing goes to `listing`.
    pub fn new(listing: W, modes: Modes) -> Self {
        Self {
            listing: ListingWriter::new(listing),
            modes,
            entries: 0,
            files: 0,
        }
    }

    /// Adds a directory or a link. Fails only if the listing cannot be written, as [`Self::add_file`] does.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let digest = match &entry.found {
            Found::Symlink(target) => Some(Digest::of(target)),
            Found::Directory | Found::File { .. } => None,
        };
        self.add_line(&entry.path, entry.kind(), entry.mode, digest)
    }

    /// Adds a file that was read whole.
    pub fn add_file(&mut self, path: &EntryPath, mode: u32, content: Digest) -> io::Result<()> {
        self.files += 1;
        self.add_line(path, EntryKind::File, mode, Some(content))
    }

    /// The snapshot, and the listing's writer, not flushed.
    pub fn finish(self) -> (Snapshot, W) {
        let (revision, listing_size, listing) = self.listing.finish();
        (
            Snapshot {
                revision,
                listing_size,
                entries: self.entries,
                files: self.files,
            },
            listing,
        )
    }

    fn add_line(
        &mut self,
        path: &EntryPath,
        kind: EntryKind,
        mode: u32,
        digest: Option<Digest>,
    ) -> io::Result<()> {
        self.entries += 1;
        let mode = Mode::new(kind, mode, self.modes);
        self.listing.add(&Line {
            kind,
            mode,
            digest,
            path,
        })
    }
}

/// Reads a file for its digest alone, and gives its permission bits too; `None` if it was told to end early, and did.
pub fn read_content(
    root: &Root,
    entry: &Entry,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<(u32, Content)>, ReadError> {
    let mut reading = Reading::begin(root, entry)?;
    let (mode, mut buffer) = (reading.mode(), Vec::new());
    while reading.left() > 0 {
        if cancelled() {
            return Ok(None);
        }
        buffer.clear();
        reading.read(READ_AT_ONCE, &mut buffer)?;
    }
    Ok(Some((mode, reading.finish()?)))
}
