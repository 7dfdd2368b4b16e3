//! `/`: what is served and how it goes, as a page for a browser, as JSON for its script, and as text for a terminal.
//!
//! The page is one document without any resource from elsewhere. It holds nothing that came from outside: its script asks
//! for the facts and puts them in as text. The policy that is sent with it lets nothing run but that script, and nothing
//! be asked but this server.

mod facts;
mod form;
mod text;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY,
};

use self::facts::Facts;
pub(super) use self::facts::Ways;
use self::form::Form;
use crate::digest::Digest;
use crate::metrics::Metrics;
use crate::publication::Publication;

/// The page, style and script included.
const DOCUMENT: &str = include_str!("page.html");

const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// What the page may do: run its own script, and ask this server.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (script, style) = (hash_of("script"), hash_of("style"));
    let policy = format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("words and Base64 are visible ASCII")
});

/// The route, over what is counted there.
pub(super) fn route(metrics: Metrics, ways: Ways) -> Router<Publication> {
    let show = async move |State(publication): State<Publication>, request: Request| {
        let headers = request.headers();
        answer(headers, || Facts::gather(&publication, &metrics, ways))
    };
    Router::new().route("/", get(show))
}

fn answer(request: &HeaderMap, facts: impl FnOnce() -> Facts) -> Response {
    let form = Form::wanted(request);
    let mut response = match form {
        Form::Page => DOCUMENT.into_response(),
        Form::Json => facts().to_json().into_response(),
        Form::Text => text::write(&facts(), host(request)).into_response(),
    };
    let headers = response.headers_mut();
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, same_origin.clone());
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, same_origin);
    response
}

/// The host that the request names, for commands that are made with it: what a shell could take for more is left out.
fn host(request: &HeaderMap) -> Option<&str> {
    let host = request.get(HOST)?.to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_plain)).then_some(host)
}

/// The hash of what the document has between these tags, as a policy names it.
fn hash_of(tag: &str) -> String {
    let (_, rest) = DOCUMENT
        .split_once(&format!("<{tag}>"))
        .expect("the page has a style and a script");
    let (content, _) = rest
        .split_once(&format!("</{tag}>"))
        .expect("and they come to an end");
    format!("sha256-{}", Digest::of(content.as_bytes()).base64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_shell_would_run_is_not_shown() {
        let check = |value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(value))]);
            assert_eq!(host(&headers), expected, "{value}");
        };
        for host in ["code-server:8080", "[::1]:80", "10.0.0.1", "a_b.c"] {
            check(host, Some(host));
        }
        for host in ["", "$(reboot)", "a;b", "a'b", "a&b", "`a`"] {
            check(host, None);
        }
    }

    #[test]
    fn the_document_has_one_style_and_one_script_and_nothing_inline_besides() {
        for tag in ["<style", "<script"] {
            assert_eq!(DOCUMENT.matches(tag).count(), 1, "{tag}");
        }
        for forbidden in [" style=", " onclick=", "innerHTML", "src=", "\r"] {
            assert!(!DOCUMENT.contains(forbidden), "{forbidden}");
        }
    }
}
