//! The three resources of an artifact: what a request for one of them comes to, and what is said of it.
//!
//! The bytes themselves are for `download`.

use std::time::SystemTime;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE,
};
use http::method::Method;
use http::status::StatusCode;

use super::body;
use super::conditional::{self, Outcome, Validators};
use super::fixed::Fixed;
use super::problem::Problem;
use super::range::{self, Selection};
use crate::artifact::{Artifact, Representation};
use crate::descriptor;
use crate::digest::Revision;

/// The header that tells the revision.
pub(super) const CODE_REVISION: HeaderName = HeaderName::from_static(descriptor::CODE_REVISION);
/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has it already.
    NotModified,
    /// The client means another one.
    PreconditionFailed,
    /// It is to be sent, or a part of it, or none that exists.
    Send(Selection),
}

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

    /// Its bytes in an artifact.
    pub(super) fn of(self, artifact: &Artifact) -> &Representation {
        match self {
            Self::Archive => artifact.archive(),
            Self::Descriptor => artifact.json(),
            Self::Listing => artifact.listing(),
        }
    }

    /// What a GET or HEAD request for this resource of an artifact comes to.
    pub(super) fn judge(
        self,
        (artifact, fixed): (&Artifact, &Fixed),
        method: &Method,
        request: &HeaderMap,
    ) -> Verdict {
        match conditional::evaluate(method, request, &fixed.validators) {
            Outcome::NotModified => Verdict::NotModified,
            Outcome::PreconditionFailed => Verdict::PreconditionFailed,
            Outcome::Proceed { range_applies } => {
                let range = range_header(request).filter(|_| range_applies);
                Verdict::Send(range::select(range, self.of(artifact).length()))
            }
        }
    }

    /// The response without a body.
    ///
    /// To a HEAD request it is the same as to its GET.
    pub(super) fn response(
        self,
        (artifact, fixed): (&Artifact, &Fixed),
        verdict: &Verdict,
    ) -> Response {
        match verdict {
            Verdict::NotModified => {
                let mut response = Response::new(body::none());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                *response.headers_mut() = fixed.headers.clone();
                response
            }
            Verdict::PreconditionFailed => {
                let detail = "the representation is not the one that the condition names";
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
                    .with(CODE_REVISION, code_revision(artifact))
                    .into_response()
            }
            Verdict::Send(selection) => self.selected((artifact, fixed), selection),
        }
    }

    /// What tells this resource of an artifact from that of another one.
    pub(super) fn validators(self, artifact: &Artifact) -> Validators {
        let representation = self.of(artifact);
        // A clock may have been set back, but no representation may be dated later than its response (RFC 9110 §8.8.2.1).
        let modified = representation.modified().min(SystemTime::now());
        Validators::new(representation.digest(), modified)
    }

    fn selected(self, (artifact, fixed): (&Artifact, &Fixed), selection: &Selection) -> Response {
        let length = self.of(artifact).length();
        let mut headers = fixed.headers.clone();
        headers.insert(CONTENT_TYPE, self.media_type());
        let (status, sent) = match selection {
            Selection::Full => (StatusCode::OK, length),
            Selection::Partial(range) => {
                let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                headers.insert(CONTENT_RANGE, value(content_range));
                (StatusCode::PARTIAL_CONTENT, range.end - range.start)
            }
            Selection::Unsatisfiable => {
                let detail = "the range lies behind the end of the representation";
                return Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail)
                    .with(CODE_REVISION, code_revision(artifact))
                    .with(CONTENT_RANGE, value(format!("bytes */{length}")))
                    .into_response();
            }
        };
        headers.insert(CONTENT_LENGTH, sent.into());
        (status, headers, Body::empty()).into_response()
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

/// Text of ours as a header's value.
pub(super) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hex, Base64, dates and numbers are visible ASCII")
}
