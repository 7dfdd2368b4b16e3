//! A download from its request to its last byte: one line in the log, and the figures that go with it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::response::Response;
use http::header::{CONTENT_RANGE, HeaderValue};
use tracing::info;

use super::resource::CODE_REVISION;
use super::trace::TraceParent;
use crate::metrics::{DownloadResult, Metrics, Ongoing};

/// An archive on its way to a client, whole or in part.
///
/// It is told of every byte that was sent. When nobody holds it any more the download has ended: completely, if that were as
/// many as it has.
#[derive(Debug)]
pub(super) struct Exchange {
    metrics: Metrics,
    /// How many bytes there are to send.
    length: u64,
    sent: AtomicU64,
    story: OnceLock<Story>,
    _counted: Ongoing,
}

/// What a line in the log tells besides.
#[derive(Debug)]
struct Story {
    origin: Origin,
    status: u16,
    revision: Option<HeaderValue>,
    range: Option<HeaderValue>,
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The client, if it is on a connection.
    pub(super) peer: Option<SocketAddr>,
    /// When the request's head was there.
    pub(super) began: Instant,
    pub(super) request_id: HeaderValue,
    pub(super) traceparent: Option<HeaderValue>,
}

impl Origin {
    pub(super) fn trace(&self) -> Option<TraceParent<'_>> {
        TraceParent::parse(self.traceparent.as_ref()?.as_bytes())
    }
}

impl Exchange {
    /// So many bytes shall be sent. It counts as running from now on.
    pub(super) fn new(metrics: Metrics, length: u64) -> Self {
        Self {
            length,
            sent: AtomicU64::new(0),
            story: OnceLock::new(),
            _counted: metrics.download_runs(),
            metrics,
        }
    }

    /// Says what request it answers, and how. Without that, it is counted but not logged.
    pub(super) fn tell(&self, origin: Origin, response: &Response) {
        let header = |name| response.headers().get(name).cloned();
        self.story.get_or_init(|| Story {
            origin,
            status: response.status().as_u16(),
            revision: header(CODE_REVISION),
            range: header(CONTENT_RANGE),
        });
    }

    /// So many more bytes of the body were sent.
    pub(super) fn sent(&self, bytes: u64) {
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
        let Some(story) = self.story.get() else {
            return;
        };
        let origin = &story.origin;
        info!(
            client = origin.peer.map(tracing::field::display),
            revision = story.revision.as_ref().map(text),
            status = story.status,
            range = story.range.as_ref().and_then(|range| selected(text(range))),
            bytes,
            length = self.length,
            elapsed = ?origin.began.elapsed(),
            outcome = outcome.name(),
            request_id = text(&origin.request_id),
            trace_id = origin.trace().map(|trace| trace.trace_id),
            parent_id = origin.trace().map(|trace| trace.parent_id),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What is counted of a response of this length of which so many bytes were sent.
    #[track_caller]
    fn check(length: u64, sent: &[u64], result: &str) {
        let metrics = Metrics::new("1");
        let exchange = Arc::new(Exchange::new(metrics.clone(), length));
        assert_eq!(metrics.downloads().running, 1);
        let line = format!("codeserver_downloads_total{{result=\"{result}\"}} 1\n");
        for bytes in sent {
            Arc::clone(&exchange).sent(*bytes);
            assert!(!metrics.encode().contains(&line));
        }
        drop(exchange);
        assert_eq!(metrics.downloads().running, 0);
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
