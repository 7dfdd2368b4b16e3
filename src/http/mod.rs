//! The server's side of HTTP: which resources there are, and what is answered (RFC 9110).
//!
//! | path | |
//! |---|---|
//! | `/code.tar.gz`, `/code.json`, `/code.list` | the current artifact: archive, descriptor, listing |
//! | `/revisions/sha256:<hex>/code.{tar.gz,json,list}` | the artifact of that revision, if it is retained |
//! | `/revisions` | what is retained |
//! | `PUT /code.tar.gz` | an upload that becomes the tree, where a token for that was given |
//! | `/livez` | whether the process answers |
//! | `/readyz`, `/healthz` | whether there is an artifact to serve |
//! | `/metrics` | for Prometheus |
//!
//! All others take GET and HEAD. An artifact's resources have strong validators and take preconditions and ranges; what
//! they say is decided purely, in `conditional` and `range`, and done in `resource`. Everything that is not an artifact
//! must not be stored by anybody. How connections are made and kept is for [`crate::listen`].

mod admission;
mod answer;
mod body;
mod conditional;
mod download;
mod exchange;
mod host;
mod log;
mod prefer;
mod problem;
mod range;
mod resource;
mod revisions;
mod token;
mod trace;
mod upload;
mod waiting;

use std::ops::RangeInclusive;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{from_extractor, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::status::StatusCode;
use tokio_util::sync::CancellationToken;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::descriptor::REVISIONS;
use crate::digest::Revision;
use crate::metrics::{CONTENT_TYPE as CONTENT_TYPE_OF_METRICS, Metrics};
use crate::publication::Publication;
use admission::Admission;
use answer::{Asked, answer};
use download::Gate;
use host::NamedHost;
use problem::Problem;
use resource::{CODE_REVISION, Resource, code_revision};
pub use token::TokenFile;
pub use upload::{Confirm, Confirmation, Uploads};
use waiting::Waiting;

/// Keeps a browser from taking a listing, whose paths anybody may have named, for a page.
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");

/// In how many seconds a client is to come again that found nothing published: not all at the same time.
const RETRY_IN: RangeInclusive<u64> = 1..=3;

/// How many archives are sent at a time.
#[derive(Clone, Copy, Debug)]
pub struct Downloads {
    /// So many move at once.
    pub moving: usize,
    /// So many wait until it is their turn; more are told to come back later.
    pub waiting: usize,
}

/// All routes over what is published there and what is counted, and one to replace what is published.
///
/// Once `stop` is cancelled the server is not ready any more, and no request is held.
pub fn router(
    publication: Publication,
    metrics: Metrics,
    downloads: Downloads,
    uploads: Option<Uploads>,
    stop: CancellationToken,
) -> Router {
    let waiting = Waiting::new(publication.clone(), stop);
    let nosniff = HeaderValue::from_static("nosniff");
    let no_store = HeaderValue::from_static("no-store");
    let gate = Gate {
        admission: Admission::new(downloads.moving, downloads.waiting),
        metrics: metrics.clone(),
    };
    artifacts(&gate, uploads, &waiting)
        .method_not_allowed_fallback(method_not_allowed)
        .merge(
            observation(metrics.clone(), waiting).method_not_allowed_fallback(method_not_allowed),
        )
        .fallback(not_found)
        // All at once, from the outermost inwards: each layer of its own would have every request hold one more future.
        .layer((
            SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, no_store),
            SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, nosniff),
            from_extractor::<NamedHost>(),
        ))
        .layer(from_fn_with_state(metrics, log::observe))
        .with_state(publication)
}

fn artifacts(gate: &Gate, mut uploads: Option<Uploads>, waiting: &Waiting) -> Router<Publication> {
    let mut router = Router::new();
    for resource in Resource::ALL {
        let name = resource.name();
        let place = (waiting.clone(), gate.clone());
        let current = get(move |request: Asked| current(place, resource, request));
        let current = match uploads.take_if(|_| resource == Resource::Archive) {
            Some(uploads) => taking(current, uploads),
            None => current,
        };
        let place = (waiting.clone(), gate.clone());
        let retained = get(
            move |revision: Result<Path<Revision>, PathRejection>, request: Asked| {
                retained(place, resource, revision, request)
            },
        );
        router = router
            .route(&format!("/{name}"), current)
            .route(&format!("/{REVISIONS}/{{revision}}/{name}"), retained);
    }
    router.route(&format!("/{REVISIONS}"), get(revisions::list))
}

/// A resource that can be replaced, too.
fn taking(resource: MethodRouter<Publication>, uploads: Uploads) -> MethodRouter<Publication> {
    let put = move |State(publication): State<Publication>, request: Request| {
        upload::put(uploads.clone(), publication, request)
    };
    resource
        .put(put)
        .fallback(async || not_allowed("this resource takes GET, HEAD and PUT", "GET, HEAD, PUT"))
}

#[expect(
    clippy::manual_async_fn,
    reason = "the future of an async fn keeps its arguments twice, and thousands of them may wait"
)]
fn current(
    (waiting, gate): (Waiting, Gate),
    resource: Resource,
    mut request: Asked,
) -> impl Future<Output = Response> {
    async move {
        let wait = prefer::wait(&request.headers);
        let current = waiting
            .current(resource, (&request.method, &mut request.headers), wait)
            .await;
        let response = match current {
            Some(artifact) => answer(&artifact, resource, &request, &gate).await,
            None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet")
                .with(RETRY_AFTER, retry_after(waiting.is_stopping()).into())
                .into_response(),
        };
        waiting::applied(response, wait)
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
fn retained(
    (waiting, gate): (Waiting, Gate),
    resource: Resource,
    revision: Result<Path<Revision>, PathRejection>,
    mut request: Asked,
) -> impl Future<Output = Response> {
    async move {
        let wait = prefer::wait(&request.headers);
        let found = match revision {
            Ok(Path(revision)) => {
                waiting
                    .revision(&revision, &mut request.headers, wait)
                    .await
            }
            Err(_) => None,
        };
        let response = match found {
            Some(artifact) => answer(&artifact, resource, &request, &gate).await,
            None => unknown_revision(waiting.publication()).into_response(),
        };
        waiting::applied(response, wait)
    }
}

fn unknown_revision(publication: &Publication) -> Problem {
    let problem = Problem::new(StatusCode::NOT_FOUND, "no such revision is served");
    match publication.current() {
        Some(current) => problem.with(CODE_REVISION, code_revision(&current)),
        None => problem,
    }
}

/// What is asked every few seconds by machines.
fn observation(metrics: Metrics, waiting: Waiting) -> Router<Publication> {
    let ready = move || {
        let answer = ready(&waiting);
        async move { answer }
    };
    let metrics = move || {
        let content_type = HeaderValue::from_static(CONTENT_TYPE_OF_METRICS);
        let response = ([(CONTENT_TYPE, content_type)], metrics.encode());
        async { response }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready.clone()))
        .route("/healthz", get(ready))
}

fn ready(waiting: &Waiting) -> (StatusCode, &'static str) {
    if waiting.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n");
    }
    match waiting.publication().current() {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing is published yet\n",
        ),
    }
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such resource")
}

async fn method_not_allowed() -> Problem {
    not_allowed("this resource takes GET and HEAD", "GET, HEAD")
}

fn not_allowed(detail: &'static str, allow: &'static str) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        .with(ALLOW, HeaderValue::from_static(allow))
}
