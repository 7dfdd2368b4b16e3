//! `PUT /code.tar.gz`: an archive that becomes the tree (RFC 9110 §9.3.4).
//!
//! Who may not is told so before the body is asked for. The body goes straight to the one who unpacks it, a few pieces at a
//! time. It has to come whole: an upload that is cut changes nothing, whatever it brought. The answer comes when the server
//! serves the new tree, or has found that it cannot.

mod answer;
mod sent;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, EXPECT, HeaderMap,
    HeaderValue, IF_MATCH, WWW_AUTHENTICATE,
};
use http::method::Method;
use http::status::StatusCode;
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::conditional::{self, Outcome};
use super::problem::Problem;
use super::resource::Resource;
use super::token::TokenFile;
use super::trace::X_REQUEST_ID;
use crate::artifact::Artifact;
use crate::digest::Revision;
use crate::ingest::{End, IngestError, Ingested, Order, feed, ingest};
use crate::metrics::{IngestResult, Metrics};
use crate::publication::Publication;
use answer::{conclude, explain};
use sent::Sent;

/// What the server makes of a tree that was put into its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// It is served, as this revision.
    Served(Revision),
    /// This revision was served before, too.
    Unchanged(Revision),
    /// It cannot be built, for this reason, which is shown to the client: it names no path but of the tree.
    Failed(String),
    /// It is not served yet.
    TimedOut,
}

/// Waits until a build that began after this moment has ended, and not for ever.
pub type Confirm =
    Arc<dyn Fn(Instant) -> Pin<Box<dyn Future<Output = Confirmation> + Send>> + Send + Sync>;

/// Who may upload, what for, and what comes of it. Clones are the same.
#[derive(Clone)]
pub struct Uploads {
    /// What they have to know.
    pub token: Arc<TokenFile>,
    /// What is replaced, and within which bounds. What cancels it cancels every upload that has replaced nothing yet.
    pub order: Order,
    /// How long a client may send nothing.
    pub stall_timeout: Duration,
    /// Asks the one who builds.
    pub confirm: Confirm,
    /// What is counted.
    pub metrics: Metrics,
    /// Owns the threads that unpack: one of them may still have to remove what a client sent that went away.
    pub tasks: TaskTracker,
}

/// Answers a PUT of the archive.
///
/// Dropping the future ends an upload that has replaced nothing yet.
pub(super) async fn put(uploads: Uploads, publication: Publication, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = Sent {
        body,
        stall_timeout: uploads.stall_timeout,
        // To read a body for which the client waits to be asked is to ask for it.
        is_coming: !head.headers.contains_key(EXPECT),
    };
    let answer = match admit(&uploads, &head.headers).await {
        Ok(length) => receive(&uploads, publication, (head.headers, length), &mut body).await,
        Err(problem) => Err(problem),
    };
    match answer {
        Ok(done) => done,
        Err(problem) => {
            let stop = uploads.order.cancel.clone();
            uploads
                .tasks
                .spawn(async move { stop.run_until_cancelled(body.read_away()).await });
            problem.into_response()
        }
    }
}

/// Turns away whom the headers alone tell apart; gives the length of the body, where that is known.
async fn admit(uploads: &Uploads, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let (token, given) = (Arc::clone(&uploads.token), headers.clone());
    let admitted = tokio::task::spawn_blocking(move || token.admits(&given)).await;
    if !admitted.unwrap_or(false) {
        let detail = "an upload needs the write token: Authorization: Bearer TOKEN";
        let challenge = HeaderValue::from_static("Bearer realm=\"code-server\"");
        return Err(
            Problem::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge)
        );
    }
    if headers.contains_key(CONTENT_RANGE) {
        let detail = "an upload is of the whole archive, and not of a range";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(coded) {
        let detail = "an upload has no content coding: a tar.gz is sent as it is";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            .with(ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let limit = uploads.order.limits.bytes;
    if length.is_some_and(|length: u64| length > limit) {
        let detail = format!("the upload has more than the {limit} bytes that are taken");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(length)
}

async fn receive(
    uploads: &Uploads,
    publication: Publication,
    (headers, length): (HeaderMap, Option<u64>),
    body: &mut Sent,
) -> Result<Response, Problem> {
    let cancel = uploads.order.cancel.child_token();
    let _cancelled_with_this = cancel.clone().drop_guard();
    let order = Order {
        expected_size: length,
        end: End::OfInput,
        cancel: cancel.clone(),
        ..uploads.order.clone()
    };
    let request_id = headers.get(X_REQUEST_ID).cloned();
    let before = publication.current();
    let before = before.map(|artifact| artifact.descriptor().revision);
    let (feeder, feed) = feed(cancel);
    let check = {
        let publication = publication.clone();
        move || require_intended(publication.current().as_deref(), &headers)
    };
    let ingesting = uploads
        .tasks
        .spawn_blocking(move || ingest(&order, feed, check));
    let (ingested, ()) = tokio::join!(ingesting, body.pass_on(feeder));
    uploads.metrics.ingested(counted_as(&ingested));
    let ingested = match ingested {
        Ok(Ok(ingested)) => ingested,
        Ok(Err(error)) => return Err(explain(&error, &publication)),
        Err(panic) => {
            error!(%panic, "an upload failed");
            let detail = "the upload failed; the server's log tells more";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
    };
    info!(
        revision = %ingested.revision,
        changed = ingested.changed,
        files = ingested.files,
        bytes = ingested.bytes,
        kept = ingested.kept,
        request_id = request_id.as_ref().and_then(|id| id.to_str().ok()),
        "uploaded"
    );
    let confirmation = tokio::select! {
        confirmation = (uploads.confirm)(ingested.since) => confirmation,
        () = uploads.order.cancel.cancelled() => Confirmation::TimedOut,
    };
    conclude(&ingested, confirmation, before)
}

fn counted_as(ingested: &Result<Result<Ingested, IngestError>, JoinError>) -> IngestResult {
    match ingested {
        Ok(Ok(ingested)) if ingested.changed => IngestResult::Replaced,
        Ok(Ok(_)) => IngestResult::Unchanged,
        Ok(Err(IngestError::Busy { .. } | IngestError::Precondition)) => IngestResult::Rejected,
        Ok(Err(error)) if error.is_about_the_archive() => IngestResult::Rejected,
        Ok(Err(_)) | Err(_) => IngestResult::Failed,
    }
}

/// Fails where the client means another archive than the current one.
fn require_intended(current: Option<&Artifact>, headers: &HeaderMap) -> Result<(), IngestError> {
    let intended = match current {
        Some(current) => {
            let validators = Resource::Archive.validators(current);
            conditional::evaluate(&Method::PUT, headers, &validators) != Outcome::PreconditionFailed
        }
        // What is not there matches nothing (RFC 9110 §13.1.1).
        None => !headers.contains_key(IF_MATCH),
    };
    intended.then_some(()).ok_or(IngestError::Precondition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_served_a_client_cannot_mean_it() {
        let headers = |value: &str| HeaderMap::from_iter([(IF_MATCH, value.parse().unwrap())]);
        for value in ["*", "\"x\""] {
            assert!(require_intended(None, &headers(value)).is_err());
        }
        assert!(require_intended(None, &HeaderMap::new()).is_ok());
    }
}
