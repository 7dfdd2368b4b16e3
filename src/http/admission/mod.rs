//! Whose turn it is to download.
//!
//! When many clients want an archive at once, a link that is divided among all of them serves each of them late, and all at
//! the same time. Given to a few at a time it is as busy, but half of the clients have their archive after half of the time.
//! So only so many bodies move at once, and the others wait in the order in which they came. How many that are is found out
//! while they wait: [`Ramp`] tells.
//!
//! A turn is for clients that use it. Who takes less than [`SLOW`] bytes in a [`WINDOW`], while others wait, loses the turn to
//! the next and goes on beside. As many may go on beside as may wait; when that many do, the slow keep their turns.
//!
//! Nobody waits for ever: not beyond the patience given, and no more wait than the bound allows.

mod ramp;
mod turn;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use ramp::Ramp;
pub(super) use turn::Turn;

/// How long downloads are watched before anything is concluded. Nothing is watched while nobody waits.
const WINDOW: Duration = Duration::from_millis(500);

/// What a client takes in that time if it is not held up by itself: two that share a link of 5 Mbit/s still have more.
const SLOW: u64 = 128 << 10;

/// To how many times their first number the turns may grow.
const GROWTH: usize = 128;

/// Who may download now. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The number of turns where nobody has waited for a while.
    first: usize,
    turns: Arc<Semaphore>,
    beside: Arc<Semaphore>,
    /// How many more may wait.
    room: Semaphore,
    state: Mutex<State>,
    /// What all downloads have moved.
    moved: AtomicU64,
    /// Held by the one of those who wait that watches.
    watch: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Those whose turn it is.
    holders: Vec<Holder>,
    ramp: Ramp,
    /// So many turns there are no more, once those who have them are done.
    excess: usize,
    /// When the downloads were reviewed last, and what they had moved by then.
    reviewed: Instant,
    moved: u64,
}

#[derive(Debug)]
struct Holder {
    turn: Weak<Turn>,
    /// What it had moved when the window began.
    moved: u64,
    since: Instant,
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait already as may.
    Full,
    /// It took too long.
    TimedOut,
}

impl Admission {
    /// So many may move at once, to begin with, and so many wait. As many as may wait go on beside if they are slow.
    pub(super) fn new(turns: usize, waiting: usize) -> Self {
        let permits = |count: usize| count.min(Semaphore::MAX_PERMITS);
        let first = permits(turns);
        Self(Arc::new(Shared {
            first,
            turns: Arc::new(Semaphore::new(first)),
            beside: Arc::new(Semaphore::new(permits(waiting))),
            room: Semaphore::new(permits(waiting)),
            state: Mutex::new(State {
                holders: Vec::new(),
                ramp: Ramp::new(first, permits(first.saturating_mul(GROWTH))),
                excess: 0,
                reviewed: Instant::now(),
                moved: 0,
            }),
            moved: AtomicU64::new(0),
            watch: tokio::sync::Mutex::default(),
        }))
    }

    /// A turn, if one is free at once.
    pub(super) fn try_turn(&self) -> Option<Arc<Turn>> {
        self.0.forget_past(Instant::now());
        let permit = Arc::clone(&self.0.turns).try_acquire_owned().ok()?;
        Some(self.begin(permit))
    }

    /// Waits for a turn, behind all who came before, and so long at most.
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn turn(&self, patience: Duration) -> Result<Arc<Turn>, Refused> {
        let _room = self.0.room.try_acquire().map_err(|_| Refused::Full)?;
        tokio::select! {
            permit = Arc::clone(&self.0.turns).acquire_owned() => {
                Ok(self.begin(permit.expect("nobody closes the semaphore")))
            }
            () = self.watch() => unreachable!("watching goes on as long as one waits"),
            () = sleep(patience) => Err(Refused::TimedOut),
        }
    }

    fn begin(&self, permit: OwnedSemaphorePermit) -> Arc<Turn> {
        let turn = Arc::new(Turn::begin(Arc::clone(&self.0), permit));
        let mut state = self.0.state();
        state
            .holders
            .retain(|holder| holder.turn.strong_count() > 0);
        state.holders.push(Holder {
            turn: Arc::downgrade(&turn),
            moved: 0,
            since: Instant::now(),
        });
        turn
    }

    /// Watches the downloads, once nobody else does who waits.
    async fn watch(&self) {
        let _watching = self.0.watch.lock().await;
        self.0.forget_past(Instant::now());
        loop {
            let reviewed = self.0.state().reviewed;
            sleep_until(reviewed + WINDOW).await;
            self.0.review(Instant::now());
        }
    }
}

impl Shared {
    /// What was found out while others waited, a while ago, does not count any more.
    fn forget_past(&self, now: Instant) {
        let mut state = self.state();
        if now - state.reviewed < WINDOW * 2 {
            return;
        }
        state.reviewed = now;
        state.moved = self.moved.load(Ordering::Relaxed);
        let before = state.ramp.turns();
        state.ramp = Ramp::new(self.first, self.first.saturating_mul(GROWTH));
        self.change(&mut state, before);
    }

    /// Concludes what is to be concluded after a window.
    fn review(&self, now: Instant) {
        let watched = {
            let mut state = self.state();
            let moved = self.moved.load(Ordering::Relaxed);
            let before = state.ramp.turns();
            let bytes = moved - state.moved;
            // So little is no use of a turn by anybody, and crumbs must not pass for it.
            state.ramp.window(if bytes < SLOW { 0 } else { bytes });
            self.change(&mut state, before);
            (state.reviewed, state.moved) = (now, moved);
            state.watched(now)
        };
        for (turn, pace) in watched {
            if pace == Pace::Slow {
                turn.step_aside();
            }
        }
    }

    /// Makes the turns as many as the ramp says.
    fn change(&self, state: &mut State, before: usize) {
        let now = state.ramp.turns();
        let more = now.saturating_sub(before);
        let kept = more.min(state.excess);
        state.excess -= kept;
        self.turns.add_permits(more - kept);
        let fewer = before.saturating_sub(now);
        state.excess += fewer - self.turns.forget_permits(fewer);
    }

    /// Takes a turn back: for the next, or because there are to be fewer.
    fn take_back(&self, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        if state.excess > 0 {
            state.excess -= 1;
            permit.forget();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those who have a turn, and how they use it. For whom that is known another window begins.
    ///
    /// Not to be dropped with the state locked: a download may have ended meanwhile, and giving its turn back takes the lock.
    fn watched(&mut self, now: Instant) -> Vec<(Arc<Turn>, Pace)> {
        let mut watched = Vec::with_capacity(self.holders.len());
        self.holders.retain_mut(|holder| {
            let Some(turn) = holder.turn.upgrade() else {
                return false;
            };
            let moved = turn.moved.load(Ordering::Relaxed);
            let pace = judge(moved - holder.moved, now - holder.since);
            watched.push((turn, pace));
            if pace != Pace::Unknown {
                (holder.moved, holder.since) = (moved, now);
            }
            true
        });
        watched
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
    use super::turn::Place;
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
        check(0, 499, Pace::Unknown);
        check(0, 500, Pace::Slow);
        check(SLOW - 1, 500, Pace::Slow);
        check(SLOW, 500, Pace::Fast);
        check(SLOW, 999, Pace::Fast);
        check(SLOW, 1000, Pace::Slow);
        check(SLOW * 2, 1000, Pace::Fast);
        check(u64::MAX, u64::MAX / 2, Pace::Fast);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_in_order_of_arrival() {
        let admission = Admission::new(1, 10);
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
        let admission = Admission::new(1, 10);
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
        let admission = Admission::new(1, 10);
        let _turn = admission.try_turn().unwrap();
        let began = Instant::now();
        let refused = admission.turn(WINDOW / 2).await;
        assert_eq!(refused.unwrap_err(), Refused::TimedOut);
        assert_eq!(began.elapsed(), WINDOW / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_the_bound_allows() {
        let admission = Admission::new(1, 1);
        let _turn = admission.try_turn().unwrap();
        let mut waiting = Box::pin(admission.turn(PATIENCE));
        assert!(is_pending(waiting.as_mut()));
        assert_eq!(admission.turn(PATIENCE).await.unwrap_err(), Refused::Full);
        drop(waiting);
        assert!(is_pending(pin!(admission.turn(PATIENCE))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_loses_its_turn_to_the_next_and_a_fast_one_does_not() {
        let admission = Admission::new(2, 10);
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
        assert!(matches!(*slow.place.lock().unwrap(), Place::Beside { .. }));
        assert!(matches!(
            *fast.place.lock().unwrap(),
            Place::Within(Some(_))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_leave_the_link_idle_are_joined_by_more() {
        let admission = Admission::new(1, 100);
        let moving = Mutex::new(vec![admission.try_turn().unwrap()]);
        // Each takes what it can, whatever the others do.
        let busy = async {
            loop {
                sleep(WINDOW / 4).await;
                for turn in &*moving.lock().unwrap() {
                    turn.moved(SLOW);
                }
            }
        };
        let comers = async {
            for _ in 1..GROWTH {
                let turn = admission.turn(PATIENCE).await.unwrap();
                moving.lock().unwrap().push(turn);
            }
            assert!(admission.turn(WINDOW * 20).await.is_err());
        };
        let began = Instant::now();
        tokio::select! {
            // In this order, or chance would decide what is counted for which window.
            biased;
            () = busy => {}
            () = comers => {}
        }
        assert!(began.elapsed() < WINDOW * 40);
        // After a while without anybody who waits it is one again.
        moving.lock().unwrap().truncate(1);
        sleep(WINDOW * 3).await;
        assert!(admission.try_turn().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_slow_their_number_is_bounded() {
        const BESIDE: usize = 40;
        let admission = Admission::new(1, BESIDE);
        let mut moving = vec![admission.try_turn().unwrap()];
        while let Ok(turn) = admission.turn(PATIENCE).await {
            moving.push(turn);
        }
        // The one turn has grown while nothing moved, and the others went beside.
        let bound = BESIDE + GROWTH;
        assert!(moving.len() <= bound, "{}", moving.len());
        assert!(moving.len() >= BESIDE, "{}", moving.len());
        moving.clear();
        assert!(admission.turn(PATIENCE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_that_nobody_waits_for_keep_their_turns() {
        let admission = Admission::new(1, 10);
        let turn = admission.try_turn().unwrap();
        sleep(WINDOW * 100).await;
        assert!(matches!(
            *turn.place.lock().unwrap(),
            Place::Within(Some(_))
        ));
    }

    #[test]
    fn downloads_may_end_while_they_are_reviewed() {
        let admission = Admission::new(1, 10);
        // Rounds are worth more here than turns.
        admission.0.state().ramp = Ramp::new(1, 8);
        let (done, is_done) = std::sync::mpsc::channel();
        let ending = admission.clone();
        std::thread::spawn(move || {
            for _ in 0..20_000 {
                drop(std::iter::from_fn(|| ending.try_turn()).collect::<Vec<_>>());
            }
            done.send(()).unwrap();
        });
        let reviewing = admission.clone();
        std::thread::spawn(move || {
            while Arc::strong_count(&reviewing.0) > 1 {
                reviewing.0.review(Instant::now());
            }
        });
        // It would never be, if one of the two waited for itself.
        is_done.recv_timeout(PATIENCE).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn turns_that_were_given_up_are_not_given_to_others() {
        let admission = Admission::new(2, 10);
        let turns: Vec<_> = std::iter::from_fn(|| admission.try_turn()).collect();
        {
            let mut state = admission.0.state();
            state.ramp = Ramp::new(1, 1);
            admission.0.change(&mut state, 2);
        }
        let [one, other] =
            &mut <[_; 2]>::try_from(turns.into_iter().map(Some).collect::<Vec<_>>()).unwrap();
        drop(one.take());
        assert!(admission.try_turn().is_none());
        drop(other.take());
        let last = admission.try_turn();
        assert!(last.is_some());
        assert!(admission.try_turn().is_none());
    }
}
