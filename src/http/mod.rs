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
//! All others take GET and HEAD, and all but the last three rows want a token where there is one to read. An artifact's
//! resources have strong validators and take preconditions and ranges; what they say is decided purely, in `conditional` and
//! `range`, and done in `answer`. Everything that is not an artifact must not be stored by anybody. How connections are made
//! and kept is for [`crate::listen`].

mod admission;
mod answer;
mod body;
mod conditional;
mod download;
mod exchange;
mod fixed;
mod guard;
mod host;
mod log;
mod page;
mod prefer;
mod problem;
mod range;
mod resource;
mod revisions;
mod token;
mod trace;
mod upload;
mod waiting;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::from_fn_with_state;

use axum::routing::{MethodRouter, get};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::status::StatusCode;
use tokio_util::sync::CancellationToken;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::descriptor::REVISIONS;
use crate::digest::Revision;
use crate::metrics::{CONTENT_TYPE as CONTENT_TYPE_OF_METRICS, Metrics};
use crate::publication::Publication;
use admission::Admission;
use answer::{Asked, Place, current, retained};
use download::Gate;
use fixed::Shelf;
pub use guard::Guard;
use log::Observe;
use page::Ways;
use problem::Problem;
use resource::Resource;
pub use token::TokenFile;
pub use upload::{Confirm, Confirmation, Uploads};
use waiting::Waiting;

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
    /// Whether probes and metrics are asked for elsewhere, at [`Site::observation`]: they are unknown at the site then.
    pub observed_elsewhere: bool,
    /// Whether clients come by TLS.
    pub tls: bool,
}

/// What is served, to whom, and how much of it at a time.
#[derive(Clone)]
pub struct Site {
    /// What is served.
    pub publication: Publication,
    /// What is counted.
    pub metrics: Metrics,
    /// How many archives at a time.
    pub downloads: Downloads,
    /// To whom.
    pub access: Access,
    /// Who may replace it; `None`: nobody.
    pub uploads: Option<Uploads>,
    /// Once it is cancelled the server is not ready any more, and no request is held.
    pub stop: CancellationToken,
}

impl Site {
    /// A site for everybody, at which nothing can be replaced.
    #[must_use]
    pub fn open(
        publication: Publication,
        metrics: Metrics,
        downloads: Downloads,
        stop: CancellationToken,
    ) -> Self {
        Self {
            publication,
            metrics,
            downloads,
            access: Access::default(),
            uploads: None,
            stop,
        }
    }

    /// All routes.
    ///
    /// A guard comes before anything else that is said of a request, but not before probes and metrics.
    pub fn router(&self) -> Router {
        let gate = Gate {
            admission: Admission::new(self.downloads.moving, self.downloads.waiting),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        let ways = Ways {
            uploads: self.uploads.is_some(),
            read_token: self.access.guard.is_some(),
            tls: self.access.tls,
        };
        let place = Place {
            waiting: self.waiting(),
            gate,
            shelf: Shelf::default(),
        };
        let mut router = artifacts(place, self.uploads.clone())
            .merge(page::route(self.metrics.clone(), ways))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found);
        if let Some(guard) = self.access.guard.clone() {
            router = router.layer(from_fn_with_state(guard, guard::require));
        }
        if !self.access.observed_elsewhere {
            router = router.merge(self.observed());
        }
        self.complete(router)
    }

    /// Probes and metrics alone, for everybody.
    pub fn observation(&self) -> Router {
        self.complete(self.observed().fallback(not_found))
    }

    fn observed(&self) -> Router<Publication> {
        observation(self.metrics.clone(), self.waiting())
            .method_not_allowed_fallback(method_not_allowed)
    }

    fn waiting(&self) -> Waiting {
        Waiting::new(self.publication.clone(), self.stop.clone())
    }

    /// What holds for each answer.
    fn complete(&self, router: Router<Publication>) -> Router {
        let nosniff = HeaderValue::from_static("nosniff");
        let no_store = HeaderValue::from_static("no-store");
        router
            // All at once, from the outermost inwards: each layer of its own would have every request hold one more future.
            .layer((
                SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, no_store),
                SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, nosniff),
                Observe(self.metrics.clone()),
            ))
            .with_state(self.publication.clone())
    }
}

fn artifacts(place: Place, mut uploads: Option<Uploads>) -> Router<Publication> {
    let place = Arc::new(place);
    let mut router = Router::new();
    for resource in Resource::ALL {
        let name = resource.name();
        let at = Arc::clone(&place);
        let current = get(move |request: Asked| current(at, resource, request));
        let current = match uploads.take_if(|_| resource == Resource::Archive) {
            Some(uploads) => taking(current, uploads),
            None => current,
        };
        let at = Arc::clone(&place);
        let retained = get(
            move |revision: Result<Path<Revision>, PathRejection>, request: Asked| {
                retained(at, resource, revision, request)
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
