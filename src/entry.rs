//! What a tree and an archive are made of, as checked values: an entry's path, kind, mode and stamp.
//!
//! A path that can leave the directory it is meant for, or a mode that can carry a set-id bit, cannot be written down in
//! these types. Everything that is shown to a person goes through [`Escaped`], so that a file's name cannot drive a terminal
//! or forge a line of a log.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// The path of an entry beneath a root: bytes, components parted by `/`.
///
/// Never empty, never absolute, no component empty, `.` or `..`, no NUL. Ordered component by component, so that all that
/// lies beneath a directory follows it at once: `a`, `a/b`, `a-b`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// Takes a path as it is; `None` where it breaks a rule above.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.split(|&byte| byte == b'/').all(is_component);
        fits.then(|| Self(bytes.into()))
    }

    /// The path of an entry of this name in this directory (`None`: the root).
    #[must_use]
    pub fn child(parent: Option<&Self>, name: &[u8]) -> Option<Self> {
        if !is_component(name) {
            return None;
        }
        let path = match parent {
            Some(parent) => [parent.as_bytes(), name].join(&b'/'),
            None => name.to_vec(),
        };
        Some(Self(path.into()))
    }

    /// The path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or(&self.0)
    }

    /// The directory that holds this entry; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// The components, from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }
}

/// Whether these bytes can name one entry of a directory.
fn is_component(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // `/` below every other byte, and the end of a path below that.
        let key = |byte: Option<&u8>| byte.map(|&byte| if byte == b'/' { 0 } else { byte });
        let common = common_prefix(&self.0, &other.0);
        key(self.0.get(common)).cmp(&key(other.0.get(common)))
    }
}

/// How many bytes two paths share at their beginning: neighbours share most of theirs, so eight are compared at once.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let eights = a.chunks_exact(8).zip(b.chunks_exact(8));
    let common = 8 * eights.take_while(|(a, b)| a == b).count();
    let rest = a[common..].iter().zip(&b[common..]);
    common + rest.take_while(|(a, b)| a == b).count()
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Shows bytes that came from outside: control characters and what is not UTF-8 are escaped, other text is left alone.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// What an entry is. Nothing else travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file; each of several hard links is one of its own.
    File,
    /// A symbolic link.
    Symlink,
}

/// How permission bits become part of the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modes {
    /// Directories 0755, files 0755 if anybody may execute them and else 0644: what a checkout, a umask or a volume's
    /// group did to the bits does not change what the code is.
    #[default]
    Normal,
    /// As found.
    Keep,
}

/// Permission bits, without set-id and sticky bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u16);

impl Mode {
    /// The mode under which an entry with these bits travels. A link's bits mean nothing and are always 0777.
    #[must_use]
    pub fn new(kind: EntryKind, bits: u32, modes: Modes) -> Self {
        Self(match (kind, modes) {
            (EntryKind::Symlink, _) => 0o777,
            (EntryKind::Directory, Modes::Normal) => 0o755,
            (EntryKind::File, Modes::Normal) if bits & 0o111 != 0 => 0o755,
            (EntryKind::File, Modes::Normal) => 0o644,
            (_, Modes::Keep) => u16::try_from(bits & 0o777).expect("nine bits fit"),
        })
    }

    /// The nine permission bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

/// Four octal digits.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A point in time as a file system keeps it: seconds and nanoseconds since 1970, either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded towards the past.
    pub seconds: i64,
    /// The rest, below 10⁹.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// How much later this is than the other; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanoseconds =
            |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        let difference = nanoseconds(self) - nanoseconds(earlier);
        Duration::from_nanos(
            difference
                .clamp(0, i128::from(u64::MAX))
                .try_into()
                .unwrap_or(u64::MAX),
        )
    }
}

/// What `stat` tells of a file's content without reading it: two equal stamps, the same content, but for changes within one
/// tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// When the content was changed last, as far as programs do not set it.
    pub mtime: Timestamp,
    /// When the inode was changed last; nobody can set it.
    pub ctime: Timestamp,
    /// Which inode of its file system.
    pub inode: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_none() {
        for bytes in [
            &b""[..],
            b"/",
            b"/a",
            b"a/",
            b"a//b",
            b".",
            b"./a",
            b"a/.",
            b"..",
            b"a/../b",
            b"a\0b",
        ] {
            assert_eq!(EntryPath::new(bytes), None, "{}", Escaped(bytes));
        }
    }

    #[test]
    fn odd_but_harmless_names_are_paths() {
        for bytes in [
            &b"a"[..],
            b"a/b",
            b"...",
            b"..a",
            b" ",
            b"a\nb",
            b"\xff\xfe",
            b"-rf",
            b"a\\b",
        ] {
            assert!(EntryPath::new(bytes).is_some(), "{}", Escaped(bytes));
        }
    }

    #[test]
    fn a_directorys_subtree_follows_it_at_once() {
        let mut paths = ["a-b", "b", "a/b/c", "a", "a/b-c", "a.b", "a/b"].map(path);
        paths.sort();
        assert_eq!(
            paths.map(|path| path.to_string()),
            ["a", "a/b", "a/b/c", "a/b-c", "a-b", "a.b", "b"]
        );
    }

    #[test]
    fn paths_are_ordered_alike_wherever_they_begin_to_differ() {
        for length in 0..20 {
            let common = "x".repeat(length);
            let sorted = ["", "/", "/a/b", "\u{1}", "-", "a"]
                .map(|end| path(&format!("{common}b{}", end.replace('/', "/z"))));
            for (index, one) in sorted.iter().enumerate() {
                for (other_index, other) in sorted.iter().enumerate() {
                    assert_eq!(one.cmp(other), index.cmp(&other_index), "{one} {other}");
                }
            }
        }
    }

    #[test]
    fn a_child_is_beneath_its_parent() {
        let parent = path("a/b");
        let child = EntryPath::child(Some(&parent), b"c").unwrap();
        assert_eq!(child, path("a/b/c"));
        assert_eq!(child.parent(), Some(parent));
        assert_eq!(child.name(), b"c");
        assert_eq!(path("a").parent(), None);
        assert_eq!(EntryPath::child(None, b"a/b"), None);
    }

    #[test]
    fn what_is_shown_cannot_drive_a_terminal() {
        assert_eq!(
            Escaped("é\u{1b}[2J\n\u{85}".as_bytes()).to_string(),
            "é\\u{1b}[2J\\n\\u{85}"
        );
        assert_eq!(Escaped(b"a\xffb").to_string(), "a\\xffb");
    }

    #[test]
    fn modes_are_normal_unless_kept() {
        let check = |kind, bits, modes, expected: &str| {
            assert_eq!(Mode::new(kind, bits, modes).to_string(), expected);
        };
        check(EntryKind::File, 0o600, Modes::Normal, "0644");
        check(EntryKind::File, 0o4710, Modes::Normal, "0755");
        check(EntryKind::File, 0o4710, Modes::Keep, "0710");
        check(EntryKind::Directory, 0o2775, Modes::Normal, "0755");
        check(EntryKind::Directory, 0o1777, Modes::Keep, "0777");
        check(EntryKind::Symlink, 0o644, Modes::Keep, "0777");
    }

    #[test]
    fn time_between_two_timestamps_is_never_negative() {
        let at = |seconds, nanoseconds| Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(at(2, 1).since(at(1, 999_999_999)), Duration::from_nanos(2));
        assert_eq!(
            at(-1, 500_000_000).since(at(-2, 0)),
            Duration::from_millis(1500)
        );
        assert_eq!(at(1, 0).since(at(2, 0)), Duration::ZERO);
        assert_eq!(
            at(i64::MAX, 0).since(at(i64::MIN, 0)),
            Duration::from_nanos(u64::MAX)
        );
    }
}
