//! The body of an artifact's resource on its way to a client.
//!
//! An archive waits for its turn, unless little of it is asked for; everything else goes at once. The turn lasts until the
//! connection's writer is done with the last byte.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{HeaderValue, RETRY_AFTER};
use http::status::StatusCode;
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Refused, Turn};
use super::exchange::Exchange;
use super::problem::Problem;
use crate::artifact::{Part, Representation};
use crate::listen::{Connection, Observer};
use crate::metrics::Metrics;

/// So much of an archive is sent without a turn: who fetches the few segments that changed does not queue behind those who
/// fetch everything.
const SMALL: u64 = 1 << 20;

/// How long a request waits for its turn. A thousand clients of a large archive on a slow link need minutes; a client
/// that has less patience ends its request itself.
const PATIENCE: Duration = Duration::from_mins(5);

/// When those come back who were refused: spread, or they would all come at once.
const RETRY: std::ops::RangeInclusive<u64> = 2..=10;

/// Where archives wait for their turn, and where they are counted. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) admission: Admission,
    pub(super) metrics: Metrics,
    /// Says that nobody is to wait any longer.
    pub(super) stop: CancellationToken,
}

/// What is told of an archive by the connection's writer.
struct Download {
    turn: Option<Arc<Turn>>,
    exchange: Arc<Exchange>,
}

impl Observer for Download {
    fn sent(&self, bytes: u64) {
        if let Some(turn) = &self.turn {
            turn.moved(bytes);
        }
        self.exchange.sent(bytes);
    }
}

/// Of what is small, nobody wants to know how it moves.
struct Untold;

impl Observer for Untold {
    fn sent(&self, _: u64) {}
}

/// The body that is this range of an archive, once it may be sent, and what will be known of how it was.
///
/// Dropping the future leaves the queue.
pub(super) async fn archive(
    gate: &Gate,
    connection: &Connection,
    archive: &Representation,
    range: Range<u64>,
) -> Result<(Body, Arc<Exchange>), Problem> {
    let length = range.end - range.start;
    let turn = if length <= SMALL {
        None
    } else {
        Some(turn(gate).await?)
    };
    let exchange = Arc::new(Exchange::new(gate.metrics.clone(), length));
    let download = Download {
        turn,
        exchange: Arc::clone(&exchange),
    };
    let body = body(connection, archive.part(range), Arc::new(download));
    Ok((body, exchange))
}

/// The body that is this range of something small.
pub(super) fn at_once(
    connection: &Connection,
    representation: &Representation,
    range: Range<u64>,
) -> Body {
    body(connection, representation.part(range), Arc::new(Untold))
}

async fn turn(gate: &Gate) -> Result<Arc<Turn>, Problem> {
    match gate.admission.try_turn() {
        Some(turn) => Ok(turn),
        // In a box: those who need not wait have no room for it.
        None => Box::pin(wait(gate)).await,
    }
}

/// A stopping server lets nobody wait: the one that comes after it will have time.
async fn wait(gate: &Gate) -> Result<Arc<Turn>, Problem> {
    let _counted = gate.metrics.download_waits();
    let turn = gate.stop.run_until_cancelled(gate.admission.turn(PATIENCE));
    let (detail, retry_after) = match turn.await {
        Some(Ok(turn)) => return Ok(turn),
        Some(Err(Refused::Full)) => (
            "too many downloads are waiting already",
            fastrand::u64(RETRY),
        ),
        Some(Err(Refused::TimedOut)) => {
            ("other downloads have taken too long", fastrand::u64(RETRY))
        }
        None => ("the server is stopping", 1),
    };
    gate.metrics.download_rejected();
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with(RETRY_AFTER, HeaderValue::from(retry_after)))
}

fn body(connection: &Connection, part: Part, observer: Arc<dyn Observer>) -> Body {
    match part {
        Part::Mapped(slice) => Body::from(connection.body(slice, observer)),
        Part::Memory(bytes) => {
            // The writer takes these for a part of the head, and tells nobody.
            observer.sent(bytes.len() as u64);
            Body::from(bytes)
        }
    }
}
