//! The archive's bytes as they come, cut at the places that the descriptor names.

use std::ops::Range;

use bytes::{Buf, Bytes};
use hyper::StatusCode;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_RANGE,
    RANGE,
};

use super::attempt::AttemptError;
use super::client::{ClientError, Response};
use crate::config::url::BaseUrl;
use crate::descriptor::{Descriptor, Segment};
use crate::digest::{Digest, Hasher};

/// The body of an answer, at a known place of the archive.
#[derive(Debug)]
pub(super) struct ArchiveStream {
    response: Response,
    url: BaseUrl,
    /// Where in the archive the next byte belongs.
    position: u64,
    /// Where in the archive the body ends.
    end: u64,
    rest: Bytes,
    /// Bytes that came from the network.
    received: u64,
}

/// The headers that ask for a part of an archive, or for all of it, and only for this archive.
pub(super) fn request_headers(descriptor: &Descriptor, part: &Range<u64>) -> HeaderMap {
    let tag = format!("\"{}\"", descriptor.digest.hex());
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: String| {
        let value = HeaderValue::try_from(value).expect("digits and quotes are visible");
        headers.insert(name, value);
    };
    insert(IF_MATCH, tag.clone());
    if *part != (0..descriptor.size) {
        let range = if part.end == descriptor.size {
            format!("bytes={}-", part.start)
        } else {
            format!("bytes={}-{}", part.start, part.end - 1)
        };
        insert(RANGE, range);
        insert(IF_RANGE, tag);
    }
    headers
}

impl ArchiveStream {
    /// Takes an answer with status 200 or 206 to such a request.
    ///
    /// A server may ignore the range, and may send more: the bytes before the part are skipped by the first read.
    pub(super) fn new(
        response: Response,
        url: BaseUrl,
        descriptor: &Descriptor,
        part: &Range<u64>,
    ) -> Result<Self, AttemptError> {
        let tag = response.header(ETAG);
        if tag.is_some_and(|tag| tag != format!("\"{}\"", descriptor.digest.hex())) {
            return Err(AttemptError::Replaced);
        }
        let body = if response.status == StatusCode::PARTIAL_CONTENT {
            let range = response.header(CONTENT_RANGE).unwrap_or_default();
            sent(range, descriptor.size)
                .filter(|sent| sent.start <= part.start && sent.end >= part.end)
                .ok_or_else(|| AttemptError::Range {
                    asked: part.start,
                    found: range.chars().take(80).collect(),
                })?
        } else {
            0..descriptor.size
        };
        let length = response.header(CONTENT_LENGTH);
        if let Some(length) = length.and_then(|length| length.parse::<u64>().ok()) {
            let found = length.saturating_add(body.start);
            if found != body.end {
                return Err(AttemptError::Length {
                    expected: body.end,
                    found,
                });
            }
        }
        Ok(Self {
            response,
            url,
            position: body.start,
            end: body.end,
            rest: Bytes::new(),
            received: 0,
        })
    }

    /// Whether a part of the archive is still to come.
    pub(super) fn brings(&self, part: &Range<u64>) -> bool {
        self.position <= part.start && self.end >= part.end
    }

    /// How many bytes came from the network since this was asked last.
    pub(super) fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }

    /// The bytes of the segment, verified.
    pub(super) async fn segment(
        &mut self,
        index: usize,
        segment: &Segment,
    ) -> Result<Vec<u8>, AttemptError> {
        self.skip_to(segment.offset).await?;
        let (bytes, computed) = self.take(segment.length).await?;
        if computed != segment.digest {
            return Err(AttemptError::Segment {
                index,
                expected: segment.digest,
                computed,
            });
        }
        Ok(bytes)
    }

    /// A few bytes at an offset, as they are.
    pub(super) async fn bytes_at<const N: usize>(
        &mut self,
        offset: u64,
    ) -> Result<[u8; N], AttemptError> {
        self.skip_to(offset).await?;
        let (bytes, _) = self.take(N as u64).await?;
        Ok(bytes.try_into().expect("as many bytes as were asked for"))
    }

    async fn skip_to(&mut self, offset: u64) -> Result<(), AttemptError> {
        while self.position < offset {
            self.piece(offset - self.position).await?;
        }
        Ok(())
    }

    async fn take(&mut self, length: u64) -> Result<(Vec<u8>, Digest), AttemptError> {
        // A descriptor bounds its segments, so this cannot be made to take all memory.
        let length = usize::try_from(length).expect("a segment fits in memory");
        let mut bytes = Vec::with_capacity(length);
        let mut hasher = Hasher::new();
        while bytes.len() < length {
            let piece = self.piece((length - bytes.len()) as u64).await?;
            hasher.update(&piece);
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, hasher.finish()))
    }

    /// The next bytes, at least one and at most so many.
    async fn piece(&mut self, most: u64) -> Result<Bytes, AttemptError> {
        while !self.rest.has_remaining() {
            let Some(piece) = self.response.piece().await? else {
                let url = self.url.clone();
                return Err(ClientError::Short { url }.into());
            };
            self.received += piece.len() as u64;
            self.rest = piece;
        }
        let length =
            usize::try_from(most).map_or(self.rest.len(), |most| most.min(self.rest.len()));
        self.position += length as u64;
        Ok(self.rest.split_to(length))
    }
}

/// The bytes of a range, if it belongs to something of this length.
fn sent(content_range: &str, size: u64) -> Option<Range<u64>> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let fits = total.parse() == Ok(size) && first <= last && last < size;
    fits.then(|| first..last + 1)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::digest::Revision;

    #[test]
    fn a_range_is_taken_when_it_is_of_the_same_length() {
        assert_eq!(sent("bytes 10-99/100", 100), Some(10..100));
        assert_eq!(sent("bytes 0-99/100", 100), Some(0..100));
        assert_eq!(sent("bytes 10-98/100", 100), Some(10..99));
        for range in [
            "",
            "bytes 10-99/101",
            "bytes 10-9/100",
            "bytes 10-100/100",
            "bytes 10-99/*",
            "bytes */100",
            "bytes -99/100",
            "items 10-99/100",
            "bytes 10-18446744073709551615/100",
        ] {
            assert_eq!(sent(range, 100), None, "{range}");
        }
    }

    #[test]
    fn a_part_is_asked_for_with_the_archive_named_twice() {
        let descriptor = Descriptor {
            format: String::new(),
            revision: Revision::of_listing(Digest::of(b"")),
            digest: Digest::of(b""),
            size: 100,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: UNIX_EPOCH,
            segments: Vec::new(),
            left_out: std::collections::BTreeMap::new(),
        };
        let tag = format!("\"{}\"", Digest::of(b"").hex());
        for (part, range) in [
            (10..100, "bytes=10-"),
            (10..20, "bytes=10-19"),
            (0..20, "bytes=0-19"),
        ] {
            let headers = request_headers(&descriptor, &part);
            assert_eq!(headers[RANGE], range);
            assert_eq!(headers[IF_MATCH], tag);
            assert_eq!(headers[IF_RANGE], tag);
        }
        let headers = request_headers(&descriptor, &(0..100));
        assert!(!headers.contains_key(RANGE) && !headers.contains_key(IF_RANGE));
    }
}
