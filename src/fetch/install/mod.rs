//! The target: a directory that holds one tree, what applications put beside it, and a hidden directory of our own.
//!
//! ```text
//! TARGET/…                          the tree, merged with what applications made (direct)
//! TARGET/revisions/<hex>/…          the tree and its predecessors, each by itself (versioned)
//! TARGET/current                    a link to one of them (versioned)
//! TARGET/.code-revision             the revision that the target holds; absent while a direct one changes
//! TARGET/.code-fetch/installed      the listing of that revision: what may be removed by the next one
//! TARGET/.code-fetch/segments, stamps   what of it need not come again
//! TARGET/.code-fetch/revisions      which revisions stay, the newest first (versioned)
//! TARGET/.code-fetch/staging/tree   an archive that is being unpacked
//! TARGET/.code-fetch/staging/listing, segments, stamps, directories, revision, revisions, ready
//! ```
//!
//! A tree is staged completely before the target changes. Then `ready` is written, and from there on the installation only
//! goes forward: a run that finds it finishes what was begun before it does anything else, whatever moment a run was killed
//! at. A machine that went down is another matter, since nothing here waits for the disk: the marker counts only in the boot
//! in which it was written.

mod error;
pub(super) mod held;
mod marker;
mod place;
mod record;
pub(super) mod segments;
pub(super) mod space;
pub(super) mod stamps;
#[cfg(test)]
mod tests;
mod versioned;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use tracing::{debug, info};

pub use error::InstallError;

use super::session::Staging;
use crate::config::fetch::Layout;
use crate::digest::Revision;
use crate::entry::{EntryKind, EntryPath};
use crate::exit::sentence;
use crate::root::{Existing, Root, status_of};
use crate::unpack::{Keeping, Unpacked};
use held::Held;
use marker::Marker;
use place::Placement;
use space::Space;

const HIDDEN: &str = ".code-fetch";
const REVISION: &str = ".code-revision";
const NEW_REVISION: &str = ".code-fetch/staging/revision";
const INSTALLED: &str = ".code-fetch/installed";
const SEGMENTS: &str = ".code-fetch/segments";
const STAMPS: &str = ".code-fetch/stamps";
const STAGING: &str = ".code-fetch/staging";
const TREE: &str = ".code-fetch/staging/tree";
const LISTING: &str = ".code-fetch/staging/listing";
const NEW_SEGMENTS: &str = ".code-fetch/staging/segments";
const NEW_STAMPS: &str = ".code-fetch/staging/stamps";
const STAMPED: &str = ".code-fetch/staging/stamped";
const JOINED: &str = ".code-fetch/staging/joined";
const DIRECTORIES: &str = ".code-fetch/staging/directories";
const READY: &str = ".code-fetch/staging/ready";
const NOT_YET_READY: &str = ".code-fetch/staging/ready.new";

/// A directory that holds a tree, or will. No other process installs into it as long as this lives.
#[derive(Debug)]
pub struct Target {
    root: Arc<Root>,
    layout: Layout,
    /// How many revisions stay, if it is versioned.
    keep: NonZeroUsize,
    space: Space,
    _lock: File,
}

impl Target {
    /// Opens a target, makes the directory if its parent is there, and finishes or discards what an earlier run has left.
    pub fn open(path: &Path, layout: Layout, keep: NonZeroUsize) -> Result<Self, InstallError> {
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
        let target = Self {
            root: Arc::new(root),
            layout,
            keep,
            space: Space::of(path),
            _lock: lock,
        };
        target.require_layout(path)?;
        target.recover()?;
        Ok(target)
    }

    /// What of an archive need not come again; `None` where nothing is known of the tree that is in its place.
    ///
    /// Looks at every entry of it.
    pub(super) fn held(&self, workers: NonZeroUsize) -> Option<Held> {
        let open = |name| self.root.open_file(&own(name)).ok();
        let files = [open(INSTALLED)?, open(SEGMENTS)?, open(STAMPS)?];
        let revision = self.read(REVISION).ok()??;
        let revision: Revision = str::from_utf8(&revision).ok()?.trim_end().parse().ok()?;
        let held = match self.layout {
            Layout::Direct => Held::read(files, Arc::clone(&self.root), Keeping::InPlace, workers),
            Layout::Versioned => {
                let (current, tree) = self.current()?;
                let keeping = Keeping::Linked(Arc::clone(&tree));
                Held::read(files, tree, keeping, workers).filter(|_| current == revision)
            }
        };
        held.filter(|held| held.revision == revision)
    }

    /// The revision that the target holds, if it holds one as a whole.
    pub(super) fn revision(&self) -> Result<Option<Revision>, InstallError> {
        let text = self.read(REVISION)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.trim_end().parse().ok())
    }

    /// Prepares to unpack an archive; what was staged before is removed.
    pub(super) fn stage(&self) -> Result<Staging, InstallError> {
        self.discard()?;
        // Nobody can look into the tree yet, whatever its own mode is.
        for (directory, mode) in [(STAGING, 0o700), (TREE, 0o755)] {
            let directory = own(directory);
            self.root
                .create_dir(&directory, mode)
                .map_err(InstallError::io("make", &directory))?;
        }
        let tree = self
            .root
            .open_dir(&own(TREE))
            .map_err(InstallError::io("open", &own(TREE)))?;
        Ok(Staging {
            tree: Arc::new(tree),
            listing: self.create(LISTING)?,
            segments: self.create(NEW_SEGMENTS)?,
            stamps: self.create(NEW_STAMPS)?,
        })
    }

    /// Puts the staged tree into its place.
    ///
    /// Fails without a change to the target where the tree does not fit in. A failure after that leaves it half changed,
    /// and the next run to finish it.
    pub(super) fn install(&self, unpacked: &Unpacked) -> Result<(), InstallError> {
        let inode = match self.layout {
            Layout::Direct => {
                self.place(&mut || Ok(()))?.check()?;
                self.write_directories(unpacked)?;
                None
            }
            Layout::Versioned => Some(self.prepare_revision(unpacked.revision)?),
        };
        let marker = Marker::of(unpacked.revision, inode);
        self.make_ready(&marker)?;
        self.roll_forward(&marker, &mut || Ok(()))
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

    /// Fails where the target was made with the other layout.
    fn require_layout(&self, path: &Path) -> Result<(), InstallError> {
        let marker = self.read(READY)?;
        let marker = marker.as_deref().and_then(Marker::parse);
        let is_there = |name| self.root.status(Some(&own(name))).is_ok();
        let is_versioned = is_there(versioned::REVISIONS_KEPT)
            || marker.as_ref().is_some_and(|marker| marker.inode.is_some());
        let is_direct = !is_versioned && (is_there(INSTALLED) || marker.is_some());
        let found = match self.layout {
            Layout::Direct if is_versioned => "versioned",
            Layout::Versioned if is_direct => "direct",
            _ => return Ok(()),
        };
        let path = path.into();
        Err(InstallError::Layout { path, found })
    }

    fn recover(&self) -> Result<(), InstallError> {
        let Some(marker) = self.read(READY)? else {
            return self.discard();
        };
        if let Some(marker) = Marker::parse(&marker).filter(Marker::is_of_this_boot) {
            self.roll_forward(&marker, &mut || Ok(()))?;
            info!(revision = %marker.revision, "finished an installation that was interrupted");
            return Ok(());
        }
        // The target may be half changed, so it does not hold what it says, and may hold what either listing has.
        self.remove(REVISION)?;
        if self.layout == Layout::Direct {
            self.join_listings()?;
        }
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

    fn write_directories(&self, unpacked: &Unpacked) -> Result<(), InstallError> {
        let directories = self.create(DIRECTORIES)?;
        record::write_directories(&unpacked.directories, BufWriter::new(directories))
            .map_err(InstallError::io("write", &own(DIRECTORIES)))
    }

    /// From here on there is no way back.
    fn make_ready(&self, marker: &Marker) -> Result<(), InstallError> {
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
        marker: &Marker,
        step: &mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        step()?;
        match marker.inode {
            Some(inode) => self.move_revision(marker.revision, inode, step)?,
            None => self.merge(step)?,
        }
        step()?;
        self.stamp(marker.revision);
        for (staged, name) in [
            (NEW_SEGMENTS, SEGMENTS),
            (STAMPED, STAMPS),
            (LISTING, INSTALLED),
            (NEW_REVISION, REVISION),
        ] {
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

    /// Moves the staged tree into the target, entry by entry.
    fn merge(
        &self,
        step: &mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        if self.root.status(Some(&own(NEW_REVISION))).is_ok() {
            self.remove(REVISION)?;
        }
        let mut placement = self.place(step)?;
        placement.remove_what_is_gone()?;
        placement.move_in()?;
        placement.close_directories()
    }

    /// Takes down how the entries lie in their places. Where that fails, the next run will know nothing of them.
    fn stamp(&self, revision: Revision) {
        if let Err(error) = self.try_to_stamp(revision) {
            debug!(error = %sentence(&error), "what the target holds is not recorded");
            drop(self.remove(STAMPED));
        }
    }

    fn try_to_stamp(&self, revision: Revision) -> Result<(), InstallError> {
        let stamped = own(STAMPED);
        let failed = InstallError::io("write", &stamped);
        let open = |name| self.root.open_file(&own(name)).map(BufReader::new);
        let (Ok(listing), Ok(stamps)) = (open(LISTING), open(NEW_STAMPS)) else {
            // That was done before.
            return Ok(());
        };
        let tree = match self.layout {
            Layout::Direct => Some(Arc::clone(&self.root)),
            Layout::Versioned => self.current().map(|(_, tree)| tree),
        };
        let (Some(tree), Some(stamps)) = (tree, stamps::Reader::new(stamps, revision)) else {
            return Ok(());
        };
        self.remove(STAMPED)?;
        let mut out = BufWriter::new(self.create(STAMPED)?);
        stamps::begin(revision, &mut out)
            .and_then(|()| stamps::complete(record::lines(listing).zip(stamps), &tree, out))
            .map_err(failed)
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
