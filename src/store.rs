//! The state directory: where artifacts lie on disk.
//!
//! ```text
//! lock                     held by the one server that uses the directory
//! artifacts/<hex>.tar.gz   an archive, named by its digest
//! artifacts/<hex>.list     its listing
//! artifacts/<hex>.json     its descriptor
//! staging/                 what is being written; emptied at start
//! ```
//!
//! What has a name under `artifacts/` is complete: it was written under `staging/` and renamed. Only the last artifact is
//! kept, and a new server starts from nothing.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::artifact::Artifact;
use crate::descriptor::Descriptor;
use crate::digest::Digest;

/// The files of a build, before they have their names.
const STAGED: [&str; 3] = ["archive", "listing", "descriptor"];

/// A state directory that this process alone uses.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be made.
    #[error("cannot create the state directory {}", .path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Somebody else could have put anything into it.
    #[error(
        "the state directory {} is a link, or not ours, or others may write to it: remove it, or name another one \
         with --state-dir",
        .path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// What would be emptied in it is not known to be ours.
    #[error(
        "{} is no state directory, and holds something named staging or artifacts, which a state directory empties: \
         name an empty directory with --state-dir",
        .path.display()
    )]
    Occupied {
        /// Which.
        path: PathBuf,
    },
    /// Something in it cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// The state directory for a root where none is named: private to the user, beneath the directory for temporary files.
pub fn default_directory(root: &Path) -> Result<PathBuf, StoreError> {
    let uid = rustix::process::geteuid().as_raw();
    let ours = std::env::temp_dir().join(format!("code-server-{uid}"));
    create_private(&ours)?;
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let name = Digest::of(root.as_os_str().as_encoded_bytes()).hex();
    Ok(ours.join(&name[..16]))
}

/// Makes a directory that is ours alone, or sees that it is.
fn create_private(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => {
            return result.map_err(|source| StoreError::Create {
                path: path.into(),
                source,
            });
        }
    }
    let metadata = fs::symlink_metadata(path).map_err(|source| StoreError::Create {
        path: path.into(),
        source,
    })?;
    let uid = rustix::process::geteuid().as_raw();
    let others_may = metadata.mode().trailing_zeros() < 6;
    let ours = metadata.is_dir() && metadata.uid() == uid && !others_may;
    if ours {
        Ok(())
    } else {
        Err(StoreError::Foreign { path: path.into() })
    }
}

/// Makes a state directory with its parents, readable by nobody else, if there is none.
pub fn create(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(directory)
        .map_err(|source| StoreError::Create {
            path: directory.into(),
            source,
        })
}

/// Whether what is written there takes memory and not disk.
#[must_use]
pub fn is_in_memory(directory: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(directory).is_ok_and(|system| matches!(system.f_type, TMPFS | RAMFS))
}

impl Store {
    /// Takes a state directory that [`create`] made; `None` while another process has it.
    ///
    /// What an earlier process left there is removed. A directory that never was a state directory is refused if that would
    /// take anything away.
    pub fn try_open(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join("lock");
        let exists = |name| fs::symlink_metadata(directory.join(name)).is_ok();
        // The lock last: another process makes it first.
        if (exists("staging") || exists("artifacts")) && !exists("lock") {
            let path = directory.into();
            return Err(StoreError::Occupied { path });
        }
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let lock = lock.map_err(|source| StoreError::Io {
            path: path.clone(),
            source,
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        let store = Self {
            directory: directory.into(),
            _lock: lock,
        };
        for directory in [store.staging(), store.artifacts()] {
            empty(&directory).map_err(|source| StoreError::Io {
                path: directory,
                source,
            })?;
        }
        Ok(Some(store))
    }

    /// New files to build into. They are gone when the store is opened again.
    pub fn stage(&self) -> io::Result<Staged> {
        let open = |name| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options.open(self.staging().join(name))
        };
        Ok(Staged {
            archive: open(STAGED[0])?,
            listing: open(STAGED[1])?,
        })
    }

    /// Gives back the disk space of a build that failed. What cannot be removed is overwritten by the next one.
    ///
    /// The directory itself stays: a disk that is full might not take it again.
    pub fn discard_staged(&self) {
        for name in STAGED {
            drop(fs::remove_file(self.staging().join(name)));
        }
    }

    /// Gives staged files their names and takes all others away; downloads that run on those keep them open.
    pub fn keep(&self, staged: Staged, descriptor: Descriptor) -> Result<Artifact, StoreError> {
        let (staging, artifacts) = (self.staging(), self.artifacts());
        let hex = descriptor.digest.hex();
        let failed = |source| StoreError::Io {
            path: self.directory.clone(),
            source,
        };
        fs::write(staging.join(STAGED[2]), descriptor.to_json()).map_err(failed)?;
        for (name, ending) in STAGED.into_iter().zip(["tar.gz", "list", "json"]) {
            let path = artifacts.join(format!("{hex}.{ending}"));
            fs::rename(staging.join(name), path).map_err(failed)?;
        }
        remove_others(&artifacts, &hex).map_err(failed)?;
        Artifact::new(descriptor, staged.archive, staged.listing).map_err(failed)
    }

    fn staging(&self) -> PathBuf {
        self.directory.join("staging")
    }

    fn artifacts(&self) -> PathBuf {
        self.directory.join("artifacts")
    }
}

/// Files that are being built.
#[derive(Debug)]
pub struct Staged {
    /// For the archive.
    pub archive: File,
    /// For the listing.
    pub listing: File,
}

/// Makes a directory, or removes all that is in it.
fn empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(directory)
}

fn remove_others(artifacts: &Path, hex: &str) -> io::Result<()> {
    for entry in fs::read_dir(artifacts)? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(hex.as_bytes())
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::SystemTime;

    use super::*;
    use crate::digest::Revision;

    fn descriptor(archive: &[u8]) -> Descriptor {
        Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(Digest::of(b"")),
            digest: Digest::of(archive),
            size: archive.len() as u64,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: SystemTime::UNIX_EPOCH,
            segments: Vec::new(),
            left_out: BTreeMap::new(),
        }
    }

    fn keep(store: &Store, archive: &[u8]) -> Artifact {
        let mut staged = store.stage().unwrap();
        staged.archive.write_all(archive).unwrap();
        store.keep(staged, descriptor(archive)).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_one_process_has_a_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::try_open(directory.path()).unwrap();
        assert!(store.is_some());
        assert!(Store::try_open(directory.path()).unwrap().is_none());
        drop(store);
        assert!(Store::try_open(directory.path()).unwrap().is_some());
    }

    #[test]
    fn an_artifact_stays_readable_when_the_next_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::try_open(directory.path()).unwrap().unwrap();
        let first = keep(&store, b"first");
        let second = keep(&store, b"second");
        let hex = Digest::of(b"second").hex();
        let expected = ["json", "list", "tar.gz"].map(|ending| format!("{hex}.{ending}"));
        assert_eq!(names(&directory.path().join("artifacts")), expected);
        assert_eq!(names(&directory.path().join("staging")).len(), 0);
        assert_eq!(&*first.archive().read_at(0, 5).unwrap(), b"first");
        assert_eq!(&*second.archive().read_at(0, 6).unwrap(), b"second");
    }

    #[test]
    fn a_build_that_failed_leaves_nothing_and_is_followed_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::try_open(directory.path()).unwrap().unwrap();
        drop(store.stage().unwrap());
        let staging = directory.path().join("staging");
        let before = fs::metadata(&staging).unwrap().ino();
        store.discard_staged();
        assert_eq!(fs::metadata(&staging).unwrap().ino(), before);
        assert_eq!(names(&directory.path().join("staging")).len(), 0);
        keep(&store, b"next");
    }

    #[test]
    fn an_artifact_that_is_built_again_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::try_open(directory.path()).unwrap().unwrap();
        keep(&store, b"same");
        keep(&store, b"same");
        assert_eq!(names(&directory.path().join("artifacts")).len(), 3);
    }

    #[test]
    fn what_an_earlier_process_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::try_open(directory.path()).unwrap());
        fs::create_dir(directory.path().join("staging/x")).unwrap();
        let _store = Store::try_open(directory.path()).unwrap().unwrap();
        assert_eq!(names(&directory.path().join("staging")).len(), 0);
    }

    #[test]
    fn what_somebody_else_keeps_under_our_names_is_not_removed() {
        for name in ["staging", "artifacts"] {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join(name)).unwrap();
            let result = Store::try_open(directory.path());
            assert!(matches!(result, Err(StoreError::Occupied { .. })));
            assert_eq!(names(directory.path()), [name]);
        }
    }

    #[test]
    fn a_private_directory_is_no_link_and_no_one_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        create_private(&path("ours")).unwrap();
        create_private(&path("ours")).unwrap();
        symlink(path("ours"), path("link")).unwrap();
        assert!(matches!(
            create_private(&path("link")),
            Err(StoreError::Foreign { .. })
        ));
        fs::set_permissions(path("ours"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            create_private(&path("ours")),
            Err(StoreError::Foreign { .. })
        ));
    }
}
