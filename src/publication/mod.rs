//! The artifact that is served now, and the builds that make it.
//!
//! One publishes, many look: a look never waits and never sees half of a change.

pub mod build;
pub mod publisher;
pub mod settle;

use std::sync::Arc;

use tokio::sync::watch;

use crate::artifact::Artifact;
use crate::digest::Revision;

/// The place where the current artifact is put and found. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Publication {
    current: watch::Sender<Option<Arc<Artifact>>>,
}

impl Publication {
    /// A place with nothing in it yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: watch::Sender::new(None),
        }
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

    /// The artifact of this revision, if it can be served.
    #[must_use]
    pub fn find(&self, revision: &Revision) -> Option<Arc<Artifact>> {
        self.current()
            .filter(|artifact| artifact.descriptor().revision == *revision)
    }
}

impl Default for Publication {
    fn default() -> Self {
        Self::new()
    }
}
