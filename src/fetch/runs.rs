//! The tar of an archive, run by run: inflated by several threads as segments come, or read from the target where it has
//! them as pieces of its files.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::Crc;
use tokio::sync::mpsc;

use super::install::held::Held;
use crate::archive::inflate::{InflateError, inflate};
use crate::ordered::Ordered;
use crate::unpack::UnpackError;

/// A segment as it came.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    /// What it inflates to, in bytes.
    pub(super) raw_length: usize,
}

/// A segment that is nothing but a piece of a file that is held.
pub(super) struct Piece {
    pub(super) held: Arc<Held>,
    /// Which of the segments that are held.
    pub(super) index: usize,
    /// In bytes.
    pub(super) raw_length: usize,
}

/// Where a segment comes from.
pub(super) enum Source {
    /// The one who downloads.
    Network,
    /// The target.
    Target(Piece),
}

/// What is to be done for a segment.
enum Job {
    Inflate(Compressed),
    Read(Piece),
}

/// A segment's run of the tar, and its sum.
type Made = (Vec<u8>, Crc);

/// The tar, inflated by several threads as segments come.
pub(super) struct Tar {
    segments: mpsc::Receiver<Compressed>,
    /// Those of the run that are not yet in work, the last one first.
    sources: Vec<Source>,
    /// Each job with memory for what it makes.
    making: Ordered<(Job, Vec<u8>), io::Result<Made>>,
    in_work: usize,
    current: Vec<u8>,
    /// How much of it was read.
    position: usize,
    crc: Crc,
    /// Memory that was read through and can be filled again: to give it back and take it anew would leave holes.
    spare: Vec<Vec<u8>>,
}

impl Tar {
    pub(super) fn new(
        segments: mpsc::Receiver<Compressed>,
        workers: NonZeroUsize,
    ) -> io::Result<Self> {
        Ok(Self {
            segments,
            sources: Vec::new(),
            making: Ordered::new(workers, |(job, spare)| make(job, spare))?,
            in_work: 0,
            current: Vec::new(),
            position: 0,
            crc: Crc::new(),
            spare: Vec::new(),
        })
    }

    /// Begins a run of segments, the last one first; what was begun before was read to its end.
    pub(super) fn begin(&mut self, sources: Vec<Source>) {
        self.sources = sources;
    }

    /// Over all that was inflated, as gzip computes it.
    pub(super) fn sum(&self) -> u32 {
        self.crc.sum()
    }

    /// Reads to the end of the run, where there is nothing but zeros.
    pub(super) fn pass_padding(&mut self) -> Result<(), UnpackError> {
        let mut padding = [0; 4096];
        loop {
            match self.read(&mut padding).map_err(UnpackError::Read)? {
                0 => return Ok(()),
                length if padding[..length].iter().all(|&byte| byte == 0) => {}
                _ => {
                    let error = io::Error::other("there is something behind its end");
                    return Err(UnpackError::Malformed(error));
                }
            }
        }
    }

    /// The content of the next segment; `None` behind the last.
    fn advance(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.making.is_full() {
            let Some(source) = self.sources.pop() else {
                break;
            };
            let job = match source {
                Source::Target(piece) => Job::Read(piece),
                // Wait for a segment only when there is nothing else to wait for.
                Source::Network => match self.segments.try_recv() {
                    Ok(segment) => Job::Inflate(segment),
                    Err(_) if self.in_work > 0 => {
                        self.sources.push(source);
                        break;
                    }
                    Err(_) => {
                        let segment = self.segments.blocking_recv();
                        Job::Inflate(segment.ok_or_else(abandoned)?)
                    }
                },
            };
            self.making
                .give((job, self.spare.pop().unwrap_or_default()));
            self.in_work += 1;
        }
        let Some(made) = self.making.take() else {
            return Ok(None);
        };
        self.in_work -= 1;
        let (raw, crc) = made?;
        self.crc.combine(&crc);
        Ok(Some(raw))
    }
}

impl Read for Tar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            if self.position > 0 {
                self.spare.push(std::mem::take(&mut self.current));
                self.position = 0;
            }
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

fn make(job: Job, spare: Vec<u8>) -> io::Result<Made> {
    let raw = match job {
        Job::Inflate(segment) => inflate(&segment.bytes, segment.raw_length, spare)
            .map_err(|error: InflateError| io::Error::new(io::ErrorKind::InvalidData, error))?,
        Job::Read(piece) => {
            let (file, offset) = piece.held.open_piece(piece.index)?;
            let mut raw = spare;
            raw.resize(piece.raw_length, 0);
            file.read_exact_at(&mut raw, offset)?;
            raw
        }
    };
    let mut crc = Crc::new();
    crc.update(&raw);
    Ok((raw, crc))
}

fn abandoned() -> io::Error {
    io::Error::other("the download was abandoned")
}
