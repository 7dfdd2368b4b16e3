//! What a state directory holds that another process left: all that is whole is taken over, and the rest removed.
//!
//! None of this fails for what a file holds: a damaged or foreign one is removed with a line in the log that says why.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tracing::warn;

use super::StoreError;
use super::index::Index;
use super::layout::{self, Layout};
use super::record::{self, Record};
use crate::digest::Digest;

/// The longest `current`: a digest and the end of its line.
const LONGEST_POINTER: u64 = 72;

/// Makes what a state directory should have, and takes over what it has.
pub(super) fn take_over(layout: &Layout) -> Result<Index, StoreError> {
    let (staging, artifacts) = (layout.staging(), layout.artifacts());
    for directory in [&staging, &artifacts] {
        make_directory(directory).map_err(|source| StoreError::io(directory, source))?;
    }
    empty(&staging).map_err(|source| StoreError::io(&staging, source))?;
    // A process that was killed still stands there.
    drop(fs::remove_file(layout.server()));
    let records = find_artifacts(layout).map_err(|source| StoreError::io(&artifacts, source))?;
    let current = find_current(layout, &records);
    Ok(Index::new(records, current))
}

/// Sees that something is a directory of its own, and no link to another.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => discard(path, "it should be a directory"),
        Err(_) => {}
    }
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes all that is in a directory. The directory itself stays: a disk that is full might not take it again.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Err(error) = layout::remove(&path) {
            warn!(file = %path.display(), %error, "cannot remove what an earlier process left");
        }
    }
    Ok(())
}

/// The artifacts that are whole. All else under `artifacts/` is removed.
fn find_artifacts(layout: &Layout) -> io::Result<Vec<Record>> {
    let mut digests = BTreeSet::new();
    for entry in fs::read_dir(layout.artifacts())? {
        let entry = entry?;
        match layout::parse(&entry.file_name()) {
            Some((digest, _)) => drop(digests.insert(digest)),
            None => discard(&entry.path(), "it is no part of an artifact"),
        }
    }
    let mut records = Vec::new();
    for digest in digests {
        match record::recover(layout, &digest) {
            Ok(record) => records.push(record),
            Err(error) if layout::is_damage(&error) => {
                let reason = format!("its artifact is not whole: {error}");
                discard_parts(layout, &digest, &reason);
            }
            // Too many open files, or a disk that fails for now, are no reason to throw anything away.
            Err(error) => warn!(%digest, %error, "cannot read an artifact, so it is not served"),
        }
    }
    Ok(records)
}

/// The artifact that was served last, if it is among those that are whole. What names another one is removed.
fn find_current(layout: &Layout, records: &[Record]) -> Option<Digest> {
    let path = layout.current();
    let text = match layout::read(&path, LONGEST_POINTER) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            discard(&path, &error.to_string());
            return None;
        }
    };
    let text = String::from_utf8_lossy(&text);
    let Ok(digest) = text.trim_end().parse::<Digest>() else {
        discard(&path, "it names no artifact");
        return None;
    };
    if records
        .iter()
        .any(|record| record.retained.digest == digest)
    {
        return Some(digest);
    }
    discard(&path, "it names an artifact that is not there");
    None
}

fn discard_parts(layout: &Layout, digest: &Digest, reason: &str) {
    for part in layout::Part::ALL.into_iter().rev() {
        let path = layout.part(digest, part);
        if fs::symlink_metadata(&path).is_ok() {
            discard(&path, reason);
        }
    }
}

/// Removes something that is of no use, and says so.
fn discard(path: &Path, reason: &str) {
    match layout::remove(path) {
        Ok(()) => warn!(file = %path.display(), reason, "removed from the state directory"),
        Err(error) => {
            warn!(file = %path.display(), reason, %error, "cannot remove from the state directory");
        }
    }
}
