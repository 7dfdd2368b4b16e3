//! Attempts one after the other, of one server or several, until one succeeds or trying makes no sense any more.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use super::FetchError;
use super::attempt::AttemptError;
use super::progress::Progress;
use super::retry::Pace;
use super::sources::{Failure, Sources, Verdict};
use crate::config::url::Source;
use crate::exit::sentence;

/// Stands for no deadline, and for any later one: longer than anything runs, and short enough to be added to a clock.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 30);
/// An attempt that was cut short after this long tells more than the failure of the one before.
const TELLING: Duration = Duration::from_secs(1);

/// What can be tried again, and of another server.
pub(super) trait Task {
    /// What an attempt brings.
    type Done;

    /// Asks the server of this place from now on. `alone`: there is no other one left to ask.
    fn turn_to(&mut self, turn: usize, alone: bool);

    /// Goes on where the last attempt ended, as far as that is possible.
    async fn attempt(&mut self) -> Result<Self::Done, AttemptError>;

    /// Grows while there is progress that outlives an attempt.
    fn progress(&self) -> usize;

    /// How far it is, if this is the end.
    fn unfinished(&self) -> AttemptError;
}

/// Who is asked, for how long, and how eagerly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// In the order in which they are preferred; never empty.
    pub(super) sources: &'a [Source],
    pub(super) deadline: Option<Duration>,
    pub(super) pace: Pace,
}

/// Tries until it is done, or trying makes no sense any more. `attempts` counts, also when the future is dropped.
pub(super) async fn within<T: Task>(
    terms: Terms<'_>,
    task: &mut T,
    progress: &Progress,
    attempts: &mut u32,
) -> Result<T::Done, FetchError> {
    let started = Instant::now();
    let limit = terms.deadline.map_or(FOREVER, |limit| limit.min(FOREVER));
    let deadline = started + limit;
    let mut sources = Sources::new(terms.sources.len(), terms.pace);
    while let Some((turn, ready)) = sources.next() {
        if started + ready > Instant::now() {
            sleep_until(deadline.min(started + ready)).await;
        }
        if Instant::now() >= deadline && *attempts > 0 {
            return Err(sources.late(terms.sources, limit, *attempts));
        }
        task.turn_to(turn, sources.is_alone());
        *attempts += 1;
        let (begun, done) = (started.elapsed(), task.progress());
        let error = match timeout_at(deadline, task.attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => {
                let tells_more = started.elapsed() >= begun + TELLING;
                sources.cut(turn, task.unfinished(), tells_more);
                return Err(sources.late(terms.sources, limit, *attempts));
            }
        };
        progress.failed(&sentence(&error));
        let news = sources.news(turn, &error);
        let failure = Failure {
            error,
            progressed: task.progress() > done,
            begun,
            ended: started.elapsed(),
        };
        match sources.failed(turn, failure, fastrand::f64()) {
            Verdict::Again => {
                if let Some(error) = news {
                    progress.log(|| warn!(%error, "trying again"));
                }
            }
            Verdict::Over => break,
            Verdict::Ours(error) => return Err(FetchError::Failed(error)),
        }
    }
    Err(sources.over(terms.sources))
}
