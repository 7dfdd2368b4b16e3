//! The answer to a request for an artifact's resource.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::HeaderMap;
use http::method::Method;
use http::request::Parts;
use http::status::StatusCode;

use super::download::{self, Gate};
use super::problem::Problem;
use super::range::Selection;
use super::resource::{Resource, Verdict};
use crate::artifact::Artifact;
use crate::listen::Connection;

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

/// Answers a GET or HEAD request once that may be: an archive waits for its turn.
///
/// Dropping the future leaves the queue.
pub(super) async fn answer(
    artifact: &Artifact,
    resource: Resource,
    request: &Asked,
    gate: &Gate,
) -> Response {
    let Asked {
        method,
        headers,
        connection,
    } = request;
    let verdict = resource.judge(artifact, method, headers);
    let representation = resource.of(artifact);
    let range = match &verdict {
        Verdict::Send(Selection::Full) => 0..representation.length(),
        Verdict::Send(Selection::Partial(range)) => range.clone(),
        _ => return resource.response(artifact, &verdict),
    };
    if *method == Method::HEAD {
        return resource.response(artifact, &verdict);
    }
    let response = |body| resource.response(artifact, &verdict).map(|_| body);
    if resource != Resource::Archive {
        return response(download::at_once(connection, representation, range));
    }
    match download::archive(gate, connection, representation, range).await {
        Ok((body, exchange)) => {
            let mut response = response(body);
            response.extensions_mut().insert(exchange);
            response
        }
        Err(problem) => problem.into_response(),
    }
}
