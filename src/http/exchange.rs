//! A download from its request to its last byte: one line in the log, and the figures that go with it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderValue};
use http_body::{Frame, SizeHint};
use tracing::info;

use super::resource::CODE_REVISION;
use super::trace::TraceParent;
use crate::metrics::{DownloadResult, Metrics};

/// An archive on its way to a client, whole or in part.
///
/// It is told of every byte that was sent. When nobody holds it any more the download has ended: completely, if that were as
/// many as the response has.
#[derive(Debug)]
pub struct Exchange {
    metrics: Metrics,
    asked: Asked,
    status: u16,
    revision: Option<HeaderValue>,
    range: Option<HeaderValue>,
    /// How many bytes there are to send.
    length: u64,
    sent: AtomicU64,
}

/// What is told of the request for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: Option<SocketAddr>,
    pub(super) began: Instant,
    pub(super) request_id: HeaderValue,
    pub(super) traceparent: Option<HeaderValue>,
}

impl Exchange {
    /// Begins with the response that holds it, of which nothing was sent yet.
    pub(super) fn begin(metrics: Metrics, asked: Asked, response: &Response) -> Self {
        let header = |name| response.headers().get(name).cloned();
        Self {
            metrics,
            asked,
            status: response.status().as_u16(),
            revision: header(CODE_REVISION),
            range: header(CONTENT_RANGE),
            length: response.body().size_hint().lower(),
            sent: AtomicU64::new(0),
        }
    }

    /// So many more bytes of the body were sent.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.sent(bytes);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let bytes = *self.sent.get_mut();
        let outcome = if bytes == self.length {
            DownloadResult::Complete
        } else {
            DownloadResult::Aborted
        };
        self.metrics.download_ended(outcome);
        let asked = &self.asked;
        let trace = asked.traceparent.as_ref();
        let trace = trace.and_then(|value| TraceParent::parse(value.as_bytes()));
        info!(
            client = asked.peer.map(tracing::field::display),
            revision = self.revision.as_ref().map(text),
            status = self.status,
            range = self.range.as_ref().and_then(|range| selected(text(range))),
            bytes,
            length = self.length,
            elapsed = ?asked.began.elapsed(),
            outcome = outcome.name(),
            request_id = text(&asked.request_id),
            trace_id = trace.map(|trace| trace.trace_id),
            parent_id = trace.map(|trace| trace.parent_id),
            "download"
        );
    }
}

/// A header that is known to be visible ASCII.
pub(super) fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// `0-6` of `bytes 0-6/10`.
fn selected(content_range: &str) -> Option<&str> {
    let range = content_range.strip_prefix("bytes ")?;
    range.split_once('/').map(|(selected, _)| selected)
}

/// Tells an exchange of the bytes of a body when the connection takes them.
pub(super) struct Sending {
    pub(super) body: Body,
    pub(super) exchange: Arc<Exchange>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let data = frame.data_ref();
            self.exchange.sent(data.map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted of a response of this length of which so many bytes were sent.
    #[track_caller]
    fn check(length: usize, sent: &[u64], result: &str) {
        let metrics = Metrics::new("1");
        let asked = Asked {
            peer: None,
            began: Instant::now(),
            request_id: HeaderValue::from_static("x"),
            traceparent: None,
        };
        let response = Response::new(Body::from(vec![0; length]));
        let exchange = Arc::new(Exchange::begin(metrics.clone(), asked, &response));
        let line = format!("codeserver_downloads_total{{result=\"{result}\"}} 1\n");
        for bytes in sent {
            Arc::clone(&exchange).sent(*bytes);
            assert!(!metrics.encode().contains(&line));
        }
        drop(exchange);
        assert!(metrics.encode().contains(&line), "{length} {sent:?}");
        let bytes = format!("_bytes_total {}\n", sent.iter().sum::<u64>());
        assert!(metrics.encode().contains(&bytes));
    }

    #[test]
    fn a_download_is_complete_when_all_bytes_were_sent() {
        check(10, &[4, 6], "complete");
        check(10, &[10], "complete");
        check(0, &[], "complete");
        check(10, &[4, 5], "aborted");
        check(10, &[], "aborted");
    }

    #[test]
    fn the_range_is_told_without_its_unit_and_the_whole() {
        assert_eq!(selected("bytes 0-6/10"), Some("0-6"));
        assert_eq!(selected("bytes 3-9/*"), Some("3-9"));
        assert_eq!(selected("lines 0-6/10"), None);
    }
}
