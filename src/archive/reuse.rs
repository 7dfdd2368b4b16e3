//! An archive that was sealed before, as a source of segments for the next one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::recipe::{Line, Recipe};
use crate::descriptor::{Descriptor, Segment};
use crate::digest::{Digest, Hasher};

/// How much is copied at once.
const PIECE: usize = 256 << 10;

/// What is known of an archive's segments besides their bytes.
#[derive(Debug, Default)]
pub struct Seams {
    /// What they were made of.
    pub recipe: Recipe,
    /// The state of the archive's digest before each segment, and behind the last.
    pub(super) states: Vec<Hasher>,
}

/// An archive whose segments can be taken over.
#[derive(Debug)]
pub struct Previous {
    archive: File,
    format: String,
    segments: Vec<Segment>,
    seams: Seams,
    by_key: HashMap<Digest, usize>,
}

/// A segment of an earlier archive that is the one that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) index: usize,
    pub(super) segment: Segment,
    pub(super) crc: u32,
}

impl Previous {
    /// An archive that this process has just sealed.
    #[must_use]
    pub fn new(archive: File, descriptor: &Descriptor, seams: Seams) -> Self {
        let keys = seams.recipe.lines().iter().map(|line| line.key);
        Self {
            archive,
            format: descriptor.format.clone(),
            segments: descriptor.segments.clone(),
            by_key: keys.zip(0..).collect(),
            seams,
        }
    }

    /// An archive that was kept on disk: reads it, and gives `None` where it is not what its descriptor says.
    pub fn verify(
        archive: File,
        descriptor: &Descriptor,
        recipe: Recipe,
    ) -> io::Result<Option<Self>> {
        let mut hasher = Hasher::new();
        let mut states = Vec::with_capacity(descriptor.segments.len() + 1);
        let ends = descriptor.segments.iter().map(|segment| segment.offset);
        let mut position = 0;
        for end in ends.chain([segments_end(descriptor)]) {
            hash_run(&archive, position..end, &mut hasher)?;
            states.push(hasher.clone());
            position = end;
        }
        hash_run(&archive, position..descriptor.size, &mut hasher)?;
        let is_whole = hasher.finish() == descriptor.digest
            && recipe.lines().len() == descriptor.segments.len();
        let seams = Seams { recipe, states };
        Ok(is_whole.then(|| Self::new(archive, descriptor, seams)))
    }

    /// The segment that was made of this, for an archive of this format.
    pub(super) fn find(&self, format: &str, key: &Digest) -> Option<Found> {
        if self.format != format {
            return None;
        }
        let index = *self.by_key.get(key)?;
        let Line { crc, .. } = self.seams.recipe.lines().get(index)?;
        Some(Found {
            index,
            segment: *self.segments.get(index)?,
            crc: *crc,
        })
    }

    /// The state of the digest behind a segment.
    pub(super) fn state_behind(&self, found: &Found) -> Option<&Hasher> {
        self.seams.states.get(found.index + 1)
    }

    /// Copies a segment and hashes it on the way.
    pub(super) fn copy(
        &self,
        found: &Found,
        out: &mut impl Write,
        hasher: &mut Hasher,
    ) -> io::Result<()> {
        let Segment { offset, length, .. } = found.segment;
        for_each_piece(&self.archive, offset..offset + length, |bytes| {
            hasher.update(bytes);
            out.write_all(bytes)
        })
    }

    /// Copies a segment for which the state of the digest is known.
    pub(super) fn append_to(&self, found: &Found, out: &mut impl Output) -> io::Result<()> {
        let Segment { offset, length, .. } = found.segment;
        out.append_run(&self.archive, offset, length)
    }
}

fn segments_end(descriptor: &Descriptor) -> u64 {
    let last = descriptor.segments.last();
    last.map_or(0, |segment| segment.offset + segment.length)
}

fn hash_run(file: &File, run: std::ops::Range<u64>, hasher: &mut Hasher) -> io::Result<()> {
    for_each_piece(file, run, |bytes| {
        hasher.update(bytes);
        Ok(())
    })
}

fn for_each_piece(
    file: &File,
    mut run: std::ops::Range<u64>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let most = usize::try_from(run.end - run.start).unwrap_or(PIECE);
    let mut piece = vec![0; most.min(PIECE)];
    while !run.is_empty() {
        let left = usize::try_from(run.end - run.start).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        file.read_exact_at(piece, run.start)?;
        take(piece)?;
        run.start += piece.len() as u64;
    }
    Ok(())
}

/// Where an archive is written.
pub trait Output: Write {
    /// Appends a run of a file.
    fn append_run(&mut self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        for_each_piece(file, offset..offset + length, |bytes| self.write_all(bytes))
    }
}

impl Output for File {
    /// Leaves the copying to the kernel, which may share the blocks; where it refuses (two file systems, a kind of file that
    /// it cannot copy), the bytes go through memory.
    fn append_run(&mut self, file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(file, Some(&mut offset), &*self, None, most) {
                Ok(copied) if copied > 0 => length -= copied as u64,
                _ => {
                    let rest = offset..offset + length;
                    return for_each_piece(file, rest, |bytes| self.write_all(bytes));
                }
            }
        }
        Ok(())
    }
}

impl Output for Vec<u8> {}
impl Output for &mut Vec<u8> {}
impl Output for io::Sink {}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_run_is_appended_whole_by_the_kernel_and_through_memory() {
        let bytes: Vec<u8> = (0..=250).cycle().take(700_000).collect();
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&bytes).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let mut memory = Vec::new();
        let out: [&mut dyn FnMut(u64, u64); 2] = [
            &mut |offset, length| file.append_run(&from, offset, length).unwrap(),
            &mut |offset, length| memory.append_run(&from, offset, length).unwrap(),
        ];
        for append in out {
            append(0, 0);
            append(3, 600_000);
            append(699_999, 1);
        }
        let expected = [&bytes[3..600_003], &bytes[699_999..]].concat();
        assert!(memory == expected);
        file.rewind().unwrap();
        memory.clear();
        file.read_to_end(&mut memory).unwrap();
        assert!(memory == expected);
    }

    #[test]
    fn a_run_beyond_the_end_is_an_error() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(b"short").unwrap();
        let mut file = tempfile::tempfile().unwrap();
        assert!(file.append_run(&from, 3, 3).is_err());
        assert!(Vec::new().append_run(&from, 3, 3).is_err());
    }
}
