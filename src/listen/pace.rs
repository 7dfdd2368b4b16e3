//! Leaves processor time to whoever asks for little while archives are sent.
//!
//! A control group that has used up its quota stands still until its next period, the process with probes and all. Sending
//! archives alone can use up a small quota in every period, so it pauses a little earlier: what is left is for requests that
//! come meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::machine::Quota;

/// What is left of a quota: enough for some dozens of small requests, and for what other threads do now and then.
const RESERVE: Duration = Duration::from_millis(2);

/// Tells who sends when to pause. Knows the thread's time alone, so one thread has to send for all.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Budget>);

impl Pace {
    pub(super) fn new(quota: Quota) -> Self {
        Self(Mutex::new(Budget::new(quota, Usage::now())))
    }

    /// How long to pause, if at all.
    pub(super) fn pause(&self) -> Option<Duration> {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budget.pause(Usage::now())
    }
}

/// What time it is, and how much of the processor's this thread has used.
#[derive(Clone, Copy, Debug)]
struct Usage {
    now: Duration,
    used: Duration,
}

impl Usage {
    fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            Duration::try_from(time).expect("neither clock goes below zero")
        };
        Self {
            now: read(ClockId::Monotonic),
            used: read(ClockId::ThreadCPUTime),
        }
    }
}

/// Processor time that comes in steadily, is kept up to a bound, and is spent.
#[derive(Debug)]
struct Budget {
    /// What comes in, as a part of the time that passes.
    share: f64,
    /// The most that is kept. With what comes in during a period it is less than the quota.
    most: f64,
    /// What there is, in seconds of processor time; below zero, what was spent beyond it, by a whole quota at most.
    left: f64,
    quota: f64,
    last: Usage,
}

impl Budget {
    fn new(quota: Quota, usage: Usage) -> Self {
        let reserve = RESERVE.min(quota.time / 4);
        let most = (reserve / 2).as_secs_f64();
        Self {
            share: quota
                .time
                .saturating_sub(reserve)
                .div_duration_f64(quota.period),
            most,
            left: most,
            quota: quota.time.as_secs_f64(),
            last: usage,
        }
    }

    fn pause(&mut self, usage: Usage) -> Option<Duration> {
        let came_in = usage.now.saturating_sub(self.last.now).as_secs_f64() * self.share;
        let spent = usage.used.saturating_sub(self.last.used).as_secs_f64();
        self.last = usage;
        self.left = (self.left + came_in - spent).clamp(-self.quota, self.most);
        // What little there is would not be worth waking up for.
        (self.left <= 0.0).then(|| Duration::from_secs_f64((self.most - self.left) / self.share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        time: Duration::from_millis(10),
        period: Duration::from_millis(100),
    };

    fn usage(now: u64, used: u64) -> Usage {
        Usage {
            now: Duration::from_micros(now),
            used: Duration::from_micros(used),
        }
    }

    #[test]
    fn sending_without_end_leaves_a_part_of_every_period() {
        let mut budget = Budget::new(QUOTA, usage(0, 0));
        let (mut now, mut used) = (0, 0);
        let mut spent = Vec::new();
        while now < 2_000_000 {
            // A piece.
            (now, used) = (now + 150, used + 150);
            spent.push((now, used));
            if let Some(pause) = budget.pause(usage(now, used)) {
                now += u64::try_from(pause.as_micros()).unwrap();
            }
        }
        for &(begin, before) in &spent {
            let within = spent.iter().rev().find(|(now, _)| *now <= begin + 100_000);
            let used = within.unwrap().1 - before;
            assert!(used < 9_500, "{used} from {begin} on");
        }
        // And is not slower than it has to be.
        assert!(used > 15_000 * 10, "{used}");
    }

    #[test]
    fn who_uses_less_than_its_share_never_pauses() {
        let mut budget = Budget::new(QUOTA, usage(0, 0));
        for step in 1..1000 {
            assert_eq!(budget.pause(usage(step * 10_000, step * 750)), None);
        }
    }

    #[test]
    fn no_pause_is_much_longer_than_a_period() {
        let mut budget = Budget::new(QUOTA, usage(0, 0));
        let pause = budget.pause(usage(0, 10_000_000)).unwrap();
        assert!(pause < QUOTA.period * 3 / 2, "{pause:?}");
        let now = u64::try_from(pause.as_micros()).unwrap() + 1;
        assert_eq!(budget.pause(usage(now, 10_000_000)), None);
    }

    #[test]
    fn a_tiny_quota_is_a_quota() {
        let quota = Quota {
            time: Duration::from_millis(1),
            period: Duration::from_secs(1),
        };
        let mut budget = Budget::new(quota, usage(0, 0));
        assert!(budget.pause(usage(100, 1000)).is_some());
    }
}
