//! The artifact that is served now, its predecessors, and the builds that make it.
//!
//! One publishes, many look: a look at the current artifact never waits and never sees half of a change. Predecessors are
//! found once a store is there to keep them.

mod agenda;
pub mod build;
mod history;
mod hold;
mod news;
pub mod places;
pub mod publisher;
pub mod rebuild;
pub mod rebuilds;
mod survey;
mod worker;
mod workshop;

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::artifact::Artifact;
use crate::digest::{Digest, Revision};
use crate::store::{Retained, Store};
use history::History;
pub use history::PastBuild;

/// The place where the current artifact is put and found. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Publication {
    current: watch::Sender<Option<Arc<Artifact>>>,
    store: Arc<OnceLock<Arc<Store>>>,
    history: Arc<History>,
}

impl Publication {
    /// A place with nothing in it yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: watch::Sender::new(None),
            store: Arc::default(),
            history: Arc::default(),
        }
    }

    /// From now on predecessors are found in this store. Once it has one, it keeps it.
    pub fn keep_in(&self, store: Arc<Store>) {
        drop(self.store.set(store));
    }

    /// Makes an artifact the current one.
    pub fn publish(&self, artifact: Arc<Artifact>) {
        self.current.send_replace(Some(artifact));
    }

    /// The current artifact; `None` before the first.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Artifact>> {
        self.current.borrow().clone()
    }

    /// The artifact of this revision, if it can be served. Only for a predecessor is a disk waited for.
    pub async fn find(&self, revision: &Revision) -> Option<Arc<Artifact>> {
        let current = self.current();
        let current = current.filter(|artifact| artifact.descriptor().revision == *revision);
        if current.is_some() {
            return current;
        }
        let (store, revision) = (Arc::clone(self.store.get()?), *revision);
        // Anybody can ask for revisions that never were, and must not take a thread by it.
        if !store.has(&revision) {
            return None;
        }
        let found = spawn_blocking(move || store.find(&revision)).await;
        found.ok().flatten()
    }

    /// Remembers a build that came to its end.
    pub fn note(&self, build: PastBuild) {
        self.history.add(build);
    }

    /// The last builds, newest first; at most 20 of them.
    #[must_use]
    pub fn builds(&self) -> Vec<PastBuild> {
        self.history.builds()
    }

    /// What can be served, newest published first; the current artifact is among it.
    #[must_use]
    pub fn retained(&self) -> Vec<Retained> {
        let mut retained = self
            .store
            .get()
            .map(|store| store.retained())
            .unwrap_or_default();
        if let Some(current) = self.current() {
            let descriptor = current.descriptor();
            if retained
                .iter()
                .all(|other| other.digest != descriptor.digest)
            {
                retained.insert(0, Retained::new(descriptor, current.published()));
            }
        }
        retained
    }

    /// Serves an artifact no more whose bytes turned out to be others, and removes it from the store. Waits for the disk.
    ///
    /// If it is the current one there is none after that, until the next is published.
    pub async fn withdraw(&self, digest: &Digest) {
        self.current.send_if_modified(|current| {
            current
                .take_if(|artifact| artifact.descriptor().digest == *digest)
                .is_some()
        });
        if let Some(store) = self.store.get() {
            let (store, digest) = (Arc::clone(store), *digest);
            let removing = spawn_blocking(move || store.withdraw(&digest));
            // It ends early only with the runtime.
            drop(removing.await);
        }
    }
}

impl Default for Publication {
    fn default() -> Self {
        Self::new()
    }
}
