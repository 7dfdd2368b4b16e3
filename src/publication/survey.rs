//! What a tree holds, found out without an archive: every file that is not known is read, nothing is compressed.

use std::io::{self, Write};

use super::build::{BuildError, Source};
use crate::archive::ArchiveError;
use crate::root::Root;
use crate::snapshot::cache::{StatCache, StatCacheWriter};
use crate::snapshot::{Content, ReadError, Snapshot, SnapshotWriter, read_content};
use crate::tree::{Entry, Found, Tree, Unreadable};

/// How many bytes lie in files whose content is not known.
pub(super) fn unknown_bytes(tree: &Tree, mut known: StatCache) -> u64 {
    let files = tree.entries.iter().filter_map(|entry| match entry.found {
        Found::File { stamp, .. } => Some((&entry.path, stamp)),
        Found::Directory | Found::Symlink(_) => None,
    });
    files
        .filter(|(path, stamp)| known.find(path, stamp).is_none())
        // An empty file takes its time, too.
        .map(|(_, stamp)| stamp.size.max(1))
        .sum()
}

/// A tree, as it was looked at.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) source: &'a Source,
    pub(super) root: &'a Root,
    pub(super) tree: &'a Tree,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// Reads what is not known, and writes the listing. What is known by then goes into the new cache.
pub(super) fn survey<L: Write>(
    sight: Sight<'_>,
    mut known: StatCache,
    mut learnt: Option<&mut StatCacheWriter>,
    listing: L,
) -> Result<(Snapshot, L), BuildError> {
    let mut snapshot = SnapshotWriter::new(listing, sight.source.options.modes);
    for entry in &sight.tree.entries {
        if (sight.cancelled)() {
            return Err(ArchiveError::Cancelled.into());
        }
        let Found::File { stamp, .. } = entry.found else {
            snapshot.add(entry).map_err(listing_failed)?;
            continue;
        };
        let content = match known.find(&entry.path, &stamp) {
            Some(digest) => {
                let proof = Some(stamp);
                Some((entry.mode, Content { digest, proof }))
            }
            None => read(sight, entry)?,
        };
        let Some((mode, Content { digest, proof })) = content else {
            continue;
        };
        snapshot
            .add_file(&entry.path, mode, digest)
            .map_err(listing_failed)?;
        if let (Some(cache), Some(stamp)) = (&mut learnt, proof) {
            cache
                .add(&entry.path, &stamp, digest)
                .map_err(BuildError::Output)?;
        }
    }
    Ok(snapshot.finish())
}

/// What is in a file; `None` where it is left out because it may not be read.
fn read(sight: Sight<'_>, entry: &Entry) -> Result<Option<(u32, Content)>, BuildError> {
    match read_content(sight.root, entry, sight.cancelled) {
        Err(ReadError::Denied(_)) if sight.source.scope.unreadable == Unreadable::Skip => Ok(None),
        Err(error) => Err(ArchiveError::from(error).into()),
        Ok(None) => Err(ArchiveError::Cancelled.into()),
        Ok(content) => Ok(content),
    }
}

fn listing_failed(source: io::Error) -> BuildError {
    let what = "listing";
    ArchiveError::Write { what, source }.into()
}
