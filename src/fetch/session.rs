//! An archive on its way from verified segments to staged files.
//!
//! A session belongs to one archive and outlives the attempts to download it: a segment that was handed over is never
//! asked for again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::attempt::AttemptError;
use super::install::held::{Cursor, Held};
use super::install::segments::Ledger;
use super::install::stamps::{self, Line};
use super::plan::{Plan, Step};
use super::runs::{Compressed, Piece, Source, Tar};
use crate::descriptor::{Descriptor, Segment};
use crate::entry::EntryPath;
use crate::root::{Near, Root};
use crate::unpack::{self, End, Keeping, Left, Limits, UnpackError, Unpacked, Unpacking};

/// Segments that wait for a thread, besides those in work: enough to keep the network busy while a large file is written.
const WAITING: usize = 2;

/// Where an archive is unpacked to.
#[derive(Debug)]
pub(super) struct Staging {
    /// The directory for its entries, empty.
    pub(super) tree: Arc<Root>,
    /// The file for its listing, empty.
    pub(super) listing: File,
    /// The file for what begins in its segments, empty.
    pub(super) segments: File,
    /// The file for how its entries were left, empty.
    pub(super) stamps: File,
}

/// An archive that is being unpacked.
#[derive(Debug)]
pub(super) struct Session {
    descriptor: Arc<Descriptor>,
    plan: Arc<Plan>,
    /// All segments before this one are handed over or need not be.
    next: usize,
    segments: mpsc::Sender<Compressed>,
    unpacking: JoinHandle<Result<Content, UnpackError>>,
}

/// What an archive held.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) unpacked: Unpacked,
    /// Over what was inflated, as gzip computes it.
    pub(super) crc: u32,
}

/// What is to be unpacked, where to, and with what threads.
pub(super) struct Order {
    pub(super) descriptor: Descriptor,
    pub(super) plan: Plan,
    /// What the plan keeps is of this.
    pub(super) held: Option<Held>,
    pub(super) staging: Staging,
    pub(super) limits: Limits,
    pub(super) workers: NonZeroUsize,
}

impl Session {
    /// Starts the threads. `tasks` owns the one that can be waited for when the session is dropped.
    pub(super) fn start(order: Order, tasks: &TaskTracker) -> Self {
        let (segments, receiver) = mpsc::channel(WAITING);
        let descriptor = Arc::new(order.descriptor);
        let plan = Arc::new(order.plan);
        let work = Work {
            descriptor: Arc::clone(&descriptor),
            plan: Arc::clone(&plan),
            held: order.held.map(Arc::new),
            limits: order.limits,
            workers: order.workers,
        };
        let staging = order.staging;
        let unpacking = tasks.spawn_blocking(move || work.unpack(receiver, staging));
        Self {
            descriptor,
            plan,
            next: 0,
            segments,
            unpacking,
        }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The segments that are to be handed over next, as many as follow each other; `None` when there is none left.
    pub(super) fn next_segments(&self) -> Option<Range<usize>> {
        self.plan.next_download(self.next)
    }

    /// The bytes of the archive that bring these segments: with all that is around them if all of it is downloaded, so that
    /// one request does.
    pub(super) fn part(&self, segments: &Range<usize>) -> Range<u64> {
        let Descriptor {
            segments: all,
            size,
            ..
        } = &*self.descriptor;
        let last = all[segments.end - 1];
        let is_whole = self.plan.is_whole();
        let start = match segments.start {
            0 if is_whole => 0,
            first => all[first].offset,
        };
        start..if is_whole {
            *size
        } else {
            last.offset + last.length
        }
    }

    /// How many segments are done with.
    pub(super) fn done(&self) -> usize {
        self.next
    }

    /// Hands over a segment, which is verified and the next of them; waits while others are before it.
    ///
    /// Cancel safe: a segment is handed over or it is not.
    pub(super) async fn give(&mut self, index: usize, bytes: Vec<u8>) -> Result<(), AttemptError> {
        let compressed = Compressed {
            raw_length: raw_length(&self.descriptor.segments[index]),
            bytes,
        };
        if self.segments.send(compressed).await.is_err() {
            // Nobody takes segments any more: unpacking has failed.
            return Err(match join(&mut self.unpacking).await {
                Err(error) => error.into(),
                Ok(_) => UnpackError::Truncated.into(),
            });
        }
        self.next = index + 1;
        Ok(())
    }

    /// Waits until everything is written.
    pub(super) async fn finish(mut self) -> Result<Content, AttemptError> {
        drop(self.segments);
        Ok(join(&mut self.unpacking).await?)
    }

    /// Gives up, and waits until nothing is written any more.
    pub(super) async fn abandon(mut self) {
        drop(self.segments);
        drop(join(&mut self.unpacking).await);
    }
}

async fn join(
    unpacking: &mut JoinHandle<Result<Content, UnpackError>>,
) -> Result<Content, UnpackError> {
    unpacking
        .await
        .expect("unpacking neither panics nor is it aborted")
}

fn raw_length(segment: &Segment) -> usize {
    usize::try_from(segment.raw_length).expect("a descriptor bounds its segments")
}

/// What the thread that unpacks knows.
struct Work {
    descriptor: Arc<Descriptor>,
    plan: Arc<Plan>,
    held: Option<Arc<Held>>,
    limits: Limits,
    workers: NonZeroUsize,
}

impl Work {
    fn unpack(
        &self,
        segments: mpsc::Receiver<Compressed>,
        staging: Staging,
    ) -> Result<Content, UnpackError> {
        let mut unpacking =
            Unpacking::new(&staging.tree, self.limits, self.workers, self.keeping())?;
        let mut tar = Tar::new(segments, self.workers).map_err(UnpackError::Threads)?;
        let mut ledger = Ledger::new(&self.descriptor.segments);
        let mut kept = self.held.as_deref().and_then(Kept::new);
        for step in &self.plan.steps {
            match step {
                Step::Unpack(segments) => {
                    tar.begin(self.sources(segments));
                    ledger.begin(segments.start);
                    let is_last = segments.end == self.descriptor.segments.len();
                    let end = if is_last { End::Marked } else { End::Open };
                    let held = |path: &EntryPath| kept.as_mut()?.find(path);
                    unpacking.run(&mut tar, end, held, |content| ledger.passed(&content))?;
                    tar.pass_padding()?;
                }
                Step::Keep { segments, held } => {
                    let kept = kept.as_mut().ok_or_else(lost)?;
                    for entry in kept.entries(held) {
                        let (path, held) = entry.ok_or_else(lost)?;
                        unpacking.keep(path, held)?;
                    }
                    ledger.keep(segments.clone(), &kept.held.segments[held.clone()]);
                }
            }
        }
        let unpacked = self.finish(unpacking, &ledger, staging)?;
        Ok(Content {
            unpacked,
            crc: tar.sum(),
        })
    }

    /// Where the bytes of these segments come from.
    fn sources(&self, segments: &Range<usize>) -> Vec<Source> {
        let source = |index| match (self.plan.copies.get(&index), &self.held) {
            (Some(&piece), Some(held)) => Source::Target(Piece {
                held: Arc::clone(held),
                index: piece,
                raw_length: raw_length(&self.descriptor.segments[index]),
            }),
            _ => Source::Network,
        };
        segments.clone().rev().map(source).collect()
    }

    fn keeping(&self) -> Keeping {
        let held = self.held.as_ref();
        held.map_or(Keeping::InPlace, |held| held.keeping.clone())
    }

    /// Waits for all that is being written, and writes down what has become of it.
    fn finish(
        &self,
        unpacking: Unpacking,
        ledger: &Ledger,
        staging: Staging,
    ) -> Result<Unpacked, UnpackError> {
        let revision = self.descriptor.revision;
        let mut stamps = BufWriter::new(staging.stamps);
        stamps::begin(revision, &mut stamps).map_err(UnpackError::Listing)?;
        let mut kept = self.held.as_deref().and_then(Kept::new);
        let left = |path: &EntryPath, left| {
            let line = match left {
                Left::Directory { masked, mtime } => Line::Directory {
                    masked,
                    mtime: mtime.map(|mtime| mtime.seconds),
                },
                Left::Written { size, mtime } => Line::Expected {
                    size,
                    mtime: mtime.seconds,
                },
                Left::Kept => kept
                    .as_mut()
                    .and_then(|kept| Some(kept.cursor.find(path)?.left(&kept.held.keeping)))
                    .unwrap_or(Line::Unknown),
            };
            line.write(&mut stamps)
        };
        let unpacked = unpacking.finish(BufWriter::new(staging.listing), left)?;
        stamps.flush().map_err(UnpackError::Listing)?;
        if unpacked.in_order && ledger.entries() == unpacked.entries {
            let segments = BufWriter::new(staging.segments);
            ledger
                .write(revision, segments)
                .map_err(UnpackError::Listing)?;
        }
        Ok(unpacked)
    }
}

/// An entry that is held, with its path.
type Named = (EntryPath, unpack::Held);

/// What is held, as it is gone through.
struct Kept<'a> {
    held: &'a Held,
    cursor: Cursor,
    near: Near,
}

impl<'a> Kept<'a> {
    fn new(held: &'a Held) -> Option<Self> {
        Some(Self {
            held,
            cursor: held.cursor()?,
            near: Near::default(),
        })
    }

    /// What is held under a path, if it is as it was left.
    fn find(&mut self, path: &EntryPath) -> Option<unpack::Held> {
        let entry = self.cursor.find(path)?;
        let is_intact = entry.is_intact(&self.held.root, &mut self.near);
        is_intact.then(|| entry.into_kept().1)
    }

    /// The entries that begin in these segments; `None` in the place of one that cannot be read any more.
    fn entries(&mut self, segments: &Range<usize>) -> impl Iterator<Item = Option<Named>> {
        let count = |segments: &[super::plan::HeldSegment]| -> u64 {
            segments.iter().map(|segment| segment.entries).sum()
        };
        let first = count(&self.held.segments[..segments.start]);
        let end = first + count(&self.held.segments[segments.clone()]);
        let cursor = &mut self.cursor;
        (first..end).map(|position| Some(cursor.at(position)?.into_kept()))
    }
}

fn lost() -> UnpackError {
    UnpackError::Read(io::Error::other("the record of the target is damaged"))
}
