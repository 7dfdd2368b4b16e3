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
        if self.store.set(store).is_ok() {
            // One of them may be waited for.
            self.current.send_modify(|_| {});
        }
    }

    /// Makes an artifact the current one, and wakes those who wait for one, unless it has the same bytes as the last.
    pub fn publish(&self, artifact: Arc<Artifact>) {
        self.current.send_if_modified(|current| {
            let before = current.replace(artifact);
            let bytes = |artifact: &Artifact| {
                let (archive, json) = (artifact.archive().digest(), artifact.json().digest());
                (archive, json)
            };
            before.as_deref().map(bytes) != current.as_deref().map(bytes)
        });
    }

    /// The current artifact; `None` before the first.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Artifact>> {
        self.current.borrow().clone()
    }

    /// Waits until the current artifact is such a one, and gives it.
    ///
    /// It is looked at once at the start, and then once behind each publication; of several in quick succession the last may
    /// be the only one seen. Takes no time and no thread in between. Cancel safe: whoever waits again has missed nothing.
    pub async fn wait_for(&self, mut is_such: impl FnMut(&Artifact) -> bool) -> Arc<Artifact> {
        let mut changes = self.current.subscribe();
        let current = changes.wait_for(|current| current.as_deref().is_some_and(&mut is_such));
        let current = current.await.expect("the sender is our own");
        Arc::clone(current.as_ref().expect("only an artifact is such a one"))
    }

    /// Waits until the artifact of this revision can be served, be it the current one or a predecessor, and gives it.
    ///
    /// Cancel safe, and as cheap as [`Self::wait_for`].
    pub async fn wait_for_revision(&self, revision: &Revision) -> Arc<Artifact> {
        let mut changes = self.current.subscribe();
        loop {
            // What came and went between two looks is found among the predecessors.
            if let Some(found) = self.find(revision).await {
                return found;
            }
            changes.changed().await.expect("the sender is our own");
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    use std::time::SystemTime;

    use super::*;
    use crate::descriptor::Descriptor;

    fn artifact(archive: &[u8], created_at: SystemTime) -> Arc<Artifact> {
        let descriptor = Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(Digest::of(archive)),
            digest: Digest::of(archive),
            size: archive.len() as u64,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at,
            segments: Vec::new(),
            left_out: BTreeMap::new(),
        };
        let file = || -> File { tempfile::tempfile().unwrap() };
        let sized = file();
        sized.set_len(archive.len() as u64).unwrap();
        Arc::new(Artifact::new(descriptor, sized, file(), created_at).unwrap())
    }

    /// Counts how often somebody is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_publication_of_other_bytes_wakes_once() {
        let publication = Publication::new();
        let (start, later) = (SystemTime::UNIX_EPOCH, SystemTime::now());
        let counted = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&counted));
        let mut context = Context::from_waker(&waker);
        let wanted = Digest::of(b"c");
        let waiting = publication.wait_for(|artifact| artifact.descriptor().digest == wanted);
        let mut waiting = pin!(waiting);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        // The same archive with another descriptor is news to those who wait for the descriptor.
        for (published, expected) in [
            (artifact(b"a", start), 1),
            (artifact(b"a", start), 1),
            (artifact(b"a", later), 2),
            (artifact(b"b", start), 3),
        ] {
            publication.publish(published);
            assert_eq!(counted.0.load(Ordering::Relaxed), expected);
            assert!(waiting.as_mut().poll(&mut context).is_pending());
        }
        publication.publish(artifact(b"c", start));
        let Poll::Ready(found) = waiting.as_mut().poll(&mut context) else {
            panic!("it is there");
        };
        assert_eq!(found.descriptor().digest, wanted);
        assert_eq!(counted.0.load(Ordering::Relaxed), 4);
    }
}
