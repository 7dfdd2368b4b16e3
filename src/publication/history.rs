//! The last builds that came to an end, for whoever wants to see how it goes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::digest::Revision;
use crate::metrics::BuildResult;

/// So many builds are remembered.
const LENGTH: usize = 20;

/// A build that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastBuild {
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: BuildResult,
    /// The revision that the tree has by it, or why it failed: a sentence that names no path but of the tree.
    pub outcome: Result<Revision, String>,
}

/// The newest builds, at most 20.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<PastBuild>>);

impl History {
    pub(super) fn add(&self, build: PastBuild) {
        let mut builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        builds.truncate(LENGTH - 1);
        builds.push_front(build);
    }

    /// Newest first.
    pub(super) fn builds(&self) -> Vec<PastBuild> {
        let builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        builds.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_builds_are_remembered() {
        let history = History::default();
        let builds = (0..25).map(|number| PastBuild {
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(number),
            took: Duration::ZERO,
            result: BuildResult::Failed,
            outcome: Err(number.to_string()),
        });
        builds.for_each(|build| history.add(build));
        let told = history.builds().into_iter().map(|build| build.outcome);
        let expected: Vec<_> = (5..25)
            .rev()
            .map(|number| Err(number.to_string()))
            .collect();
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
