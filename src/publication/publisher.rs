//! The publisher: keeps what is served in step with the tree.
//!
//! It begins with what an earlier process served last, builds when the tree has changed and is quiet, and publishes what is
//! new. A build that fails, or that the tree changed under, leaves what is served as it is, and is done again later. All
//! that waits for a disk is done in the workshop, on a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::agenda::{Agenda, Due};
use super::build::{BuildError, Source};
use super::news::News;
use super::places::Places;
use super::rebuilds::{Ended, Rebuilds};
use super::worker::Worker;
use super::workshop::{Asked, Attempt, Draft, Tried, Workshop};
use super::{PastBuild, Publication};
use crate::artifact::Artifact;
use crate::config::watch::WatchConfig;
use crate::digest::{Digest, Revision};
use crate::exit::sentence;
use crate::metrics::{ArtifactFigures, BuildResult, Metrics};
use crate::store::retention::Retention;
use crate::store::{LastBuild, LastResult, ServerRecord, Store};
use crate::tree::watch::{Changes, poll_interval};

/// How often a root that is not there, or has nothing in it, is looked for: mounting raises no event.
const ROOT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the disk may take at the end to keep what was published last.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between walks where changes are found by walking and none is set.
const RESCAN: Duration = Duration::from_mins(1);

/// What the publisher is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where the code is.
    pub source: Arc<Source>,
    /// Where artifacts lie.
    pub store: Arc<Store>,
    /// Where they are found.
    pub publication: Publication,
    /// Who asks for builds.
    pub rebuilds: Rebuilds,
    /// When to build.
    pub watch: WatchConfig,
    /// Which artifacts stay.
    pub retention: Retention,
    /// What is counted.
    pub metrics: Metrics,
    /// What others are told of this server.
    pub record: ServerRecord,
}

/// Keeps what is served in step with the tree.
pub struct Publisher {
    parts: Parts,
    changes: Changes,
    agenda: Agenda,
    /// How many changes are in the last build.
    built: u64,
    /// How many changes and failures of the watch were counted.
    counted: (u64, u64),
    /// `None` while it is at work.
    workshop: Option<Workshop>,
    worker: Worker,
    /// What is seen to when an artifact was published.
    settling: Option<JoinHandle<bool>>,
    /// An artifact for which that has failed.
    unsettled: Option<Digest>,
    /// What the history of builds does not tell.
    places: Places,
    /// The failures that were told.
    failures: News,
    /// Whether the root is missing, or has nothing in it.
    is_rootless: bool,
}

/// A build that came to its end.
struct End {
    began: Instant,
    began_at: SystemTime,
    mark: u64,
}

impl Publisher {
    /// Begins nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let workshop = Workshop::new(&parts);
        let WatchConfig {
            settle, settle_max, ..
        } = parts.watch;
        Self {
            changes: workshop.changes(),
            agenda: Agenda::new(settle, settle_max, Instant::now()),
            built: 0,
            counted: (0, 0),
            workshop: Some(workshop),
            worker: Worker::new(),
            settling: None,
            unsettled: None,
            places: Places::new(&parts.source.root, parts.store.directory()),
            failures: News::default(),
            is_rootless: false,
            parts,
        }
    }

    /// Publishes what the store has and then, until shutdown, whatever becomes of the tree.
    ///
    /// A build under way stops at its next entry.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // What only reads is not waited for at the end.
        shutdown.run_until_cancelled(self.begin()).await;
        while !shutdown.is_cancelled() && self.workshop.is_some() {
            let now = Instant::now();
            match self.agenda.due(self.changes.since(self.built), now) {
                Due::Build => self.build(&shutdown).await,
                Due::Look => {
                    shutdown.run_until_cancelled(self.look()).await;
                }
                Due::Wait(until) => {
                    shutdown.run_until_cancelled(self.wait(until)).await;
                }
            }
        }
        if timeout(SYNC_TIMEOUT, self.settled()).await.is_err() {
            warn!("the disk takes too long: the next start may serve an older artifact at first");
        }
    }

    /// Serves what an earlier process served last, and then makes sure that it is what it was.
    async fn begin(&mut self) {
        let Some(Some(stored)) = self.at_work(Workshop::stored).await else {
            return;
        };
        let artifact = Arc::clone(&stored.artifact);
        let (revision, digest) = (artifact.descriptor().revision, artifact.descriptor().digest);
        self.put(artifact);
        info!(%revision, %digest, "serving what was served last");
        let verified = self.at_work(move |workshop| workshop.verify(&stored)).await;
        if verified == Some(false) {
            warn!(%revision, %digest, "the archive on disk is damaged: it is served no longer");
            self.parts.publication.withdraw(&digest).await;
            self.parts.metrics.withdrawn();
        }
    }

    /// Waits for something to do, until this moment at the latest.
    async fn wait(&mut self, until: Option<Instant>) {
        let holds = self.changes.holds();
        let now = Instant::now();
        let look = self.is_rootless.then(|| now + ROOT_INTERVAL);
        let until = until.into_iter().chain(look).min();
        tokio::select! {
            () = at(until) => {}
            alive = self.changes.changed() => {
                if !alive {
                    at(until).await;
                }
            }
            () = self.parts.rebuilds.wanted() => self.agenda.hurry(Instant::now()),
        }
        if self.changes.holds() != holds {
            self.agenda.release();
        }
        if self.is_rootless && self.at_work(Workshop::has_new_root).await == Some(true) {
            // Told once: the build that follows finds out whether there is a root still.
            self.is_rootless = false;
            self.agenda.differs(Instant::now());
        }
    }

    async fn look(&mut self) {
        let looked = self.at_work(Workshop::look).await;
        let now = Instant::now();
        match looked {
            Some(Ok(false)) | None => {}
            // A build will tell what is wrong.
            Some(Ok(true) | Err(_)) => self.agenda.differs(now),
        }
        self.plan_look(now);
        self.settled().await;
        match self.unsettled.take() {
            Some(digest) => self.settle_down(digest),
            None => self.retire(),
        }
    }

    /// When to look next, whether events tell of changes or not.
    fn plan_look(&mut self, now: Instant) {
        let rescan = self.parts.watch.rescan;
        let polling = self.workshop.as_ref().and_then(Workshop::polled_walk);
        let interval = polling.map(|walk| poll_interval(walk, rescan.unwrap_or(RESCAN)));
        self.agenda.look_after(interval.or(rescan), now);
    }

    /// Counts what the watch has told since.
    fn count_watch(&mut self) {
        let Some(workshop) = &self.workshop else {
            return;
        };
        let (changes, failures) = (self.changes.count(), workshop.watch_failures());
        self.parts.metrics.watch_events(changes - self.counted.0);
        self.parts.metrics.watch_errors(failures - self.counted.1);
        self.counted = (changes, failures);
    }

    async fn build(&mut self, shutdown: &CancellationToken) {
        let (began, began_at) = (Instant::now(), SystemTime::now());
        let proof = self.agenda.wants_proof(began);
        let patient = self
            .agenda
            .is_patient(self.changes.since(self.built), began);
        let cancel = shutdown.clone();
        let tried = self.at_work(move |workshop| {
            workshop.build(&Asked {
                proof,
                patient,
                cancelled: &|| cancel.is_cancelled(),
            })
        });
        let Some(Tried { mark, result }) = tried.await else {
            return;
        };
        let now = Instant::now();
        self.plan_look(now);
        self.count_watch();
        let end = End {
            began,
            began_at,
            mark,
        };
        match result {
            Ok(Attempt::Held) => self.agenda.hold(now),
            Ok(Attempt::Restless) => self.agenda.differs(now),
            Ok(Attempt::Unchanged(revision)) => {
                debug!(%revision, "the content is what is served");
                self.ended(&end, BuildResult::Unchanged, Ok(revision)).await;
            }
            Ok(Attempt::Ready(draft)) => self.finish(&end, *draft).await,
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                self.is_rootless = error.is_about_the_root();
                let told = told(&error, self.parts.store.directory());
                self.failed(&end, counted_as(&error), told).await;
            }
        }
    }

    /// Publishes a build, unless it is of a tree that is changing.
    async fn finish(&mut self, end: &End, draft: Draft) {
        let (meanwhile, all) = (self.changes.since(end.mark), self.changes.since(self.built));
        if meanwhile.is_some() && self.agenda.is_patient(all, Instant::now()) {
            debug!("the tree changed during the build: building again when it is quiet");
            self.agenda.postpone();
            self.at_work(move |workshop| workshop.set_aside(draft))
                .await;
            return;
        }
        self.settled().await;
        let (compressed, reused) = draft.segments();
        match self.at_work(move |workshop| workshop.publish(draft)).await {
            Some(Ok(artifact)) => {
                let (revision, digest) =
                    (artifact.descriptor().revision, artifact.descriptor().digest);
                self.parts.metrics.segments(compressed, reused);
                self.put(artifact);
                self.ended(end, BuildResult::Published, Ok(revision)).await;
                self.settle_down(digest);
            }
            Some(Err(error)) => {
                self.failed(end, BuildResult::Failed, sentence(&error))
                    .await;
            }
            None => {}
        }
    }

    async fn failed(&mut self, end: &End, result: BuildResult, error: String) {
        let retry_in = self.agenda.failed(Instant::now());
        if self.failures.is_new(&error, Instant::now()) {
            warn!(%error, ?retry_in, "the build failed");
        } else {
            debug!(%error, ?retry_in, "the build failed again");
        }
        self.note(end, result, Err(error)).await;
    }

    async fn ended(&mut self, end: &End, result: BuildResult, outcome: Result<Revision, String>) {
        self.agenda.done();
        // A build that is published is told in any case.
        if self.failures.over() && result == BuildResult::Unchanged {
            info!("a build succeeds again, and what is served is what the tree holds");
        }
        self.is_rootless = false;
        self.note(end, result, outcome).await;
    }

    /// Tells everybody who wants to know how a build ended.
    async fn note(&mut self, end: &End, result: BuildResult, outcome: Result<Revision, String>) {
        self.built = end.mark;
        let took = end.began.elapsed();
        self.parts.metrics.built(result, took);
        self.parts.publication.note(PastBuild {
            began: end.began_at,
            took,
            result,
            outcome: outcome.clone().map_err(|error| self.places.hidden(&error)),
            times: 1,
        });
        let build = LastBuild {
            began: end.began_at,
            result: match result {
                BuildResult::Published => LastResult::Published,
                BuildResult::Unchanged => LastResult::Unchanged,
                BuildResult::Torn | BuildResult::Failed => LastResult::Failed,
            },
            revision: outcome.as_ref().ok().copied(),
            error: outcome.err(),
        };
        self.parts.record.last_build = Some(build.clone());
        self.parts.rebuilds.ended(Ended {
            began: end.began,
            build,
        });
        let (store, record) = (Arc::clone(&self.parts.store), self.parts.record.clone());
        if let Ok(Err(error)) = spawn_blocking(move || store.announce(&record)).await {
            debug!(error = %sentence(&error), "cannot tell in the state directory how the build ended");
        }
    }

    fn put(&self, artifact: Arc<Artifact>) {
        let descriptor = artifact.descriptor();
        self.parts.metrics.published(&ArtifactFigures {
            revision: descriptor.revision.to_string(),
            size: descriptor.size,
            uncompressed_size: descriptor.uncompressed_size,
            files: descriptor.files,
            published: artifact.published(),
        });
        self.parts.publication.publish(artifact);
    }

    /// Begins to bring what is served onto the disk.
    fn settle_down(&mut self, digest: Digest) {
        let (store, retention) = (Arc::clone(&self.parts.store), self.parts.retention);
        self.unsettled = Some(digest);
        self.settling = Some(spawn_blocking(move || {
            settle_down(&store, retention, &digest)
        }));
    }

    /// Removes what grew old since the last build, or was being downloaded then.
    fn retire(&mut self) {
        let (store, retention) = (Arc::clone(&self.parts.store), self.parts.retention);
        self.settling = Some(spawn_blocking(move || {
            store.retire(&retention, SystemTime::now());
            true
        }));
    }

    /// Waits until it is there.
    async fn settled(&mut self) {
        if let Some(settling) = &mut self.settling {
            let settled = settling.await;
            self.settling = None;
            if matches!(settled, Ok(true)) {
                self.unsettled = None;
            }
        }
    }

    /// Has something done on the thread that may wait; `None` if it panicked, after which nothing is built any more.
    async fn at_work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Workshop) -> T + Send + 'static,
    ) -> Option<T> {
        let mut workshop = self.workshop.take()?;
        let working = self.worker.run(move || {
            let result = work(&mut workshop);
            (workshop, result)
        });
        let Some((workshop, result)) = working.await else {
            error!("nothing is built any more: a build panicked");
            return None;
        };
        self.workshop = Some(workshop);
        Some(result)
    }
}

/// Sees that the next start serves an artifact, and that the disk does not fill; `false` if it has to be tried again.
fn settle_down(store: &Store, retention: Retention, digest: &Digest) -> bool {
    let kept = store.make_current(digest);
    if let Err(error) = &kept {
        warn!(error = %sentence(error), "cannot keep what is served for the next start");
    }
    store.retire(&retention, SystemTime::now());
    kept.is_ok()
}

/// Why a build failed. What cannot be written does not say of itself where that was to be.
fn told(error: &BuildError, state_dir: &Path) -> String {
    let sentence = sentence(error);
    if error.is_about_the_output() {
        format!("{sentence} (in {})", state_dir.display())
    } else {
        sentence
    }
}

fn counted_as(error: &BuildError) -> BuildResult {
    if error.is_transient() {
        BuildResult::Torn
    } else {
        BuildResult::Failed
    }
}

/// Waits for a moment, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
