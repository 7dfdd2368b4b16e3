//! The target: a directory that holds one tree, what applications put beside it, and a hidden directory of our own.
//!
//! ```text
//! TARGET/…                          the tree, merged with what applications made
//! TARGET/.code-revision             the revision that the target holds; absent while it changes
//! TARGET/.code-fetch/installed      the listing of that revision: what may be removed by the next one
//! TARGET/.code-fetch/staging/tree   an archive that is being unpacked
//! TARGET/.code-fetch/staging/listing, directories, revision, ready
//! ```
//!
//! A tree is staged completely before the target changes. Then `ready` is written, and from there on the installation only
//! goes forward: a run that finds it finishes what was begun before it does anything else, whatever moment a run was killed
//! at. A machine that went down is another matter, since nothing here waits for the disk: the marker counts only in the boot
//! in which it was written.

mod error;
mod marker;
mod place;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use tracing::info;

pub use error::InstallError;

use super::session::Staging;
use crate::entry::{EntryKind, EntryPath};
use crate::root::{Existing, Root, status_of};
use crate::unpack::Unpacked;
use marker::Marker;
use place::Placement;

const HIDDEN: &str = ".code-fetch";
const REVISION: &str = ".code-revision";
const NEW_REVISION: &str = ".code-fetch/staging/revision";
const INSTALLED: &str = ".code-fetch/installed";
const STAGING: &str = ".code-fetch/staging";
const TREE: &str = ".code-fetch/staging/tree";
const LISTING: &str = ".code-fetch/staging/listing";
const JOINED: &str = ".code-fetch/staging/joined";
const DIRECTORIES: &str = ".code-fetch/staging/directories";
const READY: &str = ".code-fetch/staging/ready";
const NOT_YET_READY: &str = ".code-fetch/staging/ready.new";

/// A directory that holds a tree, or will. No other process installs into it as long as this lives.
#[derive(Debug)]
pub struct Target {
    root: Root,
    _lock: File,
}

impl Target {
    /// Opens a target, makes the directory if its parent is there, and finishes or discards what an earlier run has left.
    pub fn open(path: &Path) -> Result<Self, InstallError> {
        let failed = |source| InstallError::Target {
            path: path.into(),
            source,
        };
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let root = Root::open(path).map_err(failed)?;
        let lock = lock(&root, path)?;
        let target = Self { root, _lock: lock };
        target.recover()?;
        Ok(target)
    }

    /// Prepares to unpack an archive; what was staged before is removed.
    pub(super) fn stage(&self) -> Result<Staging, InstallError> {
        self.discard()?;
        for directory in [STAGING, TREE] {
            let directory = own(directory);
            self.root
                .create_dir(&directory, 0o700)
                .map_err(InstallError::io("make", &directory))?;
        }
        let tree = self
            .root
            .open_dir(&own(TREE))
            .map_err(InstallError::io("open", &own(TREE)))?;
        Ok(Staging {
            tree: Arc::new(tree),
            listing: self.create(LISTING)?,
        })
    }

    /// Puts the staged tree into its place.
    ///
    /// Fails without a change to the target where the tree does not fit in. A failure after that leaves it half changed,
    /// and the next run to finish it.
    pub(super) fn install(&self, unpacked: &Unpacked) -> Result<(), InstallError> {
        self.place(&mut || Ok(()))?.check()?;
        self.make_ready(unpacked)?;
        self.roll_forward(&mut || Ok(()))
    }

    /// Removes what is staged, unless it is to be installed by the next run; and the hidden directory, if it is of no use.
    pub(super) fn clear(&self) -> Result<(), InstallError> {
        if self.root.status(Some(&own(READY))).is_ok() {
            return Ok(());
        }
        self.discard()?;
        // It stays as long as it holds the listing of what is installed.
        drop(self.root.remove_dir(&own(HIDDEN)));
        Ok(())
    }

    fn recover(&self) -> Result<(), InstallError> {
        let Some(marker) = self.read(READY)? else {
            return self.discard();
        };
        if let Some(revision) = Marker::parse(&marker).filter(Marker::is_of_this_boot) {
            self.roll_forward(&mut || Ok(()))?;
            info!(revision = %revision.revision, "finished an installation that was interrupted");
            return Ok(());
        }
        // The target may be half changed, so it does not hold what it says, and may hold what either listing has.
        self.remove(REVISION)?;
        self.join_listings()?;
        self.remove(READY)?;
        self.discard()
    }

    /// Records what a half installed tree may have put into the target, besides what was there before.
    fn join_listings(&self) -> Result<(), InstallError> {
        let [installed, listing] = [INSTALLED, LISTING].map(|name| self.recorded(name));
        let joined = installed.chain(listing).collect::<BTreeSet<_>>();
        self.remove(JOINED)?;
        record::write_entries(&joined, BufWriter::new(self.create(JOINED)?))
            .map_err(InstallError::io("write", &own(JOINED)))?;
        self.rename(JOINED, INSTALLED)
    }

    /// The entries of one of our listings; none where it is missing.
    fn recorded(&self, name: &str) -> impl Iterator<Item = (EntryPath, EntryKind)> + use<> {
        let file = self.root.open_file(&own(name)).ok();
        file.into_iter()
            .flat_map(|file| record::entries(BufReader::new(file)))
    }

    /// From here on there is no way back.
    fn make_ready(&self, unpacked: &Unpacked) -> Result<(), InstallError> {
        let directories = self.create(DIRECTORIES)?;
        record::write_directories(&unpacked.directories, BufWriter::new(directories))
            .map_err(InstallError::io("write", &own(DIRECTORIES)))?;
        let marker = Marker::of(unpacked.revision);
        self.write(NEW_REVISION, &format!("{}\n", marker.revision))?;
        self.write(NOT_YET_READY, &marker.to_text())?;
        self.rename(NOT_YET_READY, READY)
    }

    /// Does all that is left to do. Every step may have been done already, or half. What it writes was written before it
    /// began: a disk that is full does not stop it.
    ///
    /// `step` is called before each change; it fails in tests, as a killed process would.
    fn roll_forward(
        &self,
        step: &mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        step()?;
        if self.root.status(Some(&own(NEW_REVISION))).is_ok() {
            self.remove(REVISION)?;
        }
        let mut placement = self.place(step)?;
        placement.remove_what_is_gone()?;
        placement.move_in()?;
        placement.close_directories()?;
        for (staged, name) in [(LISTING, INSTALLED), (NEW_REVISION, REVISION)] {
            step()?;
            if self.root.status(Some(&own(staged))).is_ok() {
                self.rename(staged, name)?;
            }
        }
        step()?;
        self.remove(READY)?;
        step()?;
        self.discard()
    }

    fn place<'a>(
        &'a self,
        step: &'a mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<Placement<'a>, InstallError> {
        let tree = self
            .root
            .open_dir(&own(TREE))
            .map_err(InstallError::io("open", &own(TREE)))?;
        Ok(Placement::new(self, tree, step))
    }

    fn discard(&self) -> Result<(), InstallError> {
        self.root
            .remove_tree(&own(STAGING))
            .map_err(InstallError::io("remove", &own(STAGING)))
    }

    fn create(&self, name: &str) -> Result<File, InstallError> {
        self.root
            .create_file(&own(name), 0o644)
            .map_err(InstallError::io("make", &own(name)))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), InstallError> {
        self.create(name)?
            .write_all(text.as_bytes())
            .map_err(InstallError::io("write", &own(name)))
    }

    /// The content of one of our files; `None` where there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, InstallError> {
        let mut content = Vec::new();
        let read = self
            .root
            .open_file(&own(name))
            .and_then(|mut file| file.read_to_end(&mut content));
        match read {
            Ok(_) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(InstallError::io("read", &own(name))(error)),
        }
    }

    /// Removes a file; one that is not there is as good as removed.
    fn remove(&self, name: &str) -> Result<(), InstallError> {
        match self.root.remove_file(&own(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(InstallError::io("remove", &own(name))(error))
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), InstallError> {
        self.root
            .rename(&own(from), &self.root, &own(to), Existing::Replace)
            .map_err(InstallError::io("write", &own(to)))
    }
}

/// Makes the hidden directory and locks it.
fn lock(root: &Root, path: &Path) -> Result<File, InstallError> {
    let failed = |source| InstallError::Hidden {
        path: path.join(HIDDEN),
        source,
    };
    loop {
        match root.create_dir(&own(HIDDEN), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(InstallError::Target {
                    path: path.into(),
                    source: error,
                });
            }
            _ => {}
        }
        let lock = root.open_dir(&own(HIDDEN)).map_err(failed)?.into_handle();
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => InstallError::Busy { path: path.into() },
            TryLockError::Error(error) => failed(error),
        })?;
        // The one who held it before may have removed it: then nobody else would see this lock.
        let locked = status_of(&lock).map_err(failed)?.stamp.inode;
        match root.status(Some(&own(HIDDEN))) {
            Ok(found) if found.stamp.inode == locked => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
}

/// One of our own names.
fn own(name: &str) -> EntryPath {
    EntryPath::new(name.as_bytes()).expect("our own names are paths")
}
