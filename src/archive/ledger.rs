//! What is written down of an archive's segments while it is made.

use crc32fast::Hasher as Crc;

use super::gather::Made;
use super::recipe::{Ingredients, Line, Recipe};
use crate::descriptor::Segment;
use crate::digest::Digest;

/// Segments that were handed over, and those of them that are written.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Of the segments that were handed over; `None` where a file is not read to its end yet.
    keys: Vec<Option<Digest>>,
    /// Segments of that file.
    unnamed: Vec<Unnamed>,
    /// Of the segments that are written.
    pub(super) segments: Vec<Segment>,
    crcs: Vec<u32>,
    /// Over all tar bytes that are written.
    crc: Crc,
    /// How many these are.
    pub(super) raw_size: u64,
}

/// A segment that ends with a run of a file that is not read to its end yet.
#[derive(Debug)]
struct Unnamed {
    segment: usize,
    ingredients: Ingredients,
    offset: u64,
    length: u64,
}

impl Ledger {
    /// How many segments were handed over.
    pub(super) fn cuts(&self) -> usize {
        self.keys.len()
    }

    /// A segment is handed over; `offset` is where the run of the file begins with which it may end. Gives its key, if that
    /// is known by now.
    pub(super) fn cut(&mut self, made: Made, offset: u64) -> Option<Digest> {
        let key = match made {
            Made::Known(key) => Some(key),
            Made::Unknown(ingredients, length) => {
                self.unnamed.push(Unnamed {
                    segment: self.keys.len(),
                    ingredients,
                    offset,
                    length,
                });
                None
            }
        };
        self.keys.push(key);
        key
    }

    /// The file that is being read has come to its end, and this is its digest.
    pub(super) fn name(&mut self, digest: Digest) {
        for mut run in self.unnamed.drain(..) {
            run.ingredients.content(digest, run.offset, run.length);
            self.keys[run.segment] = Some(run.ingredients.key());
        }
    }

    /// A segment is written.
    pub(super) fn write(&mut self, segment: Segment, crc: u32) {
        let following = Crc::new_with_initial_len(crc, segment.raw_length);
        self.crc.combine(&following);
        self.crcs.push(crc);
        self.raw_size += segment.raw_length;
        self.segments.push(segment);
    }

    /// What a gzip member ends with: the CRC, and the length modulo 2³² (RFC 1952 §2.3.1).
    pub(super) fn trailer(&self) -> [u8; 8] {
        let length = u32::try_from(self.raw_size & u64::from(u32::MAX)).expect("32 bits are left");
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.crc.clone().finalize().to_le_bytes());
        trailer[4..].copy_from_slice(&length.to_le_bytes());
        trailer
    }

    /// The recipe, once all files are read to their ends.
    pub(super) fn recipe(&self) -> Recipe {
        let lines = self.keys.iter().zip(&self.crcs).map(|(key, &crc)| Line {
            key: key.expect("every file was read to its end"),
            crc,
        });
        Recipe::new(lines.collect())
    }
}
