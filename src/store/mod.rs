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

use crate::artifact::{Artifact, Lease};
use crate::descriptor::Descriptor;
use crate::digest::{Digest, Revision};
pub use announcement::{LastBuild, LastResult, ServerRecord, ServerRules};
pub use error::StoreError;
use index::{Found, Index};
use layout::{Layout, Part};
pub use place::{create, default_directory, is_in_memory};
use record::Record;
pub use record::Retained;
use retention::Retention;

/// The files of a build, before they have their names.
const STAGED: [&str; 3] = ["archive", "listing", "scan-cache"];
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

/// Files that are being built, open for reading and writing.
#[derive(Debug)]
pub struct Staged {
    /// For the archive.
    pub archive: File,
    /// For the listing.
    pub listing: File,
    /// For what the next build is to know of the tree.
    pub cache: File,
}

/// An artifact that can be served, and is not on disk yet for certain.
#[derive(Debug)]
pub struct Kept {
    /// To be published.
    pub artifact: Arc<Artifact>,
    /// For [`Store::keep_scan_cache`].
    pub cache: File,
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

    /// New files to build into, in place of those of an earlier build. They are gone when the store is opened again.
    pub fn stage(&self) -> io::Result<Staged> {
        let [archive, listing, cache] =
            STAGED.map(|name| layout::create(&self.layout.staged(name)));
        Ok(Staged {
            archive: archive?,
            listing: listing?,
            cache: cache?,
        })
    }

    /// Gives back the disk space of a build that failed. What cannot be removed is overwritten by the next one.
    pub fn discard_staged(&self) {
        for name in STAGED {
            drop(fs::remove_file(self.layout.staged(name)));
        }
    }

    /// Gives staged files their names, without waiting until they are on disk. The artifact is retained from now on, and
    /// newer than all others.
    ///
    /// If there is an artifact of that digest already, it is that one, published anew, and the staged files are discarded.
    /// After a failure nothing has a name that had none before, and what was staged is to be discarded.
    pub fn keep(
        &self,
        staged: Staged,
        descriptor: Descriptor,
        recipe: &[u8],
    ) -> Result<Kept, StoreError> {
        let _naming = self.naming();
        let published = self.index().next_time(SystemTime::now());
        let Staged {
            archive,
            listing,
            cache,
        } = staged;
        if let Some(artifact) = self.publish_again(&descriptor.digest, published) {
            for name in &STAGED[..2] {
                drop(fs::remove_file(self.layout.staged(name)));
            }
            return Ok(Kept { artifact, cache });
        }
        let staging = self.layout.staging();
        let failed = |source| StoreError::io(&staging, source);
        let rest = [recipe.len(), descriptor.to_json().len()];
        let stored = record::stored(&archive, &listing, rest).map_err(failed)?;
        let retained = Retained::new(&descriptor, published);
        let lease = Lease::default();
        let artifact = Artifact::new(descriptor, archive, listing, published).map_err(failed)?;
        let artifact = Arc::new(artifact.under(&lease));
        self.name_content(&retained.digest, recipe)?;
        self.index().add(Record {
            retained,
            stored,
            asked: published,
            durable: false,
            open: Arc::downgrade(&artifact),
            lease,
        });
        Ok(Kept { artifact, cache })
    }

    /// Sees that an artifact is on disk, and has the next start serve it. It may be called again after a failure, which
    /// leaves the one that was current before.
    ///
    /// An artifact that was kept by this process must still be open somewhere: its descriptor is only written here.
    pub fn make_current(&self, digest: &Digest) -> Result<(), StoreError> {
        for part in Part::CONTENT {
            let path = self.layout.part(digest, part);
            layout::sync(&path).map_err(|source| StoreError::io(&path, source))?;
        }
        let _naming = self.naming();
        self.write_descriptor(digest)?;
        let (staged, path) = (self.layout.staged("current"), self.layout.current());
        let text = format!("{digest}\n");
        layout::replace_synced(&staged, &path, text.as_bytes(), SystemTime::now())
            .and_then(|()| layout::sync_directory(self.layout.directory()))
            .map_err(|source| StoreError::io(&path, source))?;
        let previous = self.index().current();
        self.index().set_current(Some(*digest));
        // It was asked for under the name of the current one until now.
        if let Some(previous) = previous.filter(|previous| previous != digest) {
            self.note_asked(&previous);
        }
        Ok(())
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

    /// Gives the cache that was staged its name. The handle is taken, so that nobody writes to it afterwards; the bytes
    /// need not be on disk.
    pub fn keep_scan_cache(&self, cache: File) -> Result<(), StoreError> {
        drop(cache);
        let path = self.layout.scan_cache();
        fs::rename(self.layout.staged(STAGED[2]), &path)
            .map_err(|source| StoreError::io(&path, source))
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

    /// An artifact that is there already, as one that is published at this time. The caller is naming.
    ///
    /// One whose files are gone is forgotten, even if somebody has it open: what was built replaces it.
    fn publish_again(&self, digest: &Digest, published: SystemTime) -> Option<Arc<Artifact>> {
        let durable = self.index().get(digest)?.durable;
        let checked = record::check_files(&self.layout, digest, durable);
        match checked.and_then(|()| self.open_shared(digest)) {
            Ok(artifact) => {
                let artifact = Arc::new(artifact?.republished(published));
                self.index().republish(&artifact);
                Some(artifact)
            }
            Err(error) => {
                debug!(%digest, %error, "cannot open an artifact that was built again");
                self.remove(digest);
                None
            }
        }
    }

    /// Gives its names to all that an artifact has but its descriptor, or to nothing. The caller is naming.
    fn name_content(&self, digest: &Digest, recipe: &[u8]) -> Result<(), StoreError> {
        let staged = self.layout.staged("recipe");
        let mark = self.layout.part(digest, Part::Descriptor);
        if fs::symlink_metadata(&mark).is_ok() {
            record::remove(&self.layout, &[*digest])
                .map_err(|source| StoreError::io(&mark, source))?;
        }
        let name = || {
            let path = self.layout.part(digest, Part::Recipe);
            layout::write(&staged, recipe).map_err(|source| StoreError::io(&path, source))?;
            for (name, part) in [STAGED[0], STAGED[1], "recipe"]
                .into_iter()
                .zip(Part::CONTENT)
            {
                let path = self.layout.part(digest, part);
                fs::rename(self.layout.staged(name), &path)
                    .map_err(|source| StoreError::io(&path, source))?;
            }
            Ok(())
        };
        name().inspect_err(|_| {
            drop(fs::remove_file(&staged));
            for part in Part::CONTENT {
                drop(fs::remove_file(self.layout.part(digest, part)));
            }
        })
    }

    /// Marks an artifact whose content is on disk as whole, and published when it was. The caller is naming.
    fn write_descriptor(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layout.part(digest, Part::Descriptor);
        let failed = |source| StoreError::io(&path, source);
        let found = self.index().get(digest).map(|record| {
            let published = record.retained.published_at;
            (published, record.durable, record.open.upgrade())
        });
        match found {
            Some((published, true, _)) => {
                let file = record::set_time(&path, published).map_err(failed)?;
                file.sync_all().map_err(failed)?;
            }
            Some((published, false, Some(artifact))) => {
                let json = artifact.descriptor().to_json();
                let staged = self.layout.staged("descriptor");
                layout::replace_synced(&staged, &path, &json, published).map_err(failed)?;
            }
            _ => return Err(failed(io::ErrorKind::NotFound.into())),
        }
        layout::sync_directory(&self.layout.artifacts()).map_err(failed)?;
        self.index().mark_durable(digest);
        Ok(())
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
