//! The tar headers of an entry.

use tar::{EntryType, Header};

use crate::entry::{EntryPath, Mode};

/// The latest time that fits into a header in octal digits.
pub(super) const LATEST: u64 = (1 << 33) - 1;
/// The length of a tar block: headers have it, contents are padded to it.
pub(super) const BLOCK: usize = 512;
/// The longest name that fits into a header.
const LONGEST_NAME: usize = 100;

/// An entry as its headers tell it. Times are seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member<'a> {
    Directory {
        path: &'a EntryPath,
        mode: Mode,
        mtime: u64,
    },
    File {
        path: &'a EntryPath,
        mode: Mode,
        mtime: u64,
        size: u64,
    },
    Symlink {
        path: &'a EntryPath,
        target: &'a [u8],
        mode: Mode,
        mtime: u64,
    },
}

/// Appends the headers of an entry, the records for long names first.
pub(super) fn append(member: &Member<'_>, raw: &mut Vec<u8>) {
    let (path, mode, mtime, size, kind) = match *member {
        Member::Directory { path, mode, mtime } => (path, mode, mtime, 0, EntryType::Directory),
        Member::File {
            path,
            mode,
            mtime,
            size,
        } => (path, mode, mtime, size, EntryType::Regular),
        Member::Symlink {
            path, mode, mtime, ..
        } => (path, mode, mtime, 0, EntryType::Symlink),
    };
    let mut name = [b"./", path.as_bytes()].concat();
    if kind == EntryType::Directory {
        name.push(b'/');
    }
    let target = if let Member::Symlink { target, .. } = *member {
        target
    } else {
        b""
    };

    append_if_long(target, EntryType::GNULongLink, raw);
    append_if_long(&name, EntryType::GNULongName, raw);
    let mut header = header(kind, mode.bits(), mtime, size);
    put(&mut header.as_old_mut().name, &name);
    put(&mut header.as_old_mut().linkname, target);
    header.set_cksum();
    raw.extend_from_slice(header.as_bytes());
}

/// Fills up a block that content began.
pub(super) fn pad(raw: &mut Vec<u8>, content: u64) {
    let over = usize::try_from(content % BLOCK as u64).expect("a block is small");
    if over > 0 {
        raw.resize(raw.len() + BLOCK - over, 0);
    }
}

/// Appends what ends a tar.
pub(super) fn append_end(raw: &mut Vec<u8>) {
    raw.resize(raw.len() + 2 * BLOCK, 0);
}

/// The record that carries a name too long for a header, a NUL behind it.
fn append_if_long(name: &[u8], kind: EntryType, raw: &mut Vec<u8>) {
    if name.len() <= LONGEST_NAME {
        return;
    }
    let size = name.len() as u64 + 1;
    let mut header = header(kind, 0o644, 0, size);
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_cksum();
    raw.extend_from_slice(header.as_bytes());
    raw.extend_from_slice(name);
    raw.push(0);
    pad(raw, size);
}

fn header(kind: EntryType, mode: u32, mtime: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_size(size);
    header
}

/// Puts as much of a name into a field as fits; where that is not all, a record before it has the whole.
fn put(field: &mut [u8; LONGEST_NAME], name: &[u8]) {
    let length = name.len().min(LONGEST_NAME);
    field[..length].copy_from_slice(&name[..length]);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tar::Archive;

    use super::*;
    use crate::entry::{EntryKind, Modes};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn mode(kind: EntryKind) -> Mode {
        Mode::new(kind, 0o600, Modes::Normal)
    }

    /// Writes one entry's headers and has the `tar` crate read them back.
    fn check(member: &Member<'_>, expected: (&str, &str, u64, u64)) {
        let mut raw = Vec::new();
        append(member, &mut raw);
        assert_eq!(raw.len() % BLOCK, 0);
        append_end(&mut raw);
        let mut archive = Archive::new(&raw[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let target = entry.link_name_bytes().unwrap_or_default();
        let header = entry.header();
        let found = (
            text(&entry.path_bytes()),
            text(&target),
            header.mtime().unwrap(),
            entry.size(),
        );
        assert_eq!((&*found.0, &*found.1, found.2, found.3), expected);
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(
            (header.username_bytes(), header.groupname_bytes()),
            (Some(&b""[..]), Some(&b""[..]))
        );
    }

    #[test]
    fn names_stand_under_the_root() {
        let (file, directory, link) = (path("a/b"), path("a"), path("l"));
        let member = Member::File {
            path: &file,
            mode: mode(EntryKind::File),
            mtime: 7,
            size: 0,
        };
        check(&member, ("./a/b", "", 7, 0));
        let member = Member::Directory {
            path: &directory,
            mode: mode(EntryKind::Directory),
            mtime: 0,
        };
        check(&member, ("./a/", "", 0, 0));
        let mode = mode(EntryKind::Symlink);
        let member = Member::Symlink {
            path: &link,
            target: b"../x",
            mode,
            mtime: LATEST,
        };
        check(&member, ("./l", "../x", LATEST, 0));
    }

    #[test]
    fn names_and_targets_of_any_length_come_back() {
        for length in [97, 98, 99, 100, 101, 255, 256, 510, 511, 512, 513, 4000] {
            let name = ["0123456789", &"x".repeat(length - 10)].concat();
            let path = path(&name);
            let target = name.repeat(2);
            let mode = mode(EntryKind::Symlink);
            let member = Member::Symlink {
                path: &path,
                target: target.as_bytes(),
                mode,
                mtime: 1,
            };
            check(&member, (&format!("./{name}"), &target, 1, 0));
        }
    }

    #[test]
    fn files_beyond_8_gib_have_their_size_in_the_header() {
        let path = path("big");
        for size in [(8 << 30) - 1, 8 << 30, 1 << 43] {
            let member = Member::File {
                path: &path,
                mode: mode(EntryKind::File),
                mtime: 0,
                size,
            };
            let mut raw = Vec::new();
            append(&member, &mut raw);
            let mut archive = Archive::new((&raw[..]).chain(std::io::repeat(0)));
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.size(), size);
        }
    }

    #[test]
    fn content_is_padded_to_whole_blocks() {
        for (content, padding) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            let mut raw = Vec::new();
            pad(&mut raw, content);
            assert_eq!(raw.len(), padding);
        }
    }
}
