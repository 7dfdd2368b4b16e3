//! Asking for a build, and waiting for what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::store::LastBuild;

/// A way to the publisher. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Rebuilds {
    wanted: Arc<Notify>,
    last: watch::Sender<Option<Ended>>,
}

/// A build that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began: what was changed before is in it.
    pub began: Instant,
    /// What became of it.
    pub build: LastBuild,
}

impl Rebuilds {
    /// A way to a publisher that is still to come.
    #[must_use]
    pub fn new() -> Self {
        Self {
            wanted: Arc::new(Notify::new()),
            last: watch::Sender::new(None),
        }
    }

    /// Has a build begin as soon as possible.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Has a build begin, and waits for the end of the first one that began after this moment; `None` if it takes longer.
    pub async fn build_since(&self, moment: Instant, limit: Duration) -> Option<Ended> {
        let mut last = self.last.subscribe();
        self.hurry();
        let is_new =
            |last: &Option<Ended>| last.as_ref().is_some_and(|ended| ended.began >= moment);
        let waited = timeout(limit, last.wait_for(is_new)).await;
        waited.ok()?.ok()?.clone()
    }

    /// Waits until somebody wants a build. Cancel safe.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(super) fn ended(&self, ended: Ended) {
        self.last.send_replace(Some(ended));
    }
}

impl Default for Rebuilds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::LastResult;

    fn ended(began: Instant) -> Ended {
        Ended {
            began,
            build: LastBuild {
                began: SystemTime::UNIX_EPOCH,
                result: LastResult::Failed,
                revision: None,
                error: None,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_build_that_began_later_is_an_answer() {
        let rebuilds = Rebuilds::new();
        let moment = Instant::now();
        let waiting = rebuilds.build_since(moment, Duration::from_secs(1));
        let publisher = async {
            rebuilds.wanted().await;
            rebuilds.ended(ended(moment.checked_sub(Duration::from_millis(1)).unwrap()));
            tokio::task::yield_now().await;
            rebuilds.ended(ended(moment));
        };
        let (answer, ()) = tokio::join!(waiting, publisher);
        assert_eq!(answer, Some(ended(moment)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_does_nothing_is_not_waited_for_without_end() {
        let rebuilds = Rebuilds::new();
        let answer = rebuilds.build_since(Instant::now(), Duration::from_mins(1));
        assert_eq!(answer.await, None);
    }
}
