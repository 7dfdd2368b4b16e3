//! The archive: a tree as one ordinary `.tar.gz` that also can be read, checked and reused in parts.
//!
//! # The format, version 1
//!
//! **tar.** GNU headers, one for each entry in the order of [`EntryPath`](crate::entry::EntryPath), so that what a
//! directory holds follows it at once; no entry for the root. Names stand under `./`, those of directories end in `/`;
//! a name or link target longer than 100 bytes goes into a `././@LongLink` record before. Owner and group are 0 without
//! names, modes as [`Mode`](crate::entry::Mode) has them, times whole seconds clamped to 0…2³³−1 or one fixed time for
//! all; a size of 8 GiB or more is written in base 256. A hard link is a file of its own. Two empty blocks end it.
//!
//! **gzip.** One member: a header of ten bytes without optional fields (time 0, system 255), one deflate stream, CRC and
//! length. The stream is cut into *segments*. A segment is the output of one `deflate` call over all its raw bytes with a
//! full flush: it begins and ends at a byte's border and refers to nothing before it, so it inflates alone, and the whole
//! is a stream that every tool reads. An empty final block, `03 00`, ends the stream. No segment is empty.
//!
//! **Cuts.** Behind an entry when 1 MiB of tar or more is gathered, or when it is 256 KiB or more and the first 32 bits of
//! the SHA-256 of the entry's path are 0 modulo 8; inside a file of more than 1 MiB at each multiple of 1 MiB. So where a
//! cut falls depends on what lies close before it, and a change in one place leaves most segments as they were.
//!
//! All bytes follow from the tree and [`Options::format`]: not from the order in which a directory is read, from the number
//! of threads, or from what was built before.
//!
//! # What is not made anew
//!
//! A file whose stamp is known from an earlier reading is not read, unless its segment changed for another reason. A
//! segment made of the same things as one of the previous archive ([`Recipe`]) is copied from there; as long as all
//! segments are, the digest of the whole goes on from where it was then.

mod cut;
pub mod deflate;
mod gather;
mod hashed;
mod header;
pub mod inflate;
mod ledger;
mod recipe;
mod reuse;
mod seal;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use crate::descriptor::{Descriptor, MAJOR_VERSION, Segment};
use crate::digest::Digest;
use crate::entry::Modes;
use crate::snapshot::cache::StatCacheWriter;
use crate::snapshot::{ReadError, Snapshot};
use crate::tree::Unreadable;

pub use self::recipe::Recipe;
pub use self::reuse::{Output, Previous, Seams};
pub use self::seal::seal;

/// The compressor and its version, on which the bytes depend.
const COMPRESSOR: &str = "zlib-rs-0.6.8";

/// What decides about an archive besides the tree.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From 1, fast, to 9, small.
    pub level: u32,
    /// How permission bits travel.
    pub modes: Modes,
    /// One time for all entries, in seconds since 1970; `None`: each its own.
    pub mtime: Option<i64>,
    /// Threads that compress. They do not show in the bytes.
    pub workers: NonZeroUsize,
}

impl Options {
    /// All that decides about the bytes besides the tree, as the descriptor has it.
    #[must_use]
    pub fn format(&self) -> String {
        let modes = match self.modes {
            Modes::Normal => "normal",
            Modes::Keep => "keep",
        };
        let mtime = self
            .mtime
            .map_or_else(|| "tree".into(), |seconds| seconds.to_string());
        let level = self.level;
        format!(
            "{MAJOR_VERSION};coding=gzip;compressor={COMPRESSOR};level={level};modes={modes};mtime={mtime}"
        )
    }
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The archive or the listing could not be written.
    #[error("cannot write the {what}")]
    Write {
        /// Archive, listing or scan cache.
        what: &'static str,
        /// How.
        source: io::Error,
    },
    /// The system gave no thread to compress with.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The caller wanted no more.
    #[error("cancelled")]
    Cancelled,
}

/// An archive that is complete.
#[derive(Debug)]
pub struct Sealed {
    /// What it holds.
    pub snapshot: Snapshot,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The length of the tar in bytes.
    pub uncompressed_size: u64,
    /// One after the other.
    pub segments: Vec<Segment>,
    /// How many names each rule left out.
    pub left_out: BTreeMap<String, u64>,
    /// What the next archive can be made from.
    pub seams: Seams,
    /// How many of the segments are from the previous archive.
    pub reused: u64,
}

impl Sealed {
    /// The descriptor of this archive, made at this time with these options.
    #[must_use]
    pub fn describe(&self, options: &Options, created_at: SystemTime) -> Descriptor {
        Descriptor {
            format: options.format(),
            revision: self.snapshot.revision,
            digest: self.digest,
            size: self.size,
            uncompressed_size: self.uncompressed_size,
            entries: self.snapshot.entries,
            files: self.snapshot.files,
            created_at,
            segments: self.segments.clone(),
            left_out: self.left_out.clone(),
        }
    }
}

/// What [`seal`] goes by, besides the tree.
pub struct Order<'a> {
    /// What decides about the bytes.
    pub options: Options,
    /// What becomes of a file that may not be read.
    pub unreadable: Unreadable,
    /// Asked between two entries: shall it end early?
    pub cancelled: &'a dyn Fn() -> bool,
    /// An archive whose segments are taken over where they are the ones that are wanted.
    pub previous: Option<&'a Previous>,
}

/// Where the parts of a build go.
#[derive(Debug)]
pub struct Outputs<A, L> {
    /// The archive's bytes.
    pub archive: A,
    /// The listing's.
    pub listing: L,
    /// What was read, to be known the next time.
    pub cache: Option<StatCacheWriter>,
}
