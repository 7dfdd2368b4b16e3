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

use super::admission::{Admission, Refused, Turn};
use super::problem::Problem;
use crate::artifact::{Part, Representation};
use crate::listen::{Connection, Observer};

/// So much of an archive is sent without a turn: who fetches the few segments that changed does not queue behind those who
/// fetch everything.
const SMALL: u64 = 1 << 20;

/// How long a request waits for its turn. A thousand clients of a large archive on a slow link need minutes; a client
/// that has less patience ends its request itself.
const PATIENCE: Duration = Duration::from_mins(5);

/// When those come back who were refused: spread, or they would all come at once.
const RETRY: std::ops::RangeInclusive<u64> = 2..=10;

/// What is told of a body by the connection's writer.
struct Download {
    turn: Option<Arc<Turn>>,
}

impl Observer for Download {
    fn sent(&self, bytes: u64) {
        if let Some(turn) = &self.turn {
            turn.moved(bytes);
        }
    }
}

/// The body that is this range of an archive, once it may be sent.
///
/// Dropping the future leaves the queue.
pub(super) async fn archive(
    admission: &Admission,
    connection: &Connection,
    archive: &Representation,
    range: Range<u64>,
) -> Result<Body, Problem> {
    let turn = if range.end - range.start <= SMALL {
        None
    } else {
        Some(turn(admission).await.map_err(|Refused| busy())?)
    };
    Ok(body(connection, archive.part(range), Download { turn }))
}

/// The body that is this range of something small.
pub(super) fn at_once(
    connection: &Connection,
    representation: &Representation,
    range: Range<u64>,
) -> Body {
    let untold = Download { turn: None };
    body(connection, representation.part(range), untold)
}

async fn turn(admission: &Admission) -> Result<Arc<Turn>, Refused> {
    match admission.try_turn() {
        Some(turn) => Ok(turn),
        // In a box: those who need not wait have no room for it.
        None => Box::pin(admission.turn(PATIENCE)).await,
    }
}

fn body(connection: &Connection, part: Part, download: Download) -> Body {
    match part {
        Part::Mapped(slice) => Body::from(connection.body(slice, Arc::new(download))),
        Part::Memory(bytes) => Body::from(bytes),
    }
}

fn busy() -> Problem {
    let detail = "too many downloads are waiting already";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with(RETRY_AFTER, HeaderValue::from(fastrand::u64(RETRY)))
}
