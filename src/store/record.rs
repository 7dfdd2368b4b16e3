//! One artifact's files: opened, checked, removed; and what is remembered of an artifact whose files are closed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::layout::{self, Layout, Part};
use super::retention::Candidate;
use crate::artifact::{Artifact, Lease};
use crate::descriptor::{Descriptor, LARGEST_DESCRIPTOR};
use crate::digest::{Digest, Revision};

/// What files take on disk is counted in these.
const BLOCK: u64 = 4096;

/// An artifact that can be had, as `/revisions` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The identity of its content.
    pub revision: Revision,
    /// The identity of its archive.
    pub digest: Digest,
    /// The length of the archive in bytes.
    pub size: u64,
    /// The length of the tar in bytes.
    pub uncompressed_size: u64,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// When the archive was made.
    pub created_at: SystemTime,
    /// When it was published last.
    pub published_at: SystemTime,
}

impl Retained {
    /// What is told of an artifact that was published at this time.
    #[must_use]
    pub fn new(descriptor: &Descriptor, published_at: SystemTime) -> Self {
        Self {
            revision: descriptor.revision,
            digest: descriptor.digest,
            size: descriptor.size,
            uncompressed_size: descriptor.uncompressed_size,
            entries: descriptor.entries,
            files: descriptor.files,
            created_at: descriptor.created_at,
            published_at,
        }
    }
}

/// What the store remembers of an artifact: some 200 bytes.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) retained: Retained,
    /// The bytes of disk that its files take.
    pub(super) stored: u64,
    /// When it was asked for last, as far as that was noted.
    pub(super) asked: SystemTime,
    /// Whether its descriptor is there, and so all the rest.
    pub(super) durable: bool,
    /// The artifact, while somebody has it.
    pub(super) open: Weak<Artifact>,
    /// Shared with each artifact that was ever opened of these files, and with what is read of them.
    pub(super) lease: Lease,
}

impl Record {
    /// What decides about whether it is kept; `current` is never removed.
    pub(super) fn candidate(&self, current: bool) -> Candidate {
        Candidate {
            stored: self.stored,
            published: self.retained.published_at,
            asked: self.asked,
            held: current || self.lease.is_shared(),
            durable: self.durable,
        }
    }
}

/// Looks whether an artifact that another process left is whole, as far as names, kinds and lengths can tell.
pub(super) fn recover(layout: &Layout, digest: &Digest) -> io::Result<Record> {
    let (descriptor, published_at) = read_descriptor(layout, digest)?;
    let mut stored = 0;
    let mut asked = published_at;
    for part in Part::ALL {
        let metadata = layout::open(&layout.part(digest, part))?.metadata()?;
        stored += on_disk(metadata.len());
        if part == Part::Archive {
            check_size(&descriptor, metadata.len())?;
            asked = metadata.modified()?;
        }
    }
    Ok(Record {
        retained: Retained::new(&descriptor, published_at),
        stored,
        asked,
        durable: true,
        open: Weak::new(),
        lease: Lease::default(),
    })
}

/// Looks whether all files are there that an artifact has.
pub(super) fn check_files(layout: &Layout, digest: &Digest, durable: bool) -> io::Result<()> {
    let parts: &[Part] = if durable { &Part::ALL } else { &Part::CONTENT };
    parts
        .iter()
        .try_for_each(|part| layout::open(&layout.part(digest, *part)).map(drop))
}

/// Opens an artifact that has all its files.
pub(super) fn open(
    layout: &Layout,
    digest: &Digest,
    published: SystemTime,
) -> io::Result<Artifact> {
    let (descriptor, _) = read_descriptor(layout, digest)?;
    let archive = layout::open(&layout.part(digest, Part::Archive))?;
    let listing = layout::open(&layout.part(digest, Part::Listing))?;
    Artifact::new(descriptor, archive, listing, published)
}

/// The descriptor, and when it was published.
fn read_descriptor(layout: &Layout, digest: &Digest) -> io::Result<(Descriptor, SystemTime)> {
    let path = layout.part(digest, Part::Descriptor);
    let file = layout::open(&path)?;
    let published = file.metadata()?.modified()?;
    let json = layout::read_all(file, LARGEST_DESCRIPTOR)?;
    let descriptor = Descriptor::parse(&json).map_err(damaged)?;
    if descriptor.digest != *digest {
        let found = descriptor.digest;
        return Err(damaged(format!("the descriptor is of {found}")));
    }
    Ok((
        descriptor,
        published.clamp(SystemTime::UNIX_EPOCH, latest()),
    ))
}

/// A time shortly before the last year that has four digits: dates are written with no more, nor with ones before 1970.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(253_370_000_000)
}

fn check_size(descriptor: &Descriptor, found: u64) -> io::Result<()> {
    let expected = descriptor.size;
    if found == expected {
        return Ok(());
    }
    let reason = format!("the archive has {found} bytes instead of {expected}");
    Err(damaged(reason))
}

fn damaged(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What the files of an artifact take that are not named yet.
pub(super) fn stored(archive: &File, listing: &File, rest: [usize; 2]) -> io::Result<u64> {
    let rest = rest.map(|length| on_disk(length as u64));
    let files = on_disk(archive.metadata()?.len()) + on_disk(listing.metadata()?.len());
    Ok(files + rest.iter().sum::<u64>())
}

fn on_disk(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Removes the files of artifacts, the marks first: what a crash leaves of them is no artifact.
///
/// The first failure is told; all are tried.
pub(super) fn remove(layout: &Layout, digests: &[Digest]) -> io::Result<()> {
    let mut result = Ok(());
    let mut note = |step: io::Result<()>| {
        if result.is_ok() {
            result = step;
        }
    };
    for digest in digests {
        note(layout::remove(&layout.part(digest, Part::Descriptor)));
    }
    note(layout::sync_directory(&layout.artifacts()));
    for digest in digests {
        for part in Part::CONTENT {
            note(layout::remove(&layout.part(digest, part)));
        }
    }
    result
}

/// Sets the time of modification of a file, which is where our times are kept.
pub(super) fn set_time(path: &Path, time: SystemTime) -> io::Result<File> {
    let file = layout::open(path)?;
    file.set_modified(time)?;
    Ok(file)
}
