//! The listing: the canonical text of a snapshot, and so the definition of a revision.
//!
//! One line an entry, in the order of [`EntryPath`]:
//!
//! ```text
//! <kind> <mode> <digest>  <path>
//! d 0755 -  src
//! f 0644 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae  src/main.py
//! l 0777 486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7  current
//! ```
//!
//! kind is `d`, `f` or `l`; mode is four octal digits; digest is the SHA-256 of a file's content or of a link's target, in
//! hexadecimal, and `-` for a directory. The root has no line. A path with a backslash, a newline or a carriage return is
//! written as `sha256sum` writes it: `\\`, `\n`, `\r`, and a backslash before the line; all other bytes pass through.
//! Owners and times are no part.
//!
//! `sha256sum` of this text is the [`Revision`], so anybody can check one with standard tools, and `diff` two listings to
//! see what a deploy changes.

use std::io::{self, Write};

use crate::digest::{Digest, HashingWriter, Revision};
use crate::entry::{EntryKind, EntryPath, Mode};

/// Writes a listing line by line and computes its revision on the way.
#[derive(Debug)]
pub struct ListingWriter<W: Write> {
    out: HashingWriter<W>,
}

/// One entry as its line tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits as they travel.
    pub mode: Mode,
    /// Of the content or the link's target; `None` for a directory.
    pub digest: Option<Digest>,
    /// Where it lies.
    pub path: &'a EntryPath,
}

impl<W: Write> ListingWriter<W> {
    /// Begins an empty listing.
    pub fn new(out: W) -> Self {
        Self {
            out: HashingWriter::new(out),
        }
    }

    /// Adds a line. Lines must come in the order of their paths; nobody sorts them later.
    pub fn add(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.out.write_all(&encode(line))
    }

    /// The revision, the listing's length in bytes, and the writer below, not flushed.
    pub fn finish(self) -> (Revision, u64, W) {
        let (out, digest, length) = self.out.finish();
        (Revision::of_listing(digest), length, out)
    }
}

fn encode(line: &Line<'_>) -> Vec<u8> {
    let path = line.path.as_bytes();
    let mut text = Vec::with_capacity(path.len() + 80);
    let escaped = path
        .iter()
        .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if escaped {
        text.push(b'\\');
    }
    let kind = match line.kind {
        EntryKind::Directory => 'd',
        EntryKind::File => 'f',
        EntryKind::Symlink => 'l',
    };
    let digest = line
        .digest
        .map_or_else(|| "-".into(), |digest| digest.hex());
    write!(text, "{kind} {} {digest}  ", line.mode).expect("memory takes every write");
    for &byte in path {
        match byte {
            b'\\' => text.extend(b"\\\\"),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            other => text.push(other),
        }
    }
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Modes;

    fn check(kind: EntryKind, bits: u32, digest: Option<Digest>, path: &[u8], expected: &[u8]) {
        let path = EntryPath::new(path).unwrap();
        let line = Line {
            kind,
            mode: Mode::new(kind, bits, Modes::Normal),
            digest,
            path: &path,
        };
        let text = encode(&line);
        assert_eq!(text, expected, "{}", text.escape_ascii());
    }

    #[test]
    fn each_kind_has_its_line() {
        let foo = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let file = format!("f 0644 {foo}  src/main.py\n");
        let link = format!("l 0777 {foo}  current\n");
        check(
            EntryKind::Directory,
            0o700,
            None,
            b"src",
            b"d 0755 -  src\n",
        );
        check(
            EntryKind::File,
            0o600,
            Some(Digest::of(b"foo")),
            b"src/main.py",
            file.as_bytes(),
        );
        check(
            EntryKind::Symlink,
            0o777,
            Some(Digest::of(b"foo")),
            b"current",
            link.as_bytes(),
        );
    }

    #[test]
    fn odd_paths_are_escaped_as_sha256sum_does() {
        check(
            EntryKind::Directory,
            0,
            None,
            b"a\nb",
            b"\\d 0755 -  a\\nb\n",
        );
        check(
            EntryKind::Directory,
            0,
            None,
            b"a\rb\\",
            b"\\d 0755 -  a\\rb\\\\\n",
        );
        check(
            EntryKind::Directory,
            0,
            None,
            b"\xff\t ",
            b"d 0755 -  \xff\t \n",
        );
    }

    #[test]
    fn the_revision_is_the_sha_256_of_the_text() {
        let mut listing = ListingWriter::new(Vec::new());
        for path in ["a", "b"] {
            let path = EntryPath::new(path.as_bytes()).unwrap();
            let mode = Mode::new(EntryKind::Directory, 0, Modes::Normal);
            let line = Line {
                kind: EntryKind::Directory,
                mode,
                digest: None,
                path: &path,
            };
            listing.add(&line).unwrap();
        }
        let (revision, length, text) = listing.finish();
        assert_eq!(text, b"d 0755 -  a\nd 0755 -  b\n");
        assert_eq!(length, text.len() as u64);
        assert_eq!(revision.digest(), Digest::of(&text));
    }
}
