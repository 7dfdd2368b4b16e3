//! A tree is fetched: asked for until it is there, downloaded, verified, and put in its place.
//!
//! [`run`] is the whole transaction. It asks a server for the descriptor of an archive, downloads the archive segment by
//! segment, verifies each one before it is inflated, and unpacks it beside the target. Only a tree whose revision was
//! recomputed from the bytes as they were written is installed. What may pass is tried again until a deadline, where the
//! last attempt ended.
//!
//! - [`client`] asks over HTTP, with [`credentials`], and knows by [`trust`] whom;
//! - [`retry`] decides when to ask again, from what [`attempt`] says went wrong;
//! - [`install`] knows the target's layout, and finishes what a killed run has begun.

pub mod attempt;
pub mod client;
pub mod credentials;
mod download;
pub mod install;
pub mod progress;
pub mod retry;
mod session;
mod stream;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::fetch::FetchConfig;
use crate::digest::Revision;
use crate::exit::{Exit, sentence};
use crate::unpack::Unpacked;
use attempt::{AttemptError, Outlook};
use client::{Client, Timeouts};
use credentials::CredentialsError;
use download::{Download, Verified};
use install::{InstallError, Target};
use progress::{Phase, Progress};

/// Damage that comes this often in a row does not come from the way.
const MOST_DAMAGES: u32 = 5;
/// Stands for no deadline, and for any later one: longer than anything runs, and short enough to be added to a clock.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 30);
/// Twice what the resolver gives one name server; then it may just as well be asked again.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// An attempt that was cut short after this long tells more than the failure of the one before.
const TELLING: Duration = Duration::from_secs(1);

/// What was fetched, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What the target holds now.
    pub revision: Revision,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Bytes of archives that came from the network, those that had to come again included.
    pub downloaded: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why the target does not hold the tree.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be asked as it should be.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Time is up.
    #[error("gave up after {} and {}", humantime::format_duration(*.after), count(*.attempts))]
    Deadline {
        /// The deadline.
        after: Duration,
        /// How often it was tried, the attempt that was cut short included.
        attempts: u32,
        /// What went wrong last.
        source: AttemptError,
    },
    /// Another attempt would fail likewise.
    #[error(transparent)]
    Failed(AttemptError),
    /// What comes is damaged again and again.
    #[error("the archive came damaged {times} times in a row")]
    Damaged {
        /// How often.
        times: u32,
        /// The damage of the last time.
        source: AttemptError,
    },
    /// The target does not take the tree.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// It was told to stop before the tree was complete.
    #[error("stopped before the tree was complete")]
    Stopped,
}

impl FetchError {
    /// How the program ends for it, if no signal says otherwise.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Deadline { .. } | Self::Stopped => Exit::Unavailable,
            Self::Credentials(error) => error.exit(),
            Self::Failed(error) => error.exit(),
            Self::Damaged { .. } => Exit::Data,
            Self::Install(error) => error.exit(),
        }
    }
}

fn count(attempts: u32) -> String {
    match attempts {
        1 => "1 attempt".into(),
        _ => format!("{attempts} attempts"),
    }
}

/// Fetches a tree into a directory.
///
/// An installation that an earlier run left unfinished is finished first. When this fails before the tree is complete, the
/// target holds what it held before, and nothing of the attempt is left. Once it is complete, neither the token nor the
/// deadline stops it from being installed; where that fails on its way, the next run finishes it. Dropping the future may leave threads behind that still write to the staging directory: cancel the
/// token instead.
pub async fn run(
    config: &FetchConfig,
    progress: &Progress,
    stop: CancellationToken,
) -> Result<Summary, FetchError> {
    let started = Instant::now();
    let tasks = TaskTracker::new();
    let client = client(config)?;
    let path = config.target.clone();
    let target = blocking(&tasks, move || Target::open(&path)).await?;
    let target = Arc::new(target);

    progress.enter(Phase::Wait);
    let mut download = Download::new((config, client), &target, progress, &tasks);
    let mut attempts = 0;
    let staged = tokio::select! {
        () = stop.cancelled() => Err(FetchError::Stopped),
        staged = download_within(config, &mut download, progress, &mut attempts) => staged,
    };
    let downloaded = download.received();
    drop(download);
    tasks.close();
    tasks.wait().await;

    let installed = match staged {
        Err(error) => Err(error),
        Ok(verified) => {
            progress.enter(Phase::Install);
            install(&tasks, &target, verified).await
        }
    };
    match installed {
        Ok(unpacked) => {
            let summary = Summary {
                revision: unpacked.revision,
                entries: unpacked.entries,
                files: unpacked.files,
                downloaded,
                attempts,
                elapsed: started.elapsed(),
            };
            progress.finish();
            report(&summary);
            Ok(summary)
        }
        Err(error) => {
            if let Err(left) = blocking(&tasks, move || target.clear()).await {
                progress.log(|| warn!(error = %sentence(&left), "staging is left behind"));
            }
            Err(error)
        }
    }
}

fn client(config: &FetchConfig) -> Result<Client, CredentialsError> {
    let timeouts = Timeouts {
        lookup: LOOKUP_TIMEOUT,
        connect: config.connect_timeout,
        stall: config.stall_timeout,
    };
    Client::new(config.url.clone(), timeouts, &config.credentials)
}

/// The one line that stays when all went well.
fn report(summary: &Summary) {
    let elapsed = Duration::from_millis(summary.elapsed.as_millis().try_into().unwrap_or(u64::MAX));
    info!(
        revision = %summary.revision,
        files = summary.files,
        downloaded = summary.downloaded,
        attempts = summary.attempts,
        ?elapsed,
        "installed"
    );
}

/// Tries until the tree is staged, or trying makes no sense any more.
async fn download_within(
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

async fn install(
    tasks: &TaskTracker,
    target: &Arc<Target>,
    verified: Verified,
) -> Result<Unpacked, FetchError> {
    let target = Arc::clone(target);
    let Verified(unpacked) = verified;
    Ok(blocking(tasks, move || target.install(&unpacked).map(|()| unpacked)).await?)
}

/// Runs something that waits for the disk, in a thread that `tasks` owns.
async fn blocking<T: Send + 'static>(
    tasks: &TaskTracker,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let work = tasks.spawn_blocking(work);
    work.await
        .expect("the work neither panics nor is it aborted")
}
