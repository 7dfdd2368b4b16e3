//! The way from a build to the publication: tried until it succeeds.
//!
//! What an earlier process published last is served until then.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Publication;
use super::build::{self, BuildError, Source};
use crate::artifact::Artifact;
use crate::exit::sentence;
use crate::metrics::{ArtifactFigures, BuildResult, Metrics};
use crate::store::retention::Retention;
use crate::store::{Store, StoreError};

/// The pause after the first build that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two builds that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why nothing new was published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublishError {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Build(error) if error.is_cancelled())
    }
}

/// What makes artifacts, and where they go.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Where the code is.
    pub source: Arc<Source>,
    /// Where artifacts lie.
    pub store: Arc<Store>,
    /// Where they are found.
    pub publication: Publication,
    /// Which of them stay.
    pub retention: Retention,
    /// What is counted.
    pub metrics: Metrics,
}

impl Publisher {
    /// Publishes what the store has, then builds until a build succeeds, and publishes that.
    ///
    /// A failed build is logged, leaves what is published as it is, and is tried again after a growing pause. Ends early on
    /// `shutdown`; a build under way stops at its next entry.
    pub async fn publish(&self, shutdown: &CancellationToken) {
        self.publish_stored().await;
        let mut pause = FIRST_PAUSE;
        loop {
            let (publisher, cancel) = (self.clone(), shutdown.clone());
            let building = tokio::task::spawn_blocking(move || publisher.build(&cancel));
            match building.await {
                Ok(Ok(artifact)) => return self.publish_built(artifact).await,
                Ok(Err(error)) if error.is_cancelled() => return,
                Ok(Err(error)) => {
                    warn!(error = %sentence(&error), retry_in = ?pause, "the build failed");
                }
                Err(panic) => error!(%panic, "the build failed"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// What an earlier process served last is served at once.
    async fn publish_stored(&self) {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || store.current()).await;
        if let Ok(Some(stored)) = found {
            let descriptor = stored.artifact.descriptor();
            info!(revision = %descriptor.revision, digest = %descriptor.digest, "found what was published last");
            self.put(stored.artifact);
        }
    }

    /// Serves an artifact, and then sees that the next start serves it too and that the disk does not fill.
    async fn publish_built(&self, artifact: Arc<Artifact>) {
        let digest = artifact.descriptor().digest;
        self.put(artifact);
        let (store, retention) = (Arc::clone(&self.store), self.retention);
        let keeping = tokio::task::spawn_blocking(move || {
            if let Err(error) = store.make_current(&digest) {
                warn!(error = %sentence(&error), "cannot keep what is served for the next start");
            }
            store.retire(&retention, SystemTime::now());
        });
        if let Err(panic) = keeping.await {
            error!(%panic, "cannot keep what is served for the next start");
        }
    }

    fn put(&self, artifact: Arc<Artifact>) {
        let descriptor = artifact.descriptor();
        self.metrics.published(&ArtifactFigures {
            revision: descriptor.revision.to_string(),
            size: descriptor.size,
            uncompressed_size: descriptor.uncompressed_size,
            files: descriptor.files,
            published: artifact.published(),
        });
        self.publication.publish(artifact);
    }

    /// Builds once, counts what came of it, and leaves nothing staged.
    ///
    /// The artifact is the current one if that is what was built.
    fn build(&self, cancel: &CancellationToken) -> Result<Arc<Artifact>, PublishError> {
        let started = Instant::now();
        let current = self.publication.current();
        let built = build_once(&self.source, &self.store, current.as_ref(), cancel);
        // A disk that is full of half an archive would stay full.
        self.store.discard_staged();
        let result = match &built {
            Ok(artifact) if current.is_some_and(|current| Arc::ptr_eq(&current, artifact)) => {
                BuildResult::Unchanged
            }
            Ok(_) => BuildResult::Published,
            Err(error) if error.is_cancelled() => return built,
            Err(PublishError::Build(error)) if error.is_transient() => BuildResult::Torn,
            Err(_) => BuildResult::Failed,
        };
        self.metrics.built(result, started.elapsed());
        if let Ok(artifact) = &built {
            let segments = artifact.descriptor().segments.len();
            self.metrics.segments(segments as u64, 0);
        }
        built
    }
}

fn build_once(
    source: &Source,
    store: &Store,
    current: Option<&Arc<Artifact>>,
    cancel: &CancellationToken,
) -> Result<Arc<Artifact>, PublishError> {
    let started = Instant::now();
    let mut staged = None;
    let mut outputs = || {
        let files = store.stage()?;
        let writers = (
            files.archive.try_clone()?,
            std::io::BufWriter::new(files.listing.try_clone()?),
        );
        staged = Some(files);
        Ok(writers)
    };
    let sealed = build::build(source, &mut outputs, &|| cancel.is_cancelled())?;
    let descriptor = sealed.describe(&source.options, SystemTime::now());
    if let Some(current) = current
        && current.descriptor().digest == descriptor.digest
    {
        info!(revision = %descriptor.revision, elapsed = ?started.elapsed(), "the tree has not changed");
        return Ok(Arc::clone(current));
    }
    let staged = staged.expect("a build has opened its outputs");
    let artifact = store.keep(staged, descriptor, &[])?.artifact;
    log(&artifact, started.elapsed());
    Ok(artifact)
}

fn log(artifact: &Artifact, elapsed: Duration) {
    let descriptor = artifact.descriptor();
    let left_out: Vec<_> = descriptor
        .left_out
        .iter()
        .map(|(rule, count)| format!("{rule}: {count}"))
        .collect();
    info!(
        revision = %descriptor.revision,
        digest = %descriptor.digest,
        bytes = descriptor.size,
        entries = descriptor.entries,
        left_out = (!left_out.is_empty()).then(|| left_out.join(", ")),
        ?elapsed,
        "built"
    );
}
