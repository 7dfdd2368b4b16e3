//! Who may read: those who bring a token, where there is one.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::method::Method;
use http::status::StatusCode;

use super::problem::Problem;
use super::resource::Resource;
use super::token::{Given, TokenFile};

/// Whose requests are answered. Clones are the same.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The token to read.
    pub read: Arc<TokenFile>,
    /// The one to write, which is good for reading, too.
    pub write: Option<Arc<TokenFile>>,
}

/// Answers 401 to those who bring no token, whatever they ask for and whether or not it is there.
pub(super) async fn require(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let given = Given::by(request.headers());
    if guard.leaves_to_upload(&request) || guard.admits(given).await {
        return next.run(request).await;
    }
    let detail = "this server needs a token: Authorization: Bearer TOKEN, or the token as password";
    let bearer = HeaderValue::from_static("Bearer realm=\"code-server\"");
    let basic = HeaderValue::from_static("Basic realm=\"code-server\", charset=\"UTF-8\"");
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with(WWW_AUTHENTICATE, bearer)
        .with(WWW_AUTHENTICATE, basic)
        .into_response()
}

impl Guard {
    async fn admits(&self, given: Option<Given>) -> bool {
        // Both are asked, so that the time does not tell which one it was.
        let read = self.read.is(given).await;
        let write = match &self.write {
            Some(write) => write.is(given).await,
            None => false,
        };
        read | write
    }

    /// An upload is judged where it is taken, which also deals with its body.
    fn leaves_to_upload(&self, request: &Request) -> bool {
        let path = request.uri().path().strip_prefix('/');
        self.write.is_some()
            && *request.method() == Method::PUT
            && path == Some(Resource::Archive.name())
    }
}
