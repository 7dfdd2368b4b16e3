//! Which artifacts go. Decided purely: what is held now, and what the clock says, are operands.

use std::time::{Duration, SystemTime};

/// What a state directory may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest stay.
    pub keep: usize,
    /// Older ones stay for so long after they were published or asked for.
    pub keep_for: Duration,
    /// All of them together take no more bytes of disk, or nothing stays but what is held.
    pub state_size: u64,
}

/// What decides about one artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The bytes of disk that all its files take.
    pub(super) stored: u64,
    /// When it was published last.
    pub(super) published: SystemTime,
    /// When it was asked for last.
    pub(super) asked: SystemTime,
    /// It is served, being downloaded, or what the next start would serve: it stays whatever else holds.
    pub(super) held: bool,
    /// It could be opened again. One that cannot is of no use once nobody has it open.
    pub(super) durable: bool,
}

/// For each of the candidates, newest first, whether it stays.
///
/// What is held counts among the newest and towards the size. Times that lie in the future are now: a clock was set back.
pub(super) fn select(
    candidates: &[Candidate],
    retention: &Retention,
    now: SystemTime,
) -> Vec<bool> {
    let is_recent = |time: SystemTime| {
        let age = now.duration_since(time).unwrap_or_default();
        age < retention.keep_for
    };
    let mut stays: Vec<bool> = candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| {
            let recent = is_recent(candidate.published) || is_recent(candidate.asked);
            candidate.held || candidate.durable && (index < retention.keep || recent)
        })
        .collect();
    let staying = candidates.iter().zip(&stays).filter(|(_, stays)| **stays);
    let mut total: u128 = staying
        .map(|(candidate, _)| u128::from(candidate.stored))
        .sum();
    for (candidate, stays) in candidates.iter().zip(&mut stays).rev() {
        if total <= retention.state_size.into() {
            break;
        }
        if *stays && !candidate.held {
            *stays = false;
            total -= u128::from(candidate.stored);
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    /// A durable artifact of 10 bytes that nobody holds, published and asked for these hours before now.
    fn aged(published: u64, asked: u64) -> Candidate {
        Candidate {
            stored: 10,
            published: now() - Duration::from_hours(published),
            asked: now() - Duration::from_hours(asked),
            held: false,
            durable: true,
        }
    }

    fn now() -> SystemTime {
        NOW + Duration::from_hours(10_000)
    }

    fn held(candidate: Candidate) -> Candidate {
        Candidate {
            held: true,
            ..candidate
        }
    }

    fn lost(candidate: Candidate) -> Candidate {
        Candidate {
            durable: false,
            ..candidate
        }
    }

    /// `+` for each that stays and `-` for each that goes, where two stay at least, for a day, within this size.
    fn check(candidates: &[Candidate], state_size: u64, expected: &str) {
        let retention = Retention {
            keep: 2,
            keep_for: Duration::from_hours(24),
            state_size,
        };
        let stays = select(candidates, &retention, now());
        let shown: String = stays
            .iter()
            .map(|&stays| if stays { '+' } else { '-' })
            .collect();
        assert_eq!(shown, expected, "{candidates:?}");
    }

    #[test]
    fn the_newest_stay_however_old_they_are() {
        check(&[], 100, "");
        check(&[aged(90, 90)], 100, "+");
        check(&[aged(90, 90), aged(91, 91), aged(92, 92)], 100, "++-");
    }

    #[test]
    fn others_stay_for_a_while_after_they_were_published_or_asked_for() {
        check(
            &[aged(1, 1), aged(2, 2), aged(3, 3), aged(23, 23)],
            100,
            "++++",
        );
        check(
            &[aged(1, 1), aged(2, 2), aged(24, 24), aged(90, 23)],
            100,
            "++-+",
        );
    }

    #[test]
    fn beyond_the_size_the_oldest_go_first() {
        check(&[aged(1, 1), aged(2, 2), aged(3, 3)], 30, "+++");
        check(&[aged(1, 1), aged(2, 2), aged(3, 3)], 29, "++-");
        check(&[aged(1, 1), aged(2, 2), aged(3, 0)], 10, "+--");
        check(&[aged(1, 1), aged(2, 2)], 0, "--");
    }

    #[test]
    fn what_goes_by_its_age_leaves_room_for_the_rest() {
        check(&[aged(1, 1), aged(2, 2), aged(90, 90)], 20, "++-");
    }

    #[test]
    fn what_is_held_stays_whatever_it_takes() {
        check(
            &[held(aged(1, 1)), aged(2, 2), held(aged(90, 90))],
            0,
            "+-+",
        );
        check(&[aged(1, 1), aged(2, 2), held(aged(90, 90))], 20, "+-+");
        check(&[held(lost(aged(1, 1))), aged(2, 2)], 100, "++");
    }

    #[test]
    fn what_cannot_be_opened_again_goes_once_nobody_has_it() {
        check(&[aged(1, 1), lost(aged(2, 2)), aged(3, 3)], 100, "+-+");
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let future = Candidate {
            published: now() + Duration::from_hours(90),
            asked: now() + Duration::from_hours(90),
            ..aged(0, 0)
        };
        check(&[future; 4], 100, "++++");
    }
}
