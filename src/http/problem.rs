//! Errors as a client sees them: `application/problem+json` (RFC 9457).
//!
//! The texts are fixed, but for those about a client's own upload. None is made of what the server knows, so none can leak a
//! path; and nothing takes them for a page.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::status::StatusCode;
use serde::Serialize;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why there is no other answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members that are always there; `type` is left out and so `about:blank`: the status says all (RFC 9457 §4.2.1).
#[derive(Serialize)]
struct Members<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem with one sentence for the person who reads it.
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Vec::new(),
        }
    }

    /// With one more header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let members = Members {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let json = serde_json::to_vec(&members).expect("text and a number can be written");
        let mut response = (self.status, json).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response.headers_mut().extend(self.headers);
        response
    }
}
