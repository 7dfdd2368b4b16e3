//! The frame around the entries: gathers them into segments, has those compressed, and writes the archive in order.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use flate2::Crc;

use super::ArchiveError;
use super::cut;
use super::deflate::{Deflated, Job, deflate};
use super::header::{self, Member};
use crate::descriptor::Segment;
use crate::digest::{Digest, HashingWriter};
use crate::entry::EntryPath;
use crate::ordered::Ordered;

/// A gzip member without optional fields: deflate, no flags, time 0, no hint about the level, system 255 (unknown).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last block without content.
const FINAL_BLOCK: [u8; 2] = [3, 0];

/// Writes one archive.
#[derive(Debug)]
pub(super) struct ArchiveWriter<W: Write> {
    out: HashingWriter<W>,
    /// Tar bytes of the segment that is being gathered.
    raw: Vec<u8>,
    /// Content bytes of the entry that is being written.
    content: u64,
    deflating: Ordered<Job, Deflated>,
    /// Buffers that were in use and can be again.
    spare: Vec<Job>,
    segments: Vec<Segment>,
    /// Over all tar bytes that are written.
    crc: Crc,
    raw_size: u64,
    /// Segments that were handed over, written or not.
    cuts: usize,
}

/// A place to which the writer can return as long as nothing was cut since.
#[derive(Debug)]
pub(super) struct Mark {
    cuts: usize,
    length: usize,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) uncompressed_size: u64,
    pub(super) segments: Vec<Segment>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W, level: u32, workers: NonZeroUsize) -> Result<Self, ArchiveError> {
        let mut out = HashingWriter::new(out);
        out.write_all(&GZIP_HEADER).map_err(failed)?;
        let deflating = Ordered::new(workers, move |job| deflate(level, job));
        Ok(Self {
            out,
            raw: Vec::new(),
            content: 0,
            deflating: deflating.map_err(ArchiveError::Thread)?,
            spare: Vec::new(),
            segments: Vec::new(),
            crc: Crc::new(),
            raw_size: 0,
            cuts: 0,
        })
    }

    /// Begins an entry.
    pub(super) fn begin(&mut self, member: &Member<'_>) {
        header::append(member, &mut self.raw);
        self.content = 0;
    }

    /// Lets content be appended to the entry.
    pub(super) fn append<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.raw.len();
        read(&mut self.raw)?;
        self.content += (self.raw.len() - before) as u64;
        Ok(())
    }

    /// Ends the entry, and the segment if the rules for cuts say so.
    pub(super) fn end(&mut self, path: &EntryPath) -> Result<(), ArchiveError> {
        header::pad(&mut self.raw, self.content);
        if cut::ends_behind(path, self.raw.len()) {
            self.cut()
        } else {
            Ok(())
        }
    }

    /// Ends the segment here.
    pub(super) fn cut(&mut self) -> Result<(), ArchiveError> {
        if self.deflating.is_full() {
            self.write_oldest()?;
        }
        let mut job = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut job.raw, &mut self.raw);
        self.deflating.give(job);
        self.cuts += 1;
        Ok(())
    }

    /// Where the writer is now.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            cuts: self.cuts,
            length: self.raw.len(),
        }
    }

    /// Forgets what came behind a mark, if that was not handed over yet; says whether it did.
    pub(super) fn return_to(&mut self, mark: &Mark) -> bool {
        let possible = mark.cuts == self.cuts;
        if possible {
            self.raw.truncate(mark.length);
        }
        possible
    }

    /// Ends the tar and the archive.
    pub(super) fn finish(mut self) -> Result<Written, ArchiveError> {
        header::append_end(&mut self.raw);
        self.cut()?;
        while self.write_oldest()? {}
        // The length of the content modulo 2³², as RFC 1952 has it.
        let length = u32::try_from(self.raw_size & u64::from(u32::MAX)).expect("32 bits are left");
        let trailer = [self.crc.sum().to_le_bytes(), length.to_le_bytes()].concat();
        self.out.write_all(&FINAL_BLOCK).map_err(failed)?;
        self.out.write_all(&trailer).map_err(failed)?;
        self.out.flush().map_err(failed)?;
        let (_, digest, size) = self.out.finish();
        Ok(Written {
            digest,
            size,
            uncompressed_size: self.raw_size,
            segments: self.segments,
        })
    }

    /// Waits for the oldest segment and writes it; `false` if there is none.
    fn write_oldest(&mut self) -> Result<bool, ArchiveError> {
        let Some(Deflated {
            mut raw,
            bytes,
            digest,
            crc,
        }) = self.deflating.take()
        else {
            return Ok(false);
        };
        let offset = self.out.count();
        self.out.write_all(&bytes).map_err(failed)?;
        let (length, raw_length) = (bytes.len() as u64, raw.len() as u64);
        self.segments.push(Segment {
            offset,
            length,
            raw_length,
            digest,
        });
        self.crc.combine(&crc);
        self.raw_size += raw_length;
        raw.clear();
        self.spare.push(Job { raw, out: bytes });
        Ok(true)
    }
}

fn failed(source: io::Error) -> ArchiveError {
    ArchiveError::Write {
        what: "archive",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, Mode, Modes};

    /// An archive of one file, begun this often with other content before.
    fn archive(torn: usize) -> Vec<u8> {
        let path = EntryPath::new(b"file").unwrap();
        let member = Member::File {
            path: &path,
            mode: Mode::new(EntryKind::File, 0, Modes::Normal),
            mtime: 0,
            size: 4,
        };
        let mut out = Vec::new();
        let mut writer = ArchiveWriter::new(&mut out, 6, NonZeroUsize::MIN).unwrap();
        let append = |content: &'static [u8]| {
            move |raw: &mut Vec<u8>| {
                raw.extend(content);
                Ok::<_, ArchiveError>(())
            }
        };
        for _ in 0..torn {
            let mark = writer.mark();
            writer.begin(&member);
            writer.append(append(b"to")).unwrap();
            assert!(writer.return_to(&mark));
        }
        writer.begin(&member);
        writer.append(append(b"full")).unwrap();
        writer.end(&path).unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn what_was_taken_back_does_not_show() {
        assert!(archive(2) == archive(0));
    }

    #[test]
    fn what_was_handed_over_cannot_be_taken_back() {
        let mut writer = ArchiveWriter::new(Vec::new(), 6, NonZeroUsize::MIN).unwrap();
        let mark = writer.mark();
        header::append_end(&mut writer.raw);
        writer.cut().unwrap();
        assert!(!writer.return_to(&mark));
    }
}
