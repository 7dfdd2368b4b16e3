//! What can be had: `/revisions`.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::{Serialize, Serializer};

use super::resource::{CODE_REVISION, code_revision};
use crate::artifact::Artifact;
use crate::digest::{Digest, Revision};
use crate::publication::Publication;

#[derive(Serialize)]
struct List {
    revisions: Vec<Line>,
}

/// What is told of an artifact that can be had.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) revision: Revision,
    digest: Digest,
    pub(super) size: u64,
    uncompressed_size: u64,
    entries: u64,
    pub(super) files: u64,
    #[serde(serialize_with = "write_time")]
    created_at: SystemTime,
    #[serde(serialize_with = "write_time")]
    pub(super) published_at: SystemTime,
    pub(super) current: bool,
}

/// All that is retained, newest published first.
///
/// Two lines may have one revision, if the same content was packed twice; what is served as that revision is the first.
pub(super) async fn list(State(publication): State<Publication>) -> Response {
    let current = publication.current();
    let revisions = lines(&publication, current.as_deref());
    let json = serde_json::to_vec(&List { revisions });
    let json = json.expect("texts, numbers and times can be written");
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(current) = current {
        headers.insert(CODE_REVISION, code_revision(&current));
    }
    response
}

/// A line for each artifact that is retained, newest published first.
pub(super) fn lines(publication: &Publication, current: Option<&Artifact>) -> Vec<Line> {
    let digest = current.map(|current| current.descriptor().digest);
    let lines = publication.retained().into_iter().map(|retained| Line {
        revision: retained.revision,
        digest: retained.digest,
        size: retained.size,
        uncompressed_size: retained.uncompressed_size,
        entries: retained.entries,
        files: retained.files,
        created_at: retained.created_at,
        published_at: retained.published_at,
        current: Some(retained.digest) == digest,
    });
    lines.collect()
}

/// As RFC 3339 has it, in whole seconds.
pub(super) fn write_time<S: Serializer>(
    time: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}
