//! The way from a build to the publication: tried until it succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Publication;
use super::build::{self, BuildError, Source};
use crate::artifact::Artifact;
use crate::exit::sentence;
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

/// Builds until a build succeeds, and publishes it.
///
/// A failed build is logged, leaves what is published as it is, and is tried again after a growing pause. Ends early on
/// `shutdown`; a build under way stops at its next entry.
pub async fn publish(
    source: Arc<Source>,
    store: Arc<Store>,
    publication: Publication,
    shutdown: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (source, store, cancel) = (Arc::clone(&source), Arc::clone(&store), shutdown.clone());
        let building = tokio::task::spawn_blocking(move || {
            let built = build_once(&source, &store, &cancel);
            // A disk that is full of half an archive would stay full.
            built.inspect_err(|_| store.discard_staged())
        });
        match building.await {
            Ok(Ok(artifact)) => return publication.publish(Arc::new(artifact)),
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

fn build_once(
    source: &Source,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<Artifact, PublishError> {
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
    let staged = staged.expect("a build has opened its outputs");
    let artifact = store.keep(staged, descriptor)?;
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
