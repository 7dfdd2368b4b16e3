//! Ranges: which bytes of a representation a request asks for (RFC 9110 §14).
//!
//! One range is served. A header that asks for several, in another unit, or in no form that the RFC knows is answered with
//! the whole representation, as §14.2 allows and a client must expect.

use std::ops::Range;

/// The bytes to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of them: 200.
    Full,
    /// These, at least one and none beyond the complete length: 206.
    Partial(Range<u64>),
    /// None of those asked for exists: 416.
    Unsatisfiable,
}

/// Selects from a representation of this complete length what a `Range` header asks for.
///
/// Whether the header counts at all is decided before: for GET alone, and not where an `If-Range` fails.
pub(super) fn select(header: Option<&str>, length: u64) -> Selection {
    match header.and_then(parse) {
        None => Selection::Full,
        Some(Spec::From(first)) => partial(first, length, length),
        Some(Spec::Between(first, last)) => partial(first, last.saturating_add(1), length),
        Some(Spec::Suffix(0)) => Selection::Unsatisfiable,
        // A suffix of nothing is nothing: satisfiable, but no `Content-Range` can say so.
        Some(Spec::Suffix(_)) if length == 0 => Selection::Full,
        Some(Spec::Suffix(count)) => partial(length.saturating_sub(count), length, length),
    }
}

fn partial(start: u64, end: u64, length: u64) -> Selection {
    if start < length {
        Selection::Partial(start..end.min(length))
    } else {
        Selection::Unsatisfiable
    }
}

/// A range as asked for, whatever the representation's length.
enum Spec {
    From(u64),
    /// The first byte and the last one, which does not come before it.
    Between(u64, u64),
    /// So many bytes at the end.
    Suffix(u64),
}

/// Reads a header that asks for exactly one range of bytes. Empty elements of its list are passed over (RFC 9110 §5.6.1.2).
fn parse(header: &str) -> Option<Spec> {
    let (unit, set) = header.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let elements = set
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']));
    let mut specs = elements.filter(|element| !element.is_empty());
    let (Some(spec), None) = (specs.next(), specs.next()) else {
        return None;
    };
    match spec.split_once('-')? {
        ("", count) => number(count).map(Spec::Suffix),
        (first, "") => number(first).map(Spec::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::Between(first, last))
        }
    }
}

/// A number of digits and nothing else. One that is too large for 64 bits is beyond every length anyway.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(header: &str, expected: &Selection) {
        assert_eq!(select(Some(header), 10), *expected, "{header}");
    }

    #[test]
    fn no_header_selects_everything() {
        assert_eq!(select(None, 10), Selection::Full);
        assert_eq!(select(None, 0), Selection::Full);
    }

    #[test]
    fn one_range_is_selected() {
        check("bytes=0-0", &Selection::Partial(0..1));
        check("bytes=2-4", &Selection::Partial(2..5));
        check("bytes=9-9", &Selection::Partial(9..10));
        check("bytes=0-9", &Selection::Partial(0..10));
    }

    #[test]
    fn an_open_range_goes_to_the_end() {
        check("bytes=0-", &Selection::Partial(0..10));
        check("bytes=9-", &Selection::Partial(9..10));
    }

    #[test]
    fn a_suffix_counts_from_the_end() {
        check("bytes=-1", &Selection::Partial(9..10));
        check("bytes=-10", &Selection::Partial(0..10));
    }

    #[test]
    fn an_oversized_suffix_selects_every_byte() {
        check("bytes=-99", &Selection::Partial(0..10));
        check("bytes=-18446744073709551616", &Selection::Partial(0..10));
    }

    #[test]
    fn an_oversized_end_is_the_last_byte() {
        check("bytes=2-10", &Selection::Partial(2..10));
        check("bytes=2-18446744073709551615", &Selection::Partial(2..10));
        check(
            "bytes=2-99999999999999999999999",
            &Selection::Partial(2..10),
        );
    }

    #[test]
    fn what_begins_behind_the_end_cannot_be_satisfied() {
        for header in [
            "bytes=10-",
            "bytes=10-11",
            "bytes=18446744073709551615-",
            "bytes=18446744073709551616-99999999999999999999999",
            "bytes=-0",
            "bytes=-000",
        ] {
            check(header, &Selection::Unsatisfiable);
        }
    }

    #[test]
    fn the_unit_is_read_without_regard_to_case() {
        check("Bytes=1-2", &Selection::Partial(1..3));
        check("BYTES=1-2", &Selection::Partial(1..3));
    }

    #[test]
    fn space_and_empty_elements_around_a_range_are_passed_over() {
        check("bytes= 1-2\t", &Selection::Partial(1..3));
        check("bytes=,1-2, ,", &Selection::Partial(1..3));
    }

    #[test]
    fn what_is_not_understood_selects_everything() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=1",
            "bytes=--1",
            "bytes=1--2",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=1 - 2",
            "bytes=a-b",
            "bytes=0x1-2",
            "bytes=\u{661}-\u{662}",
            "bytes =1-2",
            " bytes=1-2",
            "octets=1-2",
            "items=1-2",
            "1-2",
        ] {
            check(header, &Selection::Full);
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_selects_everything() {
        check("bytes=4-2", &Selection::Full);
        check("bytes=99-98", &Selection::Full);
    }

    #[test]
    fn several_ranges_select_everything() {
        check("bytes=0-1,4-5", &Selection::Full);
        check("bytes=0-1, -1", &Selection::Full);
        check("bytes=0-1,bytes=4-5", &Selection::Full);
        check("bytes=0-1,x", &Selection::Full);
    }

    #[test]
    fn of_nothing_there_is_no_part() {
        assert_eq!(select(Some("bytes=0-"), 0), Selection::Unsatisfiable);
        assert_eq!(select(Some("bytes=0-0"), 0), Selection::Unsatisfiable);
        assert_eq!(select(Some("bytes=-0"), 0), Selection::Unsatisfiable);
        assert_eq!(select(Some("bytes=-1"), 0), Selection::Full);
    }

    #[test]
    fn the_longest_representation_has_a_last_byte() {
        let end = u64::MAX - 1;
        let header = format!("bytes={end}-{}", u64::MAX);
        let expected = Selection::Partial(end..u64::MAX);
        assert_eq!(select(Some(&header), u64::MAX), expected);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond_the_end(
            header in "(bytes=)?[0-9, -]{0,24}",
            length: u64,
        ) {
            if let Selection::Partial(range) = select(Some(&header), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }

        #[test]
        fn a_representation_cut_anywhere_comes_together_again(length in 1..1000_u64, cut in 1..1000_u64) {
            let cut = cut.min(length);
            let head = select(Some(&format!("bytes=0-{}", cut - 1)), length);
            prop_assert_eq!(head, Selection::Partial(0..cut));
            let tail = select(Some(&format!("bytes={cut}-")), length);
            let expected = if cut < length { Selection::Partial(cut..length) } else { Selection::Unsatisfiable };
            prop_assert_eq!(tail, expected);
        }
    }
}
