//! Whose turn it is to download.
//!
//! When many clients want an archive at once, a link that is divided among all of them serves each of them late, and all at
//! the same time. Given to a few at a time it is as busy, but half of the clients have their archive after half of the time.
//! So at most so many bodies move at once, and the others wait in the order in which they came.
//!
//! A turn is for clients that use it. Who takes less than [`SLOW`] bytes in a [`WINDOW`], while others wait, loses the turn to
//! the next and goes on beside: of those there may be [`BESIDE`] times as many. When that is full, too, the slow keep their
//! turns, for then the link itself must be slow.
//!
//! Nobody waits for ever: not beyond the patience given, and no more wait than the bound allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use crate::metrics::Metrics;

/// How long a download is watched before it is called slow. Nothing is watched while nobody waits.
const WINDOW: Duration = Duration::from_secs(1);

/// What a client takes in that time if it is not held up by itself: a few at a time share a link of 10 Mbit/s and still have
/// more than this each.
const SLOW: u64 = 256 << 10;

/// How many slow downloads go on for each turn there is.
const BESIDE: usize = 16;

/// Who may download now. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    turns: Arc<Semaphore>,
    beside: Arc<Semaphore>,
    /// How many more may wait.
    room: Semaphore,
    /// Those whose turn it is.
    holders: Mutex<Vec<Holder>>,
    /// Held by the one of those who wait that watches the holders: when they were reviewed last.
    reviewed: tokio::sync::Mutex<Instant>,
    metrics: Metrics,
}

/// That a download may move. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Turn {
    moved: AtomicU64,
    permit: Mutex<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Holder {
    turn: Weak<Turn>,
    /// What it had moved when the window began.
    moved: u64,
    since: Instant,
}

/// Too many wait already, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Admission {
    /// So many may move at once, and so many wait.
    pub(super) fn new(turns: usize, waiting: usize, metrics: Metrics) -> Self {
        let permits = |count: usize| count.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            turns: Arc::new(Semaphore::new(permits(turns))),
            beside: Arc::new(Semaphore::new(permits(turns.saturating_mul(BESIDE)))),
            room: Semaphore::new(permits(waiting)),
            holders: Mutex::default(),
            reviewed: tokio::sync::Mutex::new(Instant::now()),
            metrics,
        }))
    }

    /// Where those are counted who wait or are refused.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// A turn, if one is free at once.
    pub(super) fn try_turn(&self) -> Option<Arc<Turn>> {
        let permit = Arc::clone(&self.0.turns).try_acquire_owned().ok()?;
        Some(self.begin(permit))
    }

    /// Waits for a turn, behind all who came before, and so long at most.
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn turn(&self, patience: Duration) -> Result<Arc<Turn>, Refused> {
        let turn = self.wait_for_turn(patience).await;
        if turn.is_err() {
            self.0.metrics.download_rejected();
        }
        turn
    }

    async fn wait_for_turn(&self, patience: Duration) -> Result<Arc<Turn>, Refused> {
        let _room = self.0.room.try_acquire().map_err(|_| Refused)?;
        let _counted = self.0.metrics.download_waits();
        tokio::select! {
            permit = Arc::clone(&self.0.turns).acquire_owned() => {
                Ok(self.begin(permit.expect("nobody closes the semaphore")))
            }
            () = self.watch() => unreachable!("watching goes on as long as one waits"),
            () = sleep(patience) => Err(Refused),
        }
    }

    fn begin(&self, permit: OwnedSemaphorePermit) -> Arc<Turn> {
        let turn = Arc::new(Turn {
            moved: AtomicU64::new(0),
            permit: Mutex::new(permit),
        });
        self.holders().push(Holder {
            turn: Arc::downgrade(&turn),
            moved: 0,
            since: Instant::now(),
        });
        turn
    }

    /// Watches the holders, once nobody else does who waits.
    async fn watch(&self) {
        let mut reviewed = self.0.reviewed.lock().await;
        loop {
            sleep_until(*reviewed + WINDOW).await;
            *reviewed = Instant::now();
            self.review(*reviewed);
        }
    }

    /// Takes their turns from those who do not use them.
    fn review(&self, now: Instant) {
        self.holders().retain_mut(|holder| {
            let Some(turn) = holder.turn.upgrade() else {
                return false;
            };
            let moved = turn.moved.load(Ordering::Relaxed);
            match judge(moved - holder.moved, now - holder.since) {
                Pace::Unknown => true,
                Pace::Slow if self.step_aside(&turn) => false,
                Pace::Slow | Pace::Fast => {
                    (holder.moved, holder.since) = (moved, now);
                    true
                }
            }
        });
    }

    /// Has a download go on beside the turns, if there is room.
    fn step_aside(&self, turn: &Turn) -> bool {
        let Ok(permit) = Arc::clone(&self.0.beside).try_acquire_owned() else {
            return false;
        };
        // The turn that is replaced goes to the next who waits.
        *turn.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
        true
    }

    fn holders(&self) -> MutexGuard<'_, Vec<Holder>> {
        let mut holders = self
            .0
            .holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        holders.retain(|holder| holder.turn.strong_count() > 0);
        holders
    }
}

impl Turn {
    /// So many bytes more are on their way.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// It was not watched for long enough.
    Unknown,
    Slow,
    Fast,
}

/// How fast a download is that has moved so much in so long.
fn judge(moved: u64, elapsed: Duration) -> Pace {
    let windows = elapsed.as_millis() / WINDOW.as_millis();
    match u64::try_from(windows).unwrap_or(u64::MAX) {
        0 => Pace::Unknown,
        windows if moved < SLOW.saturating_mul(windows) => Pace::Slow,
        _ => Pace::Fast,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn is_pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        matches!(
            future.poll(&mut Context::from_waker(Waker::noop())),
            Poll::Pending
        )
    }

    #[test]
    fn a_pace_is_told_by_whole_windows() {
        let check = |moved, milliseconds, expected| {
            let pace = judge(moved, Duration::from_millis(milliseconds));
            assert_eq!(pace, expected, "{moved} bytes in {milliseconds} ms");
        };
        check(0, 0, Pace::Unknown);
        check(0, 999, Pace::Unknown);
        check(0, 1000, Pace::Slow);
        check(SLOW - 1, 1000, Pace::Slow);
        check(SLOW, 1000, Pace::Fast);
        check(SLOW, 1999, Pace::Fast);
        check(SLOW, 2000, Pace::Slow);
        check(SLOW * 2, 2000, Pace::Fast);
        check(u64::MAX, u64::MAX / 2, Pace::Fast);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_in_order_of_arrival() {
        let admission = Admission::new(1, 10, Metrics::new("1"));
        let first = admission.try_turn().unwrap();
        let mut second = pin!(admission.turn(PATIENCE));
        assert!(is_pending(second.as_mut()));
        let mut third = pin!(admission.turn(PATIENCE));
        assert!(is_pending(third.as_mut()));
        drop(first);
        // Not even one who comes just then goes before those who wait.
        assert!(admission.try_turn().is_none());
        assert!(is_pending(third.as_mut()));
        drop(second.await.unwrap());
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_is_passed_over() {
        let admission = Admission::new(1, 10, Metrics::new("1"));
        let first = admission.try_turn().unwrap();
        let mut last = Box::pin(admission.turn(PATIENCE));
        assert!(is_pending(last.as_mut()));
        let mut next = pin!(admission.turn(PATIENCE));
        assert!(is_pending(next.as_mut()));
        drop((last, first));
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_patience() {
        let admission = Admission::new(1, 10, Metrics::new("1"));
        let turn = admission.try_turn().unwrap();
        let busy = async {
            loop {
                turn.moved(SLOW);
                sleep(WINDOW / 2).await;
            }
        };
        let began = Instant::now();
        tokio::select! {
            refused = admission.turn(PATIENCE) => assert_eq!(refused.unwrap_err(), Refused),
            () = busy => {}
        }
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_the_bound_allows() {
        let admission = Admission::new(1, 1, Metrics::new("1"));
        let _turn = admission.try_turn().unwrap();
        let mut waiting = Box::pin(admission.turn(PATIENCE));
        assert!(is_pending(waiting.as_mut()));
        assert_eq!(admission.turn(PATIENCE).await.unwrap_err(), Refused);
        drop(waiting);
        assert!(is_pending(pin!(admission.turn(PATIENCE))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_loses_its_turn_to_the_next_and_a_fast_one_does_not() {
        let admission = Admission::new(2, 10, Metrics::new("1"));
        let (slow, fast) = (admission.try_turn().unwrap(), admission.try_turn().unwrap());
        let busy = async {
            loop {
                fast.moved(SLOW);
                sleep(WINDOW / 2).await;
            }
        };
        let began = Instant::now();
        tokio::select! {
            turn = admission.turn(PATIENCE) => assert!(turn.is_ok()),
            () = busy => {}
        }
        assert!(began.elapsed() < WINDOW * 3);
        // It goes on all the same, and the fast one still has its turn.
        slow.moved(1);
        let fast = Arc::downgrade(&fast);
        assert!(
            admission
                .holders()
                .iter()
                .any(|holder| holder.turn.ptr_eq(&fast))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_slow_their_number_is_bounded() {
        let admission = Admission::new(1, 100, Metrics::new("1"));
        let mut moving = vec![admission.try_turn().unwrap()];
        for _ in 0..BESIDE {
            moving.push(admission.turn(PATIENCE).await.unwrap());
        }
        assert_eq!(admission.turn(PATIENCE).await.unwrap_err(), Refused);
        moving.pop();
        assert!(admission.turn(PATIENCE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn slow_downloads_that_nobody_waits_for_keep_their_turns() {
        let admission = Admission::new(1, 10, Metrics::new("1"));
        let turn = admission.try_turn().unwrap();
        sleep(WINDOW * 100).await;
        assert_eq!(admission.holders().len(), 1);
        drop(turn);
        assert!(admission.try_turn().is_some());
    }
}
