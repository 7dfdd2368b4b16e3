//! What the target remembers of the archive that it holds: which segments it had, which entries begin in each, and how each
//! entry was left. Enough to know what need not come again, and not to read a file for it.
//!
//! Three files have it, all in the order of the paths, which is that of the archive: the listing, the
//! [`segments`](super::segments) and the [`stamps`](super::stamps). What is left of them after a crash, and what was written
//! for another tree, is as good as not there.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::iter::Peekable;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::vec;

use super::record::{self, Recorded};
use super::segments;
use super::stamps::{Line, Reader, whole};
use crate::digest::Revision;
use crate::entry::{EntryKind, EntryPath};
use crate::fetch::plan::HeldSegment;
use crate::ordered::Ordered;
use crate::root::{Near, Root};
use crate::unpack::{self, Keeping};

/// As many entries are looked at by one thread: more than lie in most directories, whose handles are used for all of them.
const BATCH: usize = 256;

/// The archive that a target holds.
#[derive(Debug)]
pub(in crate::fetch) struct Held {
    /// Of its content.
    pub(in crate::fetch) revision: Revision,
    /// In their order; each knows whether its entries are as they were left.
    pub(in crate::fetch) segments: Vec<HeldSegment>,
    /// Whether all entries are as they were left.
    pub(in crate::fetch) is_intact: bool,
    /// How many there are.
    pub(in crate::fetch) entries: u64,
    /// Files alone.
    pub(in crate::fetch) files: u64,
    /// Where they lie.
    pub(in crate::fetch) root: Arc<Root>,
    /// How they come into the next tree.
    pub(in crate::fetch) keeping: Keeping,
    /// The files of which segments are pieces, each behind the segment's index.
    pieces: Vec<(usize, EntryPath)>,
    listing: File,
    stamps: File,
}

impl Held {
    /// Reads what is recorded, and looks at every entry; `None` where nothing is recorded that is of use.
    pub(super) fn read(
        [listing, segments, stamps]: [File; 3],
        root: Arc<Root>,
        keeping: Keeping,
        workers: NonZeroUsize,
    ) -> Option<Self> {
        let (revision, segments) = segments::read(BufReader::new(segments))?;
        let mut held = Self {
            revision,
            segments,
            is_intact: true,
            entries: 0,
            files: 0,
            root,
            keeping,
            pieces: Vec::new(),
            listing,
            stamps,
        };
        held.look(workers)?;
        Some(held)
    }

    /// Whether this very content is in its place.
    pub(in crate::fetch) fn holds(&self, revision: Revision) -> bool {
        self.is_intact && self.revision == revision
    }

    /// The entries, from the first one on. There is one such at a time: a second one takes the place of the first.
    pub(in crate::fetch) fn cursor(&self) -> Option<Cursor> {
        let from_start = |file: &File| {
            let mut file = file.try_clone()?;
            file.rewind()?;
            io::Result::Ok(BufReader::new(file))
        };
        let stamps = Reader::new(from_start(&self.stamps).ok()?, self.revision)?;
        let listing = record::lines(from_start(&self.listing).ok()?);
        let entries = listing
            .zip(stamps)
            .map(|(recorded, line)| HeldEntry { recorded, line });
        let entries: Entries = Box::new(entries);
        Some(Cursor {
            entries: entries.peekable(),
            position: 0,
        })
    }

    /// Opens the file of which a segment is a piece, and tells where it begins there.
    pub(in crate::fetch) fn open_piece(&self, segment: usize) -> io::Result<(File, u64)> {
        let piece = self.pieces.iter().find(|(index, _)| *index == segment);
        let within = self.segments.get(segment).and_then(|found| found.within);
        let (Some((_, path)), Some(within)) = (piece, within) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok((self.root.open_file(path)?, within.offset))
    }

    /// Compares every entry with what it was.
    fn look(&mut self, workers: NonZeroUsize) -> Option<()> {
        let mut looked = Looked::new(self.cursor()?, &self.root, workers)?;
        let mut last: Option<(EntryPath, bool)> = None;
        for (index, segment) in self.segments.iter_mut().enumerate() {
            if let (Some(within), Some((path, is_intact))) = (&mut segment.within, &last) {
                within.is_intact = *is_intact;
                self.pieces.push((index, path.clone()));
            }
            for _ in 0..segment.entries {
                let (entry, is_intact) = looked.next()?;
                segment.is_intact &= is_intact;
                self.entries += 1;
                self.files += u64::from(entry.recorded.kind == EntryKind::File);
                last = Some((entry.recorded.path, is_intact));
            }
            self.is_intact &= segment.is_intact;
        }
        looked.next().is_none().then_some(())
    }
}

/// Entries and whether they are as they were left, which several threads look at.
struct Looked {
    cursor: Cursor,
    looking: Ordered<Vec<HeldEntry>, Vec<(HeldEntry, bool)>>,
    ready: vec::IntoIter<(HeldEntry, bool)>,
}

impl Looked {
    fn new(cursor: Cursor, root: &Arc<Root>, workers: NonZeroUsize) -> Option<Self> {
        let root = Arc::clone(root);
        let look = move |batch: Vec<HeldEntry>| {
            let mut near = Near::default();
            let looked = batch.into_iter().map(|entry| {
                let is_intact = entry.is_intact(&root, &mut near);
                (entry, is_intact)
            });
            looked.collect()
        };
        Some(Self {
            cursor,
            looking: Ordered::new(workers, look).ok()?,
            ready: Vec::new().into_iter(),
        })
    }
}

impl Iterator for Looked {
    type Item = (HeldEntry, bool);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(entry);
            }
            while !self.looking.is_full() {
                let batch: Vec<_> = self.cursor.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                self.looking.give(batch);
            }
            self.ready = self.looking.take()?.into_iter();
        }
    }
}

/// An entry of the archive that is held.
#[derive(Debug)]
pub(in crate::fetch) struct HeldEntry {
    recorded: Recorded,
    line: Line,
}

impl HeldEntry {
    /// Whether it lies there as it was left.
    pub(in crate::fetch) fn is_intact(&self, root: &Root, near: &mut Near) -> bool {
        self.line.is_intact(&self.recorded, root, near)
    }

    /// How it is left where it is kept: in its place nothing changes, and a second name gives it another stamp.
    pub(in crate::fetch) fn left(&self, keeping: &Keeping) -> Line {
        match (self.line, keeping) {
            (Line::Stamped(stamp), Keeping::Linked(_)) => Line::Expected {
                size: stamp.size,
                mtime: stamp.mtime.seconds,
            },
            (line, _) => line,
        }
    }

    /// What is told of it to the one who unpacks.
    pub(in crate::fetch) fn into_kept(self) -> (EntryPath, unpack::Held) {
        let Recorded {
            kind,
            mode,
            digest,
            path,
        } = self.recorded;
        let (size, mtime, masked) = match self.line {
            Line::Directory { masked, mtime } => (0, mtime, masked),
            Line::Stamped(stamp) => (stamp.size, Some(stamp.mtime.seconds), 0),
            Line::Expected { .. } | Line::Unknown => (0, None, 0),
        };
        let held = unpack::Held {
            kind,
            mode,
            digest,
            size,
            mtime: mtime.map(whole),
            masked,
        };
        (path, held)
    }
}

type Entries = Box<dyn Iterator<Item = HeldEntry> + Send>;

/// Goes through the entries that are held, forwards alone.
pub(in crate::fetch) struct Cursor {
    entries: Peekable<Entries>,
    /// How many are behind it.
    position: u64,
}

impl Cursor {
    /// The entry of this path, if there is one and it was not passed yet.
    pub(in crate::fetch) fn find(&mut self, path: &EntryPath) -> Option<HeldEntry> {
        while self.entries.peek()?.recorded.path < *path {
            self.next();
        }
        self.entries
            .peek()
            .filter(|next| next.recorded.path == *path)?;
        self.next()
    }

    /// The entry behind so many others, if it was not passed yet.
    pub(in crate::fetch) fn at(&mut self, position: u64) -> Option<HeldEntry> {
        while self.position < position {
            self.next()?;
        }
        if self.position == position {
            self.next()
        } else {
            None
        }
    }
}

impl Iterator for Cursor {
    type Item = HeldEntry;

    fn next(&mut self) -> Option<HeldEntry> {
        let entry = self.entries.next()?;
        self.position += 1;
        Some(entry)
    }
}
