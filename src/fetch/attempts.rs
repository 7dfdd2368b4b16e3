//! Attempts one after the other, until the tree is staged or trying makes no sense any more.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use super::attempt::{AttemptError, Outlook};
use super::download::{Download, Verified};
use super::progress::Progress;
use super::{FetchError, retry};
use crate::config::fetch::FetchConfig;
use crate::exit::sentence;

/// Damage that comes this often in a row does not come from the way.
const MOST_DAMAGES: u32 = 5;
/// Stands for no deadline, and for any later one: longer than anything runs, and short enough to be added to a clock.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 30);
/// An attempt that was cut short after this long tells more than the failure of the one before.
const TELLING: Duration = Duration::from_secs(1);

/// Tries until the tree is staged, or trying makes no sense any more.
pub(super) async fn download_within(
    config: &FetchConfig,
    download: &mut Download<'_>,
    progress: &Progress,
    attempts: &mut u32,
) -> Result<Verified, FetchError> {
    let started = Instant::now();
    let deadline = started + config.deadline.map_or(FOREVER, |limit| limit.min(FOREVER));
    let mut streak = Streak::default();
    let mut last: Option<AttemptError> = None;
    loop {
        *attempts += 1;
        let begun = Instant::now();
        let done = download.segments_done();
        match timeout_at(deadline, download.attempt()).await {
            Ok(Ok(verified)) => return Ok(verified),
            Ok(Err(error)) => {
                streak.note(&error, download.segments_done() > done);
                if streak.damages == MOST_DAMAGES {
                    return Err(FetchError::Damaged {
                        times: streak.damages,
                        source: error,
                    });
                }
                if error.outlook() == Outlook::Permanent {
                    return Err(FetchError::Failed(error));
                }
                let text = sentence(&error);
                progress.failed(&text);
                if last.is_none_or(|last| sentence(&last) != text) {
                    progress.log(|| warn!(error = %text, "trying again"));
                }
                let pause =
                    retry::delay(&error, streak.failures, started.elapsed(), fastrand::f64());
                last = Some(error);
                sleep_until(deadline.min(Instant::now() + pause)).await;
            }
            Err(_) if begun.elapsed() >= TELLING => last = None,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(FetchError::Deadline {
                after: config.deadline.unwrap_or(FOREVER),
                attempts: *attempts,
                source: last.unwrap_or_else(|| download.unfinished()),
            });
        }
    }
}

/// Failures without progress between them.
#[derive(Debug, Default)]
struct Streak {
    failures: u32,
    damages: u32,
}

impl Streak {
    fn note(&mut self, error: &AttemptError, progressed: bool) {
        if progressed {
            *self = Self::default();
        }
        self.failures += 1;
        match error.outlook() {
            Outlook::Damaged => self.damages += 1,
            Outlook::Transient | Outlook::NotYet | Outlook::Permanent => self.damages = 0,
        }
    }
}
