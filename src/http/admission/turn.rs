//! A download's permission to move.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;

/// That a download may move. Dropping it ends that.
#[derive(Debug)]
pub(in crate::http) struct Turn {
    shared: Arc<Shared>,
    pub(super) moved: AtomicU64,
    pub(super) place: Mutex<Place>,
}

#[derive(Debug)]
pub(super) enum Place {
    /// Among those whose turn it is. `None` once it is given back.
    Within(Option<OwnedSemaphorePermit>),
    /// Beside them, as long as it takes.
    Beside { _permit: OwnedSemaphorePermit },
}

impl Turn {
    pub(super) fn begin(shared: Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            shared,
            moved: AtomicU64::new(0),
            place: Mutex::new(Place::Within(Some(permit))),
        }
    }

    /// So many bytes more are on their way.
    pub(in crate::http) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.shared.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Goes on beside the turns, if there is room.
    pub(super) fn step_aside(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Place::Within(turn) = &mut *place else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.shared.beside).try_acquire_owned() else {
            return;
        };
        if let Some(turn) = turn.take() {
            self.shared.take_back(turn);
        }
        *place = Place::Beside { _permit: permit };
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Place::Within(Some(turn)) = std::mem::replace(place, Place::Within(None)) {
            self.shared.take_back(turn);
        }
    }
}
