//! Where a tree is replaced: the directory that holds the root, locked, with a hidden one of our own beside the root.
//!
//! ```text
//! PARENT/                           locked as long as an ingest runs
//! PARENT/ROOT                       the tree
//! PARENT/.code-ingest-ROOT/new      the one that is to take its place; behind the exchange, the one that it took it from
//! PARENT/.code-ingest-ROOT/old      the tree, while no directory has the root's name; only where it takes two steps
//! PARENT/.code-ingest-ROOT/gone     the tree that was replaced in two steps
//! ```

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use tracing::{info, warn};

use super::IngestError;
use super::mounts::mount_within;
use crate::entry::{EntryKind, EntryPath};
use crate::root::{Existing, Kind, Root, Status, status_of};

/// What the hidden directory's name begins with. Names of this kind never belong to a tree.
const HIDDEN: &[u8] = b".code-ingest-";

/// The place of one root. No other ingest is at work in its directory as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: Root,
    pub(super) parent_path: PathBuf,
    pub(super) name: EntryPath,
    hidden: EntryPath,
}

impl Place {
    /// Finds the place of a root, which need not be there, locks it, and mends what an ingest that was killed has left.
    pub(super) fn open(root: &Path) -> Result<Self, IngestError> {
        let (parent_path, name) = split(root)?;
        let failed = |source| IngestError::Parent {
            path: parent_path.clone(),
            source,
        };
        let parent = Root::open(&parent_path).map_err(failed)?;
        match rustix::fs::flock(&parent, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let parent = parent_path;
                return Err(IngestError::Busy { parent });
            }
            result => result.map_err(|error| failed(error.into()))?,
        }
        let hidden = EntryPath::new(&[HIDDEN, name.as_bytes()].concat())
            .expect("two parts of names are a name");
        let place = Self {
            parent,
            parent_path,
            name,
            hidden,
        };
        place.recover()?;
        Ok(place)
    }

    /// The root as it was named, made absolute.
    pub(super) fn root_path(&self) -> PathBuf {
        self.path_of(&self.name)
    }

    /// One of our own names in the hidden directory.
    pub(super) fn own(&self, name: &str) -> EntryPath {
        EntryPath::child(Some(&self.hidden), name.as_bytes()).expect("our own names are names")
    }

    /// An absolute path, for those who take no handle.
    pub(super) fn path_of(&self, path: &EntryPath) -> PathBuf {
        let bytes = path.as_bytes();
        self.parent_path.join(std::ffi::OsStr::from_bytes(bytes))
    }

    /// The tree that is there, unless it cannot change places with another one.
    pub(super) fn live(&self) -> Result<Option<Status>, IngestError> {
        let root = self.root_path();
        let Some(status) = found(self.parent.status(Some(&self.name)))
            .map_err(|error| self.failed("look at", &self.name, error))?
        else {
            return Ok(None);
        };
        let is_mount = self.parent.is_mount_point(&self.name).unwrap_or(false);
        let what = match status.kind {
            Kind::Entry(EntryKind::Symlink) => "a symbolic link",
            Kind::Entry(EntryKind::Directory) if is_mount => "a mount point",
            Kind::Entry(EntryKind::Directory) => {
                let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
                return match mount_within(&mounts, &root) {
                    Some(inside) => Err(IngestError::MountedInside { inside }),
                    None => Ok(Some(status)),
                };
            }
            _ => return Err(IngestError::NotADirectory { root }),
        };
        Err(IngestError::Fixed { root, what })
    }

    /// An empty directory for the new tree, into which nobody else looks.
    ///
    /// What is made in it belongs to the group of the live tree where that hands its group down, as volumes with an
    /// `fsGroup` do.
    pub(super) fn stage(&self, live: Option<&Status>) -> Result<Arc<Root>, IngestError> {
        let new = self.own("new");
        for (path, mode) in [(&self.hidden, 0o700), (&new, 0o777)] {
            self.parent
                .create_dir(path, mode)
                .map_err(|error| self.failed("make", path, error))?;
        }
        let staged = self
            .parent
            .open_dir(&new)
            .map_err(|error| self.failed("open", &new, error))?;
        if let Some(live) = live {
            hand_down(&staged, live)
                .map_err(|error| self.failed("set the mode of", &new, error))?;
        }
        Ok(Arc::new(staged))
    }

    /// Gives the staged tree's root the mode and the time of the live one's.
    pub(super) fn close(&self, staged: &Root, live: &Status) -> Result<(), IngestError> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: live.stamp.mtime.seconds,
                tv_nsec: live.stamp.mtime.nanoseconds.into(),
            },
        };
        rustix::fs::fchmod(staged, Mode::from_raw_mode(live.mode))
            .and_then(|()| rustix::fs::futimens(staged, &times))
            .map_err(|error| self.failed("set the mode of", &self.own("new"), error.into()))
    }

    /// Bytes that may still be written here; `None` where the file system does not tell.
    pub(super) fn free(&self) -> Option<u64> {
        self.parent.room().ok()?.bytes
    }

    /// Waits until all that was written to the file system is on the disk.
    pub(super) fn sync(&self) -> Result<(), IngestError> {
        rustix::fs::syncfs(&self.parent).map_err(|error| {
            self.failed("write to the disk what is in", &self.hidden, error.into())
        })
    }

    /// Removes the hidden directory, whatever is in it.
    pub(super) fn clear(&self) -> Result<(), IngestError> {
        self.parent
            .remove_tree(&self.hidden)
            .map_err(|error| self.failed("remove", &self.hidden, error))
    }

    /// Puts back the tree of an ingest that was killed between two steps, and removes what it had staged.
    fn recover(&self) -> Result<(), IngestError> {
        let old = self.own("old");
        let is_there = |path| {
            found(self.parent.status(Some(path)))
                .map(|status| status.is_some())
                .map_err(|error| self.failed("look at", path, error))
        };
        if is_there(&old)? && !is_there(&self.name)? {
            self.parent
                .rename(&old, &self.parent, &self.name, Existing::Replace)
                .map_err(|source| IngestError::Exchange {
                    root: self.root_path(),
                    source,
                })?;
            info!(root = %self.root_path().display(), "put back the tree that an ingest was killed over");
        }
        self.clear()
    }

    fn failed(&self, what: &'static str, path: &EntryPath, source: io::Error) -> IngestError {
        IngestError::Staging {
            what,
            path: self.path_of(path),
            source,
        }
    }
}

/// Gives an empty tree the owner and group of another one, and lets what is made in it have that group, if it does so there.
fn hand_down(staged: &Root, live: &Status) -> io::Result<()> {
    let ours = status_of(staged)?;
    // Only root gives files away; everybody gives them to the groups that he is in.
    let may_give = rustix::process::geteuid().is_root();
    let uid = (may_give && ours.uid != live.uid).then(|| Uid::from_raw(live.uid));
    let gid = (ours.gid != live.gid).then(|| Gid::from_raw(live.gid));
    if (uid, gid) != (None, None)
        && let Err(error) = rustix::fs::fchown(staged, uid, gid)
    {
        warn!(%error, "the new tree's root cannot be given to the owner or group of the old one's");
    }
    let mode = Mode::from_raw_mode(0o700 | live.mode & 0o2000);
    Ok(rustix::fs::fchmod(staged, mode)?)
}

/// The directory that holds a root, and the root's name in it.
fn split(root: &Path) -> Result<(PathBuf, EntryPath), IngestError> {
    let failed = |source| IngestError::Parent {
        path: root.into(),
        source,
    };
    // What ends in `..`, or is `.`, has a name only once it is resolved.
    let named = match root.file_name() {
        Some(_) => root.to_owned(),
        None => fs::canonicalize(root).map_err(failed)?,
    };
    let (Some(parent), Some(name)) = (named.parent(), named.file_name()) else {
        return Err(IngestError::Fixed {
            root: named,
            what: "the root of the file system",
        });
    };
    let parent = match parent {
        path if path.as_os_str().is_empty() => Path::new("."),
        path => path,
    };
    let parent = fs::canonicalize(parent).map_err(|source| IngestError::Parent {
        path: parent.into(),
        source,
    })?;
    let name = EntryPath::new(name.as_bytes()).expect("a path's component is a name");
    Ok((parent, name))
}

/// What was looked up, if it is there.
fn found(result: io::Result<Status>) -> io::Result<Option<Status>> {
    match result {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_a_parent_and_a_name_however_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        for (written, parent, name) in [
            ("new", "", "new"),
            ("a/b/", "a", "b"),
            ("a/b/.", "a", "b"),
            ("a/b/..", "", "a"),
            ("a/../a/b", "a", "b"),
        ] {
            let (found, last) = split(&base.join(written)).unwrap();
            assert_eq!(
                found,
                base.join(parent).components().collect::<PathBuf>(),
                "{written}"
            );
            assert_eq!(last.to_string(), name, "{written}");
        }
        assert!(matches!(
            split(Path::new("/")),
            Err(IngestError::Fixed { .. })
        ));
        let missing = split(&base.join("nope/new")).unwrap_err();
        assert_eq!(missing.exit(), crate::exit::Exit::Config);
    }
}
