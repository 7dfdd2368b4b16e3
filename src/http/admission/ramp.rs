//! How many turns there are.
//!
//! Few are enough where the link is what limits: more of them share it and gain nothing. Where the clients limit, because
//! each of them unpacks as it goes or has a slow way of its own, few leave the link idle. Which of the two it is shows when
//! the number is doubled: if more gets through then, it stays doubled and is doubled again; if not, it goes back, and is
//! tried again after a while.
//!
//! Where nothing gets through at all, those whose turn it is take nothing, and the number grows fast until somebody comes who
//! does: clients that never read would else keep the others waiting, a few of them after the other. When bytes have got
//! through window by window for a while, the number is what it was before.

/// What gets through must grow by this part for twice as many turns to be worth it: by more than it varies by itself.
const GAIN: u64 = 10;
/// For so many windows nothing is tried: at first, until the downloads have got up to speed, and after a trial in vain.
const FIRST_REST: u32 = 1;
const REST: u32 = 12;
/// By how much the number grows where nothing gets through.
const STALLED_GROWTH: usize = 4;
/// After so many windows in a row with bytes they get through again: the buffers of clients that never read take some now
/// and then, for a second or two.
const RECOVERY: u32 = 4;

/// The number of turns, as it follows from what got through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    turns: usize,
    most: usize,
    phase: Phase,
    /// What got through in the window before.
    last: u64,
    stall: Option<Stall>,
}

/// Since nothing got through.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stall {
    /// How many there were before.
    turns: usize,
    /// For so many windows bytes have got through again.
    recovered: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is tried for so many windows more.
    Resting(u32),
    /// There are twice as many as before, since now: what went into the buffers of the new connections says nothing.
    Begun { before: u64 },
    /// There are twice as many as before, when so many bytes got through in a window.
    Trying { before: u64 },
}

impl Ramp {
    /// Begins with so many, and never has more than `most`.
    pub(super) fn new(turns: usize, most: usize) -> Self {
        Self {
            turns,
            most,
            phase: Phase::Resting(FIRST_REST),
            last: 0,
            stall: None,
        }
    }

    /// How many there are now.
    pub(super) fn turns(&self) -> usize {
        self.turns
    }

    /// Decides after a window in which all turns were taken and so many bytes got through.
    pub(super) fn window(&mut self, bytes: u64) {
        if bytes == 0 {
            self.stalled();
        } else if self.stall.is_some() {
            self.moving_again();
        } else {
            self.moving(bytes);
        }
        self.last = bytes;
    }

    fn stalled(&mut self) {
        // Of a trial nothing is known when it is broken off.
        let proven = match self.phase {
            Phase::Begun { .. } | Phase::Trying { .. } => self.turns / 2,
            Phase::Resting(_) => self.turns,
        };
        let stall = self.stall.get_or_insert(Stall {
            turns: proven,
            recovered: 0,
        });
        stall.recovered = 0;
        self.phase = Phase::Resting(FIRST_REST);
        self.turns = self.turns.saturating_mul(STALLED_GROWTH).min(self.most);
    }

    fn moving_again(&mut self) {
        let Some(stall) = &mut self.stall else {
            return;
        };
        stall.recovered += 1;
        if stall.recovered == RECOVERY {
            self.turns = stall.turns;
            self.stall = None;
        }
    }

    fn moving(&mut self, bytes: u64) {
        match self.phase {
            Phase::Resting(windows) if windows > 0 => self.phase = Phase::Resting(windows - 1),
            Phase::Begun { before } => self.phase = Phase::Trying { before },
            Phase::Trying { before } if bytes < before.saturating_add(before / GAIN).max(1) => {
                self.turns /= 2;
                self.phase = Phase::Resting(REST);
            }
            Phase::Resting(_) | Phase::Trying { .. } if self.turns <= self.most / 2 => {
                self.turns *= 2;
                // The better one of two, or a window in which little happened to move would make every trial a success.
                let before = bytes.max(self.last);
                self.phase = Phase::Begun { before };
            }
            Phase::Resting(_) | Phase::Trying { .. } => self.phase = Phase::Resting(REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many windows pass, in each of which gets through what `throughput` says of the number of turns.
    fn turns_after(windows: u32, throughput: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut ramp = Ramp::new(2, 64);
        (0..windows)
            .map(|_| {
                ramp.window(throughput(ramp.turns()));
                ramp.turns()
            })
            .collect()
    }

    #[test]
    fn a_full_link_is_tried_now_and_then_and_keeps_its_few_turns() {
        let turns = turns_after(32, |_| 1_000_000);
        let mut expected = [2; 32];
        // After the first rest, and then after each longer one: for two windows.
        for trial in [1, 16, 31] {
            expected[trial..32.min(trial + 2)].fill(4);
        }
        assert_eq!(turns, expected);
    }

    #[test]
    fn slow_clients_get_as_many_turns_as_fill_the_link() {
        // Ten are what the link takes.
        let turns = turns_after(13, |turns| 1_000_000 * (turns as u64).min(10));
        assert_eq!(turns, [2, 4, 4, 8, 8, 16, 16, 32, 32, 16, 16, 16, 16]);
    }

    #[test]
    fn buffers_that_fill_at_once_are_not_taken_for_a_gain() {
        let mut ramp = Ramp::new(2, 64);
        let mut before = ramp.turns();
        for _ in 0..200 {
            let fresh = ramp.turns().saturating_sub(before);
            before = ramp.turns();
            ramp.window(12_000_000 + 3_000_000 * fresh as u64);
            assert!(ramp.turns() <= 4);
        }
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let turns = turns_after(100, |turns| 1_000_000 * turns as u64);
        assert_eq!(turns.iter().max(), Some(&64));
        assert_eq!(turns.last(), Some(&64));
    }

    #[test]
    fn where_nothing_moves_more_and_more_are_let_in_until_it_does() {
        let mut ramp = Ramp::new(2, 64);
        let mut turns = |bytes| {
            ramp.window(bytes);
            ramp.turns()
        };
        // Buffers fill, some of them a little more now and then, and then nothing moves.
        let stalled = [5, 0, 10, 0, 20, 5, 5, 0, 0].map(&mut turns);
        assert_eq!(stalled, [2, 8, 8, 32, 32, 32, 32, 64, 64]);
        assert_eq!([90, 90, 90, 90, 90].map(&mut turns), [64, 64, 64, 2, 2]);
    }

    #[test]
    fn a_trial_that_is_broken_off_proves_nothing() {
        let mut ramp = Ramp::new(2, 256);
        let mut returned_to = Vec::new();
        for _ in 0..20 {
            while matches!(ramp.phase, Phase::Resting(_)) || ramp.stall.is_some() {
                ramp.window(1_000_000);
            }
            returned_to.push(ramp.turns() / 2);
            ramp.window(0);
        }
        assert!(
            returned_to.iter().all(|&turns| turns == 2),
            "{returned_to:?}"
        );
    }

    #[test]
    fn no_number_is_too_large() {
        let mut ramp = Ramp::new(usize::MAX / 2 + 1, usize::MAX);
        for _ in 0..30 {
            ramp.window(u64::MAX);
        }
        assert_eq!(ramp.turns(), usize::MAX / 2 + 1);
    }
}
