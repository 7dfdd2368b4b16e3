//! What a client is told of its upload.

use std::io;

use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::status::StatusCode;
use serde::Serialize;
use tracing::{info, warn};

use super::Confirmation;
use crate::digest::Revision;
use crate::entry::Escaped;
use crate::exit::sentence;
use crate::http::problem::Problem;
use crate::http::resource::{CODE_REVISION, code_revision, revision_value};
use crate::ingest::{IngestError, Ingested};
use crate::publication::Publication;
use crate::unpack::UnpackError;

/// What a client is told when all went well.
#[derive(Serialize)]
struct Done {
    revision: Revision,
    changed: bool,
    files: u64,
    bytes: u64,
}

/// The answer to an upload that is in its place.
pub(super) fn conclude(
    ingested: &Ingested,
    confirmation: Confirmation,
    before: Option<Revision>,
) -> Result<Response, Problem> {
    let revision = match confirmation {
        Confirmation::Served(revision) | Confirmation::Unchanged(revision) => revision,
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
        // A build that an event brought about may have published it before the one that confirms it.
        changed: ingested.changed && before != Some(revision),
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
pub(super) fn explain(error: &IngestError, publication: &Publication) -> Problem {
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
}
