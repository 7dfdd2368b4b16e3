//! An uploaded archive becomes the tree, all or nothing.
//!
//! The archive is unpacked beside the root, by the same rules as a fetched one, and looked at as the server will look at
//! it. Only then do the two directories change places, in one step of the file system; where it has no such step, the root's
//! name is free for a moment, and an ingest that is killed just then is undone by the next one. Whatever fails before, and a
//! process that is killed at any point, leaves the old tree as it was.
//!
//! What is the same in both trees keeps its time stamps. What the archive does not have is gone, the files that no server
//! would serve among it. One ingest at a time works in a directory.

mod error;
mod exchange;
mod feed;
mod keep;
mod mounts;
mod place;
mod source;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use error::IngestError;
pub use feed::{Feed, Feeder, feed};
pub use source::End;

use crate::config::tree::TreeConfig;
use crate::digest::Revision;
use crate::entry::EntryPath;
use crate::exit::sentence;
use crate::publication::build::{self, Source};
use crate::root::{Root, Status};
use crate::unpack::{Limits, UnpackError, Unpacked, unpack};
use keep::{Kept, keep};
use place::Place;
use source::Tar;

/// What one entry takes in a tar beside its content, with a long name and attributes: a bound for what is decompressed.
const OVERHEAD: u64 = 4 << 10;

/// What shall be replaced, and within which bounds.
#[derive(Clone, Debug)]
pub struct Order {
    /// The root, and what of it is served, by which the revision is computed. The root need not be there; its parent must.
    pub tree: TreeConfig,
    /// What the archive may bring. No more bytes than are free are taken in any case.
    pub limits: Limits,
    /// Threads that write.
    pub workers: NonZeroUsize,
    /// How many bytes the archive has, where that is known: to say at once that there is no room.
    pub expected_size: Option<u64>,
    /// What ends the input.
    pub end: End,
    /// Gives up, unless the trees have changed places already.
    pub cancel: CancellationToken,
}

impl Order {
    /// The same order, given up when this is cancelled.
    #[must_use]
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// What a server computes for the new tree by the same rules.
    pub revision: Revision,
    /// Whether anything differs from the tree before: if not, that one is still in its place.
    pub changed: bool,
    /// Files in the archive.
    pub files: u64,
    /// Content of all files, in bytes.
    pub bytes: u64,
    /// Files that are as they were before.
    pub kept: u64,
    /// When the new tree was in its place: a build that began later has read nothing else.
    pub since: Instant,
    /// The same by the clock on the wall.
    pub at: SystemTime,
}

/// What a test can take the place of.
struct Machine<'a> {
    exchange: &'a dyn Fn(&Root, &EntryPath, &EntryPath) -> io::Result<()>,
    /// Is told of each point at which a process may be killed.
    step: &'a dyn Fn(&'static str),
}

/// Replaces a tree by what an archive holds.
///
/// Blocks: for the disk, and for the archive's sender. `check` is asked under the lock, before the archive is looked at, and
/// its refusal ends it. When this fails, the tree is as it was, and nothing is left beside it, or what is left is removed by
/// the next ingest and has no effect till then.
pub fn ingest(
    order: &Order,
    archive: impl Read,
    check: impl FnOnce() -> Result<(), IngestError>,
) -> Result<Ingested, IngestError> {
    let machine = Machine {
        exchange: &Root::exchange,
        step: &|_| {},
    };
    ingest_with(order, archive, check, &machine)
}

fn ingest_with(
    order: &Order,
    archive: impl Read,
    check: impl FnOnce() -> Result<(), IngestError>,
    machine: &Machine<'_>,
) -> Result<Ingested, IngestError> {
    let place = Place::open(&order.tree.root)?;
    let live = place.live()?;
    check()?;
    let ingested = replace(order, &place, live.as_ref(), archive, machine);
    if let Err(error) = place.clear() {
        warn!(error = %sentence(&error), "what an ingest leaves is not removed: the next one will try again");
    }
    ingested
}

fn replace(
    order: &Order,
    place: &Place,
    live: Option<&Status>,
    archive: impl Read,
    machine: &Machine<'_>,
) -> Result<Ingested, IngestError> {
    let cancelled = || order.cancel.is_cancelled();
    let source = source_of(order, place)?;
    let staged = place.stage(live)?;
    (machine.step)("staging");
    let unpacked = receive(order, place, &staged, archive)?;
    (machine.step)("unpacked");
    let revision = build::revision(&source, &cancelled)?;
    let kept = match live {
        Some(live) => keep_times(place, live, &staged, &cancelled)?,
        None => Kept {
            files: 0,
            same: false,
        },
    };
    if !kept.same {
        (machine.step)("before the sync");
        place.sync()?;
        if cancelled() {
            return Err(IngestError::Cancelled);
        }
        (machine.step)("before the exchange");
        exchange::exchange(place, live.is_some(), machine)?;
        (machine.step)("behind the exchange");
    }
    let (since, at) = (Instant::now(), SystemTime::now());
    if let Err(error) = rustix::fs::fsync(&place.parent) {
        warn!(%error, "the new tree is in its place, which may not be on the disk yet");
    }
    Ok(Ingested {
        revision,
        changed: !kept.same,
        files: unpacked.files,
        bytes: unpacked.bytes,
        kept: kept.files,
        since,
        at,
    })
}

/// Unpacks the archive, up to its end.
fn receive(
    order: &Order,
    place: &Place,
    staged: &Arc<Root>,
    archive: impl Read,
) -> Result<Unpacked, IngestError> {
    let free = place.free();
    let no_space = |needed, free| IngestError::NoSpace {
        needed,
        free,
        parent: place.parent_path.clone(),
    };
    if let (Some(needed), Some(free)) = (order.expected_size, free)
        && needed > free
    {
        return Err(no_space(Some(needed), free));
    }
    let limits = Limits {
        bytes: order.limits.bytes.min(free.unwrap_or(u64::MAX)),
        ..order.limits
    };
    let overhead = order.limits.entries.saturating_mul(OVERHEAD);
    let longest = order.limits.bytes.saturating_add(overhead);
    let received = Tar::open(archive, longest).and_then(|mut tar| {
        let unpacked = unpack(&mut tar, staged, limits, order.workers, io::sink());
        let unpacked = unpacked.map_err(|error| match error {
            // What it has in place of a header helps nobody.
            error if tar.is_none(&error) => IngestError::Coding {
                what: "something else",
            },
            error => error.into(),
        })?;
        tar.finish(order.end)?;
        Ok(unpacked)
    });
    received.map_err(|error| match error {
        _ if order.cancel.is_cancelled() => IngestError::Cancelled,
        IngestError::Unpack(UnpackError::TooManyBytes { limit, .. })
            if limit < order.limits.bytes =>
        {
            no_space(None, limit)
        }
        IngestError::Unpack(UnpackError::Read(error))
            if error.kind() == io::ErrorKind::FileTooLarge =>
        {
            IngestError::TooLong { limit: longest }
        }
        error => error,
    })
}

/// The staged tree, as a server would look at it.
fn source_of(order: &Order, place: &Place) -> Result<Source, IngestError> {
    let tree = TreeConfig {
        root: place.path_of(&place.own("new")),
        ..order.tree.clone()
    };
    Ok(Source::new(&tree, Vec::new())?)
}

fn keep_times(
    place: &Place,
    live: &Status,
    staged: &Root,
    cancelled: &dyn Fn() -> bool,
) -> Result<Kept, IngestError> {
    let kept = match place.parent.open_dir(&place.name) {
        Ok(old) => keep(staged, &old, cancelled),
        // One who may not read the old tree may replace it all the same.
        Err(_) => Kept {
            files: 0,
            same: false,
        },
    };
    place.close(staged, live)?;
    if cancelled() {
        return Err(IngestError::Cancelled);
    }
    Ok(kept)
}
