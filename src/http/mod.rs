//! The server's side of HTTP: which resources there are, and what is answered (RFC 9110).
//!
//! | path | |
//! |---|---|
//! | `/code.tar.gz`, `/code.json`, `/code.list` | the current artifact: archive, descriptor, listing |
//! | `/revisions/sha256:<hex>/code.{tar.gz,json,list}` | the artifact of that revision, if it is retained |
//! | `/revisions` | what is retained |
//! | `PUT /code.tar.gz` | an upload that becomes the tree, where a token for that was given |
//! | `/` | what is served and how it goes: a page, JSON or text |
//! | `/livez` | whether the process answers |
//! | `/readyz`, `/healthz` | whether there is an artifact to serve |
//! | `/metrics` | for Prometheus |
//!
//! All others take GET and HEAD, and all but the last three rows want a token where there is one to read. An artifact's resources have strong validators and take preconditions and ranges; what
//! they say is decided purely, in `conditional` and `range`, and done in `resource`. Everything that is not an artifact
//! must not be stored by anybody. How connections are made and kept is for [`crate::listen`].

mod admission;
mod answer;
mod body;
mod conditional;
mod download;
mod exchange;
mod guard;
mod host;
mod log;
mod page;
mod problem;
mod range;
mod resource;
mod revisions;
mod token;
mod trace;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::status::StatusCode;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::artifact::Artifact;
use crate::descriptor::REVISIONS;
use crate::digest::Revision;
use crate::metrics::{CONTENT_TYPE as CONTENT_TYPE_OF_METRICS, Metrics};
use crate::publication::Publication;
use admission::Admission;
use answer::{Asked, answer};
use download::Gate;
pub use guard::Guard;
use page::Ways;
use problem::Problem;
use resource::{CODE_REVISION, Resource, code_revision};
pub use token::TokenFile;
pub use upload::{Confirm, Confirmation, Uploads};

/// Keeps a browser from taking a listing, whose paths anybody may have named, for a page.
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");

/// How many archives are sent at a time.
#[derive(Clone, Copy, Debug)]
pub struct Downloads {
    /// So many move at once.
    pub moving: usize,
    /// So many wait until it is their turn; more are told to come back later.
    pub waiting: usize,
}

/// Who may ask, and for what there is a port of its own.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None` where everybody may read.
    pub guard: Option<Guard>,
    /// Whether probes and metrics are asked for elsewhere, by [`observation_router`]: they are unknown here then.
    pub observed_elsewhere: bool,
    /// Whether clients come by TLS.
    pub tls: bool,
}

/// All routes over what is published there and what is counted, and one to replace what is published; for everybody.
pub fn router(
    publication: Publication,
    metrics: Metrics,
    downloads: Downloads,
    uploads: Option<Uploads>,
) -> Router {
    let access = Access::default();
    router_for(&access, publication, metrics, downloads, uploads)
}

/// The same for those who may ask.
///
/// A guard comes before anything else that is said of a request, but not before probes and metrics.
pub fn router_for(
    access: &Access,
    publication: Publication,
    metrics: Metrics,
    downloads: Downloads,
    uploads: Option<Uploads>,
) -> Router {
    let gate = Gate {
        admission: Admission::new(downloads.moving, downloads.waiting),
        metrics: metrics.clone(),
    };
    let ways = Ways {
        uploads: uploads.is_some(),
        read_token: access.guard.is_some(),
        tls: access.tls,
    };
    let page = page::route(metrics.clone(), ways);
    let mut router = artifacts(&gate, uploads)
        .merge(page)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found);
    if let Some(guard) = access.guard.clone() {
        router = router.layer(from_fn_with_state(guard, guard::require));
    }
    if !access.observed_elsewhere {
        let observation = observation(metrics.clone());
        router = router.merge(observation.method_not_allowed_fallback(method_not_allowed));
    }
    complete(router, publication, metrics)
}

/// Probes and metrics alone, for everybody.
pub fn observation_router(publication: Publication, metrics: Metrics) -> Router {
    let router = observation(metrics.clone())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found);
    complete(router, publication, metrics)
}

/// What holds for each answer.
fn complete(router: Router<Publication>, publication: Publication, metrics: Metrics) -> Router {
    let nosniff = HeaderValue::from_static("nosniff");
    let no_store = HeaderValue::from_static("no-store");
    router
        .layer(from_fn(host::require))
        .layer(SetResponseHeaderLayer::overriding(
            X_CONTENT_TYPE_OPTIONS,
            nosniff,
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            no_store,
        ))
        .layer(from_fn_with_state(metrics, log::observe))
        .with_state(publication)
}

fn artifacts(gate: &Gate, mut uploads: Option<Uploads>) -> Router<Publication> {
    let mut router = Router::new();
    for resource in Resource::ALL {
        let name = resource.name();
        let for_current = gate.clone();
        let current = get(
            move |State(publication): State<Publication>, request: Asked| async move {
                current(&publication, resource, &request, &for_current).await
            },
        );
        let current = match uploads.take_if(|_| resource == Resource::Archive) {
            Some(uploads) => taking(current, uploads),
            None => current,
        };
        let for_retained = gate.clone();
        let retained = get(
            move |State(publication): State<Publication>,
                  revision: Result<Path<Revision>, PathRejection>,
                  request: Asked| async move {
                let found = match revision {
                    Ok(Path(revision)) => publication.find(&revision).await,
                    Err(_) => None,
                };
                retained(&publication, found, (resource, &request), &for_retained).await
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

async fn current(
    publication: &Publication,
    resource: Resource,
    request: &Asked,
    gate: &Gate,
) -> Response {
    match publication.current() {
        Some(artifact) => answer(&artifact, resource, request, gate).await,
        None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet")
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
            .into_response(),
    }
}

/// What is no revision at all is as unknown as one that was never published: a client that asks for it is told the same,
/// and which revision it could have instead.
async fn retained(
    publication: &Publication,
    found: Option<Arc<Artifact>>,
    (resource, request): (Resource, &Asked),
    gate: &Gate,
) -> Response {
    if let Some(artifact) = found {
        return answer(&artifact, resource, request, gate).await;
    }
    let problem = Problem::new(StatusCode::NOT_FOUND, "no such revision is served");
    match publication.current() {
        Some(current) => problem.with(CODE_REVISION, code_revision(&current)),
        None => problem,
    }
    .into_response()
}

/// What is asked every few seconds by machines.
fn observation(metrics: Metrics) -> Router<Publication> {
    let metrics = move || {
        let content_type = HeaderValue::from_static(CONTENT_TYPE_OF_METRICS);
        let response = ([(CONTENT_TYPE, content_type)], metrics.encode());
        async { response }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
}

async fn ready(State(publication): State<Publication>) -> (StatusCode, &'static str) {
    match publication.current() {
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
