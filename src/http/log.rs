//! What is logged and counted of requests.
//!
//! A download, which is the GET of an archive that is answered with bytes of it, is a line at `info` when it has ended (see
//! [`Exchange`]). An answer that says that this server is broken is a line at `warn`. Every other request is one at `debug`:
//! a fleet that asks every few seconds whether anything has changed shall not fill a log. Probes and metrics have no line.
//! All of them are counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::method::Method;
use http::status::StatusCode;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{debug, warn};

use super::exchange::{Exchange, Origin, text};
use super::host;
use super::problem::Problem;
use super::trace::{X_REQUEST_ID, own, request_id, traceparent};
use crate::entry::Escaped;
use crate::listen::Connection;
use crate::metrics::{self, Metrics, RequestFigures, Route};

/// Counts and logs each request, and names it in its response. One that names no host gets no further.
///
/// The [`Exchange`] of a download comes as an extension of the response. This is a service of its own and no function, for a
/// function's future is allocated anew for each request, and larger.
#[derive(Clone)]
pub(super) struct Observe(pub(super) Metrics);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        let Self(metrics) = self.clone();
        Observed { inner, metrics }
    }
}

/// A service whose requests are observed.
#[derive(Clone)]
pub(super) struct Observed<S> {
    inner: S,
    metrics: Metrics,
}

impl<S: Service<Request, Response = Response>> Service<Request> for Observed<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Observing<S::Future> {
        let pending = Pending::of(self.metrics.clone(), &request);
        if request.method() == Method::PUT {
            // An upload has a line of its own in the log, which names it too.
            let id = pending.origin.request_id.clone();
            request.headers_mut().insert(X_REQUEST_ID, id);
        }
        let (answering, refused) = match host::require(&request) {
            Ok(()) => (Some(self.inner.call(request)), None),
            Err(problem) => (None, Some(problem)),
        };
        Observing {
            answering,
            refused,
            pending: Some(pending),
        }
    }
}

pin_project! {
    /// A request on its way to its response.
    pub(super) struct Observing<F> {
        #[pin]
        answering: Option<F>,
        // The response, where the request gets no further.
        refused: Option<Problem>,
        // `None` once it was answered.
        pending: Option<Pending>,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Observing<F> {
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let observing = self.project();
        let response = if let Some(answering) = observing.answering.as_pin_mut() {
            ready!(answering.poll(context))?
        } else {
            let refused = observing.refused.take();
            refused.expect("it is not polled again").into_response()
        };
        let pending = observing.pending.take();
        let pending = pending.expect("it is not polled again");
        Poll::Ready(Ok(pending.answered(response)))
    }
}

/// A request that was not answered yet. If it is dropped so, the client went away, or the server came to its end.
struct Pending {
    metrics: Metrics,
    route: Route,
    method: Method,
    /// Its own, and not a part of what the connection has read, which would be held for as long as the answer takes.
    path: Box<str>,
    origin: Origin,
    asks_to_be_held: bool,
    is_answered: bool,
}

impl Pending {
    fn of(metrics: Metrics, request: &Request) -> Self {
        let headers = request.headers();
        Self {
            metrics,
            route: Route::of(request.uri().path()),
            method: request.method().clone(),
            path: request.uri().path().into(),
            origin: Origin {
                peer: request.extensions().get().map(Connection::peer),
                began: Instant::now(),
                request_id: request_id(headers),
                traceparent: traceparent(headers).map(own),
            },
            asks_to_be_held: headers.contains_key("prefer"),
            is_answered: false,
        }
    }

    fn answered(mut self, mut response: Response) -> Response {
        self.is_answered = true;
        let status = response.status();
        self.metrics.requested(&RequestFigures {
            route: self.route,
            method: metrics::Method::from(&self.method),
            status: status.as_u16(),
            elapsed: (!self.asks_to_be_held).then(|| self.origin.began.elapsed()),
        });
        let id = self.origin.request_id.clone();
        response.headers_mut().insert(X_REQUEST_ID, id);
        let exchange: Option<Arc<Exchange>> = response.extensions_mut().remove();
        if let Some(exchange) = exchange {
            exchange.tell(self.origin.clone(), &response);
            return response;
        }
        let bytes = match self.method {
            Method::HEAD => 0,
            _ => response.body().size_hint().lower(),
        };
        self.metrics.sent(bytes);
        self.log(Some((status, bytes)));
        response
    }

    /// What the fields are made of is looked at only where somebody wants the line.
    fn log(&self, answer: Option<(StatusCode, u64)>) {
        macro_rules! line {
            ($level:ident, $message:literal) => {
                $level!(
                    client = self.origin.peer.map(tracing::field::display),
                    method = %Escaped(self.method.as_str().as_bytes()),
                    path = %Escaped(self.path.as_bytes()),
                    status = answer.map(|(status, _)| status.as_u16()),
                    bytes = answer.map(|(_, bytes)| bytes),
                    elapsed = ?self.origin.began.elapsed(),
                    request_id = text(&self.origin.request_id),
                    trace_id = self.origin.trace().map(|trace| trace.trace_id),
                    parent_id = self.origin.trace().map(|trace| trace.parent_id),
                    $message
                )
            };
        }
        match answer {
            _ if self.route.is_observation() => {}
            Some((status, _)) if is_our_fault(status) => line!(warn, "request failed"),
            Some(_) => line!(debug, "request"),
            None => line!(debug, "request given up"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_answered {
            self.log(None);
        }
    }
}

/// Whether a status is for the operator to read of. That there is nothing to serve yet is told by the builds.
fn is_our_fault(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_broken_here_is_a_warning() {
        for (status, expected) in [
            (200, false),
            (304, false),
            (400, false),
            (404, false),
            (503, false),
            (500, true),
            (504, true),
            (507, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_our_fault(status), expected, "{status}");
        }
    }
}
