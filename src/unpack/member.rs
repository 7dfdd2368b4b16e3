//! The members of a tar, one after the other, as checked values.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::Range;
use std::rc::Rc;

use tar::{Archive, Entry, EntryType};

use super::UnpackError;
use crate::entry::{EntryKind, EntryPath, Mode, Modes, Timestamp};

/// What the headers of one member may take: a name, a link's target and a few attributes have room many times over.
const LARGEST_HEADERS: u64 = 256 << 10;
/// Longer than any path a program can open by name, and a bound for what an entry costs in memory.
const LONGEST_PATH: usize = 4096;
/// What a link can point to, without the NUL that ends it.
const LONGEST_TARGET: usize = 4095;
/// The last second that a tar header's eleven octal digits can tell.
const LAST_SECOND: i64 = (1 << 33) - 1;
const BLOCK: usize = 512;

/// What the headers tell of an entry of any kind.
pub(super) struct Head {
    pub(super) path: EntryPath,
    pub(super) mode: Mode,
    pub(super) mtime: Timestamp,
}

/// Where a run of members ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the archive's end, which is marked by two blocks of zeros.
    Marked,
    /// Behind a member, where the bytes end: others follow elsewhere.
    Open,
}

/// What a member brings.
pub(super) enum Body {
    Directory,
    File { size: u64 },
    HardLink { to: EntryPath },
    Symlink { target: Box<[u8]> },
}

/// Calls a function with each member of a run and its content. The function reads all of the content, or fails; a failure
/// to read it is an [`UnpackError::Read`]. Another one is told where its content lay, in bytes from the run's beginning.
///
/// Reads to the end of the run, which must be there, and not a byte beyond.
pub(super) fn for_each(
    tar: impl Read,
    end: End,
    mut place: impl FnMut(Head, Body, &mut dyn Read) -> Result<(), UnpackError>,
    mut passed: impl FnMut(Range<u64>),
) -> Result<(), UnpackError> {
    let gauge = Rc::new(Gauge::default());
    let mut archive = Archive::new(Metered {
        inner: tar,
        gauge: Rc::clone(&gauge),
    });
    let mut entries = archive.entries().map_err(|error| gauge.explain(error))?;
    while let Some(entry) = gauge.within_headers(|| entries.next()) {
        let mut entry = entry.map_err(|error| gauge.explain(error))?;
        let Some((head, body)) = member(&mut entry)? else {
            continue;
        };
        place(head, body, &mut entry).map_err(|error| gauge.refine(error))?;
        let content = entry.raw_file_position();
        passed(content..content + entry.size());
    }
    if end == End::Open {
        return if gauge.ended.get() {
            Ok(())
        } else {
            let what = "it ends before its end";
            Err(UnpackError::Malformed(io::Error::other(what)))
        };
    }
    // The library stops at the first of two blocks of zeros, but also where the bytes just end.
    let mut block = [0; BLOCK];
    archive
        .into_inner()
        .read_exact(&mut block)
        .map_err(|error| gauge.explain(error))?;
    if block != [0; BLOCK] {
        let what = "the block of zeros at its end is alone";
        return Err(UnpackError::Malformed(io::Error::other(what)));
    }
    Ok(())
}

/// The member that an entry is; `None` for what is none: a global header, and the root itself.
fn member(entry: &mut Entry<'_, impl Read>) -> Result<Option<(Head, Body)>, UnpackError> {
    let kind = entry.header().entry_type();
    let name = entry.path_bytes();
    if kind == EntryType::XGlobalHeader || kind.is_dir() && matches!(&*name, b"." | b"./") {
        return Ok(None);
    }
    let path = path(&name, kind)?;
    let header = entry.header();
    let bits = header.mode().map_err(UnpackError::Malformed)?;
    let seconds = header.mtime().map_err(UnpackError::Malformed)?;
    let mtime = Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(0).min(LAST_SECOND),
        nanoseconds: 0,
    };
    let body = body(entry, &path)?;
    let head = Head {
        path,
        // The kind makes no difference to what is kept.
        mode: Mode::new(EntryKind::File, bits, Modes::Keep),
        mtime,
    };
    Ok(Some((head, body)))
}

/// A name as an archive may write it: behind `./`, and a directory's with a slash behind it.
fn path(name: &[u8], kind: EntryType) -> Result<EntryPath, UnpackError> {
    let bare = name.strip_prefix(b"./").unwrap_or(name);
    let bare = match bare.strip_suffix(b"/") {
        Some(bare) if kind.is_dir() => bare,
        _ => bare,
    };
    EntryPath::new(bare)
        .filter(|_| bare.len() <= LONGEST_PATH)
        .ok_or_else(|| UnpackError::Name {
            name: name[..name.len().min(LONGEST_PATH)].into(),
        })
}

fn body(entry: &mut Entry<'_, impl Read>, path: &EntryPath) -> Result<Body, UnpackError> {
    let kind = entry.header().entry_type();
    require_one_meaning(entry)?;
    let is_sparse = is_sparse(entry)?;
    let body = match kind {
        EntryType::Regular if !is_sparse => {
            return Ok(Body::File { size: entry.size() });
        }
        EntryType::Directory => Body::Directory,
        EntryType::Link => Body::HardLink {
            to: hard_link(entry, path)?,
        },
        EntryType::Symlink => Body::Symlink {
            target: target(entry, path)?,
        },
        other => {
            return Err(UnpackError::Kind {
                path: path.clone(),
                kind: name_of(other),
            });
        }
    };
    if entry.size() != 0 {
        return Err(UnpackError::Content { path: path.clone() });
    }
    Ok(body)
}

/// Fails where PAX attributes name the entry or its target in more than one way: POSIX takes the last of several, the library
/// the first, and whoever looked the archive over before may have seen the other one.
fn require_one_meaning(entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
    if entry
        .pax_extensions()
        .map_err(UnpackError::Malformed)?
        .is_none()
    {
        return Ok(());
    }
    let name = entry.path_bytes().into_owned();
    let target = entry
        .link_name_bytes()
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    let size = entry.size();
    let attributes = entry.pax_extensions().map_err(UnpackError::Malformed)?;
    for attribute in attributes.into_iter().flatten() {
        let attribute = attribute.map_err(UnpackError::Malformed)?;
        let value = attribute.value_bytes();
        let agrees = match attribute.key_bytes() {
            b"path" => value == name,
            b"linkpath" => value == target,
            b"size" => attribute
                .value()
                .is_ok_and(|value| value.parse() == Ok(size)),
            _ => true,
        };
        if !agrees {
            let what = "an entry has two names, targets or sizes";
            return Err(UnpackError::Malformed(io::Error::other(what)));
        }
    }
    Ok(())
}

/// Whether PAX attributes say that the content is a map of a sparse file and its pieces.
fn is_sparse(entry: &mut Entry<'_, impl Read>) -> Result<bool, UnpackError> {
    let attributes = entry.pax_extensions().map_err(UnpackError::Malformed)?;
    Ok(attributes
        .into_iter()
        .flatten()
        .flatten()
        .any(|attribute| attribute.key_bytes().starts_with(b"GNU.sparse.")))
}

fn hard_link(entry: &Entry<'_, impl Read>, path: &EntryPath) -> Result<EntryPath, UnpackError> {
    let target = entry.link_name_bytes().unwrap_or_default();
    self::path(&target, EntryType::Link).map_err(|_| UnpackError::HardLink {
        path: path.clone(),
        target: target.into(),
    })
}

fn target(entry: &Entry<'_, impl Read>, path: &EntryPath) -> Result<Box<[u8]>, UnpackError> {
    let target = entry.link_name_bytes().unwrap_or_default();
    let fits = (1..=LONGEST_TARGET).contains(&target.len()) && !target.contains(&0);
    if !fits {
        return Err(UnpackError::LinkTarget {
            path: path.clone(),
            length: target.len(),
        });
    }
    Ok(target.into())
}

fn name_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse | EntryType::Regular => "sparse file",
        _ => "thing of unknown kind",
    }
}

/// What passes between the library and the reader below, told apart: the library knows only its own errors' text.
#[derive(Default)]
struct Gauge {
    /// How much the library may still read for headers; `None` while content is read.
    allowance: Cell<Option<u64>>,
    ended: Cell<bool>,
    exceeded: Cell<bool>,
    failed: Cell<bool>,
}

impl Gauge {
    /// Lets the library read headers, but not without a bound: it keeps them in memory.
    fn within_headers<T>(&self, read: impl FnOnce() -> T) -> T {
        self.allowance.set(Some(LARGEST_HEADERS));
        let result = read();
        self.allowance.set(None);
        result
    }

    /// What an error of the library really is.
    fn explain(&self, error: io::Error) -> UnpackError {
        if self.failed.get() {
            UnpackError::Read(error)
        } else if self.exceeded.get() {
            UnpackError::HeaderTooLarge {
                limit: LARGEST_HEADERS,
            }
        } else if self.ended.get() {
            UnpackError::Truncated
        } else {
            UnpackError::Malformed(error)
        }
    }

    /// Takes down what a read gave; fails where it was more than is allowed.
    fn note(&self, read: &io::Result<usize>, nothing_asked: bool) -> io::Result<()> {
        match read {
            Ok(0) => self.ended.set(!nothing_asked),
            Ok(count) => {
                if let Some(allowance) = self.allowance.get() {
                    let rest = allowance.checked_sub(*count as u64);
                    self.exceeded.set(rest.is_none());
                    self.allowance.set(rest);
                    rest.ok_or(io::ErrorKind::FileTooLarge)?;
                }
            }
            Err(error) => self.failed.set(error.kind() != io::ErrorKind::Interrupted),
        }
        Ok(())
    }

    fn refine(&self, error: UnpackError) -> UnpackError {
        match error {
            UnpackError::Read(error) => self.explain(error),
            other => other,
        }
    }
}

/// A reader with its gauge.
struct Metered<R> {
    inner: R,
    gauge: Rc<Gauge>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into);
        self.gauge.note(&read, into.is_empty())?;
        read
    }
}
