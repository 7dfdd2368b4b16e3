//! An archive on its way from verified segments to staged files.
//!
//! A session belongs to one archive and outlives the attempts to download it: a segment that was handed over is never
//! asked for again.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;

use flate2::Crc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::attempt::AttemptError;
use crate::archive::inflate::{InflateError, inflate};
use crate::descriptor::{Descriptor, Segment};
use crate::ordered::Ordered;
use crate::root::Root;
use crate::unpack::{Limits, UnpackError, Unpacked, unpack};

/// Segments that wait for a thread, besides those in work: enough to keep the network busy while a large file is written.
const WAITING: usize = 2;

/// Where an archive is unpacked to.
#[derive(Debug)]
pub(super) struct Staging {
    /// The directory for its entries, empty.
    pub(super) tree: Arc<Root>,
    /// The file for its listing, empty.
    pub(super) listing: File,
}

/// An archive that is being unpacked.
#[derive(Debug)]
pub(super) struct Session {
    descriptor: Descriptor,
    /// The first segment that was not handed over.
    next: usize,
    segments: mpsc::Sender<Compressed>,
    unpacking: JoinHandle<Result<Content, UnpackError>>,
}

/// What an archive held.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) unpacked: Unpacked,
    /// Over the tar, as gzip computes it.
    pub(super) crc: u32,
}

struct Compressed {
    bytes: Vec<u8>,
    raw_length: usize,
    /// Memory to inflate into.
    spare: Vec<u8>,
}

impl Session {
    /// Starts the threads. `tasks` owns the one that can be waited for when the session is dropped.
    pub(super) fn start(
        descriptor: Descriptor,
        staging: Staging,
        limits: Limits,
        workers: NonZeroUsize,
        tasks: &TaskTracker,
    ) -> Self {
        let (segments, receiver) = mpsc::channel(WAITING);
        let count = descriptor.segments.len();
        let unpacking = tasks.spawn_blocking(move || {
            let tar = Tar::new(receiver, count, workers).map_err(UnpackError::Threads)?;
            unpack_all(tar, staging, limits, workers)
        });
        Self {
            descriptor,
            next: 0,
            segments,
            unpacking,
        }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The segment that is to be handed over next, with its index; `None` when there is none left.
    pub(super) fn next_segment(&self) -> Option<(usize, Segment)> {
        let segment = self.descriptor.segments.get(self.next)?;
        Some((self.next, *segment))
    }

    /// Hands over the next segment, which is verified; waits while others are before it.
    ///
    /// Cancel safe: a segment is handed over or it is not.
    pub(super) async fn give(&mut self, bytes: Vec<u8>) -> Result<(), AttemptError> {
        let raw_length = self.descriptor.segments[self.next].raw_length;
        let compressed = Compressed {
            bytes,
            raw_length: usize::try_from(raw_length).expect("a descriptor bounds its segments"),
            spare: Vec::new(),
        };
        if self.segments.send(compressed).await.is_err() {
            // Nobody takes segments any more: unpacking has failed.
            return Err(match join(&mut self.unpacking).await {
                Err(error) => error.into(),
                Ok(_) => UnpackError::Truncated.into(),
            });
        }
        self.next += 1;
        Ok(())
    }

    /// Waits until everything is written.
    pub(super) async fn finish(mut self) -> Result<(Descriptor, Content), AttemptError> {
        drop(self.segments);
        let content = join(&mut self.unpacking).await?;
        Ok((self.descriptor, content))
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

fn unpack_all(
    mut tar: Tar,
    staging: Staging,
    limits: Limits,
    workers: NonZeroUsize,
) -> Result<Content, UnpackError> {
    let listing = BufWriter::new(staging.listing);
    let unpacked = unpack(&mut tar, &staging.tree, limits, workers, listing)?;
    let mut padding = [0; 4096];
    loop {
        match tar.read(&mut padding).map_err(UnpackError::Read)? {
            0 => break,
            length if padding[..length].iter().all(|&byte| byte == 0) => {}
            _ => {
                let error = io::Error::other("there is something behind its end");
                return Err(UnpackError::Malformed(error));
            }
        }
    }
    Ok(Content {
        unpacked,
        crc: tar.crc.sum(),
    })
}

/// The tar, inflated by several threads as segments come.
struct Tar {
    segments: mpsc::Receiver<Compressed>,
    /// Segments that were not yet received.
    left: usize,
    inflating: Ordered<Compressed, Result<(Vec<u8>, Crc), InflateError>>,
    in_work: usize,
    current: Vec<u8>,
    /// How much of it was read.
    position: usize,
    crc: Crc,
    /// Memory that was read through and can be filled again: to give it back and take it anew would leave holes.
    spare: Vec<Vec<u8>>,
}

impl Tar {
    fn new(
        segments: mpsc::Receiver<Compressed>,
        left: usize,
        workers: NonZeroUsize,
    ) -> io::Result<Self> {
        Ok(Self {
            segments,
            left,
            inflating: Ordered::new(workers, inflate_and_sum)?,
            in_work: 0,
            current: Vec::new(),
            position: 0,
            crc: Crc::new(),
            spare: Vec::new(),
        })
    }

    /// The content of the next segment; `None` behind the last.
    fn advance(&mut self) -> io::Result<Option<Vec<u8>>> {
        while self.left > 0 && !self.inflating.is_full() {
            // Wait for a segment only when there is nothing else to wait for.
            let mut segment = match self.segments.try_recv() {
                Ok(segment) => segment,
                Err(_) if self.in_work > 0 => break,
                Err(_) => self.segments.blocking_recv().ok_or_else(abandoned)?,
            };
            segment.spare = self.spare.pop().unwrap_or_default();
            self.inflating.give(segment);
            self.left -= 1;
            self.in_work += 1;
        }
        let Some(inflated) = self.inflating.take() else {
            return Ok(None);
        };
        self.in_work -= 1;
        let (raw, crc) =
            inflated.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.crc.combine(&crc);
        Ok(Some(raw))
    }
}

impl Read for Tar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            self.spare.push(std::mem::take(&mut self.current));
            self.position = 0;
            let Some(next) = self.advance()? else {
                return Ok(0);
            };
            self.current = next;
        }
        let length = (&self.current[self.position..]).read(into)?;
        self.position += length;
        Ok(length)
    }
}

fn inflate_and_sum(segment: Compressed) -> Result<(Vec<u8>, Crc), InflateError> {
    let raw = inflate(&segment.bytes, segment.raw_length, segment.spare)?;
    let mut crc = Crc::new();
    crc.update(&raw);
    Ok((raw, crc))
}

fn abandoned() -> io::Error {
    io::Error::other("the download was abandoned")
}
