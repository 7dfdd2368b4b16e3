//! The body of a response: bytes of a representation, read piece by piece while they are sent.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::artifact::Representation;

/// How much is read at once, and so what a download holds in memory: enough that the way to another thread is cheap beside
/// the read, little beside what a server of thousands of connections may use.
const PIECE: u64 = 32 << 10;

/// How long a read may take. A volume that needs longer for 32 KiB has gone away, and may never answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A range of a representation's bytes.
///
/// A piece is read, on a thread that may wait for the disk, when the connection asks for it. A read that fails ends the
/// body with an error, upon which the connection is cut: what arrives short is never taken for complete.
pub(super) struct FileBody {
    representation: Representation,
    /// What is still to be sent.
    rest: Range<u64>,
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

impl FileBody {
    /// Reads nothing yet. The range must lie within the representation.
    pub(super) fn new(representation: Representation, range: Range<u64>) -> Self {
        Self {
            representation,
            rest: range,
            reading: None,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self {
            representation,
            rest,
            reading,
        } = &mut *self;
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let started =
            reading.get_or_insert_with(|| Box::pin(read(representation.clone(), first(rest))));
        let piece = ready!(started.as_mut().poll(context));
        *reading = None;
        Poll::Ready(Some(piece.map(|bytes| {
            rest.start += bytes.len() as u64;
            Frame::data(bytes)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}

/// The first piece of a range.
fn first(range: &Range<u64>) -> Range<u64> {
    range.start..range.end.min(range.start + PIECE)
}

async fn read(representation: Representation, piece: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(piece.end - piece.start).expect("a piece fits into memory");
    let read = spawn_blocking(move || representation.read_at(piece.start, length));
    match timeout(READ_TIMEOUT, read).await {
        Ok(Ok(result)) => result,
        Ok(Err(stopped)) => Err(io::Error::other(stopped)),
        Err(elapsed) => Err(elapsed.into()),
    }
}

/// No body, and no word on the length that another response would have.
///
/// An empty body of known length would put `Content-Length: 0` into a 304, where it means that the representation is empty
/// (RFC 9110 §8.6).
pub(super) struct NoBody;

impl Body for NoBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write;
    use std::time::SystemTime;

    use http_body_util::BodyExt;

    use super::*;
    use crate::artifact::Artifact;
    use crate::descriptor::Descriptor;
    use crate::digest::{Digest, Revision};

    /// An archive that had `length` bytes when it was sealed, and has these by now.
    fn representation(bytes: &[u8], length: u64) -> Representation {
        let digest = Digest::of(bytes);
        let descriptor = Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(digest),
            digest,
            size: length,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: SystemTime::UNIX_EPOCH,
            segments: Vec::new(),
            left_out: BTreeMap::new(),
        };
        let archive = file(bytes);
        archive.set_len(length).unwrap();
        let artifact = Artifact::new(
            descriptor,
            archive.try_clone().unwrap(),
            file(b""),
            SystemTime::UNIX_EPOCH,
        )
        .unwrap();
        archive.set_len(bytes.len() as u64).unwrap();
        artifact.archive().clone()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// Bytes of which no two pieces are alike.
    fn bytes(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[tokio::test]
    async fn every_byte_of_the_range_comes_in_order() {
        let bytes = bytes(200_000);
        let representation = representation(&bytes, 200_000);
        for (start, end) in [
            (0, 200_000),
            (1, 199_999),
            (65_536, 131_072),
            (7, 8),
            (9, 9),
        ] {
            let body = FileBody::new(representation.clone(), start..end);
            assert_eq!(body.size_hint().exact(), Some(end - start));
            let expected = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            assert_eq!(
                body.collect().await.unwrap().to_bytes(),
                expected,
                "{start}..{end}"
            );
        }
    }

    #[tokio::test]
    async fn the_length_still_to_come_is_told_exactly() {
        let representation = representation(&bytes(50_000), 50_000);
        let mut body = FileBody::new(representation, 0..50_000);
        assert!(!body.is_end_stream());
        body.frame().await.unwrap().unwrap();
        assert_eq!(body.size_hint().exact(), Some(50_000 - PIECE));
        body.frame().await.unwrap().unwrap();
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_lost_its_end_is_an_error_and_no_end() {
        let representation = representation(&bytes(40_000), 100_000);
        let mut body = FileBody::new(representation, 0..100_000);
        body.frame().await.unwrap().unwrap();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!body.is_end_stream());
    }
}
