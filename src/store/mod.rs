//! The state directory: where artifacts lie on disk, and which of them stay.
//!
//! ```text
//! lock                      held by the one server that uses the directory
//! server                    what that server tells of itself: see ServerRecord
//! artifacts/<hex>.tar.gz    an archive, named by its digest; modified when it was asked for last
//! artifacts/<hex>.list      its listing
//! artifacts/<hex>.recipe    what the next build compares its segments with
//! artifacts/<hex>.json      its descriptor; modified when it was published last
//! current                   the digest of the artifact that the next start serves
//! scan-cache                what the last build knew of the tree; of use only if whole, and so checked by its reader
//! staging/                  what is being written; emptied at start
//! ```
//!
//! Whatever is seen under its name is complete: it was written under `staging/` and renamed. A new artifact has names for
//! its content before that is on disk, so that it can be served at once ([`Store::keep`]); its descriptor follows when it
//! is, and `current` last ([`Store::make_current`]). So after a crash at any point an artifact that has a descriptor is
//! whole, one without is no artifact, and the one that was current before is current still.
//!
//! Names are given and taken by one thread at a time. What is remembered of an artifact does not keep its files open; they
//! are opened when it is asked for, and shared by all who have it.

mod announcement;
mod error;
mod index;
mod keeping;
mod layout;
mod place;
mod record;
mod recovery;
pub mod retention;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use tracing::{debug, info, warn};

use crate::artifact::Artifact;
use crate::digest::{Digest, Revision};
pub use announcement::{LastBuild, LastResult, ServerAccess, ServerRecord, ServerRules};
pub use error::StoreError;
use index::{Found, Index};
pub use keeping::{Kept, Staged};
use layout::{Layout, Part};
pub use place::{create, default_directory, is_in_memory};
use record::Record;
pub use record::Retained;
use retention::Retention;

/// The longest recipe that is read, in bytes.
const LONGEST_RECIPE: u64 = 64 << 20;

/// A state directory that this process alone uses. Everything here waits for the disk but where it says otherwise.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    /// Never held while a disk is waited for.
    index: Mutex<Index>,
    /// Held by the one who gives names or takes them.
    naming: Mutex<()>,
    _lock: File,
}

/// What an earlier process served last.
#[derive(Debug)]
pub struct Stored {
    /// To be published.
    pub artifact: Arc<Artifact>,
    /// As it was given to [`Store::keep`].
    pub recipe: Vec<u8>,
}

impl Store {
    /// Takes a state directory that [`create`] made; `None` while another process has it.
    ///
    /// Artifacts of earlier processes are taken over if they are whole, and removed if not. A directory that never was a
    /// state directory is refused if that would take anything away.
    pub fn try_open(directory: &Path) -> Result<Option<Self>, StoreError> {
        let layout = Layout::new(directory);
        let exists = |path: PathBuf| fs::symlink_metadata(path).is_ok();
        // The lock last: another process makes it first.
        if (exists(layout.staging()) || exists(layout.artifacts())) && !exists(layout.lock()) {
            let path = directory.into();
            return Err(StoreError::Occupied { path });
        }
        let Some(lock) = layout::take_lock(&layout.lock())? else {
            return Ok(None);
        };
        let index = recovery::take_over(&layout)?;
        Ok(Some(Self {
            layout,
            index: Mutex::new(index),
            naming: Mutex::new(()),
            _lock: lock,
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.layout.directory()
    }

    /// What was served last when the directory was opened, or is to be served by the next start.
    pub fn current(&self) -> Option<Stored> {
        let digest = self.index().current()?;
        let artifact = self.open(&digest)?;
        let path = self.layout.part(&digest, Part::Recipe);
        match layout::read(&path, LONGEST_RECIPE) {
            Ok(recipe) => Some(Stored { artifact, recipe }),
            Err(error) => {
                warn!(file = %path.display(), %error, "cannot read the recipe of the artifact that was served last");
                if layout::is_damage(&error) {
                    self.withdraw(&digest);
                }
                None
            }
        }
    }

    /// Removes an artifact whose bytes are not those that its name says. Downloads that run on it keep it open.
    pub fn withdraw(&self, digest: &Digest) {
        let _naming = self.naming();
        self.remove(digest);
    }

    /// Whether an artifact of this revision is retained. Does not wait for the disk.
    #[must_use]
    pub fn has(&self, revision: &Revision) -> bool {
        self.index().newest_of(revision).is_some()
    }

    /// The artifact of a revision that is retained, the newest if there are several; that it was asked for is noted.
    pub fn find(&self, revision: &Revision) -> Option<Arc<Artifact>> {
        let digest = self.index().newest_of(revision)?;
        let artifact = self.open(&digest)?;
        self.note_asked(&digest);
        Some(artifact)
    }

    /// What is retained, newest published first. Does not wait for the disk.
    #[must_use]
    pub fn retained(&self) -> Vec<Retained> {
        self.index().retained()
    }

    /// Removes artifacts that are not to be kept, and says so in the log.
    pub fn retire(&self, retention: &Retention, now: SystemTime) {
        let _naming = self.naming();
        let records = self.index().retire(retention, now);
        if records.is_empty() {
            return;
        }
        let digests: Vec<_> = records
            .iter()
            .map(|record| record.retained.digest)
            .collect();
        if let Err(error) = record::remove(&self.layout, &digests) {
            warn!(%error, "cannot remove all files of archives that are not kept any longer");
        }
        for Record {
            retained, stored, ..
        } in records
        {
            let (revision, digest) = (retained.revision, retained.digest);
            info!(%revision, %digest, bytes = stored, "retired");
        }
    }

    /// What the last build left with [`Store::keep_scan_cache`], if it can be opened.
    #[must_use]
    pub fn scan_cache(&self) -> Option<File> {
        layout::open(&self.layout.scan_cache()).ok()
    }

    /// Tells those who look into the state directory who serves, and how far it is.
    pub fn announce(&self, record: &ServerRecord) -> Result<(), StoreError> {
        let (staged, path) = (self.layout.staged("server"), self.layout.server());
        let _naming = self.naming();
        layout::replace(&staged, &path, &record.to_json())
            .map_err(|source| StoreError::io(&path, source))
    }

    /// Takes back what was announced; so does the end of the store.
    pub fn retract(&self) {
        drop(fs::remove_file(self.layout.server()));
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("nobody panics while holding it")
    }

    fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().expect("nobody panics while holding it")
    }

    /// Opens an artifact, or gives the one that is open. One that is damaged is removed with a line in the log.
    fn open(&self, digest: &Digest) -> Option<Arc<Artifact>> {
        let first = self.open_shared(digest);
        let Err(error) = first else {
            return first.ok().flatten();
        };
        if !layout::is_damage(&error) {
            warn!(%digest, %error, "cannot open an archive that is kept");
            return None;
        }
        // It may have been retired, or built again, just before its files were opened.
        let _naming = self.naming();
        self.open_shared(digest).unwrap_or_else(|error| {
            warn!(%digest, %error, "removed from the state directory: it is damaged");
            self.remove(digest);
            None
        })
    }

    fn open_shared(&self, digest: &Digest) -> io::Result<Option<Arc<Artifact>>> {
        let found = self.index().find(digest);
        match found {
            None => Ok(None),
            Some(Found::Open(artifact)) => Ok(Some(artifact)),
            Some(Found::Closed { published, lease }) => {
                let artifact = record::open(&self.layout, digest, published)?.under(&lease);
                Ok(Some(self.index().share(Arc::new(artifact))))
            }
        }
    }

    /// Forgets an artifact and removes its files. The caller is naming.
    fn remove(&self, digest: &Digest) {
        let was_current = self.index().current() == Some(*digest);
        self.index().remove(digest);
        if was_current {
            drop(fs::remove_file(self.layout.current()));
        }
        if let Err(error) = record::remove(&self.layout, &[*digest]) {
            warn!(%digest, %error, "cannot remove all files of an archive");
        }
    }

    /// Notes that an artifact was asked for, on disk not more than once a minute: it decides what is kept.
    fn note_asked(&self, digest: &Digest) {
        let now = SystemTime::now();
        if self.index().note_asked(digest, now) {
            let path = self.layout.part(digest, Part::Archive);
            if let Err(error) = record::set_time(&path, now) {
                debug!(file = %path.display(), %error, "cannot note that an archive was asked for");
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.retract();
    }
}
