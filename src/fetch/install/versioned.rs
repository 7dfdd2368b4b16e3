//! A target in which each revision has a directory of its own, and a link says which one is current.
//!
//! The link changes in one step: who opens it sees the one tree or the other, never a mixture. The revisions that were
//! current last stay for those who opened them before.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::{InstallError, STAGING, TREE, Target, own};
use crate::digest::{Digest, Revision};
use crate::entry::{EntryKind, EntryPath};
use crate::root::{Existing, Kind, Root};

/// The newest first, a line each.
pub(super) const REVISIONS_KEPT: &str = ".code-fetch/revisions";
const NEW_REVISIONS_KEPT: &str = ".code-fetch/staging/revisions";
const REVISIONS: &str = "revisions";
const CURRENT: &str = "current";
const NEW_CURRENT: &str = ".code-fetch/staging/current";
const REPLACED: &str = ".code-fetch/staging/replaced";

impl Target {
    /// The current revision, and its tree.
    pub(super) fn current(&self) -> Option<(Revision, Arc<Root>)> {
        let link = self.root.read_link(&own(CURRENT)).ok()?;
        let name = str::from_utf8(&link).ok()?.strip_prefix("revisions/")?;
        let revision = Revision::of_listing(Digest::from_hex(name)?);
        let tree = self.root.open_dir(&place_of(revision)).ok()?;
        Some((revision, Arc::new(tree)))
    }

    /// Decides what is to stay, and fails where the tree cannot come into its place. Gives the inode by which the staged
    /// tree is known when it is there.
    pub(super) fn prepare_revision(&self, revision: Revision) -> Result<u64, InstallError> {
        for (name, kind) in [
            (REVISIONS, EntryKind::Directory),
            (CURRENT, EntryKind::Symlink),
        ] {
            match self.root.status(Some(&own(name))) {
                Ok(found) if found.kind != Kind::Entry(kind) => {
                    return Err(InstallError::Foreign { name });
                }
                _ => {}
            }
        }
        let before = self.read(REVISIONS_KEPT)?.unwrap_or_default();
        let kept = kept(revision, &String::from_utf8_lossy(&before), self.keep);
        self.write(NEW_REVISIONS_KEPT, &kept)?;
        let tree = own(TREE);
        let status = self.root.status(Some(&tree));
        Ok(status
            .map_err(InstallError::io("look at", &tree))?
            .stamp
            .inode)
    }

    /// Moves the staged tree to its revision's place, makes it the current one, and removes what is not to stay. Every
    /// step may have been done already.
    pub(super) fn move_revision(
        &self,
        revision: Revision,
        inode: u64,
        step: &mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let revisions = own(REVISIONS);
        match self.root.create_dir(&revisions, 0o755) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(InstallError::io("make", &revisions)(error));
            }
            _ => {}
        }
        step()?;
        self.move_tree(&place_of(revision), inode)?;
        step()?;
        self.point_to(revision)?;
        step()?;
        if self.root.status(Some(&own(NEW_REVISIONS_KEPT))).is_ok() {
            self.rename(NEW_REVISIONS_KEPT, REVISIONS_KEPT)?;
        }
        self.remove_old(step)?;
        step()?;
        self.remove_exchanged()
    }

    /// Removes what gave way to the staged tree. Before the new tree is stamped: to take away a name of a file that both
    /// have would change its stamp.
    fn remove_exchanged(&self) -> Result<(), InstallError> {
        for name in [TREE, REPLACED].map(own) {
            let removed = self.root.remove_tree(&name);
            removed.map_err(InstallError::io("remove", &name))?;
        }
        Ok(())
    }

    fn move_tree(&self, place: &EntryPath, inode: u64) -> Result<(), InstallError> {
        let tree = own(TREE);
        let moved = match self.root.status(Some(place)) {
            Ok(found) if found.stamp.inode == inode => Ok(()),
            // A tree of the same revision that is not intact any more, or of which nothing is known.
            Ok(_) => self
                .root
                .exchange(&tree, place)
                .or_else(|_| self.replace(&tree, place)),
            Err(_) => self.move_to_free(&tree, place),
        };
        moved.map_err(InstallError::io("install", place))
    }

    /// Where a file system cannot exchange two names, there is a moment in which one of them is missing.
    fn replace(&self, tree: &EntryPath, place: &EntryPath) -> io::Result<()> {
        let replaced = own(REPLACED);
        self.root.remove_tree(&replaced)?;
        self.move_to_free(place, &replaced)?;
        self.move_to_free(tree, place)
    }

    /// Moves a directory to a name that is free. A file system that cannot exchange names cannot refuse to replace either,
    /// so it is not asked to; a directory that holds something would not be replaced anyway.
    fn move_to_free(&self, from: &EntryPath, to: &EntryPath) -> io::Result<()> {
        self.root.rename(from, &self.root, to, Existing::Replace)
    }

    fn point_to(&self, revision: Revision) -> Result<(), InstallError> {
        let target = place_of(revision);
        let link = self.root.read_link(&own(CURRENT));
        if link.is_ok_and(|link| *link == *target.as_bytes()) {
            return Ok(());
        }
        self.remove(NEW_CURRENT)?;
        self.root
            .create_symlink(&own(NEW_CURRENT), target.as_bytes())
            .map_err(InstallError::io("make", &own(NEW_CURRENT)))?;
        self.rename(NEW_CURRENT, CURRENT)
    }

    /// Takes away the revisions that are not to stay: each in one step, as far as those who look for it can tell.
    fn remove_old(
        &self,
        step: &mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let kept = self.read(REVISIONS_KEPT)?.unwrap_or_default();
        let kept = String::from_utf8_lossy(&kept);
        let revisions = own(REVISIONS);
        let found = self
            .root
            .list(Some(&revisions))
            .map_err(InstallError::io("list", &revisions))?;
        for (name, _) in found {
            let hex = str::from_utf8(&name).unwrap_or_default();
            if Digest::from_hex(hex).is_none() || kept.lines().any(|kept| kept == hex) {
                continue;
            }
            step()?;
            let old = own(&format!("{REVISIONS}/{hex}"));
            let aside = own(&format!("{STAGING}/{hex}"));
            self.root
                .rename(&old, &self.root, &aside, Existing::Replace)
                .and_then(|()| self.root.remove_tree(&aside))
                .map_err(InstallError::io("remove", &old))?;
        }
        Ok(())
    }
}

fn place_of(revision: Revision) -> EntryPath {
    own(&format!("{REVISIONS}/{}", revision.digest().hex()))
}

/// The revisions that stay when this one becomes current, a line each.
fn kept(revision: Revision, before: &str, keep: NonZeroUsize) -> String {
    let new = revision.digest().hex();
    let old = before.lines().filter(|&old| old != new);
    let kept = std::iter::once(&*new).chain(old).take(keep.get());
    kept.flat_map(|hex| [hex, "\n"]).collect()
}
