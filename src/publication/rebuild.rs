//! A build that makes use of the one before.
//!
//! First the tree is walked. Where few of its files are unknown, these are read, and if the content is what is published
//! already, that is all: no archive is made for a touch. Otherwise an archive is sealed, with what the previous one can give
//! taken over from there; one that turns out to hold what is published is dropped.

use std::fs::File;
use std::io::{self, BufWriter};

use super::build::{BuildError, Source, while_it_changes};
use super::survey::{Sight, survey, unknown_bytes};
use crate::archive::{self, Order, Outputs, Previous, Sealed};
use crate::digest::Revision;
use crate::root::Root;
use crate::snapshot::cache::{StatCache, StatCacheWriter};
use crate::tree::Tree;

/// So many bytes are read for nothing but to find out whether there is anything new. They are read again for the archive if
/// there is, from memory most likely.
const WORTH_A_LOOK: u64 = 32 << 20;

/// What earlier builds left.
#[derive(Debug, Default)]
pub struct Base {
    /// The revision that is published, and the format of its archive.
    pub published: Option<(Revision, String)>,
    /// The archive that is published.
    pub previous: Option<Previous>,
    /// What is known of files.
    pub known: Option<File>,
}

/// New, empty files to write to: a build that begins anew asks for others.
#[derive(Debug)]
pub struct Stage {
    /// For the archive.
    pub archive: File,
    /// For the listing.
    pub listing: File,
    /// For the scan cache.
    pub cache: File,
}

/// What a build came to.
#[derive(Debug)]
pub enum Rebuilt {
    /// The content is what is published.
    Unchanged {
        /// Which that is.
        revision: Revision,
        /// As [`Self::has_learnt`] says.
        learnt: bool,
    },
    /// The archive is staged with its listing.
    Sealed {
        /// What it is.
        sealed: Box<Sealed>,
        /// As [`Self::has_learnt`] says.
        learnt: bool,
    },
}

impl Rebuilt {
    /// Whether the staged scan cache is to take the place of the one before.
    #[must_use]
    pub fn has_learnt(&self) -> bool {
        match self {
            Self::Unchanged { learnt, .. } | Self::Sealed { learnt, .. } => *learnt,
        }
    }
}

/// Opens a root and walks it.
pub type Walk<'a> = dyn FnMut(&Source) -> Result<(Root, Tree), BuildError> + 'a;

/// How a build goes about it.
pub struct Work<'a> {
    /// Where the code is.
    pub source: &'a Source,
    /// What earlier builds left.
    pub base: &'a Base,
    /// Walks the root.
    pub walk: &'a mut Walk<'a>,
    /// Opens what is written to.
    pub stage: &'a mut dyn FnMut() -> io::Result<Stage>,
    /// Shall it end early?
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Base {
    /// What is known of files, from the first one on.
    fn known(&self) -> Result<StatCache, BuildError> {
        let Some(file) = &self.known else {
            return Ok(StatCache::empty());
        };
        file.try_clone()
            .and_then(StatCache::open)
            .map_err(BuildError::Output)
    }

    /// What is published, if a new archive of it would be the same.
    fn published_as(&self, format: &str) -> Option<Revision> {
        let (revision, published) = self.published.as_ref()?;
        (published == format).then_some(*revision)
    }
}

/// Builds what the tree holds now, again from the start if it changed too much meanwhile.
pub fn rebuild(work: &mut Work<'_>) -> Result<Rebuilt, BuildError> {
    let cancelled = work.cancelled;
    while_it_changes(cancelled, || {
        let (root, tree) = (work.walk)(work.source)?;
        let stage = (work.stage)().map_err(BuildError::Output)?;
        let sight = Sight {
            source: work.source,
            root: &root,
            tree: &tree,
            cancelled,
        };
        build_what_is_new(sight, work.base, &stage)
    })
}

fn build_what_is_new(sight: Sight<'_>, base: &Base, stage: &Stage) -> Result<Rebuilt, BuildError> {
    let unknown = unknown_bytes(sight.tree, base.known()?);
    let published = base.published_as(&sight.source.options.format());
    let Some(published) = published.filter(|_| unknown <= WORTH_A_LOOK) else {
        let cache = Some(new_cache(stage)?);
        let sealed = seal(sight, base, stage, (base.known()?, cache))?;
        return Ok(unless_published(sealed, true, published));
    };
    let learnt = unknown > 0;
    let mut cache = learnt.then(|| new_cache(stage)).transpose()?;
    let (snapshot, _) = survey(sight, base.known()?, cache.as_mut(), io::sink())?;
    let known = match cache {
        Some(cache) => reopen(cache.finish())?,
        None => base.known()?,
    };
    if snapshot.revision == published {
        let revision = published;
        return Ok(Rebuilt::Unchanged { revision, learnt });
    }
    let sealed = seal(sight, base, stage, (known, None))?;
    Ok(unless_published(sealed, learnt, Some(published)))
}

/// An archive whose content is published already has other times at the most, and is of no use.
fn unless_published(sealed: Box<Sealed>, learnt: bool, published: Option<Revision>) -> Rebuilt {
    let revision = sealed.snapshot.revision;
    if published == Some(revision) {
        Rebuilt::Unchanged { revision, learnt }
    } else {
        Rebuilt::Sealed { sealed, learnt }
    }
}

fn seal(
    sight: Sight<'_>,
    base: &Base,
    stage: &Stage,
    (known, cache): (StatCache, Option<StatCacheWriter>),
) -> Result<Box<Sealed>, BuildError> {
    let order = Order {
        options: sight.source.options,
        unreadable: sight.source.scope.unreadable,
        cancelled: sight.cancelled,
        previous: base.previous.as_ref(),
    };
    let outputs = Outputs {
        archive: stage.archive.try_clone().map_err(BuildError::Output)?,
        listing: BufWriter::new(stage.listing.try_clone().map_err(BuildError::Output)?),
        cache,
    };
    let sealed = archive::seal(sight.root, sight.tree, &order, known, outputs)?;
    Ok(Box::new(sealed))
}

fn new_cache(stage: &Stage) -> Result<StatCacheWriter, BuildError> {
    let cache = stage.cache.try_clone().and_then(StatCacheWriter::new);
    cache.map_err(BuildError::Output)
}

fn reopen(cache: io::Result<File>) -> Result<StatCache, BuildError> {
    cache.and_then(StatCache::open).map_err(BuildError::Output)
}
