//! The `Host` header, without which no HTTP/1.1 request is whole.

use http::header::{HOST, HeaderMap};
use http::request::Request;
use http::status::StatusCode;
use http::uri::Authority;
use http::version::Version;

use super::problem::Problem;

/// Turns a request away whose `Host` is missing, stands there twice, or is none (RFC 9112 §3.2). Which host it names does
/// not matter: there is one site here.
pub(super) fn require<B>(request: &Request<B>) -> Result<(), Problem> {
    if is_acceptable(request.version(), request.headers()) {
        return Ok(());
    }
    let detail = "the request needs one valid Host header";
    Err(Problem::new(StatusCode::BAD_REQUEST, detail))
}

fn is_acceptable(version: Version, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// `uri-host [ ":" port ]`. Empty is how a client says that its target has no authority (RFC 9110 §7.2).
fn is_host(value: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(value) else {
        return value.is_empty();
    };
    // What stands before the host would be a name and a password.
    let Some(port) = authority.as_str().strip_prefix(authority.host()) else {
        return false;
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, lines: &[&'static str], expected: bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HOST, line.parse().unwrap());
        }
        let acceptable = is_acceptable(version, &headers);
        assert_eq!(acceptable, expected, "{version:?} {lines:?}");
    }

    #[test]
    fn one_valid_host_is_accepted() {
        for host in [
            "code-server",
            "code-server.default.svc:8080",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "host:",
            "",
        ] {
            check(Version::HTTP_11, &[host], true);
            check(Version::HTTP_10, &[host], true);
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for host in [
            "a b",
            "a/b",
            "user@host",
            "host@host",
            "host:port",
            "a:1:2",
            "http://host",
            "[::1",
        ] {
            check(Version::HTTP_11, &[host], false);
            check(Version::HTTP_10, &[host], false);
        }
    }

    #[test]
    fn only_http_1_0_may_leave_it_out() {
        check(Version::HTTP_10, &[], true);
        check(Version::HTTP_11, &[], false);
    }

    #[test]
    fn two_are_refused_even_if_they_agree() {
        check(Version::HTTP_11, &["a", "a"], false);
        check(Version::HTTP_10, &["a", "b"], false);
    }
}
