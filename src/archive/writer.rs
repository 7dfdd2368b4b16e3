//! The frame around the entries: gathers them into segments, takes those over that were there before, has the others
//! compressed, and writes the archive in order.

use std::collections::VecDeque;
use std::io;

use super::cut;
use super::deflate::{Deflated, Job, deflate};
use super::gather::{Gathering, Known, Mark as Gathered};
use super::hashed::Hashed;
use super::header::Member;
use super::ledger::Ledger;
use super::reuse::{Found, Output, Previous, Seams};
use super::{ArchiveError, Options};
use crate::descriptor::Segment;
use crate::digest::Digest;
use crate::entry::EntryPath;
use crate::ordered::Ordered;
use crate::root::Root;

/// A gzip member without optional fields: deflate, no flags, time 0, no hint about the level, system 255 (unknown).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last block without content.
const FINAL_BLOCK: [u8; 2] = [3, 0];

/// Where contents and segments come from that need not be made anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'t> {
    pub(super) root: &'t Root,
    pub(super) previous: Option<&'t Previous>,
}

/// Writes one archive.
#[derive(Debug)]
pub(super) struct ArchiveWriter<'t, W: Output> {
    out: Hashed<W>,
    sources: Sources<'t>,
    format: String,
    /// The segment that is being gathered.
    gathering: Gathering<'t>,
    /// Content bytes of the entry that is being written.
    content: u64,
    /// Where in the file that is being read the segment that is being gathered began.
    content_start: u64,
    deflating: Ordered<Job, Deflated>,
    /// Segments that were handed over and are not written yet, the oldest first.
    pending: VecDeque<Pending>,
    /// Buffers that were in use and can be again.
    spare: Vec<Job>,
    ledger: Ledger,
    /// Whether all segments so far are those of the previous archive.
    is_prefix: bool,
    reused: u64,
}

/// How a segment comes to its bytes.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Deflating,
    Reused(Found),
}

/// A place to which the writer can return as long as nothing was cut since.
#[derive(Debug)]
pub(super) struct Mark {
    cuts: usize,
    gathered: Gathered,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) uncompressed_size: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) seams: Seams,
    pub(super) reused: u64,
}

impl<'t, W: Output> ArchiveWriter<'t, W> {
    pub(super) fn new(
        out: W,
        options: &Options,
        sources: Sources<'t>,
    ) -> Result<Self, ArchiveError> {
        let mut out = Hashed::new(out);
        out.write(&GZIP_HEADER).map_err(failed)?;
        let level = options.level;
        let deflating = Ordered::new(options.workers, move |job| deflate(level, job));
        Ok(Self {
            out,
            sources,
            format: options.format(),
            gathering: Gathering::default(),
            content: 0,
            content_start: 0,
            deflating: deflating.map_err(ArchiveError::Thread)?,
            pending: VecDeque::new(),
            spare: Vec::new(),
            ledger: Ledger::default(),
            is_prefix: true,
            reused: 0,
        })
    }

    /// Begins an entry.
    pub(super) fn begin(&mut self, member: &Member<'_>) {
        self.gathering.begin(member);
        self.content = 0;
        self.content_start = 0;
    }

    /// Lets content be appended to the entry, whose digest is told by [`Self::name`] when it is complete.
    pub(super) fn append<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.content += self.gathering.read(read)?;
        Ok(())
    }

    /// Tells the digest of the content that was appended.
    pub(super) fn name(&mut self, digest: Digest) {
        self.ledger.name(digest);
        self.gathering.name(digest, self.content_start);
    }

    /// Appends the next bytes of a known file, which are read only if they are needed.
    pub(super) fn put_off(&mut self, file: Known<'t>, length: usize) {
        self.gathering.put_off(file, self.content, length);
        self.content += length as u64;
    }

    /// Ends the entry, and the segment if the rules for cuts say so.
    pub(super) fn end(&mut self, path: &EntryPath) -> Result<(), ArchiveError> {
        self.gathering.pad(self.content);
        if cut::ends_behind(path, self.gathering.len()) {
            self.cut()
        } else {
            Ok(())
        }
    }

    /// Ends the segment here.
    pub(super) fn cut(&mut self) -> Result<(), ArchiveError> {
        let made = self.gathering.made_of();
        let key = self.ledger.cut(made, self.content_start);
        self.content_start = self.content;
        let previous = self.sources.previous;
        let found = previous.and_then(|previous| previous.find(&self.format, key.as_ref()?));
        match found {
            Some(found) => self.reuse(found),
            None => self.deflate()?,
        }
        self.write_what_is_ready()
    }

    /// Where the writer is now.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            cuts: self.ledger.cuts(),
            gathered: self.gathering.mark(),
        }
    }

    /// Forgets what came behind a mark, if that was not handed over yet; says whether it did.
    pub(super) fn return_to(&mut self, mark: Mark) -> bool {
        let possible = mark.cuts == self.ledger.cuts();
        if possible {
            self.gathering.return_to(mark.gathered);
        }
        possible
    }

    /// Ends the tar and the archive.
    pub(super) fn finish(mut self) -> Result<Written, ArchiveError> {
        self.gathering.append_end();
        self.cut()?;
        while let Some(oldest) = self.pending.pop_front() {
            self.write(oldest)?;
        }
        let mut states = std::mem::take(&mut self.out.states);
        states.push(self.out.hasher.clone());
        self.out.write(&FINAL_BLOCK).map_err(failed)?;
        self.out.write(&self.ledger.trailer()).map_err(failed)?;
        self.out.inner.flush().map_err(failed)?;
        Ok(Written {
            seams: Seams {
                recipe: self.ledger.recipe(),
                states,
            },
            digest: self.out.hasher.finish(),
            size: self.out.count,
            uncompressed_size: self.ledger.raw_size,
            segments: self.ledger.segments,
            reused: self.reused,
        })
    }

    fn reuse(&mut self, found: Found) {
        let gathering = std::mem::take(&mut self.gathering);
        self.gathering = Gathering::within(gathering.into_spare());
        self.pending.push_back(Pending::Reused(found));
    }

    fn deflate(&mut self) -> Result<(), ArchiveError> {
        while self.deflating.is_full() {
            let oldest = self.pending.pop_front();
            self.write(oldest.expect("what is being compressed is pending"))?;
        }
        let Job { raw, out } = self.spare.pop().unwrap_or_default();
        let gathering = std::mem::replace(&mut self.gathering, Gathering::within(raw));
        let raw = gathering.into_raw(self.sources.root)?;
        self.deflating.give(Job { raw, out });
        self.pending.push_back(Pending::Deflating);
        Ok(())
    }

    /// Writes what need not be waited for.
    fn write_what_is_ready(&mut self) -> Result<(), ArchiveError> {
        while let Some(&oldest @ Pending::Reused(_)) = self.pending.front() {
            self.pending.pop_front();
            self.write(oldest)?;
        }
        Ok(())
    }

    /// Writes the oldest segment; waits for it if it is being compressed.
    fn write(&mut self, oldest: Pending) -> Result<(), ArchiveError> {
        self.out.states.push(self.out.hasher.clone());
        match oldest {
            Pending::Deflating => self.write_deflated(),
            Pending::Reused(found) => self.write_reused(&found),
        }
    }

    fn write_deflated(&mut self) -> Result<(), ArchiveError> {
        let deflated = self.deflating.take().expect("it was given");
        let Deflated {
            mut raw,
            bytes,
            digest,
            crc,
        } = deflated;
        self.is_prefix = false;
        let segment = Segment {
            offset: self.out.count,
            length: bytes.len() as u64,
            raw_length: raw.len() as u64,
            digest,
        };
        self.out.write(&bytes).map_err(failed)?;
        self.ledger.write(segment, crc);
        raw.clear();
        self.spare.push(Job { raw, out: bytes });
        Ok(())
    }

    fn write_reused(&mut self, found: &Found) -> Result<(), ArchiveError> {
        let previous = self.sources.previous.expect("it was found there");
        let segment = Segment {
            offset: self.out.count,
            ..found.segment
        };
        self.is_prefix &= found.index == self.ledger.segments.len();
        let state = previous.state_behind(found).filter(|_| self.is_prefix);
        match state {
            Some(state) => self.out.append(previous, found, state),
            None => self.out.copy(previous, found),
        }
        .map_err(failed)?;
        self.reused += 1;
        self.ledger.write(segment, found.crc);
        Ok(())
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
    use std::num::NonZeroUsize;
    use std::path::Path;

    use super::super::recipe::Recipe;
    use super::*;
    use crate::entry::{EntryKind, Mode, Modes};

    const OPTIONS: Options = Options {
        level: 6,
        modes: Modes::Normal,
        mtime: None,
        workers: NonZeroUsize::MIN,
    };

    fn sources(root: &Root) -> Sources<'_> {
        Sources {
            root,
            previous: None,
        }
    }

    /// An archive of one file, begun this often with other content before, and its recipe.
    fn archive(torn: usize) -> (Vec<u8>, Recipe) {
        let path = EntryPath::new(b"file").unwrap();
        let member = Member::File {
            path: &path,
            mode: Mode::new(EntryKind::File, 0, Modes::Normal),
            mtime: 0,
            size: 4,
        };
        let mut out = Vec::new();
        let root = Root::open(Path::new("/")).unwrap();
        let mut writer = ArchiveWriter::new(&mut out, &OPTIONS, sources(&root)).unwrap();
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
            assert!(writer.return_to(mark));
        }
        writer.begin(&member);
        writer.append(append(b"full")).unwrap();
        writer.name(Digest::of(b"full"));
        writer.end(&path).unwrap();
        let recipe = writer.finish().unwrap().seams.recipe;
        (out, recipe)
    }

    #[test]
    fn what_was_taken_back_does_not_show() {
        assert!(archive(2) == archive(0));
    }

    #[test]
    fn what_was_handed_over_cannot_be_taken_back() {
        let root = Root::open(Path::new("/")).unwrap();
        let mut writer = ArchiveWriter::new(Vec::new(), &OPTIONS, sources(&root)).unwrap();
        let mark = writer.mark();
        writer.gathering.append_end();
        writer.cut().unwrap();
        assert!(!writer.return_to(mark));
    }
}
