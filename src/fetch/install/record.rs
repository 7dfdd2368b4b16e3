//! What the target remembers: the listing of the tree it holds, and how directories are to be left.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use crate::digest::Digest;
use crate::entry::{EntryKind, EntryPath, Mode, Modes, Timestamp};
use crate::listing::{Line, ListingWriter};
use crate::unpack::Directory;

/// What a line of a listing tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) kind: EntryKind,
    pub(super) mode: Mode,
    /// `None` for a directory, and where it is not known.
    pub(super) digest: Option<Digest>,
    pub(super) path: EntryPath,
}

/// The lines of a listing in their order. A line that is none ends it: the record is ours, and what cannot be read of it
/// is as good as not recorded.
pub(super) fn lines(listing: impl BufRead) -> impl Iterator<Item = Recorded> {
    listing
        .split(b'\n')
        .map_while(|line| line.ok().and_then(|line| recorded(&line)))
}

/// The entries of a listing in their order, as far as it can be read.
pub(super) fn entries(listing: impl BufRead) -> impl Iterator<Item = (EntryPath, EntryKind)> {
    lines(listing).map(|line| (line.path, line.kind))
}

fn recorded(line: &[u8]) -> Option<Recorded> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let kind = match fields.next()? {
        b"d" => EntryKind::Directory,
        b"f" => EntryKind::File,
        b"l" => EntryKind::Symlink,
        _ => return None,
    };
    let bits = u32::from_str_radix(str::from_utf8(fields.next()?).ok()?, 8).ok()?;
    let digest = match fields.next()? {
        b"-" => None,
        hex => Some(Digest::from_hex(str::from_utf8(hex).ok()?)?),
    };
    let path = fields.next()?.strip_prefix(b" ")?;
    let path = if escaped {
        EntryPath::new(&unescape(path)?)?
    } else {
        EntryPath::new(path)?
    };
    let mode = Mode::new(kind, bits, Modes::Keep);
    Some(Recorded {
        kind,
        mode,
        digest,
        path,
    })
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut path = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(path)
}

/// Writes entries down, as [`entries`] reads them; digests and modes are not known.
pub(super) fn write_entries(
    recorded: &BTreeSet<(EntryPath, EntryKind)>,
    out: impl Write,
) -> io::Result<()> {
    let mut listing = ListingWriter::new(out);
    for (path, kind) in recorded {
        listing.add(&Line {
            kind: *kind,
            mode: Mode::new(*kind, 0, Modes::Normal),
            digest: None,
            path,
        })?;
    }
    let (_, _, mut out) = listing.finish();
    out.flush()
}

/// Writes directories down: a `k` if it is kept and else an `m`, mode, time and path, and a NUL behind each.
pub(super) fn write_directories(directories: &[Directory], mut out: impl Write) -> io::Result<()> {
    for directory in directories {
        let Directory {
            path, mode, mtime, ..
        } = directory;
        let sign = if directory.is_kept { 'k' } else { 'm' };
        let seconds = mtime.map_or_else(|| "-".into(), |mtime| mtime.seconds.to_string());
        write!(out, "{sign} {mode:o} {seconds} ")?;
        out.write_all(path.as_bytes())?;
        out.write_all(b"\0")?;
    }
    out.flush()
}

/// Reads directories back; `None` where somebody else wrote the record.
pub(super) fn read_directories(record: &[u8]) -> Option<Vec<Directory>> {
    let record = match record {
        [] => return Some(Vec::new()),
        [lines @ .., 0] => lines,
        _ => return None,
    };
    record.split(|&byte| byte == 0).map(directory).collect()
}

fn directory(line: &[u8]) -> Option<Directory> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let is_kept = text()? == "k";
    let mode = u32::from_str_radix(text()?, 8).ok()?;
    let mtime = match text()? {
        "-" => None,
        seconds => Some(Timestamp {
            seconds: seconds.parse().ok()?,
            nanoseconds: 0,
        }),
    };
    let path = EntryPath::new(fields.next()?)?;
    Some(Directory {
        path,
        mode,
        mtime,
        is_kept,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_as_it_was_written() {
        let expected = [
            (&b"a"[..], EntryKind::Directory),
            (b"a/b  c", EntryKind::File),
            (b"a\\n\r\n", EntryKind::Symlink),
            (b"\xff", EntryKind::File),
        ]
        .map(|(path, kind)| (EntryPath::new(path).unwrap(), kind));
        let mut listing = ListingWriter::new(Vec::new());
        for (path, kind) in &expected {
            let line = Line {
                kind: *kind,
                mode: Mode::new(*kind, 0o755, Modes::Normal),
                digest: (*kind != EntryKind::Directory).then(|| Digest::of(b"")),
                path,
            };
            listing.add(&line).unwrap();
        }
        let (_, _, text) = listing.finish();
        assert_eq!(entries(&*text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_listing_that_is_none_has_no_entries() {
        for text in [
            "",
            "\n",
            "x 0644 -  a\n",
            "f\n",
            "f 0644 -  ../a\n",
            "\\d 0755 -  a\\x\n",
        ] {
            assert_eq!(entries(text.as_bytes()).count(), 0, "{text}");
        }
    }

    #[test]
    fn directories_are_read_as_they_were_written() {
        let at = |seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        };
        let directories = [
            (&b"a b"[..], 0o755, Some(at(7)), false),
            (b"a b/\n\xff", 0o500, None, true),
        ]
        .map(|(path, mode, mtime, is_kept)| Directory {
            path: EntryPath::new(path).unwrap(),
            mode,
            mtime,
            is_kept,
        });
        let mut record = Vec::new();
        write_directories(&directories, &mut record).unwrap();
        assert_eq!(read_directories(&record).unwrap(), directories);
        assert_eq!(read_directories(b"").unwrap(), []);
        assert_eq!(read_directories(&record[..record.len() - 1]), None);
    }
}
