//! The archive's bytes as they come, cut at the places that the descriptor names.

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
    rest: Bytes,
    /// Bytes that came from the network.
    received: u64,
}

/// The headers that ask for an archive from an offset on, and only for this archive.
pub(super) fn request_headers(digest: Digest, offset: u64) -> HeaderMap {
    let tag = format!("\"{}\"", digest.hex());
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: String| {
        let value = HeaderValue::try_from(value).expect("digits and quotes are visible");
        headers.insert(name, value);
    };
    insert(IF_MATCH, tag.clone());
    if offset > 0 {
        insert(RANGE, format!("bytes={offset}-"));
        insert(IF_RANGE, tag);
    }
    headers
}

impl ArchiveStream {
    /// Takes an answer with status 200 or 206 to such a request.
    ///
    /// A server may ignore the range, and may begin before it: the bytes up to it are skipped by the first read.
    pub(super) fn new(
        response: Response,
        url: BaseUrl,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Self, AttemptError> {
        let tag = response.header(ETAG);
        if tag.is_some_and(|tag| tag != format!("\"{}\"", descriptor.digest.hex())) {
            return Err(AttemptError::Replaced);
        }
        let position = if response.status == StatusCode::PARTIAL_CONTENT {
            let range = response.header(CONTENT_RANGE).unwrap_or_default();
            first_byte(range, descriptor.size)
                .filter(|&first| first <= offset)
                .ok_or_else(|| AttemptError::Range {
                    asked: offset,
                    found: range.chars().take(80).collect(),
                })?
        } else {
            0
        };
        let length = response.header(CONTENT_LENGTH);
        if let Some(length) = length.and_then(|length| length.parse::<u64>().ok()) {
            let found = length.saturating_add(position);
            if found != descriptor.size {
                return Err(AttemptError::Length {
                    expected: descriptor.size,
                    found,
                });
            }
        }
        Ok(Self {
            response,
            url,
            position,
            rest: Bytes::new(),
            received: 0,
        })
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

/// Where the bytes of a range begin, if the range belongs to something of this length and goes to its end.
fn first_byte(content_range: &str, size: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let ends = total.parse() == Ok(size) && last.parse::<u64>().ok()?.checked_add(1) == Some(size);
    ends.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_taken_when_it_goes_to_the_end_of_the_same_length() {
        assert_eq!(first_byte("bytes 10-99/100", 100), Some(10));
        assert_eq!(first_byte("bytes 0-99/100", 100), Some(0));
        for range in [
            "",
            "bytes 10-98/100",
            "bytes 10-99/101",
            "bytes 10-99/*",
            "bytes */100",
            "bytes -99/100",
            "items 10-99/100",
            "bytes 10-18446744073709551615/100",
        ] {
            assert_eq!(first_byte(range, 100), None, "{range}");
        }
    }

    #[test]
    fn a_resumed_request_names_the_archive_twice() {
        let headers = request_headers(Digest::of(b""), 10);
        let tag = format!("\"{}\"", Digest::of(b"").hex());
        assert_eq!(headers[RANGE], "bytes=10-");
        assert_eq!(headers[IF_MATCH], tag);
        assert_eq!(headers[IF_RANGE], tag);
        let headers = request_headers(Digest::of(b""), 0);
        assert!(!headers.contains_key(RANGE) && !headers.contains_key(IF_RANGE));
    }
}
