//! The half of the publisher that waits for disks: walks, builds, names and syncs, one after the other.
//!
//! What a build has learnt stays here for the next one, also from a build that was not published in the end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, info, warn};

use super::build::{BuildError, Source, walk};
use super::hold::{Hold, HoldFile};
use super::publisher::Parts;
use super::rebuild::{Base, Rebuilt, Stage, Work, rebuild};
use crate::archive::{Previous, Recipe, Sealed};
use crate::artifact::Artifact;
use crate::config::watch::WatchConfig;
use crate::descriptor::Descriptor;
use crate::digest::{Digest, Revision};
use crate::exit::sentence;
use crate::root::Root;
use crate::snapshot::cache;
use crate::store::{Staged, Store, StoreError, Stored};
use crate::tree::watch::{Changes, Watch};
use crate::tree::{Tree, scan_with};

/// What builds need, and what they leave for each other.
pub(super) struct Workshop {
    source: Arc<Source>,
    store: Arc<Store>,
    hold_file: HoldFile,
    watch: Watch,
    changes: Changes,
    base: Base,
    /// The tree of the last walk.
    seen: Option<Digest>,
    /// How long that took.
    last_walk: Duration,
}

/// Walks so that every change from then on is noticed.
fn walk_watched(
    source: &Source,
    watch: &mut Watch,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Root, Tree), BuildError> {
    watch.opening();
    let root = source.open()?;
    watch.begin_walk(&root);
    let tree = scan_with(
        &root,
        &source.scope,
        cancelled,
        &mut |directory, identity| {
            watch.entering(directory, identity);
        },
    )?;
    watch.end_walk(&tree);
    source.require_entries(&tree)?;
    Ok((root, tree))
}

/// What a build came to.
pub(super) enum Attempt {
    /// Nothing was built, or nothing may be published: the hold file stands, or stood meanwhile.
    Held,
    /// The tree is not the one that was looked at last.
    Restless,
    /// The content is what is published already.
    Unchanged(Revision),
    /// There is something to publish.
    Ready(Box<Draft>),
}

/// A build that nobody has seen yet.
pub(super) struct Draft {
    sealed: Box<Sealed>,
    staged: Staged,
    descriptor: Descriptor,
    elapsed: Duration,
}

/// What a build has to go by.
pub(super) struct Asked<'a> {
    /// Whether the tree has to be the one of the last walk.
    pub(super) proof: bool,
    /// Whether it has to be the same one after the build, where no event tells that.
    pub(super) patient: bool,
    /// Shall it end early?
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// What came of it, and the changes that were noticed before its last walk.
pub(super) struct Tried {
    pub(super) mark: u64,
    pub(super) result: Result<Attempt, BuildError>,
}

impl Workshop {
    pub(super) fn new(parts: &Parts) -> Self {
        let WatchConfig {
            mode,
            hold_file,
            hold_max,
            ..
        } = &parts.watch;
        let source = Arc::clone(&parts.source);
        let (watch, changes) = Watch::new(&source.root, *mode, hold_file.as_deref());
        Self {
            source,
            store: Arc::clone(&parts.store),
            hold_file: HoldFile::new(hold_file.clone(), *hold_max),
            watch,
            changes,
            base: Base::default(),
            seen: None,
            last_walk: Duration::ZERO,
        }
    }

    /// The changes that are noticed.
    pub(super) fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// How long the last walk took, where changes have to be found by walking.
    pub(super) fn polled_walk(&self) -> Option<Duration> {
        self.watch.is_polling().then_some(self.last_walk)
    }

    /// How often changes went by unseen, or their source gave out.
    pub(super) fn watch_failures(&self) -> u64 {
        self.changes.overflows() + u64::from(self.watch.has_given_up())
    }

    /// What an earlier process served last, to be served at once.
    pub(super) fn stored(&mut self) -> Option<Stored> {
        let known = self.store.scan_cache();
        self.base.known = known.and_then(|mut file| cache::is_whole(&mut file).then_some(file));
        self.store.current()
    }

    /// Reads what is served from an earlier process, to see whether it is still what it was; `false` if not.
    ///
    /// One that cannot be read right now is not condemned, only not built upon.
    pub(super) fn verify(&mut self, stored: &Stored) -> bool {
        let descriptor = stored.artifact.descriptor();
        let recipe = Recipe::parse(&stored.recipe).unwrap_or_default();
        let file = stored.artifact.archive().try_clone_file();
        match file.and_then(|file| Previous::verify(file, descriptor, recipe)) {
            Ok(Some(previous)) => {
                self.base.published = Some((descriptor.revision, descriptor.format.clone()));
                self.base.previous = Some(previous);
                true
            }
            Ok(None) => false,
            Err(error) => {
                warn!(%error, "cannot read the archive that was served last");
                true
            }
        }
    }

    /// Builds, unless that is held.
    pub(super) fn build(&mut self, asked: &Asked<'_>) -> Tried {
        let mut mark = self.changes.count();
        let result = self.try_build(asked, &mut mark);
        // What is not published would fill the disk.
        if !matches!(result, Ok(Attempt::Ready(_))) {
            self.store.discard_staged();
        }
        Tried { mark, result }
    }

    fn try_build(&mut self, asked: &Asked<'_>, mark: &mut u64) -> Result<Attempt, BuildError> {
        if self.is_held() {
            return Ok(Attempt::Held);
        }
        if asked.proof && self.look()? {
            return Ok(Attempt::Restless);
        }
        let holds = self.changes.holds();
        let began = Instant::now();
        let (rebuilt, staged) = self.rebuild(asked.cancelled, mark)?;
        let obstacle = self.obstacle(asked, holds);
        let sealed = match rebuilt {
            Rebuilt::Sealed { sealed, .. } => sealed,
            Rebuilt::Unchanged { revision, .. } => {
                return Ok(obstacle.unwrap_or(Attempt::Unchanged(revision)));
            }
        };
        let draft = Draft {
            descriptor: sealed.describe(&self.source.options, SystemTime::now()),
            sealed,
            staged,
            elapsed: began.elapsed(),
        };
        match obstacle {
            Some(obstacle) => {
                self.set_aside(draft);
                Ok(obstacle)
            }
            None => Ok(Attempt::Ready(Box::new(draft))),
        }
    }

    /// What forbids to publish what has just been built, given how often the hold file had been touched before.
    fn obstacle(&mut self, asked: &Asked<'_>, holds: u64) -> Option<Attempt> {
        // It may have come and gone meanwhile.
        if self.is_held() || self.changes.holds() != holds {
            return Some(Attempt::Held);
        }
        let is_patient = self.watch.is_polling() && asked.patient;
        (is_patient && self.look().unwrap_or(true)).then_some(Attempt::Restless)
    }

    fn rebuild(
        &mut self,
        cancelled: &dyn Fn() -> bool,
        mark: &mut u64,
    ) -> Result<(Rebuilt, Staged), BuildError> {
        let Self {
            source,
            store,
            watch,
            changes,
            base,
            seen,
            last_walk,
            ..
        } = self;
        let mut staged = None;
        let rebuilt = rebuild(&mut Work {
            source,
            base,
            walk: &mut |source| {
                *mark = changes.count();
                let began = Instant::now();
                let (root, tree) = walk_watched(source, watch, cancelled)?;
                *seen = Some(tree.fingerprint());
                *last_walk = began.elapsed();
                Ok((root, tree))
            },
            stage: &mut || {
                let files = store.stage()?;
                let stage = Stage {
                    archive: files.archive.try_clone()?,
                    listing: files.listing.try_clone()?,
                    cache: files.cache.try_clone()?,
                };
                staged = Some(files);
                Ok(stage)
            },
            cancelled,
        })?;
        let staged = staged.expect("a build has opened what it writes to");
        if rebuilt.has_learnt() {
            self.remember(&staged);
        }
        Ok((rebuilt, staged))
    }

    /// Takes over what a build knows of files.
    fn remember(&mut self, staged: &Staged) {
        let kept = staged.cache.try_clone().and_then(|cache| {
            self.base.known = Some(cache.try_clone()?);
            Ok(cache)
        });
        match kept.map(|cache| self.store.keep_scan_cache(cache)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %sentence(&error), "cannot keep the scan cache"),
            Err(error) => warn!(%error, "cannot keep the scan cache"),
        }
    }

    /// Whether the tree is another one than at the last walk. One that changes under the look is.
    pub(super) fn look(&mut self) -> Result<bool, BuildError> {
        let began = Instant::now();
        let (_, tree) = match walk(&self.source, &|| false) {
            Err(error) if error.is_transient() => return Ok(true),
            walked => walked?,
        };
        let seen = Some(tree.fingerprint());
        self.last_walk = began.elapsed();
        Ok(std::mem::replace(&mut self.seen, seen) != seen)
    }

    /// Whether the root is there, and another directory than at the last walk.
    pub(super) fn has_new_root(&mut self) -> bool {
        self.watch.root_changed() && self.source.root.exists()
    }

    fn is_held(&mut self) -> bool {
        self.hold_file.look(&self.source.root) == Hold::Stands
    }

    /// Gives a build its place in the store.
    pub(super) fn publish(&mut self, draft: Draft) -> Result<Arc<Artifact>, StoreError> {
        let Draft {
            sealed,
            staged,
            descriptor,
            elapsed,
        } = draft;
        let recipe = sealed.seams.recipe.to_text();
        let kept = self
            .store
            .keep(staged, descriptor.clone(), recipe.as_bytes())
            .inspect_err(|_| self.store.discard_staged())?;
        self.store.discard_staged();
        log(&descriptor, sealed.reused, elapsed);
        self.base.published = Some((descriptor.revision, descriptor.format.clone()));
        let file = kept.artifact.archive().try_clone_file();
        self.base.previous = match file {
            Ok(file) => Some(Previous::new(file, &descriptor, sealed.seams)),
            Err(error) => {
                debug!(%error, "the next build begins from nothing");
                None
            }
        };
        Ok(kept.artifact)
    }

    /// Keeps a build that is not published for the next one to build upon.
    pub(super) fn set_aside(&mut self, draft: Draft) {
        self.store.discard_staged();
        let Draft {
            sealed,
            staged,
            descriptor,
            ..
        } = draft;
        self.base.previous = Some(Previous::new(staged.archive, &descriptor, sealed.seams));
    }
}

impl Draft {
    /// How many of its segments were compressed, and how many were there before.
    pub(super) fn segments(&self) -> (u64, u64) {
        let reused = self.sealed.reused;
        (self.sealed.segments.len() as u64 - reused, reused)
    }
}

fn log(descriptor: &Descriptor, reused: u64, elapsed: Duration) {
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
        segments = descriptor.segments.len(),
        reused,
        ?elapsed,
        "built"
    );
}

#[cfg(test)]
mod tests;
