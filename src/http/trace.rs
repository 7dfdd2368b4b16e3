//! What ties a request to what others write of it: its id, and the trace that it is part of.

use data_encoding::HEXLOWER;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The header that names a request, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A longer id is no id, but somebody who wants to fill the log.
const LONGEST_ID: usize = 128;

/// The id that the client gave, if that is visible ASCII and not too long, or else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(X_REQUEST_ID);
    match given.filter(|id| is_request_id(id.as_bytes())) {
        Some(given) => own(given),
        None => new_id(fastrand::u64(..)),
    }
}

/// A copy that is no part of what the connection has read, which would be held for as long as the request.
pub(super) fn own(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("it is a header's value")
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn new_id(number: u64) -> HeaderValue {
    let mut digits = [0; 16];
    HEXLOWER.encode_mut(&number.to_be_bytes(), &mut digits);
    HeaderValue::from_bytes(&digits).expect("digits are visible ASCII")
}

/// The one `traceparent` of a request. Two of them contradict each other, and are none.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// Where in a trace a request stands (W3C Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceParent<'a> {
    /// The trace, in 32 digits.
    pub(super) trace_id: &'a str,
    /// Whoever asked, in 16 digits.
    pub(super) parent_id: &'a str,
}

impl<'a> TraceParent<'a> {
    /// Reads the value of the header; `None` where it breaks the specification.
    ///
    /// Version 00 ends behind its flags. A later one may go on there, and what it says before that is still understood.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let value = str::from_utf8(value).ok()?;
        let mut fields = value.splitn(5, '-');
        let version = digits(fields.next()?, 2).filter(|version| *version != "ff")?;
        let trace_id = digits(fields.next()?, 32).filter(is_any)?;
        let parent_id = digits(fields.next()?, 16).filter(is_any)?;
        digits(fields.next()?, 2)?;
        let ends = fields.next().is_none();
        (ends || version != "00").then_some(Self {
            trace_id,
            parent_id,
        })
    }
}

/// A field of exactly so many lower-case digits.
fn digits(field: &str, length: usize) -> Option<&str> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (field.len() == length && field.bytes().all(is_digit)).then_some(field)
}

/// An id of zeros stands for none.
fn is_any(id: &&str) -> bool {
    id.bytes().any(|digit| digit != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    #[track_caller]
    fn check(value: &str, is_understood: bool) {
        let expected = is_understood.then_some(TraceParent {
            trace_id: TRACE,
            parent_id: PARENT,
        });
        assert_eq!(TraceParent::parse(value.as_bytes()), expected, "{value}");
    }

    #[test]
    fn a_traceparent_has_four_fields_of_digits() {
        check(&format!("00-{TRACE}-{PARENT}-01"), true);
        check(&format!("00-{TRACE}-{PARENT}-00"), true);
        check(&format!("00-{TRACE}-{PARENT}-ff"), true);
        check(&format!("00-{TRACE}-{PARENT}"), false);
        check(&format!("00-{TRACE}-{PARENT}-"), false);
        check(&format!("00-{TRACE}-{PARENT}-1"), false);
        check(&format!("00-{TRACE}-{PARENT}-011"), false);
        check(&format!("00-{TRACE}-{PARENT}-0g"), false);
        check(&format!("00-{TRACE}0-{PARENT}-01"), false);
        check(&format!("00-{}-{PARENT}-01", &TRACE[1..]), false);
        check(&format!("00-{TRACE}-{}-01", &PARENT[1..]), false);
        check(&format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), false);
        check(&format!(" 00-{TRACE}-{PARENT}-01"), false);
        check(&format!("00_{TRACE}_{PARENT}_01"), false);
        check("", false);
    }

    #[test]
    fn ids_of_zeros_are_none() {
        check(&format!("00-{}-{PARENT}-01", "0".repeat(32)), false);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), false);
    }

    #[test]
    fn a_later_version_may_say_more() {
        check(&format!("cc-{TRACE}-{PARENT}-01"), true);
        check(&format!("cc-{TRACE}-{PARENT}-01-what-the-future-is"), true);
        check(&format!("cc-{TRACE}-{PARENT}-01-"), true);
        check(&format!("cc-{TRACE}-{PARENT}-01."), false);
        check(&format!("00-{TRACE}-{PARENT}-01-"), false);
        check(&format!("ff-{TRACE}-{PARENT}-01"), false);
        check(&format!("0-{TRACE}-{PARENT}-01"), false);
        check(&format!("CC-{TRACE}-{PARENT}-01"), false);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_traceparent() {
        assert_eq!(TraceParent::parse(b"00-\xff"), None);
    }

    #[test]
    fn two_traceparents_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static("a"));
        assert_eq!(traceparent(&headers).unwrap(), "a");
        headers.append(TRACEPARENT, HeaderValue::from_static("b"));
        assert_eq!(traceparent(&headers), None);
    }

    #[test]
    fn an_id_of_visible_characters_is_taken_over() {
        let longest = "x".repeat(LONGEST_ID);
        for given in ["a", "4f90-81be", "\"{}\\", &longest] {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, given.parse().unwrap())]);
            assert_eq!(request_id(&headers), given);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let too_long = "x".repeat(LONGEST_ID + 1);
        for given in [
            b"".as_slice(),
            b"a b",
            b"a\tb",
            b"\xe4",
            too_long.as_bytes(),
        ] {
            let value = HeaderValue::from_bytes(given).unwrap();
            let id = request_id(&HeaderMap::from_iter([(X_REQUEST_ID, value.clone())]));
            assert_ne!(id, value);
            assert!(digits(id.to_str().unwrap(), 16).is_some(), "{id:?}");
        }
        assert_eq!(new_id(0xab), "00000000000000ab");
    }

    #[test]
    fn no_two_requests_are_given_the_same_id() {
        let none = HeaderMap::new();
        assert_ne!(request_id(&none), request_id(&none));
    }
}
