//! Sealing: every entry of a tree goes into the archive and the listing, and no more is read for that than must be.

use std::io::{self, Write};

use super::gather::Known;
use super::header::{self, Member};
use super::writer::{ArchiveWriter, Sources};
use super::{ArchiveError, Options, Order, Output, Outputs, Sealed, cut};
use crate::entry::{EntryPath, Mode, Timestamp};
use crate::root::Root;
use crate::snapshot::cache::{StatCache, StatCacheWriter};
use crate::snapshot::{Content, ReadError, Reading, SnapshotWriter};
use crate::tree::{self, Entry, Found, LeftOut, Tree, UNREADABLE, Unreadable};

/// How often a file that is torn is read again before the whole archive is given up.
const READS: u32 = 3;

/// Reads what is not known of a tree, each file once, and writes the archive and the listing.
///
/// Holds a few segments in memory at a time, whatever the files' sizes. When it fails, what was written so far is of no use.
pub fn seal<A: Output, L: Write>(
    root: &Root,
    tree: &Tree,
    order: &Order<'_>,
    known: StatCache,
    outputs: Outputs<A, L>,
) -> Result<Sealed, ArchiveError> {
    let sources = Sources {
        root,
        previous: order.previous,
    };
    let mut sealing = Sealing {
        root,
        order,
        archive: ArchiveWriter::new(outputs.archive, &order.options, sources)?,
        snapshot: SnapshotWriter::new(outputs.listing, order.options.modes),
        known,
        learnt: outputs.cache,
        left_out: Vec::new(),
    };
    for entry in &tree.entries {
        if (order.cancelled)() {
            return Err(ArchiveError::Cancelled);
        }
        sealing.add(entry)?;
    }
    sealing.finish(tree)
}

struct Sealing<'a, A: Output, L: Write> {
    root: &'a Root,
    order: &'a Order<'a>,
    archive: ArchiveWriter<'a, A>,
    snapshot: SnapshotWriter<L>,
    known: StatCache,
    learnt: Option<StatCacheWriter>,
    left_out: Vec<LeftOut>,
}

impl<'a, A: Output, L: Write> Sealing<'a, A, L> {
    fn add(&mut self, entry: &'a Entry) -> Result<(), ArchiveError> {
        let (options, path) = (&self.order.options, &entry.path);
        let mode = Mode::new(entry.kind(), entry.mode, options.modes);
        let mtime = seconds(entry.mtime, options);
        match &entry.found {
            Found::File { stamp, .. } => {
                return match self.known.find(path, stamp) {
                    Some(digest) => self.add_known(
                        entry,
                        Known {
                            path,
                            stamp,
                            digest,
                        },
                    ),
                    None => self.add_file(entry),
                };
            }
            Found::Directory => self.archive.begin(&Member::Directory { path, mode, mtime }),
            Found::Symlink(target) => self.archive.begin(&Member::Symlink {
                path,
                target,
                mode,
                mtime,
            }),
        }
        self.snapshot.add(entry).map_err(listing_failed)?;
        self.archive.end(path)
    }

    /// Adds a file that need not be read.
    fn add_known(&mut self, entry: &'a Entry, file: Known<'a>) -> Result<(), ArchiveError> {
        let (options, path) = (&self.order.options, &entry.path);
        let size = file.stamp.size;
        self.archive.begin(&Member::File {
            path,
            mode: Mode::new(entry.kind(), entry.mode, options.modes),
            mtime: seconds(entry.mtime, options),
            size,
        });
        for piece in cut::pieces(size) {
            let length = usize::try_from(piece.length).expect("a piece fits into memory");
            self.archive.put_off(file, length);
            if !piece.is_last {
                self.archive.cut()?;
            }
        }
        let content = Content {
            digest: file.digest,
            proof: Some(*file.stamp),
        };
        self.note(path, entry.mode, content)
    }

    /// Adds a file; again from its beginning if it was torn and that is still possible.
    fn add_file(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let mut reads_left = READS;
        loop {
            reads_left -= 1;
            let mark = self.archive.mark();
            let skip_denied = self.order.unreadable == Unreadable::Skip;
            match self.try_add_file(entry) {
                Err(ArchiveError::Read(ReadError::Denied(_))) if skip_denied => {
                    let path = entry.path.clone();
                    self.left_out.push(LeftOut {
                        path,
                        rule: UNREADABLE.into(),
                        by_name: None,
                    });
                    return Ok(());
                }
                Err(ArchiveError::Read(ReadError::Changed { .. }))
                    if reads_left > 0 && self.archive.return_to(mark) => {}
                result => return result,
            }
        }
    }

    fn try_add_file(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let (options, path) = (&self.order.options, &entry.path);
        let mut file = Reading::begin(self.root, entry)?;
        let (size, mode) = (
            file.size(),
            Mode::new(entry.kind(), file.mode(), options.modes),
        );
        let mtime = seconds(file.mtime(), options);
        self.archive.begin(&Member::File {
            path,
            mode,
            mtime,
            size,
        });
        for piece in cut::pieces(size) {
            self.archive.append(|raw| file.read(piece.length, raw))?;
            if !piece.is_last {
                if (self.order.cancelled)() {
                    return Err(ArchiveError::Cancelled);
                }
                self.archive.cut()?;
            }
        }
        let mode = file.mode();
        let content = file.finish()?;
        self.archive.name(content.digest);
        self.note(path, mode, content)
    }

    /// Writes down a file whose content is in the archive, and ends it there.
    fn note(&mut self, path: &EntryPath, mode: u32, content: Content) -> Result<(), ArchiveError> {
        self.snapshot
            .add_file(path, mode, content.digest)
            .map_err(listing_failed)?;
        if let (Some(cache), Some(stamp)) = (&mut self.learnt, content.proof) {
            cache
                .add(path, &stamp, content.digest)
                .map_err(cache_failed)?;
        }
        self.archive.end(path)
    }

    fn finish(self, tree: &Tree) -> Result<Sealed, ArchiveError> {
        let (snapshot, mut listing) = self.snapshot.finish();
        listing.flush().map_err(listing_failed)?;
        if let Some(cache) = self.learnt {
            cache.finish().map_err(cache_failed)?;
        }
        let archive = self.archive.finish()?;
        let mut left_out = tree.left_out_by_rule();
        for (rule, count) in tree::count_by_rule(&self.left_out) {
            *left_out.entry(rule).or_default() += count;
        }
        Ok(Sealed {
            snapshot,
            digest: archive.digest,
            size: archive.size,
            uncompressed_size: archive.uncompressed_size,
            segments: archive.segments,
            left_out,
            seams: archive.seams,
            reused: archive.reused,
        })
    }
}

fn cache_failed(source: io::Error) -> ArchiveError {
    ArchiveError::Write {
        what: "scan cache",
        source,
    }
}

fn listing_failed(source: io::Error) -> ArchiveError {
    ArchiveError::Write {
        what: "listing",
        source,
    }
}

/// The time that an entry's header carries.
fn seconds(mtime: Timestamp, options: &Options) -> u64 {
    let seconds = options.mtime.unwrap_or(mtime.seconds);
    u64::try_from(seconds).unwrap_or(0).min(header::LATEST)
}
