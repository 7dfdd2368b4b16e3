//! Preconditions: whether a request is to be carried out at all, and in full or in part (RFC 9110 §13).
//!
//! A condition has three values: it holds, it does not, or it is not there, and only the last leaves room for the next
//! one in the order of precedence. A list of tags that cannot be read is there, and names nothing beyond what could be
//! read of it; a date that cannot be read is not there, as the RFC has it for each of them.

use std::iter;
use std::time::{Duration, SystemTime};

use http::header::{
    GetAll, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::method::Method;

use crate::digest::Digest;

/// The last second that an HTTP date can tell: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// From here on, a year of two digits is taken for one of the past.
const FIFTY_YEARS: Duration = Duration::from_hours(50 * 8_766);
/// As the form with a year of two digits has them.
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// What tells a representation from the ones before and after it (RFC 9110 §8.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// The strong entity tag, quotes included.
    pub(super) etag: String,
    /// When it was made: in whole seconds, and within what an HTTP date can tell.
    pub(super) modified: SystemTime,
}

impl Validators {
    /// The validators of bytes with this digest, made at this time.
    pub(super) fn new(digest: Digest, modified: SystemTime) -> Self {
        let since_epoch = modified.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_epoch.unwrap_or_default().as_secs().min(LAST_SECOND);
        Self {
            etag: format!("\"{}\"", digest.hex()),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Carry it out.
    Proceed {
        /// Whether a `Range` header counts: for GET alone, and not where an `If-Range` fails.
        range_applies: bool,
    },
    /// 304: the client has this representation already.
    NotModified,
    /// 412: the client means another representation.
    PreconditionFailed,
}

/// Evaluates the preconditions against a representation that exists, in the order of RFC 9110 §13.2.2.
pub(super) fn evaluate(method: &Method, headers: &HeaderMap, current: &Validators) -> Outcome {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let intended = if_match(headers, current).or_else(|| if_unmodified_since(headers, current));
    if intended == Some(false) {
        return Outcome::PreconditionFailed;
    }
    let news = if_none_match(headers, current).or_else(|| {
        let condition = if_modified_since(headers, current);
        condition.filter(|_| reads)
    });
    match news {
        Some(false) if reads => Outcome::NotModified,
        Some(false) => Outcome::PreconditionFailed,
        Some(true) | None => Outcome::Proceed {
            range_applies: *method == Method::GET && if_range(headers, current) != Some(false),
        },
    }
}

/// RFC 9110 §13.1.1: strong comparison.
fn if_match(headers: &HeaderMap, current: &Validators) -> Option<bool> {
    let lines = headers.get_all(IF_MATCH);
    any_tag(&lines, |tag| {
        !tag.weak && tag.opaque == current.etag.as_bytes()
    })
}

/// RFC 9110 §13.1.2: weak comparison.
fn if_none_match(headers: &HeaderMap, current: &Validators) -> Option<bool> {
    let lines = headers.get_all(IF_NONE_MATCH);
    any_tag(&lines, |tag| tag.opaque == current.etag.as_bytes()).map(|matched| !matched)
}

/// RFC 9110 §13.1.3.
fn if_modified_since(headers: &HeaderMap, current: &Validators) -> Option<bool> {
    date(headers, IF_MODIFIED_SINCE).map(|date| current.modified > date)
}

/// RFC 9110 §13.1.4.
fn if_unmodified_since(headers: &HeaderMap, current: &Validators) -> Option<bool> {
    date(headers, IF_UNMODIFIED_SINCE).map(|date| current.modified <= date)
}

/// RFC 9110 §13.1.5, strong comparison. A date never matches: within its second there may have been two representations.
fn if_range(headers: &HeaderMap, current: &Validators) -> Option<bool> {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let first = lines.next()?;
    Some(lines.next().is_none() && first.as_bytes() == current.etag.as_bytes())
}

/// A date that stands there once. A list of dates is no date.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    parse_date(line.to_str().ok()?, SystemTime::now())
}

/// Reads a date in any of the three forms. A year of two digits is the last such year that is not more than fifty years
/// ahead (RFC 9110 §5.6.7), unless only a century before it the day of the week is the right one.
fn parse_date(text: &str, now: SystemTime) -> Option<SystemTime> {
    let parse = |text: &str| httpdate::parse_http_date(text).ok();
    let Some((day, year, time)) = split_short_date(text) else {
        return parse(text);
    };
    let latest = now + FIFTY_YEARS;
    let latest_year: u16 = httpdate::fmt_http_date(latest)[12..16].parse().ok()?;
    let year = latest_year - (latest_year + 100 - year) % 100;
    let of_year = |year: u16| parse(&format!("{day} {year}{time}"));
    let soon = of_year(year).filter(|date| *date <= latest);
    soon.or_else(|| of_year(year - 100))
}

/// Parts `Sunday, 06-Nov-94 08:49:37 GMT` into `Sun, 06 Nov`, 94 and the rest.
fn split_short_date(text: &str) -> Option<(String, u16, &str)> {
    let (weekday, rest) = text.trim().split_once(", ")?;
    let weekday = WEEKDAYS.iter().find(|name| **name == weekday)?;
    let mut parts = rest.splitn(3, '-');
    let (day, month, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, time) = rest.split_at_checked(2)?;
    let year = year.parse().ok()?;
    Some((format!("{}, {day} {month}", &weekday[..3]), year, time))
}

/// Whether one of the listed tags is such a one; `*` always is. `None` where there is no list.
fn any_tag(lines: &GetAll<'_, HeaderValue>, is_such: impl Fn(Tag<'_>) -> bool) -> Option<bool> {
    lines.iter().next()?;
    let mut lists = lines.iter().map(HeaderValue::as_bytes);
    Some(lists.any(|list| list == b"*" || tags(list).any(&is_such)))
}

/// An entity tag as a client sends it (RFC 9110 §8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    /// Quotes included.
    opaque: &'a [u8],
}

/// The tags of a list, up to its end or to the first thing that is no tag. Empty elements are passed over
/// (RFC 9110 §5.6.1.2).
fn tags(list: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = list;
    iter::from_fn(move || {
        let start = rest.iter().position(|byte| !b" \t,".contains(byte))?;
        let (tag, behind) = split_tag(&rest[start..])?;
        rest = behind;
        Some(tag)
    })
}

/// Parts a tag from what follows it.
fn split_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    // The first byte that cannot stand in a tag must be the closing quote.
    let length = inner.iter().position(|&byte| !is_in_tag(byte))?;
    if inner[length] != b'"' {
        return None;
    }
    let (opaque, behind) = quoted.split_at(length + 2);
    Some((Tag { weak, opaque }, behind))
}

/// `etagc`: visible characters and whatever is not ASCII, but no quote.
fn is_in_tag(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCEED: Outcome = Outcome::Proceed {
        range_applies: true,
    };
    const WITHOUT_RANGE: Outcome = Outcome::Proceed {
        range_applies: false,
    };
    const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
    const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

    /// Made half a second after `SAME`, which is all that a client can know.
    fn current() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        Validators {
            etag: "\"x,y\"".into(),
            ..Validators::new(Digest::of(b""), modified)
        }
    }

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (name.clone(), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }

    #[track_caller]
    fn check(method: &Method, lines: &[(HeaderName, &str)], expected: Outcome) {
        let outcome = evaluate(method, &headers(lines), &current());
        assert_eq!(outcome, expected, "{method} {lines:?}");
    }

    #[track_caller]
    fn check_get(lines: &[(HeaderName, &str)], expected: Outcome) {
        check(&Method::GET, lines, expected);
    }

    #[test]
    fn without_conditions_a_range_applies_to_get_alone() {
        check(&Method::GET, &[], PROCEED);
        check(&Method::HEAD, &[], WITHOUT_RANGE);
        check(&Method::PUT, &[], WITHOUT_RANGE);
    }

    #[test]
    fn if_match_compares_strongly() {
        let failed = Outcome::PreconditionFailed;
        for (list, expected) in [
            ("\"x,y\"", PROCEED),
            ("*", PROCEED),
            ("\"a\", \"x,y\"", PROCEED),
            (",, \"a\"\t,\"x,y\",", PROCEED),
            ("\"\", \"x,y\"", PROCEED),
            ("\"ä\", \"x,y\"", PROCEED),
            ("W/\"a\", \"x,y\"", PROCEED),
            ("\"x,y\", oops", PROCEED),
            ("W/\"x,y\"", failed),
            ("w/\"x,y\"", failed),
            ("\"x\"", failed),
            ("\"x,y", failed),
            ("x,y", failed),
            ("\"X,Y\"", failed),
            ("oops, \"x,y\"", failed),
            ("\"a b\", \"x,y\"", failed),
            ("", failed),
        ] {
            check_get(&[(IF_MATCH, list)], expected);
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let not_modified = Outcome::NotModified;
        for (list, expected) in [
            ("\"x,y\"", not_modified),
            ("W/\"x,y\"", not_modified),
            ("*", not_modified),
            ("\"a\", W/\"b\", \"x,y\"", not_modified),
            ("\"a\", \"x\", \"y\"", PROCEED),
            ("x,y", PROCEED),
            ("", PROCEED),
        ] {
            check_get(&[(IF_NONE_MATCH, list)], expected);
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [(IF_NONE_MATCH, "\"a\""), (IF_NONE_MATCH, "\"x,y\"")];
        check_get(&lines, Outcome::NotModified);
        let lines = [(IF_MATCH, "\"a\""), (IF_MATCH, "\"x,y\"")];
        check_get(&lines, PROCEED);
        let lines = [(IF_MATCH, "\"a\""), (IF_MATCH, "\"b\"")];
        check_get(&lines, Outcome::PreconditionFailed);
    }

    #[test]
    fn a_failed_if_none_match_is_a_304_for_reading_and_else_a_412() {
        let lines = [(IF_NONE_MATCH, "*")];
        check(&Method::GET, &lines, Outcome::NotModified);
        check(&Method::HEAD, &lines, Outcome::NotModified);
        check(&Method::PUT, &lines, Outcome::PreconditionFailed);
    }

    #[test]
    fn if_modified_since_counts_whole_seconds() {
        check_get(&[(IF_MODIFIED_SINCE, BEFORE)], PROCEED);
        check_get(&[(IF_MODIFIED_SINCE, SAME)], Outcome::NotModified);
        check_get(&[(IF_MODIFIED_SINCE, AFTER)], Outcome::NotModified);
    }

    #[test]
    fn if_modified_since_is_for_reading_only() {
        let lines = [(IF_MODIFIED_SINCE, AFTER)];
        check(&Method::HEAD, &lines, Outcome::NotModified);
        check(&Method::PUT, &lines, WITHOUT_RANGE);
    }

    #[test]
    fn if_unmodified_since_counts_whole_seconds() {
        check_get(
            &[(IF_UNMODIFIED_SINCE, BEFORE)],
            Outcome::PreconditionFailed,
        );
        check_get(&[(IF_UNMODIFIED_SINCE, SAME)], PROCEED);
        check_get(&[(IF_UNMODIFIED_SINCE, AFTER)], PROCEED);
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for date in [
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "Tuesday, 14-Nov-23 22:13:20 GMT",
            "Tue Nov 14 22:13:20 2023",
        ] {
            check_get(&[(IF_MODIFIED_SINCE, date)], Outcome::NotModified);
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let at = |date: &str| httpdate::parse_http_date(date).unwrap();
        let now = at("Sun, 22 Nov 2026 12:00:00 GMT");
        for (short, full) in [
            ("Tuesday, 14-Nov-23 22:13:20", "Tue, 14 Nov 2023 22:13:20"),
            ("Sunday, 22-Nov-26 12:00:00", "Sun, 22 Nov 2026 12:00:00"),
            ("Wednesday, 01-Jan-70 00:00:00", "Wed, 01 Jan 2070 00:00:00"),
            ("Friday, 20-Nov-76 12:00:00", "Fri, 20 Nov 2076 12:00:00"),
            ("Wednesday, 24-Nov-76 12:00:00", "Wed, 24 Nov 1976 12:00:00"),
            ("Saturday, 01-Jan-77 00:00:00", "Sat, 01 Jan 1977 00:00:00"),
            ("Friday, 31-Dec-99 23:59:59", "Fri, 31 Dec 1999 23:59:59"),
        ] {
            let read = parse_date(&format!("{short} GMT"), now);
            assert_eq!(read, Some(at(&format!("{full} GMT"))), "{short}");
        }
        for no_date in [
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sunday, 6-Nov-94 08:49:37 GMT",
            "Monday, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37",
            "Sunday, 06-Nov-9",
            "Sunday, --",
        ] {
            assert_eq!(parse_date(no_date, now), None, "{no_date}");
        }
    }

    #[test]
    fn what_is_no_date_is_no_condition() {
        for date in ["", "0", "yesterday", "2023-11-14T22:13:20Z", "\u{e4}"] {
            check_get(&[(IF_MODIFIED_SINCE, date)], PROCEED);
            check_get(&[(IF_UNMODIFIED_SINCE, date)], PROCEED);
        }
        let twice = [(IF_MODIFIED_SINCE, AFTER), (IF_MODIFIED_SINCE, AFTER)];
        check_get(&twice, PROCEED);
        let twice = [(IF_UNMODIFIED_SINCE, BEFORE), (IF_UNMODIFIED_SINCE, BEFORE)];
        check_get(&twice, PROCEED);
    }

    #[test]
    fn a_tag_goes_before_a_date() {
        let lines = [(IF_MATCH, "*"), (IF_UNMODIFIED_SINCE, BEFORE)];
        check_get(&lines, PROCEED);
        let lines = [(IF_NONE_MATCH, "\"a\""), (IF_MODIFIED_SINCE, AFTER)];
        check_get(&lines, PROCEED);
        let lines = [(IF_NONE_MATCH, "*"), (IF_MODIFIED_SINCE, BEFORE)];
        check_get(&lines, Outcome::NotModified);
    }

    #[test]
    fn a_failed_match_goes_before_all_else() {
        let failed = Outcome::PreconditionFailed;
        check_get(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "*")], failed);
        let lines = [(IF_UNMODIFIED_SINCE, BEFORE), (IF_NONE_MATCH, "*")];
        check_get(&lines, failed);
        let lines = [(IF_MATCH, "*"), (IF_NONE_MATCH, "*")];
        check_get(&lines, Outcome::NotModified);
    }

    #[test]
    fn if_range_wants_the_very_tag() {
        check_get(&[(IF_RANGE, "\"x,y\"")], PROCEED);
        for other in ["W/\"x,y\"", "\"a\"", "*", "", SAME, AFTER, BEFORE] {
            check_get(&[(IF_RANGE, other)], WITHOUT_RANGE);
        }
        let twice = [(IF_RANGE, "\"x,y\""), (IF_RANGE, "\"x,y\"")];
        check_get(&twice, WITHOUT_RANGE);
    }

    #[test]
    fn if_range_comes_after_the_other_conditions() {
        let lines = [(IF_RANGE, "\"x,y\""), (IF_NONE_MATCH, "*")];
        check_get(&lines, Outcome::NotModified);
        let lines = [(IF_RANGE, "\"a\""), (IF_MATCH, "\"x,y\"")];
        check_get(&lines, WITHOUT_RANGE);
    }

    #[test]
    fn times_that_no_date_can_tell_are_moved_to_the_nearest_that_it_can() {
        let day = Duration::from_hours(24);
        let before = Validators::new(Digest::of(b""), SystemTime::UNIX_EPOCH - day);
        assert_eq!(before.modified, SystemTime::UNIX_EPOCH);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
        let behind = Validators::new(Digest::of(b""), end + day);
        assert_eq!(behind.modified, end);
        assert_eq!(
            httpdate::fmt_http_date(end),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }
}
