//! `PUT /code.tar.gz`: an archive that becomes the tree (RFC 9110 §9.3.4).
//!
//! Who may not is told so before the body is asked for. The body goes straight to the one who unpacks it, a few pieces at a
//! time. It has to come whole: an upload that is cut changes nothing, whatever it brought. The answer comes when the server
//! serves the new tree, or has found that it cannot.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    EXPECT, HeaderMap, HeaderValue, IF_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::method::Method;
use http::status::StatusCode;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::conditional::{self, Outcome};
use super::problem::Problem;
use super::resource::{CODE_REVISION, Resource, code_revision, revision_value};
use super::token::TokenFile;
use crate::artifact::Artifact;
use crate::digest::Revision;
use crate::entry::Escaped;
use crate::exit::sentence;
use crate::ingest::{End, Feeder, IngestError, Ingested, Order, feed, ingest};
use crate::publication::Publication;
use crate::unpack::UnpackError;

/// How much of a body is read away behind an answer that was found early: a client that still sends would miss it.
const READ_AWAY: u64 = 1 << 20;
/// And for how long.
const READ_AWAY_TIME: Duration = Duration::from_secs(2);

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
    /// Owns the threads that unpack: one of them may still have to remove what a client sent that went away.
    pub tasks: TaskTracker,
}

/// What a client is told when all went well.
#[derive(Serialize)]
struct Done {
    revision: Revision,
    changed: bool,
    files: u64,
    bytes: u64,
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
            body.read_away().await;
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
    let (feeder, feed) = feed(cancel);
    let check = {
        let publication = publication.clone();
        move || require_intended(publication.current().as_deref(), &headers)
    };
    let ingesting = uploads
        .tasks
        .spawn_blocking(move || ingest(&order, feed, check));
    let (ingested, ()) = tokio::join!(ingesting, body.pass_on(feeder));
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
        "uploaded"
    );
    let confirmation = tokio::select! {
        confirmation = (uploads.confirm)(ingested.since) => confirmation,
        () = uploads.order.cancel.cancelled() => Confirmation::TimedOut,
    };
    conclude(&ingested, confirmation)
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

/// The answer to an upload that is in its place.
fn conclude(ingested: &Ingested, confirmation: Confirmation) -> Result<Response, Problem> {
    let (revision, is_news) = match confirmation {
        Confirmation::Served(revision) => (revision, true),
        Confirmation::Unchanged(revision) => (revision, false),
        Confirmation::Failed(reason) => {
            let reason = Escaped(reason.as_bytes());
            let detail = format!("the code is in its place, but could not be built: {reason}");
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        }
        Confirmation::TimedOut => {
            let detail = "the code is in its place, but is not served yet";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                .with(RETRY_AFTER, HeaderValue::from_static("5")));
        }
    };
    let done = Done {
        revision,
        changed: ingested.changed && is_news,
        files: ingested.files,
        bytes: ingested.bytes,
    };
    let json = serde_json::to_vec(&done).expect("text and numbers can be written");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CODE_REVISION, revision_value(revision)),
    ];
    Ok((headers, json).into_response())
}

/// What a client is told of a failure: all that is about its archive, and nothing of the server's own paths.
fn explain(error: &IngestError, publication: &Publication) -> Problem {
    let status = status_of(error);
    let sentence = sentence(error);
    if status.is_server_error() {
        warn!(error = %sentence, "an upload failed");
    } else {
        info!(error = %sentence, "an upload was refused");
    }
    let problem = |detail: &'static str| Problem::new(status, detail);
    let retry = HeaderValue::from_static("5");
    match error {
        IngestError::Precondition => {
            let problem = problem("the archive is not the one that the condition names");
            match publication.current() {
                Some(current) => problem.with(CODE_REVISION, code_revision(&current)),
                None => problem,
            }
        }
        IngestError::Busy { .. } => {
            problem("another upload is at work: try again when it has ended")
                .with(RETRY_AFTER, retry)
        }
        IngestError::Cancelled => {
            problem("the server is stopping, and has replaced nothing").with(RETRY_AFTER, retry)
        }
        IngestError::Fixed { .. } | IngestError::MountedInside { .. } => problem(
            "the directory that is served cannot be exchanged, since a volume is mounted there or in it, or it is a link: \
             mount the volume one level higher, and serve a directory in it",
        ),
        error if error.is_about_space() => problem("the volume has no room for the upload"),
        error if error.is_about_the_archive() => Problem::new(status, sentence),
        _ if status == StatusCode::REQUEST_TIMEOUT => problem("nothing more of the upload came")
            .with(CONNECTION, HeaderValue::from_static("close")),
        _ if status.is_client_error() => problem("the upload broke off"),
        _ => problem("the upload failed; the server's log tells more"),
    }
}

fn status_of(error: &IngestError) -> StatusCode {
    match error {
        IngestError::Precondition => StatusCode::PRECONDITION_FAILED,
        IngestError::Busy { .. } => StatusCode::CONFLICT,
        IngestError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        IngestError::Coding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        IngestError::TooLong { .. }
        | IngestError::Unpack(
            UnpackError::TooManyBytes { .. } | UnpackError::TooManyEntries { .. },
        ) => StatusCode::PAYLOAD_TOO_LARGE,
        error if error.is_about_space() => StatusCode::INSUFFICIENT_STORAGE,
        error if error.is_about_the_archive() => StatusCode::UNPROCESSABLE_ENTITY,
        IngestError::Unpack(UnpackError::Read(error)) => match error.kind() {
            io::ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        },
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A body on its way here.
struct Sent {
    body: Body,
    stall_timeout: Duration,
    /// Whether the client sends it, asked or not.
    is_coming: bool,
}

impl Sent {
    /// Passes it on, as soon as somebody wants it and as long as somebody does.
    async fn pass_on(&mut self, mut feeder: Feeder) {
        if !feeder.is_wanted().await {
            return;
        }
        self.is_coming = true;
        let ended = loop {
            let frame = tokio::select! {
                () = feeder.is_gone() => return,
                frame = timeout(self.stall_timeout, self.body.frame()) => frame,
            };
            match frame {
                Err(_) => {
                    self.is_coming = false;
                    break Err(io::ErrorKind::TimedOut.into());
                }
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => {
                    break Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
                }
                Ok(Some(Ok(frame))) => {
                    // What is no data is a trailer, and means nothing here.
                    let data = frame.into_data().unwrap_or_default();
                    if !feeder.give(data).await {
                        return;
                    }
                }
            }
        };
        feeder.end(ended).await;
    }

    /// Takes some of what the client still sends: it would not see the answer otherwise.
    async fn read_away(&mut self) {
        if !self.is_coming {
            return;
        }
        let mut left = READ_AWAY;
        let reading = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        drop(timeout(READ_AWAY_TIME, reading).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryPath;

    #[test]
    fn every_failure_has_a_status_and_none_names_a_path_of_the_server() {
        let path = || EntryPath::new(b"x").unwrap();
        let write = |kind: io::ErrorKind| {
            IngestError::Unpack(UnpackError::Write {
                path: path(),
                source: kind.into(),
            })
        };
        let read = |kind: io::ErrorKind| IngestError::Unpack(UnpackError::Read(kind.into()));
        for (error, status) in [
            (IngestError::Precondition, 412),
            (
                IngestError::Busy {
                    parent: "/secret".into(),
                },
                409,
            ),
            (IngestError::Cancelled, 503),
            (IngestError::Coding { what: "a zip file" }, 415),
            (IngestError::NoInput, 422),
            (IngestError::Nothing, 422),
            (IngestError::Behind, 422),
            (IngestError::TooLong { limit: 1 }, 413),
            (UnpackError::TooManyEntries { limit: 1 }.into(), 413),
            (
                UnpackError::TooManyBytes {
                    limit: 1,
                    path: path(),
                }
                .into(),
                413,
            ),
            (UnpackError::Truncated.into(), 422),
            (UnpackError::Twice { path: path() }.into(), 422),
            (read(io::ErrorKind::InvalidData), 422),
            (read(io::ErrorKind::TimedOut), 408),
            (read(io::ErrorKind::ConnectionAborted), 400),
            (write(io::ErrorKind::StorageFull), 507),
            (write(io::ErrorKind::Other), 500),
            (
                IngestError::NoSpace {
                    needed: None,
                    free: 1,
                    parent: "/secret".into(),
                },
                507,
            ),
            (
                IngestError::Fixed {
                    root: "/secret".into(),
                    what: "a link",
                },
                500,
            ),
            (
                IngestError::MountedInside {
                    inside: "/secret".into(),
                },
                500,
            ),
            (
                IngestError::NotADirectory {
                    root: "/secret".into(),
                },
                500,
            ),
        ] {
            let problem = explain(&error, &Publication::new());
            assert_eq!(status_of(&error).as_u16(), status, "{error:?}");
            assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
        }
    }

    #[test]
    fn where_nothing_is_served_a_client_cannot_mean_it() {
        let headers = |value: &str| HeaderMap::from_iter([(IF_MATCH, value.parse().unwrap())]);
        for value in ["*", "\"x\""] {
            assert!(require_intended(None, &headers(value)).is_err());
        }
        assert!(require_intended(None, &HeaderMap::new()).is_ok());
    }
}
