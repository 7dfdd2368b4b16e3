//! Whether a tree fits into the target: asked before the first byte of its archive, and told in figures if a disk is full.
//!
//! What is refused does not fit. So the least is counted that a tree can take: its content in whole blocks of a tar, each of
//! which lies in some block of the file system, and an inode an entry. What blocks are left half empty, and what
//! directories take, is not known before; where only that is too much, writing fails, and the same figures are told then.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::plan::{HeldSegment, Plan, Step};
use super::{InstallError, Target};
use crate::descriptor::Descriptor;
use crate::root::Room;

/// Of a tar.
const BLOCK: u64 = 512;
/// Blocks behind its last entry.
const END_BLOCKS: u64 = 2;

/// What a tree takes at least, all of it beside what the target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fetch) struct Need {
    /// Content of files, in whole blocks of a tar.
    pub(in crate::fetch) bytes: u64,
    /// Directories, files and links.
    pub(in crate::fetch) entries: u64,
}

impl Need {
    /// Of what an archive brings besides what is kept of the tree before.
    pub(in crate::fetch) fn of(archive: &Descriptor, plan: &Plan, held: &[HeldSegment]) -> Self {
        let kept = plan.steps.iter().filter_map(|step| match step {
            Step::Keep { segments, held } => Some((segments, held)),
            Step::Unpack(_) => None,
        });
        let (mut tar, mut entries) = (archive.uncompressed_size, archive.entries);
        for (segments, of_held) in kept {
            for segment in &archive.segments[segments.clone()] {
                tar = tar.saturating_sub(segment.raw_length);
            }
            for segment in &held[of_held.clone()] {
                entries = entries.saturating_sub(segment.entries);
            }
        }
        let frame = entries.saturating_add(END_BLOCKS).saturating_mul(BLOCK);
        Self {
            bytes: tar.saturating_sub(frame),
            entries,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes and {} inodes", self.bytes, self.entries)
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// Disk, or memory where that holds the files.
    Bytes {
        /// At least.
        needed: u64,
        /// For this user.
        left: u64,
    },
    /// Names that may be made.
    Inodes {
        /// At least.
        needed: u64,
        /// For this user.
        left: u64,
    },
}

/// Reads behind the name of a file system.
impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { needed, left } => write!(
                f,
                "has {left} bytes left, and the tree needs {needed}: raise the sizeLimit of the emptyDir, or make room"
            ),
            Self::Inodes { needed, left } => write!(
                f,
                "has {left} inodes left, and the tree needs {needed}: remove files, or use a volume that takes more of them"
            ),
        }
    }
}

/// What is missing, if anything is.
fn shortfall(need: Need, room: Room) -> Option<Shortfall> {
    let Need { bytes, entries } = need;
    let too_little = |needed: u64, left: Option<u64>| left.filter(|&left| left < needed);
    if let Some(left) = too_little(bytes, room.bytes) {
        let needed = bytes;
        return Some(Shortfall::Bytes { needed, left });
    }
    let left = too_little(entries, room.inodes)?;
    Some(Shortfall::Inodes {
        needed: entries,
        left,
    })
}

/// Where the target lies, and what it was to take last.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    asked: Mutex<Option<Need>>,
}

impl Space {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.into(),
            asked: Mutex::new(None),
        }
    }
}

/// What is known of a file system that turned out to be full.
#[derive(Debug)]
pub struct Full {
    path: PathBuf,
    needed: Option<Need>,
    left: Option<Room>,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file system of {} is full", self.path.display())?;
        if let Some(needed) = self.needed {
            write!(f, " (the tree needs more than {needed}")?;
            let left = self.left.unwrap_or(Room {
                bytes: None,
                inodes: None,
            });
            let left = [(left.bytes, "bytes"), (left.inodes, "inodes")];
            let left = left.map(|(left, what)| left.map(|left| format!("{left} {what}")));
            let left: Vec<_> = left.into_iter().flatten().collect();
            if !left.is_empty() {
                write!(f, ", and {} are left without it", left.join(" and "))?;
            }
            write!(f, ")")?;
        }
        write!(f, ": raise the sizeLimit of the emptyDir, or make room")
    }
}

impl Target {
    /// Fails if a tree does not fit beside what the target holds. What was staged before is removed first.
    pub(in crate::fetch) fn require_room(&self, need: Need) -> Result<(), InstallError> {
        self.discard()?;
        let mut asked = self.space.asked.lock();
        *asked
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut()) = Some(need);
        // A file system that does not answer does not refuse either.
        let shortfall = self.root.room().ok().and_then(|room| shortfall(need, room));
        match shortfall {
            Some(shortfall) => Err(InstallError::NoRoom {
                path: self.space.path.clone(),
                shortfall,
            }),
            None => Ok(()),
        }
    }

    /// The figures as they are now: what is left, and what the tree was to take.
    pub(in crate::fetch) fn full(&self) -> Full {
        let asked = self.space.asked.lock();
        Full {
            path: self.space.path.clone(),
            needed: *asked.unwrap_or_else(PoisonError::into_inner),
            left: self.root.room().ok(),
        }
    }
}

/// Whether an error comes from a disk that takes no more.
pub(in crate::fetch) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::descriptor::Segment;
    use crate::digest::{Digest, Revision};

    #[test]
    fn what_does_not_fit_is_told_with_figures() {
        let bytes = |needed, left| Some(Shortfall::Bytes { needed, left });
        let inodes = |needed, left| Some(Shortfall::Inodes { needed, left });
        for (need, room, expected) in [
            ((0, 0), (Some(0), Some(0)), None),
            ((100, 10), (Some(100), Some(10)), None),
            ((101, 10), (Some(100), Some(10)), bytes(101, 100)),
            ((100, 11), (Some(100), Some(10)), inodes(11, 10)),
            ((101, 11), (Some(100), Some(10)), bytes(101, 100)),
            ((u64::MAX, u64::MAX), (None, None), None),
            ((u64::MAX, 11), (None, Some(10)), inodes(11, 10)),
        ] {
            let need = Need {
                bytes: need.0,
                entries: need.1,
            };
            let room = Room {
                bytes: room.0,
                inodes: room.1,
            };
            assert_eq!(shortfall(need, room), expected, "{need:?} in {room:?}");
        }
    }

    #[test]
    fn headers_and_the_end_of_a_tar_take_no_room() {
        for (size, entries, bytes) in [
            (1024, 0, 0),
            // A file of one byte.
            (512 + 512 + 1024, 1, 512),
            // A descriptor that lies.
            (0, 10, 0),
            (10, u64::MAX, 0),
        ] {
            let need = Need::of(&archive(size, entries, 1), &Plan::default(), &[]);
            assert_eq!(need, Need { bytes, entries });
        }
    }

    #[test]
    fn what_is_kept_takes_no_room() {
        let held = HeldSegment {
            digest: Digest::of(b""),
            entries: 4,
            goes_on: false,
            is_intact: true,
            within: None,
        };
        let plan = Plan {
            steps: vec![
                Step::Unpack(0..1),
                Step::Keep {
                    segments: 1..3,
                    held: 0..2,
                },
            ],
            copies: BTreeMap::new(),
        };
        // The last segment holds the end of the tar.
        let archive = archive(30_000, 10, 3);
        let need = Need::of(&archive, &plan, &[held.clone(), held]);
        let frame = (10 - 8 + END_BLOCKS) * BLOCK;
        let bytes = 10_000 - frame;
        assert_eq!(need, Need { bytes, entries: 2 });
    }

    fn archive(uncompressed_size: u64, entries: u64, segments: u64) -> Descriptor {
        let segment = Segment {
            offset: 0,
            length: 0,
            raw_length: uncompressed_size / segments,
            digest: Digest::of(b""),
        };
        Descriptor {
            format: String::new(),
            revision: Revision::of_listing(Digest::of(b"")),
            digest: Digest::of(b""),
            size: 0,
            uncompressed_size,
            entries,
            files: entries,
            created_at: SystemTime::UNIX_EPOCH,
            segments: (0..segments).map(|_| segment).collect(),
            left_out: BTreeMap::new(),
        }
    }

    #[test]
    fn a_full_disk_is_known_however_deep_it_lies() {
        let full = |kind: io::ErrorKind| {
            let path = crate::entry::EntryPath::new(b"a").unwrap();
            is_full(&InstallError::io("write", &path)(kind.into()))
        };
        assert!(full(io::ErrorKind::StorageFull));
        assert!(full(io::ErrorKind::QuotaExceeded));
        assert!(!full(io::ErrorKind::PermissionDenied));
    }
}
