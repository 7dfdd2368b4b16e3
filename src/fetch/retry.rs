//! How long to wait before the next attempt. Nothing here waits, or looks at a clock.

use std::time::{Duration, SystemTime};

use super::attempt::AttemptError;
use super::client::ClientError;

/// The longest first pause; each later one may be twice as long.
const FIRST: Duration = Duration::from_millis(50);
/// No pause is longer, unless the server wishes it.
const LONGEST: Duration = Duration::from_secs(5);
/// Who is refused has found the host, and knows at little cost when the server listens.
const REFUSED: Duration = Duration::from_millis(100);
/// After this long, a server that refuses will probably do so for a while.
const REFUSED_EAGERLY: Duration = Duration::from_secs(30);
const REFUSED_LATER: Duration = Duration::from_secs(1);
/// A server that wishes to be left alone for longer is asked all the same: it may have been restarted since.
const LONGEST_WISH: Duration = Duration::from_hours(1);
/// A thousand pods that wait for one name must not take the cluster's resolver down.
const UNKNOWN: Duration = Duration::from_secs(1);

/// How much it matters to be served soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A pod waits to start.
    Eager,
    /// There is a tree, and the next one may be a moment late.
    Patient,
}

/// What led to a failure.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// Those in a row, this one included.
    pub failures: u32,
    /// Since the first attempt.
    pub waited: Duration,
    /// Since this attempt began.
    pub took: Duration,
    /// How much haste there is.
    pub pace: Pace,
}

/// The pause after a failure.
///
/// `random` is from 0 to 1, evenly spread, and keeps clients that failed together from coming back together.
#[must_use]
pub fn delay(error: &AttemptError, tried: Tried, random: f64) -> Duration {
    if let Some(wish) = error.retry_after().filter(|wish| !wish.is_zero()) {
        return wish.min(LONGEST_WISH) + wish.min(LONGEST).mul_f64(random);
    }
    let failures = tried.failures;
    match error {
        AttemptError::Client(ClientError::Refused { .. }) if tried.pace == Pace::Eager => {
            refused(tried, random)
        }
        AttemptError::Client(
            ClientError::UnknownHost { .. } | ClientError::LookupTimeout { .. },
        ) => doubled(UNKNOWN, failures).mul_f64(1.0 - random / 4.0),
        _ => doubled(FIRST, failures).mul_f64(random),
    }
}

/// The pause after several failures in a row of something that is tried for ever: it doubles from `first` to `longest`, and
/// is at least half of that. `random` as for [`delay`].
#[must_use]
pub fn backoff(first: Duration, longest: Duration, failures: u32, random: f64) -> Duration {
    between_half_and(exponential(first, longest, failures), random)
}

/// What counts is how far attempts lie apart, so the time that one took is part of the pause.
fn refused(tried: Tried, random: f64) -> Duration {
    let apart = if tried.waited < REFUSED_EAGERLY {
        REFUSED
    } else {
        REFUSED_LATER
    };
    let pause = between_half_and(apart, random).saturating_sub(tried.took);
    pause.max(apart / 4)
}

/// Reads a `Retry-After` header: seconds, or a date.
#[must_use]
pub fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

fn between_half_and(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(f64::midpoint(1.0, random))
}

fn doubled(first: Duration, failures: u32) -> Duration {
    exponential(first, LONGEST, failures)
}

fn exponential(first: Duration, longest: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    first.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests {
    use std::io;

    use hyper::StatusCode;

    use super::super::attempt::{HEADER, Outlook, TRAILER};
    use super::super::plain::{Flaw, PlainError};
    use super::super::redirect::Unfollowed;
    use super::*;
    use crate::config::url::BaseUrl;
    use crate::digest::{Digest, Revision};
    use crate::exit::Exit;
    use crate::unpack::UnpackError;

    fn url() -> BaseUrl {
        BaseUrl::parse("http://code").unwrap()
    }

    fn refused() -> AttemptError {
        ClientError::Refused { url: url() }.into()
    }

    fn lookup_timeout() -> AttemptError {
        let (host, limit) = ("code".into(), Duration::from_secs(10));
        ClientError::LookupTimeout { host, limit }.into()
    }

    fn unknown() -> AttemptError {
        let (host, source) = ("code".into(), io::Error::other("no such name"));
        ClientError::UnknownHost { host, source }.into()
    }

    fn status(code: u16, retry_after: Option<u64>) -> AttemptError {
        AttemptError::Status {
            url: url(),
            resource: "code.json".into(),
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    /// The shortest and the longest pause, in milliseconds.
    #[track_caller]
    fn check(error: &AttemptError, failures: u32, waited: u64, expected: (u128, u128)) {
        let tried = Tried {
            failures,
            waited: Duration::from_secs(waited),
            took: Duration::ZERO,
            pace: Pace::Eager,
        };
        check_tried(error, tried, expected);
    }

    #[track_caller]
    fn check_tried(error: &AttemptError, tried: Tried, expected: (u128, u128)) {
        let at = |random| delay(error, tried, random).as_millis();
        assert_eq!((at(0.0).min(at(1.0)), at(0.0).max(at(1.0))), expected);
    }

    #[test]
    fn pauses_double_from_50_ms_to_5_s_with_full_jitter() {
        for (failures, longest) in [
            (1, 50),
            (2, 100),
            (3, 200),
            (7, 3200),
            (8, 5000),
            (99, 5000),
        ] {
            check(&AttemptError::Replaced, failures, 0, (0, longest));
        }
    }

    #[test]
    fn who_is_refused_comes_again_soon_for_half_a_minute() {
        check(&refused(), 1, 0, (50, 100));
        check(&refused(), 300, 29, (50, 100));
        check(&refused(), 301, 30, (500, 1000));
    }

    #[test]
    fn attempts_that_are_refused_lie_at_most_100_ms_apart_whatever_each_takes() {
        for (took, expected) in [
            (0, (50, 100)),
            (20, (30, 80)),
            (60, (25, 40)),
            (500, (25, 25)),
        ] {
            let tried = Tried {
                failures: 1,
                waited: Duration::from_secs(1),
                took: Duration::from_millis(took),
                pace: Pace::Eager,
            };
            check_tried(&refused(), tried, expected);
        }
    }

    #[test]
    fn who_has_a_tree_already_is_in_no_haste() {
        for (failures, longest) in [(1, 50), (8, 5000), (400, 5000)] {
            let tried = Tried {
                failures,
                waited: Duration::from_secs(1),
                took: Duration::ZERO,
                pace: Pace::Patient,
            };
            check_tried(&refused(), tried, (0, longest));
        }
    }

    #[test]
    fn unknown_names_are_asked_for_seldom() {
        check(&unknown(), 1, 0, (750, 1000));
        check(&unknown(), 2, 1, (1500, 2000));
        check(&unknown(), 9, 60, (3750, 5000));
        check(&lookup_timeout(), 2, 1, (1500, 2000));
    }

    #[test]
    fn the_servers_wish_is_honoured_and_spread() {
        check(&status(503, Some(2)), 1, 0, (2000, 4000));
        check(&status(425, Some(2)), 1, 0, (2000, 4000));
        check(&status(429, Some(2)), 7, 60, (2000, 4000));
        check(&status(503, Some(60)), 1, 0, (60_000, 65_000));
        check(&status(503, Some(u64::MAX)), 1, 0, (3_600_000, 3_605_000));
        check(&status(503, Some(0)), 1, 0, (0, 50));
        check(&status(503, None), 1, 0, (0, 50));
    }

    #[test]
    fn what_is_tried_for_ever_is_tried_ever_more_seldom() {
        let [first, longest] = [1, 60].map(Duration::from_secs);
        for (failures, least) in [(1, 500), (2, 1000), (6, 16_000), (7, 30_000), (99, 30_000)] {
            let at = |random| backoff(first, longest, failures, random).as_millis();
            assert_eq!((at(0.0), at(1.0)), (least, 2 * least));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 10);
        let check = |header, seconds: Option<u64>| {
            assert_eq!(
                retry_after(header, now),
                seconds.map(Duration::from_secs),
                "{header}"
            );
        };
        check("120", Some(120));
        check("0", Some(0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }

    #[test]
    fn each_error_has_its_outlook() {
        let digest = Digest::of(b"");
        let revision = Revision::of_listing(digest);
        let check = |error: AttemptError, expected| {
            assert_eq!(error.outlook(), expected, "{error:?}");
        };
        check(refused(), Outlook::Transient);
        check(unknown(), Outlook::Transient);
        for code in [500, 502, 503, 504, 408, 425, 429] {
            check(status(code, None), Outlook::Transient);
        }
        for code in [301, 400, 401, 403, 404, 410, 416] {
            check(status(code, None), Outlook::Permanent);
        }
        let certificate = ClientError::Certificate {
            host: "code".into(),
            reason: "it has expired".into(),
        };
        check(certificate.into(), Outlook::Permanent);
        let limit = Duration::from_secs(1);
        for timed_out in [
            ClientError::HandshakeTimeout { url: url(), limit },
            ClientError::NoAnswer { url: url(), limit },
            ClientError::Stalled { url: url(), limit },
        ] {
            check(timed_out.into(), Outlook::Transient);
        }
        check(lookup_timeout(), Outlook::Transient);
        check(AttemptError::Replaced, Outlook::Transient);
        let not_served = AttemptError::NotServed {
            wanted: revision,
            served: None,
            retry_after: None,
        };
        check(not_served, Outlook::NotYet);
        let segment = AttemptError::Segment {
            index: 0,
            expected: digest,
            computed: digest,
        };
        check(segment, Outlook::Damaged);
        check(AttemptError::Frame { part: HEADER }, Outlook::Damaged);
        check(AttemptError::Frame { part: TRAILER }, Outlook::Damaged);
        check(UnpackError::Truncated.into(), Outlook::Permanent);
        let redirect = ClientError::Redirect {
            from: Box::new(url().resource("code.json")),
            to: "http://code/code.json".into(),
            reason: Unfollowed::Loop,
        };
        check(redirect.into(), Outlook::Permanent);
        let no_threads = UnpackError::Threads(io::Error::other("none"));
        check(no_threads.into(), Outlook::Ours);
        let too_large = AttemptError::TooLarge {
            what: "entries",
            flag: "--max-entries",
            found: 2,
            limit: 1,
        };
        check(too_large, Outlook::Ours);
    }

    #[test]
    fn each_error_of_a_plain_server_has_its_outlook() {
        let archive = || Box::new(url().resource("code.tar.gz"));
        let check = |error: PlainError, expected, exit| {
            let error = AttemptError::from(error);
            assert_eq!(
                (error.outlook(), error.exit()),
                (expected, exit),
                "{error:?}"
            );
        };
        let status = |code| PlainError::Status {
            url: archive(),
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: None,
        };
        for code in [500, 502, 503, 504, 408, 425, 429] {
            check(status(code), Outlook::Transient, Exit::Unavailable);
        }
        for code in [206, 304, 400, 404, 410] {
            check(status(code), Outlook::Permanent, Exit::Unavailable);
        }
        for code in [401, 403] {
            check(status(code), Outlook::Permanent, Exit::Refused);
        }
        let digest = Digest::of(b"");
        let other = PlainError::Digest {
            url: archive(),
            expected: digest,
            computed: digest,
        };
        check(other, Outlook::Damaged, Exit::Data);
        let flawed = |source| PlainError::Flawed {
            url: archive(),
            source,
        };
        for damage in [
            Flaw::Empty,
            Flaw::Cut,
            Flaw::Damaged,
            Flaw::Followed,
            UnpackError::Truncated.into(),
        ] {
            check(flawed(damage), Outlook::Damaged, Exit::Data);
        }
        let full = UnpackError::Listing(io::ErrorKind::StorageFull.into());
        check(flawed(full.into()), Outlook::Ours, Exit::Io);
        let limit = 1;
        for hostile in [
            Flaw::TooLong { limit },
            UnpackError::TooManyEntries { limit }.into(),
        ] {
            check(flawed(hostile), Outlook::Permanent, Exit::Data);
        }
    }
}
