//! What a client would like, if it can be had (RFC 7240). Of all preferences `wait` alone is known here.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName};

/// The header that a client states it in.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// No request is held for longer: many proxies give up on an answer after a minute.
const LONGEST: Duration = Duration::from_secs(55);

/// How long the client would wait for a better answer than there is now: in whole seconds, and no longer than a request is
/// held here. `None` where it does not say.
///
/// The first `wait` counts. One whose value is no number is not understood, and so passed over like a preference of another
/// name; a later one does not take its place (RFC 7240 §2).
pub(super) fn wait(request: &HeaderMap) -> Option<Duration> {
    let lines = request.get_all(PREFER).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| split(line, ','));
    let value = preferences.find_map(value_of_wait)?;
    // One that is too large for 64 bits is longer than the longest anyway.
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST))
}

/// The value of a preference of that name, without its quotes and without the parameters; empty where it has none.
fn value_of_wait(preference: &str) -> Option<&str> {
    let preference = split(preference, ';').next()?;
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    if !name.trim_matches(WHITESPACE).eq_ignore_ascii_case("wait") {
        return None;
    }
    let value = value.trim_matches(WHITESPACE);
    let quoted = value.strip_prefix('"');
    Some(
        quoted
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(value),
    )
}

const WHITESPACE: [char; 2] = [' ', '\t'];

/// The pieces between separators that do not stand in a quoted string.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter| {
        let ends = letter == separator && !quoted;
        quoted ^= letter == '"' && !escaped;
        escaped = quoted && letter == '\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let expected = expected.map(Duration::from_secs);
        assert_eq!(wait(&headers), expected, "{lines:?}");
    }

    #[test]
    fn who_does_not_say_does_not_wait() {
        check(&[], None);
        for line in ["", ",;=", "respond-async", "waiting=5", "await=5", "x=wait"] {
            check(&[line], None);
        }
    }

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        check(&["wait=0"], Some(0));
        check(&["wait=7"], Some(7));
        check(&["WAIT=7"], Some(7));
        check(&["wait=007"], Some(7));
        check(&["wait=\"7\""], Some(7));
        check(&[" wait \t= 7 "], Some(7));
    }

    #[test]
    fn nobody_waits_for_longer_than_a_proxy_would() {
        check(&["wait=55"], Some(55));
        check(&["wait=56"], Some(55));
        check(&["wait=99999999999999999999999"], Some(55));
    }

    #[test]
    fn what_is_no_number_is_no_wait() {
        for line in [
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=x",
            "wait=-1",
            "wait=+1",
            "wait=1.5",
            "wait=1 2",
            "wait=\"7",
            "wait=7\"",
            "wait=0x7",
            "wait=\"\\7\"",
            "wait;7",
            "wait=\u{e4}",
        ] {
            check(&[line], None);
        }
    }

    #[test]
    fn it_is_found_among_others() {
        check(&["respond-async, wait=7"], Some(7));
        check(&["wait=7, respond-async"], Some(7));
        check(&[",, wait=7,"], Some(7));
        check(&["respond-async", "wait=7"], Some(7));
        check(&["return=minimal; foo=\"wait=1\", wait=7"], Some(7));
        check(&["x=\"a, wait=1\", wait=7"], Some(7));
        check(&["x=\"\\\", wait=1\", wait=7"], Some(7));
        check(&["x=\"\\\\\", wait=7"], Some(7));
        check(&["\u{e4}", "wait=7"], Some(7));
    }

    #[test]
    fn its_parameters_are_passed_over() {
        check(&["wait=7; foo"], Some(7));
        check(&["wait=7;foo=\"a;b,c\";wait=3"], Some(7));
        check(&["x; wait=3"], None);
    }

    #[test]
    fn the_first_one_counts() {
        check(&["wait=7, wait=3"], Some(7));
        check(&["wait=7", "wait=3"], Some(7));
        check(&["wait=x, wait=3"], None);
    }
}
