//! Whether a download that broke off can be gone on with, and whether an answer does go on with it.
//!
//! A server that takes a tag for what it is sends the rest only if the archive is still the same. Not all do: busybox httpd
//! looks at the range alone. So the answer has to have the same tag and the same length as the first one, and who knows what
//! to expect of the archive checks it in the end.

use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};

/// An archive as a server told it from others. It tells them apart for sure, or there is no such thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    tag: HeaderValue,
    size: u64,
}

/// What an answer to a request for the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The rest, behind so many bytes that are there already.
    Onward {
        /// In bytes.
        doubled: u64,
    },
    /// An archive from its first byte on.
    Anew,
    /// Of no use: it has to be asked for all of it.
    Useless,
}

impl Identity {
    /// By the headers of an answer that has all of it. A weak tag is as good as none, and so is one of unknown length.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let tag = headers.get(ETAG)?;
        let text = tag.as_bytes();
        let is_strong = text.len() > 2 && text.starts_with(b"\"") && text.ends_with(b"\"");
        Some(Self {
            tag: tag.clone(),
            size: number(headers)?,
        })
        .filter(|_| is_strong)
    }

    /// Asks for all from a byte on, if it is the same archive still.
    pub(super) fn request(&self, from: u64) -> HeaderMap {
        let range = HeaderValue::try_from(format!("bytes={from}-"));
        let range = range.expect("digits are visible");
        HeaderMap::from_iter([(RANGE, range), (IF_RANGE, self.tag.clone())])
    }

    /// What an answer to that is; `None` if it says nothing about the archive.
    pub(super) fn judge(&self, status: StatusCode, headers: &HeaderMap, from: u64) -> Option<Rest> {
        match status {
            StatusCode::OK => Some(Rest::Anew),
            StatusCode::PARTIAL_CONTENT => Some(self.overlap(headers, from)),
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => {
                Some(Rest::Useless)
            }
            _ => None,
        }
    }

    fn overlap(&self, headers: &HeaderMap, from: u64) -> Rest {
        let first = content_range(headers).and_then(|(first, last, size)| {
            let length = (last + 1).checked_sub(first)?;
            let fits = number(headers).is_none_or(|told| told == length);
            (fits && size == self.size && last + 1 == size).then_some(first)
        });
        let is_same = headers.get(ETAG) == Some(&self.tag);
        match first.and_then(|first| from.checked_sub(first)) {
            Some(doubled) if is_same => Rest::Onward { doubled },
            _ => Rest::Useless,
        }
    }
}

/// How long the body is, as the server says.
pub(super) fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// First and last byte, and the length of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    Some((first.parse().ok()?, last, size.parse().ok()?)).filter(|_| last < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(tag: &str, length: &str, range: &str) -> HeaderMap {
        let all = [
            (ETAG, tag),
            (CONTENT_LENGTH, length),
            (CONTENT_RANGE, range),
        ];
        let told = all.into_iter().filter(|(_, value)| !value.is_empty());
        told.map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn an_archive_is_known_by_a_strong_tag_and_its_length() {
        let is_known = |tag, length| Identity::of(&headers(tag, length, "")).is_some();
        assert!(is_known("\"abc\"", "100"));
        for (tag, length) in [
            ("W/\"abc\"", "100"),
            ("abc", "100"),
            ("\"\"", "100"),
            ("", "100"),
            ("\"abc\"", ""),
        ] {
            assert!(!is_known(tag, length), "{tag} {length}");
        }
    }

    #[test]
    fn only_the_rest_of_the_same_archive_goes_on() {
        let known = Identity::of(&headers("\"a\"", "100", "")).unwrap();
        let asked = known.request(40);
        assert_eq!(asked[RANGE], "bytes=40-");
        assert_eq!(asked[IF_RANGE], "\"a\"");
        let check = |status, tag, length, range, expected| {
            let status = StatusCode::from_u16(status).unwrap();
            let found = known.judge(status, &headers(tag, length, range), 40);
            assert_eq!(found, expected, "{status} {tag} {length} {range}");
        };
        let onward = |doubled| Some(Rest::Onward { doubled });
        check(206, "\"a\"", "60", "bytes 40-99/100", onward(0));
        check(206, "\"a\"", "", "bytes 40-99/100", onward(0));
        check(206, "\"a\"", "100", "bytes 0-99/100", onward(40));
        check(200, "\"b\"", "70", "", Some(Rest::Anew));
        check(503, "\"a\"", "100", "", None);
        for (status, tag, length, range) in [
            (206, "\"b\"", "60", "bytes 40-99/100"),
            (206, "", "60", "bytes 40-99/100"),
            (206, "\"a\"", "100", "bytes 40-99/100"),
            (206, "\"a\"", "59", "bytes 41-99/100"),
            (206, "\"a\"", "61", "bytes 40-100/101"),
            (206, "\"a\"", "59", "bytes 40-98/100"),
            (206, "\"a\"", "60", "bytes 40-99/*"),
            (206, "\"a\"", "60", ""),
            (206, "\"a\"", "", "bytes 40-18446744073709551615/100"),
            (416, "", "", "bytes */30"),
            (412, "", "", ""),
        ] {
            check(status, tag, length, range, Some(Rest::Useless));
        }
    }
}
