//! Which of several servers is asked next, and when. Nothing here waits, or looks at a clock.
//!
//! The first server is asked first, and each that fails makes room for the next one at once. Every server has a pause of its
//! own: when all have failed, it is the turn of the one whose pause ends first. So none is asked sooner than it would be
//! alone, whatever it wished for in a `Retry-After`, and one that is away for long does not hold up the others.
//!
//! A server whose failure would repeat itself is out, as is one whose archives come damaged again and again. When all are
//! out, that is the end. What fails on this side is the end as well, for it would fail whoever is asked.

use std::collections::VecDeque;
use std::time::Duration;

use super::FetchError;
use super::attempt::{AttemptError, Outlook};
use super::retry::{Pace, Tried, delay};
use crate::config::url;
use crate::exit::sentence;

/// Damage that comes this often in a row does not come from the way.
const MOST_DAMAGES: u32 = 5;

/// How many different sentences are remembered. There are seldom more than a handful.
const MOST_TOLD: usize = 16;

/// Servers by their place in the order in which they are preferred, and how they have failed so far.
#[derive(Debug)]
pub(super) struct Sources {
    pace: Pace,
    sources: Vec<Source>,
}

#[derive(Debug, Default)]
struct Source {
    /// When it may be asked again, since the first attempt.
    ready: Duration,
    /// In a row, without progress between them.
    failures: u32,
    damages: u32,
    out: bool,
    last: Option<AttemptError>,
    /// The sentences of its failures, the newest first.
    told: VecDeque<String>,
}

/// An attempt that failed. Times are since the first attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: AttemptError,
    /// Whether it brought something that lasts.
    pub(super) progressed: bool,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
}

/// What a failure means for the whole.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is somebody to ask.
    Again,
    /// Nobody is left.
    Over,
    /// It makes no difference who is asked.
    Ours(AttemptError),
}

impl Sources {
    /// So many servers, none of which was asked yet. At least one.
    pub(super) fn new(count: usize, pace: Pace) -> Self {
        let sources = std::iter::repeat_with(Source::default)
            .take(count)
            .collect();
        Self { pace, sources }
    }

    /// Whose turn it is, and when; `None` when all are out.
    pub(super) fn next(&self) -> Option<(usize, Duration)> {
        let left = self.sources.iter().enumerate();
        let left = left.filter(|(_, source)| !source.out);
        left.map(|(turn, source)| (turn, source.ready))
            .min_by_key(|&(turn, ready)| (ready, turn))
    }

    /// Whether only one is left.
    pub(super) fn is_alone(&self) -> bool {
        self.sources.iter().filter(|source| !source.out).count() == 1
    }

    /// The sentence of a failure, the first time that a server fails like this.
    pub(super) fn news(&mut self, turn: usize, error: &AttemptError) -> Option<String> {
        let told = &mut self.sources[turn].told;
        let text = sentence(error);
        if told.contains(&text) {
            return None;
        }
        told.truncate(MOST_TOLD - 1);
        told.push_front(text.clone());
        Some(text)
    }

    /// Notes how a server has failed. `random` is from 0 to 1, evenly spread.
    pub(super) fn failed(&mut self, turn: usize, failure: Failure, random: f64) -> Verdict {
        let Failure {
            error,
            progressed,
            begun,
            ended,
        } = failure;
        let source = &mut self.sources[turn];
        if progressed {
            (source.failures, source.damages) = (0, 0);
        }
        source.failures += 1;
        match error.outlook() {
            Outlook::Ours => return Verdict::Ours(error),
            Outlook::Permanent => source.out = true,
            Outlook::Damaged => {
                source.damages += 1;
                source.out = source.damages == MOST_DAMAGES;
            }
            Outlook::Transient | Outlook::NotYet => source.damages = 0,
        }
        let tried = Tried {
            failures: source.failures,
            waited: ended,
            took: ended.saturating_sub(begun),
            pace: self.pace,
        };
        source.ready = ended + delay(&error, tried, random);
        source.last = Some(error);
        if self.sources.iter().all(|source| source.out) {
            return Verdict::Over;
        }
        Verdict::Again
    }

    /// Notes that time was up while a server was asked; what is known of it already may tell more. What it had instead of the
    /// revision that was waited for always does: it was held until then, as it was asked to be.
    pub(super) fn cut(&mut self, turn: usize, unfinished: AttemptError, tells_more: bool) {
        let last = &mut self.sources[turn].last;
        let was_held = matches!(last, Some(AttemptError::NotServed { .. }));
        if (tells_more && !was_held) || last.is_none() {
            *last = Some(unfinished);
        }
    }

    /// The failure of all of them, when nobody is left.
    pub(super) fn over(self, urls: &[url::Source]) -> FetchError {
        let damages = self.sources[0].damages;
        self.conclude(urls, |source| match damages {
            MOST_DAMAGES => FetchError::Damaged {
                times: damages,
                source,
            },
            _ => FetchError::Failed(source),
        })
    }

    /// The failure of those that were asked, when time is up. At least one was.
    pub(super) fn late(self, urls: &[url::Source], after: Duration, attempts: u32) -> FetchError {
        self.conclude(urls, |source| FetchError::Deadline {
            after,
            attempts,
            source,
        })
    }

    fn conclude(
        self,
        urls: &[url::Source],
        first: impl FnOnce(AttemptError) -> FetchError,
    ) -> FetchError {
        let failed = urls.iter().zip(self.sources);
        let mut failed = failed.filter_map(|(url, source)| Some((url, source.last?)));
        let (_, error) = failed.next().expect("somebody was asked");
        let first = first(error);
        let others: Vec<_> = failed.map(|(url, error)| told(url, &error)).collect();
        if others.is_empty() {
            return first;
        }
        FetchError::Everywhere {
            first: Box::new(first),
            others,
        }
    }
}

/// An error's sentence, with the server in it.
fn told(url: &url::Source, error: &AttemptError) -> String {
    let (url, text) = (url.to_string(), sentence(error));
    if text.contains(&url) {
        return text;
    }
    format!("{url}: {text}")
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::super::client::ClientError;
    use super::super::install::InstallError;
    use super::*;
    use crate::digest::{Digest, Revision};
    use crate::exit::Exit;
    use crate::unpack::UnpackError;

    fn url(name: &str) -> url::BaseUrl {
        url::BaseUrl::parse(&format!("http://{name}")).unwrap()
    }

    fn refused() -> AttemptError {
        ClientError::Refused { url: url("a") }.into()
    }

    fn status(code: u16, retry_after: Option<u64>) -> AttemptError {
        AttemptError::Status {
            url: url("a"),
            resource: "code.json".into(),
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn damaged() -> AttemptError {
        AttemptError::Segment {
            index: 3,
            expected: Digest::of(b"a"),
            computed: Digest::of(b"b"),
        }
    }

    fn full() -> AttemptError {
        InstallError::Busy {
            path: "/app".into(),
        }
        .into()
    }

    /// An attempt that took no time, without jitter: pauses are the longest.
    fn fail(sources: &mut Sources, turn: usize, at: u64, error: AttemptError) -> Verdict {
        let at = Duration::from_millis(at);
        let failure = Failure {
            error,
            progressed: false,
            begun: at,
            ended: at,
        };
        sources.failed(turn, failure, 1.0)
    }

    /// One failure after the other, each of the one whose turn it is; whom it was the turn of, and when in milliseconds.
    #[track_caller]
    fn check(count: usize, errors: Vec<AttemptError>, expected: &[(usize, u64)]) {
        let mut sources = Sources::new(count, Pace::Eager);
        let mut now = 0;
        let mut turns = Vec::new();
        for error in errors {
            let (turn, ready) = sources.next().unwrap();
            now = now.max(u64::try_from(ready.as_millis()).unwrap());
            turns.push((turn, now));
            assert!(matches!(
                fail(&mut sources, turn, now, error),
                Verdict::Again
            ));
        }
        let (turn, ready) = sources.next().unwrap();
        turns.push((turn, now.max(u64::try_from(ready.as_millis()).unwrap())));
        assert_eq!(turns, expected);
    }

    #[test]
    fn each_is_asked_at_once_and_then_after_its_own_pause() {
        check(1, vec![refused(), refused()], &[(0, 0), (0, 100), (0, 200)]);
        check(
            2,
            vec![refused(), refused(), refused()],
            &[(0, 0), (1, 0), (0, 100), (1, 100)],
        );
        // The first wishes to be left alone for two seconds; with full jitter that is four.
        check(
            2,
            vec![status(503, Some(2)), refused(), refused(), refused()],
            &[(0, 0), (1, 0), (1, 100), (1, 200), (1, 300)],
        );
    }

    #[test]
    fn who_fails_for_good_is_asked_no_more_while_others_are_left() {
        check(
            3,
            vec![status(404, None), refused(), refused(), refused()],
            &[(0, 0), (1, 0), (2, 0), (1, 100), (2, 100)],
        );
        let hostile = || UnpackError::Truncated.into();
        check(2, vec![hostile(), refused()], &[(0, 0), (1, 0), (1, 100)]);
    }

    #[test]
    fn damage_that_persists_puts_its_server_out() {
        let mut sources = Sources::new(2, Pace::Eager);
        for _ in 1..MOST_DAMAGES {
            fail(&mut sources, 0, 0, damaged());
            assert!(!sources.is_alone());
        }
        fail(&mut sources, 0, 0, damaged());
        assert!(sources.is_alone());
        assert_eq!(sources.next(), Some((1, Duration::ZERO)));
    }

    #[test]
    fn progress_makes_up_for_failures() {
        let mut sources = Sources::new(1, Pace::Eager);
        for _ in 0..2 * MOST_DAMAGES {
            let failure = Failure {
                error: damaged(),
                progressed: true,
                begun: Duration::ZERO,
                ended: Duration::ZERO,
            };
            assert!(matches!(sources.failed(0, failure, 0.0), Verdict::Again));
        }
    }

    #[test]
    fn it_is_over_when_nobody_is_left_or_it_would_not_matter_who_is() {
        let mut sources = Sources::new(2, Pace::Eager);
        assert!(matches!(
            fail(&mut sources, 0, 0, status(404, None)),
            Verdict::Again
        ));
        assert!(matches!(
            fail(&mut sources, 1, 0, status(403, None)),
            Verdict::Over
        ));
        assert_eq!(sources.next(), None);
        let mut sources = Sources::new(2, Pace::Eager);
        assert!(matches!(fail(&mut sources, 0, 0, full()), Verdict::Ours(_)));
    }

    #[test]
    fn the_end_tells_the_first_servers_failure_and_the_others() {
        let urls = ["a", "b", "c"].map(|name| url::Source::Server(url(name)));
        let mut sources = Sources::new(3, Pace::Eager);
        fail(&mut sources, 0, 0, status(403, None));
        fail(&mut sources, 1, 0, UnpackError::Truncated.into());
        fail(&mut sources, 2, 0, status(404, None));
        let error = sources.over(&urls);
        assert_eq!(error.exit(), Exit::Refused);
        let text = sentence(&error);
        assert!(
            text.starts_with("http://a answered \"403 Forbidden\""),
            "{text}"
        );
        assert!(text.contains("; and http://b: the archive "), "{text}");
        assert_eq!(text.matches(" answered \"404").count(), 1, "{text}");

        let mut sources = Sources::new(2, Pace::Eager);
        fail(&mut sources, 0, 0, refused());
        let text = sentence(&sources.late(&urls, Duration::from_secs(1), 1));
        let alone =
            "gave up after 1s and 1 attempt: cannot connect to http://a: connection refused";
        assert_eq!(text, alone);
    }

    #[test]
    fn what_was_cut_short_is_told_where_it_tells_more() {
        let unfinished = || AttemptError::Unfinished {
            url: url("a"),
            came: None,
        };
        let urls = [url::Source::Server(url("a"))];
        let text = |sources: Sources| sentence(&sources.late(&urls, Duration::ZERO, 2));
        let mut sources = Sources::new(1, Pace::Eager);
        fail(&mut sources, 0, 0, refused());
        sources.cut(0, unfinished(), false);
        assert!(text(sources).ends_with("connection refused"));
        for (failed, tells_more) in [(true, true), (false, false)] {
            let mut sources = Sources::new(1, Pace::Eager);
            if failed {
                fail(&mut sources, 0, 0, refused());
            }
            sources.cut(0, unfinished(), tells_more);
            assert!(text(sources).ends_with("had not answered by then"));
        }
    }

    #[test]
    fn who_waits_for_a_revision_is_told_what_there_is_instead() {
        let [wanted, served] =
            [b"a", b"b"].map(|listing| Revision::of_listing(Digest::of(listing)));
        let urls = [url::Source::Server(url("a"))];
        let mut sources = Sources::new(1, Pace::Eager);
        let not_served = AttemptError::NotServed {
            wanted,
            served: Some(served),
            retry_after: None,
        };
        fail(&mut sources, 0, 0, not_served);
        let unfinished = AttemptError::Unfinished {
            url: url("a"),
            came: None,
        };
        sources.cut(0, unfinished, true);
        let text = sentence(&sources.late(&urls, Duration::ZERO, 2));
        for revision in [wanted, served] {
            assert!(text.contains(&revision.to_string()), "{text}");
        }
    }

    #[test]
    fn a_failure_is_news_once() {
        let mut sources = Sources::new(2, Pace::Eager);
        let away = || status(503, None);
        for (turn, error, is_news) in [
            (0, refused(), true),
            (0, refused(), false),
            (0, away(), true),
            (0, refused(), false),
            (1, refused(), true),
            (1, away(), true),
            (0, away(), false),
        ] {
            let text = sentence(&error);
            assert_eq!(sources.news(turn, &error), is_news.then_some(text));
        }
        for code in 500..600 {
            assert!(sources.news(0, &status(code, None)).is_some() || code == 503);
        }
        assert_eq!(sources.sources[0].told.len(), MOST_TOLD);
    }
}
