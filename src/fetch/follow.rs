//! A target that follows what is served: installed once as any other, and again whenever there is something else.
//!
//! One request waits at the server, which answers it when the descriptor is no longer the one whose tag it carries. What is
//! new is fetched by a transaction of its own, and then the command runs and the signal goes out, in this order and one
//! after the other. What fails after the first installation is told and tried again, for as long as it takes: a follower
//! ends when it is told to, and then at once and well.
//!
//! Nothing happens for a tree that was in the target before. A follower that is ended between an installation and the
//! command does not make up for it when it is started again.

use std::error::Error;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attempts::{self, Terms};
use super::client::Client;
use super::hook::{self, Change, Hook};
use super::inquiry::{Answer, Inquiry, LONGEST_HOLD};
use super::progress::{Phase, Progress};
use super::retry::{Pace, backoff};
use super::{FetchError, Fetcher, signal};
use crate::config::fetch::FetchConfig;
use crate::config::follow::Reaction;
use crate::digest::Revision;
use crate::exit::sentence;

/// How often a server is asked that does not hold requests.
const POLL: Duration = Duration::from_secs(30);
/// A server that answers sooner than this, and has nothing new, is about to end or does not hold requests after all.
const SOON: Duration = Duration::from_secs(1);
/// The longest time between two transactions for the same tree, after several have failed.
const LONGEST: Duration = Duration::from_mins(1);
/// The pause after the first of them.
const FIRST: Duration = Duration::from_secs(1);

/// Fetches what is there, as a plain run does, and then whatever comes, until the token is cancelled.
///
/// Fails only where a plain run would: before anything was installed.
pub async fn follow(
    config: &FetchConfig,
    reaction: &Reaction,
    progress: &Progress,
    stop: CancellationToken,
) -> Result<(), FetchError> {
    if let Some(command) = &reaction.on_change {
        hook::check(command, &config.target).map_err(|source| FetchError::OnChange {
            program: command.program.clone(),
            source,
        })?;
    }
    let mut fetcher = Fetcher::open(config, progress).await?;
    let held = fetcher.held().await?;
    progress.enter(Phase::Wait {
        revision: config.revision,
    });
    let first = match fetcher.fetch(&stop).await {
        Err(FetchError::Stopped) => return Ok(()),
        other => other?.revision,
    };
    let limit = reaction.on_change_timeout;
    let mut follower = Follower {
        known: Known::of(first),
        held: first,
        hook: reaction
            .on_change
            .as_ref()
            .map(|command| Hook::new(command, limit)),
        reaction,
        progress,
        fetcher,
        trouble: None,
    };
    follower.react(held, &stop).await;
    if !stop.is_cancelled() {
        follower.go_on(&stop).await;
    }
    Ok(())
}

/// What is to be followed, and how far it was.
struct Follower<'a> {
    fetcher: Fetcher<'a>,
    progress: &'a Progress,
    reaction: &'a Reaction,
    hook: Option<Hook<'a>>,
    /// What the target holds.
    held: Revision,
    /// What was served last: the same, unless it could not be installed.
    known: Known,
    /// What was told to be wrong, until it no longer is.
    trouble: Option<String>,
}

/// What is not worth an answer.
struct Known {
    revision: Revision,
    tag: Option<HeaderValue>,
    /// When its archive was made.
    made: Option<SystemTime>,
}

impl Known {
    /// A revision that was installed, with nothing else known of it.
    fn of(revision: Revision) -> Self {
        Self {
            revision,
            tag: None,
            made: None,
        }
    }
}

impl Follower<'_> {
    /// Installs what comes until it is told to stop.
    async fn go_on(&mut self, stop: &CancellationToken) {
        self.progress
            .log(|| info!(revision = %self.held, "following"));
        let mut failures = 0;
        loop {
            let pause = match failures {
                0 => None,
                _ => Some(backoff(FIRST, LONGEST, failures, fastrand::f64())),
            };
            let is_news = tokio::select! {
                () = stop.cancelled() => return,
                is_news = self.news_within(pause) => is_news,
                never = hook::reap_orphans() => match never {},
            };
            if is_news {
                // Something else is no worse for what went before it.
                failures = 0;
            }
            match self.fetcher.fetch(stop).await {
                Ok(summary) => {
                    failures = 0;
                    let previous = std::mem::replace(&mut self.held, summary.revision);
                    if self.known.revision != self.held {
                        self.known = Known::of(self.held);
                    }
                    self.react(Some(previous), stop).await;
                }
                Err(FetchError::Stopped) => return,
                Err(error) => {
                    failures += 1;
                    self.progress.finish();
                    self.tell(&error);
                    self.renew();
                }
            }
        }
    }

    /// Waits for something else than what is known, for so long at most; whether it came.
    async fn news_within(&mut self, limit: Option<Duration>) -> bool {
        if let Some(limit) = limit {
            return timeout(limit, self.news()).await.is_ok();
        }
        self.news().await;
        true
    }

    /// Waits until something else is served than what is known, and knows it then.
    ///
    /// This is the only place that knows how one hears of it. Cancel safe.
    async fn news(&mut self) {
        let mut in_a_row = 0;
        loop {
            let asked = Instant::now();
            let answer = match self.ask().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.tell(&error);
                    self.renew();
                    in_a_row += 1;
                    sleep(backoff(FIRST, POLL / 6, in_a_row, fastrand::f64())).await;
                    continue;
                }
            };
            let holds = answer.holds;
            if self.is_news(answer) {
                return;
            }
            if !holds {
                sleep(POLL.mul_f64(1.0 - fastrand::f64() / 4.0)).await;
            } else if asked.elapsed() < SOON {
                in_a_row += 1;
                sleep(backoff(SOON / 8, SOON * 5, in_a_row, fastrand::f64())).await;
            } else {
                in_a_row = 0;
            }
        }
    }

    /// One answer, in as many attempts as it takes.
    async fn ask(&mut self) -> Result<Answer, FetchError> {
        let terms = Terms {
            deadline: None,
            pace: Pace::Patient,
            ..self.fetcher.terms()
        };
        let clients = patient(self.fetcher.clients());
        let mut inquiry = Inquiry::for_change(&clients, self.known.tag.clone());
        let mut attempts = 0;
        let answer = attempts::within(terms, &mut inquiry, self.progress, &mut attempts).await?;
        let was_away = self.trouble.take().is_some() || attempts > 1;
        if was_away {
            self.progress.log(|| info!("the server answers again"));
        }
        Ok(answer)
    }

    /// Whether an answer brings something else than what is known; that is known from now on.
    ///
    /// A fallback may be behind the first server, and what it has is news only if it was made later.
    fn is_news(&mut self, answer: Answer) -> bool {
        let Some(descriptor) = answer.descriptor else {
            return false;
        };
        let is_same = descriptor.revision == self.known.revision;
        let made = self.known.made;
        let is_later = made.is_none_or(|made| descriptor.created_at > made);
        if !is_same && answer.turn > 0 && !is_later {
            return false;
        }
        self.known = Known {
            revision: descriptor.revision,
            tag: answer.tag,
            made: Some(descriptor.created_at),
        };
        !is_same
    }

    /// Does what is to be done after the target has changed, if it has.
    async fn react(&mut self, previous: Option<Revision>, stop: &CancellationToken) {
        let revision = self.held;
        if previous == Some(revision) {
            return;
        }
        if let Some(hook) = &mut self.hook {
            hook.run(Change { previous, revision }, stop).await;
        }
        let Some(wanted) = &self.reaction.signal else {
            return;
        };
        if !stop.is_cancelled() {
            match signal::send(wanted) {
                Ok(sent) => sent.report(wanted, previous.is_some()),
                Err(error) => warn!(%error, "cannot look for processes to signal"),
            }
        }
    }

    /// Tells what is wrong, once.
    fn tell(&mut self, error: &dyn Error) {
        let text = sentence(error);
        if self.trouble.as_ref() != Some(&text) {
            self.progress
                .log(|| warn!(error = %text, "cannot follow, and going on trying"));
            self.trouble = Some(text);
        }
    }

    /// Reads tokens and certificates anew: what is refused today may have been replaced yesterday.
    fn renew(&mut self) {
        if let Err(error) = self.fetcher.renew() {
            self.tell(&error);
        }
    }
}

/// Clients that wait for as long as they ask a server to hold a request, and then for as long as any does.
fn patient(clients: &[Client]) -> Vec<Client> {
    let clients = clients.iter().cloned();
    clients
        .map(|client| client.with_patience(LONGEST_HOLD))
        .collect()
}
