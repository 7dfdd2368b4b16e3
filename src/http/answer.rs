//! The answer to a request for an artifact's resource.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderMap, RETRY_AFTER};
use http::method::Method;
use http::request::Parts;
use http::status::StatusCode;

use super::download::{self, Gate};
use super::fixed::Shelf;
use super::prefer;
use super::problem::Problem;
use super::range::Selection;
use super::resource::{CODE_REVISION, Resource, Verdict, code_revision};
use super::waiting::{Waiting, applied};
use crate::artifact::Artifact;
use crate::digest::Revision;
use crate::listen::Connection;
use crate::publication::Publication;

/// In how many seconds a client is to come again that found nothing published: not all at the same time.
const RETRY_IN: RangeInclusive<u64> = 1..=3;

/// Where requests for artifacts come together.
pub(super) struct Place {
    pub(super) waiting: Waiting,
    pub(super) gate: Gate,
    pub(super) shelf: Shelf,
}

/// What of a request an answer depends on.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) connection: Connection,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    /// Takes the headers: nobody else looks at them.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(connection) = parts.extensions.remove() else {
            let detail = "the request came on no connection";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        };
        Ok(Self {
            method: parts.method.clone(),
            headers: std::mem::take(&mut parts.headers),
            connection,
        })
    }
}

/// Answers a request for the current artifact's resource.
#[expect(
    clippy::manual_async_fn,
    reason = "the future of an async fn keeps its arguments twice, and thousands of them may wait"
)]
pub(super) fn current(
    place: Arc<Place>,
    resource: Resource,
    mut request: Asked,
) -> impl Future<Output = Response> {
    async move {
        let wait = prefer::wait(&request.headers);
        let current = place
            .waiting
            .current(resource, (&request.method, &mut request.headers), wait)
            .await;
        let response = match current {
            Some(artifact) => answer(&place, &artifact, resource, &request).await,
            None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet")
                .with(RETRY_AFTER, retry_after(place.waiting.is_stopping()).into())
                .into_response(),
        };
        applied(response, wait)
    }
}

/// Another server will be there soon where this one stops, and else there is something to be built first.
fn retry_after(is_stopping: bool) -> u64 {
    if is_stopping {
        *RETRY_IN.start()
    } else {
        fastrand::u64(RETRY_IN)
    }
}

/// What is no revision at all is as unknown as one that was never published, though nobody waits for it: a client that asks
/// for it is told the same, and which revision it could have instead.
#[expect(
    clippy::manual_async_fn,
    reason = "the future of an async fn keeps its arguments twice, and thousands of them may wait"
)]
pub(super) fn retained(
    place: Arc<Place>,
    resource: Resource,
    revision: Result<Path<Revision>, PathRejection>,
    mut request: Asked,
) -> impl Future<Output = Response> {
    async move {
        let wait = prefer::wait(&request.headers);
        let found = match revision {
            Ok(Path(revision)) => {
                place
                    .waiting
                    .revision(&revision, &mut request.headers, wait)
                    .await
            }
            Err(_) => None,
        };
        let response = match found {
            Some(artifact) => answer(&place, &artifact, resource, &request).await,
            None => unknown_revision(place.waiting.publication()).into_response(),
        };
        applied(response, wait)
    }
}

fn unknown_revision(publication: &Publication) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND, "no such revision is served");
    match publication.current() {
        Some(current) => problem.with(CODE_REVISION, code_revision(&current)),
        None => problem,
    }
}

/// Answers a GET or HEAD request once that may be: an archive waits for its turn.
///
/// Dropping the future leaves the queue.
async fn answer(
    place: &Place,
    artifact: &Arc<Artifact>,
    resource: Resource,
    request: &Asked,
) -> Response {
    let Asked {
        method,
        headers,
        connection,
    } = request;
    let fixed = place.shelf.get(artifact, resource);
    let about = (&**artifact, &*fixed);
    let verdict = resource.judge(about, method, headers);
    let representation = resource.of(artifact);
    let range = match &verdict {
        Verdict::Send(Selection::Full) => 0..representation.length(),
        Verdict::Send(Selection::Partial(range)) => range.clone(),
        _ => return resource.response(about, &verdict),
    };
    if *method == Method::HEAD {
        return resource.response(about, &verdict);
    }
    let response = |body| resource.response(about, &verdict).map(|_| body);
    if resource != Resource::Archive {
        return response(download::at_once(connection, representation, range));
    }
    match download::archive(&place.gate, connection, representation, range).await {
        Ok((body, exchange)) => {
            let mut response = response(body);
            response.extensions_mut().insert(exchange);
            response
        }
        Err(problem) => problem.into_response(),
    }
}
