//! When to build, and when to look whether there is something to build.
//!
//! A build waits until the tree was quiet for a while, but not for ever: a tool that never stops writing must not keep what
//! it has written so far from being served.

use std::time::{Duration, Instant};

use crate::tree::watch::Burst;

/// The pause after the first build that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two builds that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How soon the hold file is looked at again where no event tells that it is gone.
const HOLD_PAUSE: Duration = Duration::from_secs(1);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Build now.
    Build,
    /// Walk the tree now, to see whether it is still the one that was built.
    Look,
    /// Nothing before this moment; `None`: nothing until something happens.
    Wait(Option<Instant>),
}

/// What is known of the time to come.
#[derive(Debug)]
pub(super) struct Agenda {
    settle: Duration,
    settle_max: Duration,
    /// Differences that a look found, and no event told of.
    found: Option<Burst>,
    /// When to try a build whatever the tree does.
    retry: Option<Instant>,
    /// Whether somebody waits for that build.
    hurried: bool,
    pause: Duration,
    held: Option<Instant>,
    look: Option<Instant>,
}

impl Agenda {
    /// Begins with a build at once.
    pub(super) fn new(settle: Duration, settle_max: Duration, now: Instant) -> Self {
        Self {
            settle,
            settle_max,
            found: None,
            retry: Some(now),
            hurried: false,
            pause: FIRST_PAUSE,
            held: None,
            look: None,
        }
    }

    /// What to do now, given the changes that events told of.
    pub(super) fn due(&self, noticed: Option<Burst>, now: Instant) -> Due {
        if let Some(held) = self.held.filter(|held| *held > now) {
            return Due::Wait(Some(held));
        }
        let settled = self.burst(noticed).map(|burst| self.settled(&burst));
        let build = settled.into_iter().chain(self.retry).min();
        if build.is_some_and(|build| build <= now) {
            return Due::Build;
        }
        if self.look.is_some_and(|look| look <= now) {
            return Due::Look;
        }
        Due::Wait(build.into_iter().chain(self.look).min())
    }

    /// Whether what changes during a build is waited for before anything is published, given all changes since the build
    /// before. Not for ever, and who was in a hurry gets what there is.
    pub(super) fn is_patient(&self, noticed: Option<Burst>, now: Instant) -> bool {
        let burst = self.burst(noticed);
        !self.hurried && burst.is_none_or(|burst| now < burst.first + self.settle_max)
    }

    /// Builds again when the tree is quiet.
    pub(super) fn postpone(&mut self) {
        self.retry = None;
    }

    /// A look found another tree than the one before.
    pub(super) fn differs(&mut self, now: Instant) {
        let first = self.found.map_or(now, |found| found.first);
        self.found = Some(Burst { first, last: now });
        self.retry = None;
    }

    /// Whether a look has to show that the tree is quiet, since no event does.
    pub(super) fn wants_proof(&self, now: Instant) -> bool {
        self.found
            .is_some_and(|found| now < found.first + self.settle_max)
    }

    /// Build as soon as possible.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.retry = Some(now);
        self.hurried = true;
        self.held = None;
    }

    /// A build came to its end.
    pub(super) fn done(&mut self) {
        self.found = None;
        self.retry = None;
        self.hurried = false;
        self.held = None;
        self.pause = FIRST_PAUSE;
    }

    /// A build failed; gives the pause until the next one.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let pause = self.pause;
        self.found = None;
        self.hurried = false;
        self.retry = Some(now + pause);
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// The hold file stands.
    pub(super) fn hold(&mut self, now: Instant) {
        self.held = Some(now + HOLD_PAUSE);
    }

    /// Something happened to the hold file.
    pub(super) fn release(&mut self) {
        self.held = None;
    }

    /// Look again after this time, or never.
    pub(super) fn look_after(&mut self, interval: Option<Duration>, now: Instant) {
        self.look = interval.map(|interval| now + interval);
    }

    /// All changes that wait to be built.
    fn burst(&self, noticed: Option<Burst>) -> Option<Burst> {
        match (noticed, self.found) {
            (Some(one), Some(other)) => Some(Burst {
                first: one.first.min(other.first),
                last: one.last.max(other.last),
            }),
            (one, other) => one.or(other),
        }
    }

    /// When a tree is quiet enough that was changed so.
    fn settled(&self, burst: &Burst) -> Instant {
        (burst.last + self.settle).min(burst.first + self.settle_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(300);
    const SETTLE_MAX: Duration = Duration::from_secs(10);

    /// An agenda whose first build is done, and its beginning.
    fn agenda() -> (Agenda, Instant) {
        let start = Instant::now();
        let mut agenda = Agenda::new(SETTLE, SETTLE_MAX, start);
        assert_eq!(agenda.due(None, start), Due::Build);
        agenda.done();
        assert_eq!(agenda.due(None, start), Due::Wait(None));
        (agenda, start)
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_build_waits_for_quiet_and_not_for_ever() {
        let (agenda, start) = agenda();
        let check = |first, last, due| {
            let burst = Burst {
                first: start + ms(first),
                last: start + ms(last),
            };
            let (early, due) = (start + ms(due - 1), start + ms(due));
            assert_eq!(agenda.due(Some(burst), early), Due::Wait(Some(due)));
            assert_eq!(agenda.due(Some(burst), due), Due::Build);
        };
        check(0, 0, 300);
        check(0, 5_000, 5_300);
        check(0, 9_900, 10_000);
        check(1_000, 10_900, 11_000);
    }

    #[test]
    fn a_look_is_due_in_its_time_and_after_a_build() {
        let (mut agenda, start) = agenda();
        agenda.look_after(Some(ms(1000)), start);
        assert_eq!(agenda.due(None, start), Due::Wait(Some(start + ms(1000))));
        assert_eq!(agenda.due(None, start + ms(1000)), Due::Look);
        agenda.hurry(start + ms(900));
        assert_eq!(agenda.due(None, start + ms(1000)), Due::Build);
    }

    #[test]
    fn what_a_look_finds_settles_like_what_events_tell() {
        let (mut agenda, start) = agenda();
        assert!(!agenda.wants_proof(start));
        agenda.differs(start);
        assert!(agenda.wants_proof(start + ms(300)));
        assert_eq!(agenda.due(None, start + ms(300)), Due::Build);
        agenda.differs(start + ms(300));
        assert_eq!(
            agenda.due(None, start + ms(400)),
            Due::Wait(Some(start + ms(600)))
        );
        let burst = Burst {
            first: start + ms(100),
            last: start + ms(500),
        };
        assert_eq!(
            agenda.due(Some(burst), start + ms(600)),
            Due::Wait(Some(start + ms(800)))
        );
        agenda.differs(start + ms(9_999));
        assert_eq!(agenda.due(None, start + ms(10_000)), Due::Build);
        assert!(!agenda.wants_proof(start + ms(10_000)));
    }

    #[test]
    fn what_changes_during_a_build_is_waited_for_at_first() {
        let (mut agenda, start) = agenda();
        let burst = Burst {
            first: start,
            last: start + ms(9_999),
        };
        assert!(agenda.is_patient(Some(burst), start + ms(9_999)));
        assert!(!agenda.is_patient(Some(burst), start + ms(10_000)));
        assert!(agenda.is_patient(None, start + ms(10_000)));
        agenda.differs(start);
        assert!(agenda.is_patient(None, start + ms(9_999)));
        assert!(!agenda.is_patient(None, start + ms(10_000)));
        agenda.hurry(start);
        assert!(!agenda.is_patient(Some(burst), start));
        agenda.done();
        assert!(agenda.is_patient(Some(burst), start));
    }

    #[test]
    fn failed_builds_are_tried_again_after_growing_pauses() {
        let (mut agenda, start) = agenda();
        let pauses: Vec<_> = (0..7).map(|_| agenda.failed(start).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(agenda.due(None, start), Due::Wait(Some(start + ms(30_000))));
        // A change may mend what was wrong.
        let burst = Burst {
            first: start,
            last: start,
        };
        assert_eq!(agenda.due(Some(burst), start + SETTLE), Due::Build);
        agenda.done();
        assert_eq!(agenda.failed(start).as_secs(), 1);
    }

    #[test]
    fn a_hold_stops_builds_until_it_is_released_or_looked_at_again() {
        let (mut agenda, start) = agenda();
        agenda.failed(start);
        agenda.hold(start + ms(5_000));
        let again = start + ms(6_000);
        assert_eq!(agenda.due(None, start + ms(5_999)), Due::Wait(Some(again)));
        assert_eq!(agenda.due(None, again), Due::Build);
        agenda.release();
        assert_eq!(agenda.due(None, start + ms(5_000)), Due::Build);
    }
}
