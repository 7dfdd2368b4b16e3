//! From a segment back to its run of the tar.
//!
//! A segment is a run of a deflate stream that begins with an empty window and ends byte-aligned after a full flush, so a
//! fresh inflater reads it alone and never meets the stream's end in it.

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

/// Why a segment was refused.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// Its bytes are no deflate stream.
    #[error("the segment is not a deflate stream")]
    Malformed(#[from] DecompressError),
    /// It holds the end of a stream.
    #[error("the deflate stream ends within the segment")]
    StreamEnd,
    /// It inflates to another length, or bytes are left over.
    #[error(
        "the segment inflates to {found} bytes from {consumed} of {length}, and {expected} were promised"
    )]
    Length {
        /// As promised.
        expected: u64,
        /// Bytes that came out; more than expected stand for all that would have.
        found: u64,
        /// Compressed bytes that were read for it.
        consumed: u64,
        /// Compressed bytes that were there.
        length: u64,
    },
}

/// Inflates one segment: exactly `raw_length` bytes come out, and every byte of it is used.
///
/// The output goes into the memory of `spare`, whose content is forgotten. It never takes more than `raw_length` and one byte,
/// or what `spare` has already, whatever the segment would inflate to.
pub fn inflate(segment: &[u8], raw_length: usize, spare: Vec<u8>) -> Result<Vec<u8>, InflateError> {
    let mut raw = spare;
    raw.clear();
    // The byte to spare tells a segment that ends from one that would go on.
    raw.reserve_exact(raw_length.saturating_add(1));
    let mut inflater = Decompress::new(false);
    loop {
        let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
        let rest = usize::try_from(before_in).map_or(&[][..], |start| &segment[start..]);
        match inflater.decompress_vec(rest, &mut raw, FlushDecompress::None)? {
            Status::StreamEnd => return Err(InflateError::StreamEnd),
            Status::Ok | Status::BufError => {}
        }
        let moved = inflater.total_in() > before_in || inflater.total_out() > before_out;
        if !moved || raw.len() > raw_length {
            break;
        }
    }
    if raw.len() != raw_length || inflater.total_in() != segment.len() as u64 {
        return Err(InflateError::Length {
            expected: raw_length as u64,
            found: raw.len() as u64,
            consumed: inflater.total_in(),
            length: segment.len() as u64,
        });
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflate(raw: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut segment = Vec::with_capacity(raw.len() + 1024);
        Compress::new(Compression::default(), false)
            .compress_vec(raw, &mut segment, flush)
            .unwrap();
        segment
    }

    fn sample() -> Vec<u8> {
        (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_segment_inflates_to_what_it_was_made_of() {
        for raw in [&b"a"[..], &vec![0; 100_000], &sample()] {
            let segment = deflate(raw, FlushCompress::Full);
            for spare in [Vec::new(), vec![7; 10], vec![7; 10 << 20]] {
                assert_eq!(inflate(&segment, raw.len(), spare).unwrap(), raw);
            }
        }
    }

    #[test]
    fn another_length_than_promised_is_refused() {
        let raw = sample();
        let segment = deflate(&raw, FlushCompress::Full);
        for promised in [0, 1, raw.len() - 1, raw.len() + 1] {
            let error = inflate(&segment, promised, Vec::new()).unwrap_err();
            assert!(matches!(error, InflateError::Length { .. }), "{promised}");
        }
    }

    #[test]
    fn a_segment_that_is_cut_or_has_more_is_refused() {
        let raw = sample();
        let mut segment = deflate(&raw, FlushCompress::Full);
        assert!(inflate(&segment[..segment.len() / 2], raw.len(), Vec::new()).is_err());
        segment.extend(deflate(b"more", FlushCompress::Full));
        assert!(inflate(&segment, raw.len(), Vec::new()).is_err());
        assert!(inflate(&[], 1, Vec::new()).is_err());
    }

    #[test]
    fn the_end_of_a_stream_is_no_part_of_a_segment() {
        let segment = deflate(b"all", FlushCompress::Finish);
        assert!(matches!(
            inflate(&segment, 3, Vec::new()),
            Err(InflateError::StreamEnd)
        ));
    }

    #[test]
    fn bytes_that_are_no_deflate_stream_are_refused() {
        assert!(matches!(
            inflate(&[0xff; 100], 100, Vec::new()),
            Err(InflateError::Malformed(_))
        ));
    }
}
