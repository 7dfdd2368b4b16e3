//! An archive on its way from asynchronous code to the thread that unpacks it.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Pieces that wait to be read: enough to keep both sides at work.
const WAITING: usize = 4;

/// A way for bytes, of which few are on it at a time. Must be called within a tokio runtime.
///
/// Cancelling ends it at once, though nobody gives anything.
#[must_use]
pub fn feed(cancel: CancellationToken) -> (Feeder, Feed) {
    let (pieces, receiver) = mpsc::channel(WAITING);
    let (want, wanted) = oneshot::channel();
    let feed = Feed {
        receiver,
        want: Some(want),
        piece: Bytes::new(),
        has_ended: false,
        cancel,
        runtime: Handle::current(),
    };
    (Feeder { pieces, wanted }, feed)
}

/// The end that gives. Dropping it before [`Feeder::end`] is a failure for the one who reads.
#[derive(Debug)]
pub struct Feeder {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    wanted: oneshot::Receiver<()>,
}

impl Feeder {
    /// Waits until somebody reads; `false` if nobody ever will.
    pub async fn is_wanted(&mut self) -> bool {
        (&mut self.wanted).await.is_ok()
    }

    /// Waits until nobody reads any more.
    pub async fn is_gone(&self) {
        self.pieces.closed().await;
    }

    /// Gives a piece and waits until there is room for it; `false` if nobody reads any more.
    pub async fn give(&self, piece: Bytes) -> bool {
        piece.is_empty() || self.pieces.send(Ok(piece)).await.is_ok()
    }

    /// The same from a thread that may wait.
    #[must_use]
    pub fn give_from_thread(&self, piece: Bytes) -> bool {
        piece.is_empty() || self.pieces.blocking_send(Ok(piece)).is_ok()
    }

    /// Says that this was all, or what went wrong.
    pub async fn end(self, result: io::Result<()>) {
        // Nobody waits for it where nobody reads.
        drop(self.pieces.send(result.map(|()| Bytes::new())).await);
    }

    /// The same from a thread that may wait.
    pub fn end_from_thread(self, result: io::Result<()>) {
        drop(self.pieces.blocking_send(result.map(|()| Bytes::new())));
    }
}

/// The end that reads. It waits, so it is for threads that may.
#[derive(Debug)]
pub struct Feed {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    /// Until the first read.
    want: Option<oneshot::Sender<()>>,
    piece: Bytes,
    has_ended: bool,
    cancel: CancellationToken,
    runtime: Handle,
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(want) = self.want.take() {
            // The one who gives may give unasked.
            want.send(()).ok();
        }
        if self.piece.is_empty() && !self.has_ended && !into.is_empty() {
            let next = self.cancel.run_until_cancelled(self.receiver.recv());
            let gone = || Err(io::ErrorKind::ConnectionAborted.into());
            let next = self.runtime.block_on(next).flatten();
            self.piece = next.unwrap_or_else(gone)?;
            // An empty piece is the end.
            self.has_ended = self.piece.is_empty();
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::spawn_blocking;

    use super::*;

    async fn read_all(feed: Feed) -> io::Result<String> {
        spawn_blocking(move || io::read_to_string(feed))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn what_is_given_is_read_up_to_the_end() {
        let (feeder, feed) = feed(CancellationToken::new());
        let give = async {
            for piece in ["one ", "", "two"] {
                assert!(feeder.give(piece.into()).await);
            }
            feeder.end(Ok(())).await;
        };
        let (read, ()) = tokio::join!(read_all(feed), give);
        assert_eq!(read.unwrap(), "one two");
    }

    #[tokio::test]
    async fn an_end_that_nobody_said_is_an_error() {
        let (feeder, feed) = feed(CancellationToken::new());
        assert!(feeder.give("one".into()).await);
        drop(feeder);
        let error = read_all(feed).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn cancelling_ends_a_wait_for_one_who_gives_nothing() {
        let cancel = CancellationToken::new();
        let (_feeder, feed) = feed(cancel.clone());
        let reading = spawn_blocking(move || io::read_to_string(feed));
        cancel.cancel();
        assert!(reading.await.unwrap().is_err());
    }
}
