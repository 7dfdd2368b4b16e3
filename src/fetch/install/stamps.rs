//! How each entry of a tree was left, written down in the order of its listing.
//!
//! The boot and the revision, then a line an entry:
//!
//! ```text
//! d <mode after the umask> <time, or ->                    a directory
//! w <size> <time>                                          to be stamped when it is in its place, if it is this then
//! s <size> <mtime> <ns> <ctime> <ns> <inode>               stamped in its place
//! -                                                        something else by then
//! ```

use std::io::{self, BufRead, Lines, Write};

use super::record::Recorded;
use crate::digest::Revision;
use crate::entry::{Stamp, Timestamp};
use crate::root::{Kind, Near, Root, boot_id};

/// How an entry was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fetch) enum Line {
    /// A directory.
    Directory {
        /// Its permission bits after the umask.
        masked: u32,
        /// In seconds, as its archive has it.
        mtime: Option<i64>,
    },
    /// A file or a link that is not in its place yet.
    Expected {
        /// In bytes.
        size: u64,
        /// In seconds.
        mtime: i64,
    },
    /// A file or a link in its place.
    Stamped(Stamp),
    /// It was something else when it should have been stamped.
    Unknown,
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Reader<R>(Lines<R>);

impl<R: BufRead> Reader<R> {
    /// `None` unless these are of this boot and of this revision. Stamps prove nothing after a crash.
    pub(super) fn new(text: R, revision: Revision) -> Option<Self> {
        let mut lines = text.lines();
        let is_of_this_boot = lines.next()?.ok()? == boot_id();
        let is_of_this_tree = lines.next()?.ok()? == revision.to_string();
        (is_of_this_boot && is_of_this_tree).then_some(Self(lines))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        Line::parse(&self.0.next()?.ok()?)
    }
}

/// Writes what stands before the lines.
pub(in crate::fetch) fn begin(revision: Revision, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}\n{revision}", boot_id())
}

/// Writes the lines of a tree whose entries are in their places now: stamps those that are as they are expected to be.
pub(super) fn complete(
    entries: impl Iterator<Item = (Recorded, Line)>,
    root: &Root,
    mut out: impl Write,
) -> io::Result<()> {
    let mut near = Near::default();
    for (recorded, line) in entries {
        stamped(&recorded, line, root, &mut near).write(&mut out)?;
    }
    out.flush()
}

fn stamped(recorded: &Recorded, line: Line, root: &Root, near: &mut Near) -> Line {
    let Line::Expected { size, mtime } = line else {
        return line;
    };
    match root.status_near(near, &recorded.path) {
        Ok(found)
            if found.kind == Kind::Entry(recorded.kind)
                && found.stamp.size == size
                && found.stamp.mtime == whole(mtime) =>
        {
            Line::Stamped(found.stamp)
        }
        _ => Line::Unknown,
    }
}

/// Archives have whole seconds.
pub(super) fn whole(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 0,
    }
}

impl Line {
    /// Whether an entry is as it was left, by the status of its name.
    pub(super) fn is_intact(&self, recorded: &Recorded, root: &Root, near: &mut Near) -> bool {
        let found = root.status_near(near, &recorded.path);
        found.is_ok_and(|found| {
            found.kind == Kind::Entry(recorded.kind)
                && match self {
                    Self::Directory { masked, .. } => found.mode & 0o777 == *masked,
                    Self::Stamped(stamp) => found.stamp == *stamp,
                    Self::Expected { .. } | Self::Unknown => false,
                }
        })
    }

    /// Writes it down.
    pub(in crate::fetch) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Directory {
                masked,
                mtime: Some(mtime),
            } => writeln!(out, "d {masked:o} {mtime}"),
            Self::Directory { masked, .. } => writeln!(out, "d {masked:o} -"),
            Self::Expected { size, mtime } => writeln!(out, "w {size} {mtime}"),
            Self::Stamped(Stamp {
                size,
                mtime,
                ctime,
                inode,
            }) => writeln!(
                out,
                "s {size} {} {} {} {} {inode}",
                mtime.seconds, mtime.nanoseconds, ctime.seconds, ctime.nanoseconds
            ),
            Self::Unknown => writeln!(out, "-"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let sign = fields.next()?;
        let mut number = || fields.next()?.parse::<i64>().ok();
        Some(match sign {
            "d" => Self::Directory {
                masked: u32::from_str_radix(fields.next()?, 8).ok()?,
                mtime: match fields.next()? {
                    "-" => None,
                    seconds => Some(seconds.parse().ok()?),
                },
            },
            "w" => Self::Expected {
                size: number()?.try_into().ok()?,
                mtime: number()?,
            },
            "s" => Self::Stamped(Stamp {
                size: number()?.try_into().ok()?,
                mtime: Timestamp {
                    seconds: number()?,
                    nanoseconds: number()?.try_into().ok()?,
                },
                ctime: Timestamp {
                    seconds: number()?,
                    nanoseconds: number()?.try_into().ok()?,
                },
                inode: fields.next()?.parse().ok()?,
            }),
            "-" => Self::Unknown,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let time = |seconds, nanoseconds| Timestamp {
            seconds,
            nanoseconds,
        };
        let lines = [
            Line::Directory {
                masked: 0o750,
                mtime: Some(7),
            },
            Line::Directory {
                masked: 0o755,
                mtime: None,
            },
            Line::Expected { size: 9, mtime: 8 },
            Line::Stamped(Stamp {
                size: 1,
                mtime: time(-2, 3),
                ctime: time(4, 999_999_999),
                inode: u64::MAX,
            }),
            Line::Unknown,
        ];
        let revision = Revision::of_listing(Digest::of(b""));
        let mut text = Vec::new();
        begin(revision, &mut text).unwrap();
        for line in &lines {
            line.write(&mut text).unwrap();
        }
        let read = Reader::new(&*text, revision).unwrap();
        assert_eq!(read.collect::<Vec<_>>(), lines);
    }

    #[test]
    fn only_what_is_as_it_was_written_is_stamped() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let path = crate::entry::EntryPath::new(b"file").unwrap();
        std::fs::write(directory.path().join("file"), "abc").unwrap();
        root.set_mtime(&path, whole(7)).unwrap();
        let check = |size, mtime, expected| {
            let kind = crate::entry::EntryKind::File;
            let recorded = Recorded {
                kind,
                mode: crate::entry::Mode::new(kind, 0o644, crate::entry::Modes::Keep),
                digest: None,
                path: path.clone(),
            };
            let line = Line::Expected { size, mtime };
            let line = stamped(&recorded, line, &root, &mut Near::default());
            assert_eq!(matches!(line, Line::Stamped(_)), expected, "{size} {mtime}");
        };
        check(3, 7, true);
        check(4, 7, false);
        check(3, 8, false);
    }

    #[test]
    fn lines_of_another_boot_or_tree_count_for_nothing() {
        let revision = Revision::of_listing(Digest::of(b""));
        let other = Revision::of_listing(Digest::of(b"other"));
        let text = format!("{}\n{revision}\n-\n", boot_id());
        assert!(Reader::new(text.as_bytes(), revision).is_some());
        assert!(Reader::new(text.as_bytes(), other).is_none());
        let text = format!("another boot\n{revision}\n-\n");
        assert!(Reader::new(text.as_bytes(), revision).is_none());
        assert!(Reader::new(&b""[..], revision).is_none());
    }

    #[test]
    fn a_line_that_is_none_ends_them() {
        for text in [
            "",
            "x",
            "d",
            "d 9 -",
            "w 1",
            "s 1 2 3 4 5",
            "s -1 2 3 4 5 6",
        ] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
