//! The bodies of responses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;

/// No body, and no word on the length that another response would have.
///
/// An empty body of known length would put `Content-Length: 0` into a 304, where it means that the representation is empty
/// (RFC 9110 §8.6).
pub(super) fn none() -> Body {
    Body::new(NoBody)
}

struct NoBody;

impl http_body::Body for NoBody {
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
