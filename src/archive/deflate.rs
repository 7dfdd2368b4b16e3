//! One segment: raw bytes in, a run of a deflate stream out.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::digest::Digest;

/// Raw bytes to be compressed, with a buffer for the result.
#[derive(Debug, Default)]
pub struct Job {
    /// A run of the tar.
    pub raw: Vec<u8>,
    /// Overwritten; what it holds does not matter, only that it need not be allocated again.
    pub out: Vec<u8>,
}

/// A compressed segment, with the buffer of its raw bytes for the next one.
#[derive(Debug)]
pub struct Deflated {
    /// As given.
    pub raw: Vec<u8>,
    /// A run of the deflate stream.
    pub bytes: Vec<u8>,
    /// Of those bytes.
    pub digest: Digest,
    /// Of the raw ones.
    pub crc: u32,
}

/// Compresses a segment: a function of the raw bytes and the level alone.
#[must_use]
pub fn deflate(level: u32, job: Job) -> Deflated {
    let Job {
        raw,
        out: mut bytes,
    } = job;
    // The compressor's bytes also follow from the room that it has; so it is given one that follows from the input.
    bytes.clear();
    bytes.resize(room_for(raw.len()), 0);
    let mut stream = Compress::new(Compression::new(level), false);
    let status = stream.compress(&raw, &mut bytes, FlushCompress::Full);
    let length = usize::try_from(stream.total_out()).expect("no more than there was room for");
    let complete = matches!(status, Ok(Status::Ok)) && stream.total_in() == raw.len() as u64;
    assert!(
        complete && length < bytes.len(),
        "deflate takes all that it has room for"
    );
    bytes.truncate(length);
    let mut crc = Crc::new();
    crc.update(&raw);
    Deflated {
        digest: Digest::of(&bytes),
        raw,
        bytes,
        crc: crc.sum(),
    }
}

/// More than any input can become: level 1 spends up to nine bits on a byte, the others store what does not compress.
fn room_for(raw: usize) -> usize {
    raw + raw / 8 + 1024
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    /// Bytes that do not compress, the same ones for ever: Knuth's MMIX generator.
    fn noise(length: usize) -> Vec<u8> {
        let mut state: u64 = 7;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        b"def main():\n    return 0\n"
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect()
    }

    fn deflated(raw: &[u8]) -> Vec<u8> {
        deflate(
            6,
            Job {
                raw: raw.to_vec(),
                out: Vec::new(),
            },
        )
        .bytes
    }

    #[test]
    fn segments_inflate_alone_and_one_after_the_other() {
        let parts = [text(300_000), noise(1 << 20), text(1), noise(70_000)];
        let mut together = Decompress::new(false);
        for raw in parts {
            let bytes = deflated(&raw);
            let mut alone = Decompress::new(false);
            for stream in [&mut alone, &mut together] {
                let mut back = Vec::with_capacity(raw.len() + 1);
                let status = stream.decompress_vec(&bytes, &mut back, FlushDecompress::None);
                assert!(matches!(status, Ok(Status::Ok)) && back == raw);
            }
        }
    }

    #[test]
    fn there_is_room_at_every_level_for_what_does_not_compress() {
        for level in 1..=9 {
            for length in [1, 100, 70_000, 2 << 20] {
                let job = Job {
                    raw: noise(length),
                    out: Vec::new(),
                };
                assert!(deflate(level, job).bytes.len() >= length);
            }
        }
    }

    #[test]
    fn a_used_buffer_does_not_show_in_the_bytes() {
        let raw = [text(200_000), noise(50_000)].concat();
        let job = Job {
            raw: raw.clone(),
            out: noise(3 << 20),
        };
        assert_eq!(deflate(6, job).bytes, deflated(&raw));
    }

    /// The bytes of the format. If this fails, archives change for every user: say so in the format's version.
    #[test]
    fn the_bytes_of_three_segments_are_pinned() {
        let check = |raw: Vec<u8>, hex: &str| {
            assert_eq!(Digest::of(&deflated(&raw)).hex(), hex);
        };
        check(
            text(1 << 20),
            "23868c7287ce2b51a404844de4489f3b95044600758a97e91e7fef4411151e2a",
        );
        check(
            noise(300_000),
            "c4c8e63d23ea1f236d882fa667716f1553a38de29e44dda61518be2f30bef62e",
        );
        check(
            [text(5000), noise(5000)].concat(),
            "5478b5aa1169f20871c084f3d5ec83ee580b3d2a07be1c81fcbd43ad7c9a116f",
        );
    }
}
