//! One archive, unpacked by a thread while its bytes come.

use std::io::{self, BufWriter, Read};
use std::num::NonZeroUsize;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::super::session::Staging;
use super::error::Flaw;
use super::packed::Tar;
use crate::digest::{Digest, Hasher};
use crate::unpack::{Limits, Unpacked, unpack};

/// Pieces on their way to the thread: the network fills the next ones while a file is written.
const WAITING: usize = 4;
/// No piece is larger, in bytes.
const PIECE: usize = 64 << 10;

/// Takes the bytes of one archive in their order.
#[derive(Debug)]
pub(super) struct Intake {
    pieces: mpsc::Sender<Piece>,
    hasher: Hasher,
    came: u64,
    unpacking: JoinHandle<Result<Unpacked, Flaw>>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// It was all.
    End,
}

impl Intake {
    /// Starts the thread, which `tasks` owns. The tar may have as many bytes as its files together.
    pub(super) fn start(
        staging: Staging,
        limits: Limits,
        workers: NonZeroUsize,
        tasks: &TaskTracker,
    ) -> Self {
        let (pieces, receiver) = mpsc::channel(WAITING);
        let input = Input {
            pieces: receiver,
            current: Bytes::new(),
            ended: false,
        };
        Self {
            pieces,
            hasher: Hasher::new(),
            came: 0,
            unpacking: tasks.spawn_blocking(move || unpack_all(input, staging, limits, workers)),
        }
    }

    /// How many bytes of the archive were handed over.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    /// Hands over the bytes that follow, and waits while there are many before them. Fails when nobody takes them any more.
    ///
    /// Dropping the future loses the rest of the bytes, and [`Intake::came`] knows where.
    pub(super) async fn give(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        while bytes.has_remaining() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let sent = self.pieces.send(Piece::Bytes(piece.clone())).await;
            sent.map_err(|_| Gone)?;
            self.hasher.update(&piece);
            self.came += piece.len() as u64;
        }
        Ok(())
    }

    /// Says that this was all, and waits until everything is written. Who is gone tells here why.
    pub(super) async fn finish(self) -> Result<(Unpacked, Digest), Flaw> {
        drop(self.pieces.send(Piece::End).await);
        let unpacked = self.unpacking.await;
        let unpacked = unpacked.expect("unpacking neither panics nor is it aborted")?;
        Ok((unpacked, self.hasher.finish()))
    }

    /// Gives up, and waits until nothing is written any more.
    pub(super) async fn abandon(self) {
        drop(self.pieces);
        // What it says is of no interest any more.
        drop(self.unpacking.await);
    }
}

/// Unpacking has ended; [`Intake::finish`] tells why.
#[derive(Debug)]
pub(super) struct Gone;

fn unpack_all(
    input: Input,
    staging: Staging,
    limits: Limits,
    workers: NonZeroUsize,
) -> Result<Unpacked, Flaw> {
    let mut tar = Tar::open(input, limits.bytes)?;
    let listing = BufWriter::new(staging.listing);
    let unpacked = unpack(&mut tar, &staging.tree, limits, workers, listing);
    let unpacked = unpacked.map_err(|error| tar.take_flaw().unwrap_or(Flaw::Unpack(error)))?;
    tar.finish()?;
    Ok(unpacked)
}

/// The archive as its bytes come.
struct Input {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !self.current.has_remaining() {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::other("the download was abandoned")),
            }
        }
        let length = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
