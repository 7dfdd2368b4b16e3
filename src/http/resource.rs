//! The three resources of an artifact, and how a request for one of them is answered.

use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, RANGE,
};
use http::method::Method;
use http::status::StatusCode;

use super::body::{FileBody, NoBody};
use super::conditional::{self, Outcome, Validators};
use super::problem::Problem;
use super::range::{self, Selection};
use crate::artifact::{Artifact, Representation};
use crate::descriptor;
use crate::digest::Revision;

/// The header that tells the revision.
pub(super) const CODE_REVISION: HeaderName = HeaderName::from_static(descriptor::CODE_REVISION);
/// The header that tells how many bytes an archive's tar has.
const CODE_UNCOMPRESSED_SIZE: HeaderName =
    HeaderName::from_static(descriptor::CODE_UNCOMPRESSED_SIZE);
/// The digest of the whole representation, whichever part of it a response holds (RFC 9530 §3).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// What can be asked of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// The archive's bytes.
    Archive,
    /// What is in it and how it can be read in parts.
    Descriptor,
    /// The entries, a line each.
    Listing,
}

impl Resource {
    /// All there are.
    pub(super) const ALL: [Self; 3] = [Self::Archive, Self::Descriptor, Self::Listing];

    /// The last segment of its path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Archive => descriptor::ARCHIVE,
            Self::Descriptor => descriptor::DESCRIPTOR,
            Self::Listing => descriptor::LISTING,
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Archive => "application/gzip",
            Self::Descriptor => "application/json",
            // Without a charset: a path may be any bytes, and the listing passes them through.
            Self::Listing => "text/plain",
        })
    }

    fn of(self, artifact: &Artifact) -> &Representation {
        match self {
            Self::Archive => artifact.archive(),
            Self::Descriptor => artifact.json(),
            Self::Listing => artifact.listing(),
        }
    }

    /// Answers a GET or HEAD request for this resource of an artifact.
    ///
    /// A HEAD is answered as its GET would be: whoever sends the response leaves out the body, of which nothing has been
    /// read until then.
    pub(super) fn answer(
        self,
        artifact: &Artifact,
        method: &Method,
        request: &HeaderMap,
    ) -> Response {
        let representation = self.of(artifact);
        let validators = self.validators(artifact);
        match conditional::evaluate(method, request, &validators) {
            Outcome::NotModified => {
                let headers = self.headers(artifact, &validators);
                (StatusCode::NOT_MODIFIED, headers, Body::new(NoBody)).into_response()
            }
            Outcome::PreconditionFailed => {
                let detail = "the representation is not the one that the condition names";
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
                    .with(CODE_REVISION, code_revision(artifact))
                    .into_response()
            }
            Outcome::Proceed { range_applies } => {
                let range = range_header(request).filter(|_| range_applies);
                let selection = range::select(range, representation.length());
                self.send(artifact, &validators, selection)
            }
        }
    }

    /// What tells this resource of an artifact from that of another one.
    pub(super) fn validators(self, artifact: &Artifact) -> Validators {
        let representation = self.of(artifact);
        // A clock may have been set back, but no representation may be dated later than its response (RFC 9110 §8.8.2.1).
        let modified = representation.modified().min(SystemTime::now());
        Validators::new(representation.digest(), modified)
    }

    fn send(self, artifact: &Artifact, validators: &Validators, selection: Selection) -> Response {
        let representation = self.of(artifact);
        let length = representation.length();
        let mut headers = self.headers(artifact, validators);
        headers.insert(CONTENT_TYPE, self.media_type());
        let (status, range) = match selection {
            Selection::Full => (StatusCode::OK, 0..length),
            Selection::Partial(range) => {
                let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                headers.insert(CONTENT_RANGE, value(content_range));
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Selection::Unsatisfiable => {
                let detail = "the range lies behind the end of the representation";
                return Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail)
                    .with(CODE_REVISION, code_revision(artifact))
                    .with(CONTENT_RANGE, value(format!("bytes */{length}")))
                    .into_response();
            }
        };
        headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
        let body = FileBody::new(representation.clone(), range);
        (status, headers, Body::new(body)).into_response()
    }

    /// What 200, 206 and 304 say alike.
    fn headers(self, artifact: &Artifact, validators: &Validators) -> HeaderMap {
        let digest = self.of(artifact).digest().base64();
        let modified = httpdate::fmt_http_date(validators.modified);
        let mut headers = HeaderMap::from_iter([
            (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            // Of a revision's own resources too: a revision names the content, and the same content packed at another
            // level is another archive. Asking again costs a 304.
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (ETAG, value(validators.etag.clone())),
            (LAST_MODIFIED, value(modified)),
            (REPR_DIGEST, value(format!("sha-256=:{digest}:"))),
            (CODE_REVISION, code_revision(artifact)),
        ]);
        if self == Self::Archive {
            let size = artifact.descriptor().uncompressed_size;
            headers.insert(CODE_UNCOMPRESSED_SIZE, size.into());
        }
        headers
    }
}

/// Which revision an answer is about.
pub(super) fn code_revision(artifact: &Artifact) -> HeaderValue {
    revision_value(artifact.descriptor().revision)
}

/// A revision as a header carries it.
pub(super) fn revision_value(revision: Revision) -> HeaderValue {
    value(revision.to_string())
}

/// A `Range` header that stands there once, as text. One that does not is malformed, and so none.
fn range_header(request: &HeaderMap) -> Option<&str> {
    let mut lines = request.get_all(RANGE).iter();
    let first = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(first)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hex, Base64, dates and numbers are visible ASCII")
}
