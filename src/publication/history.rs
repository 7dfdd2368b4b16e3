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
    /// How often in a row it ended like that, where it failed; all else is told of the last time.
    pub times: u32,
}

/// The newest builds, at most 20.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<PastBuild>>);

impl History {
    /// A failure that is tried again and again takes one place, and drives nothing else out.
    pub(super) fn add(&self, mut build: PastBuild) {
        let mut builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_again =
            |last: &mut PastBuild| build.outcome.is_err() && last.outcome == build.outcome;
        if let Some(last) = builds.pop_front_if(is_again) {
            build.times = build.times.saturating_add(last.times);
        }
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

    fn failure(sentence: &str) -> PastBuild {
        PastBuild {
            began: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            result: BuildResult::Failed,
            outcome: Err(sentence.into()),
            times: 1,
        }
    }

    #[track_caller]
    fn check(history: &History, expected: &[(String, u32)]) {
        let builds = history.builds().into_iter();
        let told: Vec<_> = builds
            .map(|build| (build.outcome.unwrap_err(), build.times))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn the_newest_builds_are_remembered() {
        let history = History::default();
        (0..25).for_each(|number| history.add(failure(&number.to_string())));
        let expected: Vec<_> = (5..25)
            .rev()
            .map(|number| (number.to_string(), 1))
            .collect();
        check(&history, &expected);
    }

    #[test]
    fn a_failure_that_goes_on_takes_one_place() {
        let history = History::default();
        for sentence in ["a", "b", "b", "b", "a"] {
            history.add(failure(sentence));
        }
        check(
            &history,
            &[("a".into(), 1), ("b".into(), 3), ("a".into(), 1)],
        );
    }
}
