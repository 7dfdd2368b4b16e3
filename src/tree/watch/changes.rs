//! What is told to the one who waits: how often something changed, and when.
//!
//! Nobody is told what changed: a walk finds that out, and finds out more than events could tell.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The most moments that are remembered: some more than are left when all are as far apart as [`COARSENESS`] allows, from
/// ten milliseconds to thirty years ago.
const MOMENTS: usize = 512;
/// Changes that follow each other within this time are one moment.
const FINEST: Duration = Duration::from_millis(10);
/// The part of its age by which a moment may be told too early.
const COARSENESS: u32 = 16;

/// The changes that a [`Watch`](super::Watch) has noticed. Clones look at the same ones.
#[derive(Clone, Debug)]
pub struct Changes {
    log: watch::Receiver<Log>,
}

/// The changes since a moment of one's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// When the first of them was noticed. It may be told too early: by ten milliseconds, or by a sixteenth of its age.
    pub first: Instant,
    /// When the last of them was noticed.
    pub last: Instant,
}

impl Changes {
    /// How many changes there were so far. The number itself means nothing: it grows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.log.borrow().count
    }

    /// The changes after the first `count`; `None` if there are none. Read [`count`](Self::count) before a walk, and ask
    /// with that number after it: what changed during the walk is among the answer.
    #[must_use]
    pub fn since(&self, count: u64) -> Option<Burst> {
        self.log.borrow().since(count)
    }

    /// How often the hold file was made, changed, renamed or removed.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.log.borrow().holds
    }

    /// How often the kernel had more to tell than it could keep. Each time counts as one change.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.log.borrow().overflows
    }

    /// Waits until anything above has grown since this handle waited last, or was made. `false` once the watch is gone.
    ///
    /// Cancel safe: what is not waited for is found by the next call.
    pub async fn changed(&mut self) -> bool {
        self.log.changed().await.is_ok()
    }
}

/// What one event adds to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The tree may have changed.
    pub(super) change: bool,
    /// The hold file was touched.
    pub(super) hold: bool,
    /// Events were lost; implies `change`.
    pub(super) overflow: bool,
}

impl Effect {
    pub(super) const CHANGE: Self = Self {
        change: true,
        hold: false,
        overflow: false,
    };
}

/// Where changes are written down. Clones write to the same place.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    log: watch::Sender<Log>,
}

impl Recorder {
    pub(super) fn new() -> (Self, Changes) {
        let (sender, receiver) = watch::channel(Log::default());
        (Self { log: sender }, Changes { log: receiver })
    }

    /// Wakes whoever waits, unless nothing happened.
    pub(super) fn record(&self, effect: Effect) {
        if effect != Effect::default() {
            self.log
                .send_modify(|log| log.record(effect, Instant::now()));
        }
    }
}

/// Counts, and the moments at which they grew.
#[derive(Debug, Default)]
struct Log {
    count: u64,
    holds: u64,
    overflows: u64,
    /// In order.
    moments: VecDeque<Moment>,
}

/// Changes that are told as if all of them had happened when the first one did.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// The count after the last of them.
    upto: u64,
    first: Instant,
    last: Instant,
}

impl Log {
    fn record(&mut self, effect: Effect, now: Instant) {
        self.holds += u64::from(effect.hold);
        self.overflows += u64::from(effect.overflow);
        if !effect.change {
            return;
        }
        self.count += 1;
        match self.moments.back_mut() {
            Some(moment) if now.duration_since(moment.first) < FINEST => {
                moment.upto = self.count;
                moment.last = now;
            }
            _ => self.moments.push_back(Moment {
                upto: self.count,
                first: now,
                last: now,
            }),
        }
        if self.moments.len() > MOMENTS {
            self.thin_out(now);
        }
    }

    /// Joins neighbours that are close to each other for their age.
    fn thin_out(&mut self, now: Instant) {
        let mut kept: VecDeque<Moment> = VecDeque::with_capacity(MOMENTS);
        for next in self.moments.drain(..) {
            match kept.back_mut() {
                Some(moment)
                    if next.last.duration_since(moment.first)
                        <= now.duration_since(moment.first) / COARSENESS =>
                {
                    moment.upto = next.upto;
                    moment.last = next.last;
                }
                _ => kept.push_back(next),
            }
        }
        self.moments = kept;
    }

    fn since(&self, count: u64) -> Option<Burst> {
        let at = self.moments.partition_point(|moment| moment.upto <= count);
        let first = self.moments.get(at)?.first;
        let last = self.moments.back()?.last;
        Some(Burst { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of one change at each of these times, in milliseconds after the instant that is returned.
    fn log(times: impl Iterator<Item = u64>) -> (Log, Instant) {
        let start = Instant::now();
        let mut log = Log::default();
        for time in times {
            log.record(Effect::CHANGE, start + Duration::from_millis(time));
        }
        (log, start)
    }

    #[test]
    fn a_burst_begins_after_the_count_that_is_asked_with() {
        let (log, start) = log([0, 100, 105, 300].into_iter());
        let since = |count| {
            let burst = log.since(count)?;
            let after = |time: Instant| time.duration_since(start).as_millis();
            Some((after(burst.first), after(burst.last)))
        };
        assert_eq!(since(0), Some((0, 300)));
        assert_eq!(since(1), Some((100, 300)));
        assert_eq!(since(2), Some((100, 300)));
        assert_eq!(since(3), Some((300, 300)));
        assert_eq!(since(4), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_never_far_off() {
        const EVERY: u64 = 20;
        const CHANGES: u64 = 50_000;
        let (log, start) = log((0..CHANGES).map(|index| index * EVERY));
        assert!(log.moments.len() <= MOMENTS);
        let end = start + Duration::from_millis(EVERY * CHANGES);
        for count in [0, 1, 777, CHANGES / 2, CHANGES - 100, CHANGES - 1] {
            let truth = start + Duration::from_millis(count * EVERY);
            let told = log.since(count).unwrap().first;
            let age = end.duration_since(told);
            assert!(told <= truth, "{count}");
            assert!(truth.duration_since(told) <= age / COARSENESS, "{count}");
        }
    }

    #[test]
    fn rare_changes_are_told_exactly_after_any_time() {
        const HOUR: u64 = 3_600_000;
        let (log, start) = log((0..2_000).map(|index| index * HOUR));
        let burst = log.since(1_998).unwrap();
        let after = burst.first.duration_since(start);
        assert_eq!(after, Duration::from_millis(1_998 * HOUR));
    }

    #[test]
    fn a_hold_that_is_touched_is_no_change() {
        let (recorder, changes) = Recorder::new();
        recorder.record(Effect {
            hold: true,
            ..Effect::default()
        });
        assert_eq!((changes.count(), changes.holds()), (0, 1));
        assert_eq!(changes.since(0), None);
    }

    #[tokio::test]
    async fn a_wait_that_was_cancelled_loses_nothing() {
        let (recorder, mut changes) = Recorder::new();
        drop(changes.changed());
        recorder.record(Effect::CHANGE);
        assert!(changes.changed().await);
        assert_eq!(changes.count(), 1);
        recorder.record(Effect::default());
        drop(recorder);
        assert!(!changes.changed().await);
    }
}
