//! The way of a build into the store: names for its files first, and the disk after that.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::debug;

use super::layout::{self, Part};
use super::record::{self, Record, Retained};
use super::{Store, StoreError};
use crate::artifact::{Artifact, Lease};
use crate::descriptor::Descriptor;
use crate::digest::Digest;

/// The files of a build, before they have their names.
const ARCHIVE: &str = "archive";
const LISTING: &str = "listing";
const CACHE: &str = "scan-cache";
/// Written once the archive is known to be a new one.
const RECIPE: &str = "recipe";

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

impl Store {
    /// New files to build into, in place of those of an earlier build. They are gone when the store is opened again.
    pub fn stage(&self) -> io::Result<Staged> {
        let create = |name| layout::create(&self.layout.staged(name));
        Ok(Staged {
            archive: create(ARCHIVE)?,
            listing: create(LISTING)?,
            cache: create(CACHE)?,
        })
    }

    /// Gives back the disk space of a build that failed. What cannot be removed is overwritten by the next one.
    pub fn discard_staged(&self) {
        for name in [ARCHIVE, LISTING, CACHE] {
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
            for name in [ARCHIVE, LISTING] {
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

    /// Gives the cache that was staged its name. The handle is taken, so that nobody writes to it afterwards; the bytes
    /// need not be on disk.
    pub fn keep_scan_cache(&self, cache: File) -> Result<(), StoreError> {
        drop(cache);
        let path = self.layout.scan_cache();
        fs::rename(self.layout.staged(CACHE), &path).map_err(|source| StoreError::io(&path, source))
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
        let staged = self.layout.staged(RECIPE);
        let mark = self.layout.part(digest, Part::Descriptor);
        if fs::symlink_metadata(&mark).is_ok() {
            record::remove(&self.layout, &[*digest])
                .map_err(|source| StoreError::io(&mark, source))?;
        }
        let name = || {
            let path = self.layout.part(digest, Part::Recipe);
            layout::write(&staged, recipe).map_err(|source| StoreError::io(&path, source))?;
            for (name, part) in [ARCHIVE, LISTING, RECIPE].into_iter().zip(Part::CONTENT) {
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
}
