//! One line in the log for each request: what was asked, what was answered, and how far that came.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::method::Method;
use http::status::StatusCode;
use http_body::{Frame, SizeHint};
use tracing::info;

use crate::entry::Escaped;

/// Logs the request when its response has been handed to the connection, or when it is given up before that.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let mut exchange = Exchange::begin(&request);
    let response = next.run(request).await;
    exchange.status = Some(response.status());
    // axum takes the body away from the response to a HEAD request, so nobody will ever ask for it.
    exchange.complete = exchange.method == Method::HEAD || response.body().is_end_stream();
    response.map(|body| Body::new(Logged { body, exchange }))
}

/// A request and what became of it; dropping it writes the line.
struct Exchange {
    method: Method,
    /// Its own, and not a part of what the connection has read, which would be held for as long as the answer takes.
    path: Box<str>,
    began: Instant,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    bytes: u64,
    complete: bool,
}

impl Exchange {
    fn begin(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().into(),
            began: Instant::now(),
            status: None,
            bytes: 0,
            complete: false,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let message = if self.complete { "sent" } else { "aborted" };
        info!(
            method = %Escaped(self.method.as_str().as_bytes()),
            path = %Escaped(self.path.as_bytes()),
            status = self.status.map(|status| status.as_u16()),
            bytes = self.bytes,
            elapsed = ?self.began.elapsed(),
            "{message}"
        );
    }
}

/// Counts a body's bytes on their way to the connection.
struct Logged {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let data = frame.data_ref();
            self.exchange.bytes += data.map_or(0, |data| data.len() as u64);
        }
        let failed = matches!(frame, Some(Err(_)));
        self.exchange.complete = !failed && self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
