//! A tree is fetched: asked for until it is there, downloaded, verified, and put in its place.
//!
//! [`run`] is the whole transaction. It asks a server for the descriptor of an archive, plans which segments of it the target
//! lacks, downloads those, verifies each one before it is inflated, and unpacks it beside the target. Only a tree whose
//! revision was recomputed is installed: from the bytes as they were written, and from the digests of the files that are
//! kept. What may pass is tried again until a deadline, where the last attempt ended.
//!
//! - [`client`] asks over HTTP, with [`credentials`], knows by [`trust`] whom, and follows a [`redirect`];
//! - [`plain`] takes an archive from a server that has no descriptor of it;
//! - [`retry`] decides when to ask again, and whom, from what [`attempt`] says went wrong;
//! - [`follow`] goes on from there, and installs each later tree as it appears;
//! - [`install`] knows the target's layout, and finishes what a killed run has begun.

pub mod attempt;
mod attempts;
mod bar;
pub mod client;
pub mod credentials;
mod download;
mod figures;
pub mod follow;
mod hook;
mod inquiry;
pub mod install;
pub mod plain;
mod plan;
pub mod progress;
pub mod redirect;
pub mod retry;
mod runs;
mod session;
mod signal;
mod sources;
mod stream;
mod summary;
pub mod trust;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::fetch::FetchConfig;
use crate::config::url::Source;
use crate::digest::Revision;
use crate::exit::{Exit, sentence};
use attempt::AttemptError;
use attempts::Terms;
use client::{Client, Timeouts};
use credentials::CredentialsError;
use download::{Download, Verified};
use inquiry::Inquiry;
use install::space::{Full, is_full};
use install::{InstallError, Target};
use progress::{Phase, Progress};
use retry::Pace;
pub use summary::Summary;

/// Twice what the resolver gives one name server; then it may just as well be asked again.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

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
    #[error("what came was damaged {times} times in a row")]
    Damaged {
        /// How often.
        times: u32,
        /// The damage of the last time.
        source: AttemptError,
    },
    /// The target does not take the tree.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The target's file system takes no more.
    #[error("{figures}")]
    Full {
        /// What was needed, and what is left.
        figures: Full,
        /// What could not be written.
        source: Box<Self>,
    },
    /// None of several servers gives the tree.
    #[error("{}; and {}", sentence(&**.first), .others.join("; and "))]
    Everywhere {
        /// The failure of the one that is preferred.
        first: Box<FetchError>,
        /// A sentence for each of the others that were asked.
        others: Vec<String>,
    },
    /// The command that is to run after a change cannot be run.
    #[error("--on-change names the program \"{program}\", which cannot be run")]
    OnChange {
        /// As given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
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
            Self::Everywhere { first, .. } => first.exit(),
            Self::OnChange { .. } => Exit::Config,
            Self::Install(error) => error.exit(),
            Self::Full { .. } => Exit::Io,
        }
    }
}

fn count(attempts: u32) -> String {
    match attempts {
        1 => "1 attempt".into(),
        _ => format!("{attempts} attempts"),
    }
}

/// Fetches a tree into a directory, as [`Fetcher::fetch`] does.
pub async fn run(
    config: &FetchConfig,
    progress: &Progress,
    stop: CancellationToken,
) -> Result<Summary, FetchError> {
    let mut fetcher = Fetcher::open(config, progress).await?;
    progress.enter(Phase::Wait {
        revision: config.revision,
    });
    fetcher.fetch(&stop).await
}

/// Asks which revision is served, or waits until the one that is wanted is. Nothing is written.
pub async fn inquire(
    config: &FetchConfig,
    progress: &Progress,
    stop: CancellationToken,
) -> Result<Revision, FetchError> {
    let clients = clients(config)?;
    let mut inquiry = Inquiry::new(&clients, config);
    let mut attempts = 0;
    progress.enter(Phase::Wait {
        revision: config.revision,
    });
    let answer = tokio::select! {
        () = stop.cancelled() => Err(FetchError::Stopped),
        answer = attempts::within(terms(config), &mut inquiry, progress, &mut attempts) => answer,
    };
    let descriptor = answer?.descriptor;
    Ok(descriptor.expect("no tag was known").revision)
}

/// One target, and those who are asked for its tree. No other process installs into the target as long as this lives.
#[derive(Debug)]
pub struct Fetcher<'a> {
    config: &'a FetchConfig,
    progress: &'a Progress,
    /// In the order in which they are asked; never empty.
    clients: Vec<Client>,
    target: Arc<Target>,
}

impl<'a> Fetcher<'a> {
    /// Opens the target. An installation that an earlier run left unfinished is finished.
    pub async fn open(config: &'a FetchConfig, progress: &'a Progress) -> Result<Self, FetchError> {
        let clients = clients(config)?;
        let (path, layout, keep) = (config.target.clone(), config.layout, config.keep);
        let tasks = TaskTracker::new();
        let target = blocking(&tasks, move || Target::open(&path, layout, keep)).await?;
        Ok(Self {
            config,
            progress,
            clients,
            target: Arc::new(target),
        })
    }

    /// The revision that the target holds, if it holds one as a whole.
    async fn held(&self) -> Result<Option<Revision>, FetchError> {
        let target = Arc::clone(&self.target);
        Ok(blocking(&TaskTracker::new(), move || target.revision()).await?)
    }

    /// Reads anew what servers are asked with. Where that fails, it stays as it was.
    fn renew(&mut self) -> Result<(), CredentialsError> {
        self.clients = clients(self.config)?;
        Ok(())
    }

    fn clients(&self) -> &[Client] {
        &self.clients
    }

    fn terms(&self) -> Terms<'a> {
        terms(self.config)
    }

    /// Fetches a tree.
    ///
    /// When this fails before the tree is complete, the target holds what it held before, and nothing of the attempt is
    /// left. Once it is complete, neither the token nor the deadline stops it from being installed; where that fails on its
    /// way, the next run finishes it. Dropping the future may leave threads behind that still write to the staging
    /// directory: cancel the token instead.
    pub async fn fetch(&mut self, stop: &CancellationToken) -> Result<Summary, FetchError> {
        let started = Instant::now();
        let tasks = TaskTracker::new();
        let mut download = Download::new(
            self.config,
            &self.clients,
            &self.target,
            self.progress,
            &tasks,
        );
        let mut attempts = 0;
        let staged = tokio::select! {
            () = stop.cancelled() => Err(FetchError::Stopped),
            staged = attempts::within(terms(self.config), &mut download, self.progress, &mut attempts) => staged,
        };
        let (downloaded, reused) = (download.received(), download.reused());
        let size = download.size();
        drop(download);
        tasks.close();
        tasks.wait().await;

        let installed = match staged {
            Err(error) => Err(error),
            Ok(verified) => install(&tasks, &self.target, self.progress, verified).await,
        };
        match installed {
            Ok(installed) => {
                let summary = Summary {
                    revision: installed.revision,
                    entries: installed.entries,
                    files: installed.files,
                    is_new: installed.is_new,
                    downloaded,
                    size,
                    reused,
                    attempts,
                    elapsed: started.elapsed(),
                };
                self.progress.finish();
                summary.report(self.config.log_format.is_json());
                Ok(summary)
            }
            Err(error) => {
                let target = Arc::clone(&self.target);
                if let Err(left) = blocking(&tasks, move || target.clear()).await {
                    self.progress
                        .log(|| warn!(error = %sentence(&left), "staging is left behind"));
                }
                Err(self.with_figures(error, &tasks).await)
            }
        }
    }

    /// What a person has to know of a disk that is full.
    async fn with_figures(&self, error: FetchError, tasks: &TaskTracker) -> FetchError {
        if !is_full(&error) {
            return error;
        }
        let target = Arc::clone(&self.target);
        FetchError::Full {
            figures: blocking(tasks, move || target.full()).await,
            source: Box::new(error),
        }
    }
}

/// A whole transaction, for which somebody waits.
fn terms(config: &FetchConfig) -> Terms<'_> {
    Terms {
        sources: &config.sources,
        deadline: config.deadline,
        pace: Pace::Eager,
    }
}

/// A client of each source, in their order.
fn clients(config: &FetchConfig) -> Result<Vec<Client>, CredentialsError> {
    let timeouts = Timeouts {
        lookup: LOOKUP_TIMEOUT,
        connect: config.connect_timeout,
        stall: config.stall_timeout,
    };
    let credentials = &config.credentials;
    let client = |source: &Source| {
        let client = Client::new(source.base().clone(), timeouts, credentials)?;
        Ok(client.following(credentials))
    };
    config.sources.iter().map(client).collect()
}

/// What the target holds in the end.
struct Installed {
    revision: Revision,
    entries: u64,
    files: u64,
    /// It did not before.
    is_new: bool,
}

async fn install(
    tasks: &TaskTracker,
    target: &Arc<Target>,
    progress: &Progress,
    verified: Verified,
) -> Result<Installed, FetchError> {
    match verified {
        Verified::InPlace {
            revision,
            entries,
            files,
        } => {
            // Of another tree, which was served before, a part may be staged.
            let target = Arc::clone(target);
            blocking(tasks, move || target.clear()).await?;
            Ok(Installed {
                revision,
                entries,
                files,
                is_new: false,
            })
        }
        Verified::Staged(unpacked) => {
            progress.enter(Phase::Install);
            let target = Arc::clone(target);
            let (revision, entries, files) = (unpacked.revision, unpacked.entries, unpacked.files);
            blocking(tasks, move || target.install(&unpacked)).await?;
            Ok(Installed {
                revision,
                entries,
                files,
                is_new: true,
            })
        }
    }
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
