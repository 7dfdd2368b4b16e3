//! From the staged tree into the target, step by step.
//!
//! Each step looks at what it finds, and so can be repeated. No link in the target is ever followed.

use std::collections::{BTreeSet, HashSet};
use std::io;

use rustix::io::Errno;

use super::record::read_directories;
use super::{DIRECTORIES, HIDDEN, INSTALLED, InstallError, LISTING, REVISION, Target, own};
use crate::entry::{EntryKind, EntryPath, Timestamp};
use crate::root::{Existing, Kind, Near, Root, Status};
use crate::unpack::Directory;

const DIRECTORY: Kind = Kind::Entry(EntryKind::Directory);

/// A staged tree and where it goes.
pub(super) struct Placement<'a> {
    target: &'a Target,
    root: &'a Root,
    tree: Root,
    /// The directories from which something was removed, and those above them.
    emptied: BTreeSet<EntryPath>,
    step: &'a mut dyn FnMut() -> Result<(), InstallError>,
}

impl<'a> Placement<'a> {
    pub(super) fn new(
        target: &'a Target,
        tree: Root,
        step: &'a mut dyn FnMut() -> Result<(), InstallError>,
    ) -> Self {
        Self {
            target,
            root: &target.root,
            tree,
            emptied: BTreeSet::new(),
            step,
        }
    }

    /// Fails if the tree cannot be placed without the loss of something that was not fetched. Changes nothing.
    pub(super) fn check(&self) -> Result<(), InstallError> {
        for name in [HIDDEN, REVISION] {
            if self.staged(&own(name))?.is_some() {
                return Err(InstallError::Reserved { name });
            }
        }
        if self
            .found(&own(REVISION))?
            .is_some_and(|found| found.kind == DIRECTORY)
        {
            let is_directory = io::ErrorKind::IsADirectory.into();
            return Err(InstallError::io("replace", &own(REVISION))(is_directory));
        }
        let mut recorded = None;
        self.check_beneath(None, &mut recorded)
    }

    fn check_beneath(
        &self,
        directory: Option<&EntryPath>,
        recorded: &mut Option<HashSet<(EntryPath, Kind)>>,
    ) -> Result<(), InstallError> {
        for (path, staged) in list(&self.tree, directory)? {
            let Some(found) = self.found(&path)? else {
                continue;
            };
            self.check_not_mounted(&path, staged.kind == DIRECTORY && found.kind == DIRECTORY)?;
            if found.kind != DIRECTORY {
                continue;
            }
            if staged.kind == DIRECTORY {
                self.check_beneath(Some(&path), recorded)?;
            } else {
                let recorded = recorded.get_or_insert_with(|| {
                    let installed = self.target.recorded(INSTALLED);
                    installed
                        .map(|(path, kind)| (path, Kind::Entry(kind)))
                        .collect()
                });
                self.check_all_recorded(&path, &path, recorded)?;
            }
        }
        Ok(())
    }

    /// Fails if another volume is in the way: nothing can be moved onto it. Where directories are merged, one of which
    /// nothing is staged stays as it is.
    fn check_not_mounted(&self, path: &EntryPath, merged: bool) -> Result<(), InstallError> {
        let failed = InstallError::io("look at", path);
        let is_mounted = self.root.is_mount_point(path).map_err(failed)?;
        if !is_mounted || merged && list(&self.tree, Some(path))?.is_empty() {
            return Ok(());
        }
        Err(InstallError::Mounted { path: path.clone() })
    }

    /// Fails if a directory holds something that no earlier run has put there.
    fn check_all_recorded(
        &self,
        top: &EntryPath,
        directory: &EntryPath,
        recorded: &HashSet<(EntryPath, Kind)>,
    ) -> Result<(), InstallError> {
        for (path, found) in list(self.root, Some(directory))? {
            let entry = (path, found.kind);
            if !recorded.contains(&entry) {
                return Err(InstallError::InTheWay {
                    directory: top.clone(),
                    entry: entry.0,
                });
            }
            if found.kind == DIRECTORY {
                self.check_all_recorded(top, &entry.0, recorded)?;
            }
        }
        Ok(())
    }

    /// Removes what the tree before had and this one has not; directories only if they are empty.
    pub(super) fn remove_what_is_gone(&mut self) -> Result<(), InstallError> {
        // Without a listing of the new tree that was done before.
        if self.target.root.status(Some(&own(LISTING))).is_err() {
            return Ok(());
        }
        for (path, kind) in self.gone().into_iter().rev() {
            let above = std::iter::successors(path.parent(), EntryPath::parent);
            self.emptied.extend(above);
            (self.step)()?;
            let mut removed = self.remove(&path, kind);
            if is_denied(&removed) {
                self.open_parent(&path)?;
                removed = self.remove(&path, kind);
            }
            match removed {
                Err(error) if !is_somebody_elses(&error) => {
                    return Err(InstallError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn remove(&self, path: &EntryPath, kind: EntryKind) -> io::Result<()> {
        match kind {
            EntryKind::Directory => self.root.remove_dir(path),
            EntryKind::File | EntryKind::Symlink => self.root.remove_file(path),
        }
    }

    /// Lets the owner change what lies in the directory of this entry, and in all that lead to it.
    fn open_parent(&self, path: &EntryPath) -> Result<(), InstallError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.open_parent(&parent)?;
        match self.found(&parent)? {
            Some(found) if found.kind == DIRECTORY => open_up(self.root, &parent, &found),
            _ => Ok(()),
        }
    }

    /// What is in the old listing and not in the new one: both are in the same order.
    ///
    /// A name that is in both is not gone, whatever it was: it may be the new one already.
    fn gone(&self) -> Vec<(EntryPath, EntryKind)> {
        let mut new = self.target.recorded(LISTING).peekable();
        let mut gone = Vec::new();
        for (path, kind) in self.target.recorded(INSTALLED) {
            while new.next_if(|new| new.0 < path).is_some() {}
            if new.peek().is_none_or(|new| new.0 != path) {
                gone.push((path, kind));
            }
        }
        gone
    }

    /// Moves everything that is staged to where it belongs.
    pub(super) fn move_in(&mut self) -> Result<(), InstallError> {
        self.move_beneath(None)
    }

    fn move_beneath(&mut self, directory: Option<&EntryPath>) -> Result<(), InstallError> {
        for (path, staged) in list(&self.tree, directory)? {
            if staged.kind == DIRECTORY {
                open_up(&self.tree, &path, &staged)?;
            }
            match self.found(&path)? {
                Some(found) if found.kind == DIRECTORY && staged.kind == DIRECTORY => {
                    open_up(self.root, &path, &found)?;
                    self.move_beneath(Some(&path))?;
                }
                Some(found) if found.kind == DIRECTORY => {
                    (self.step)()?;
                    let removed = self.root.remove_dir(&path);
                    removed.map_err(InstallError::io("remove", &path))?;
                    self.move_one(&path)?;
                }
                Some(_) if staged.kind == DIRECTORY => {
                    (self.step)()?;
                    let removed = self.root.remove_file(&path);
                    removed.map_err(InstallError::io("remove", &path))?;
                    self.move_one(&path)?;
                }
                _ => self.move_one(&path)?,
            }
        }
        Ok(())
    }

    fn move_one(&mut self, path: &EntryPath) -> Result<(), InstallError> {
        (self.step)()?;
        self.tree
            .rename(path, self.root, path, Existing::Replace)
            .map_err(InstallError::io("install", path))
    }

    /// Gives directories the modes and times that the moves have changed, and removals.
    pub(super) fn close_directories(&mut self) -> Result<(), InstallError> {
        let record = self.target.read(DIRECTORIES)?.unwrap_or_default();
        let directories = read_directories(&record).unwrap_or_default();
        let mut near = Near::default();
        for directory in directories.into_iter().rev() {
            let Directory {
                path,
                mode,
                mtime,
                is_kept,
            } = directory;
            if is_kept && !self.emptied.contains(&path) {
                continue;
            }
            let failed = InstallError::io("set the mode and time of", &path);
            (self.step)()?;
            match self.close(&mut near, &path, mode, mtime) {
                Err(error) if !is_somebody_elses(&error) => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn close(
        &self,
        near: &mut Near,
        path: &EntryPath,
        mode: u32,
        mtime: Option<Timestamp>,
    ) -> io::Result<()> {
        let found = self.root.status_near(near, path)?;
        if found.mode & 0o777 != mode {
            // What the file system itself gave, it keeps.
            self.root.set_dir_mode(path, found.mode & 0o7000 | mode)?;
        }
        match mtime {
            Some(mtime) if found.stamp.mtime != mtime => self.root.set_mtime(path, mtime),
            _ => Ok(()),
        }
    }

    fn staged(&self, path: &EntryPath) -> Result<Option<Status>, InstallError> {
        look(&self.tree, path)
    }

    fn found(&self, path: &EntryPath) -> Result<Option<Status>, InstallError> {
        look(self.root, path)
    }
}

fn look(root: &Root, path: &EntryPath) -> Result<Option<Status>, InstallError> {
    match root.status(Some(path)) {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(InstallError::io("look at", path)(error)),
    }
}

fn list(
    root: &Root,
    directory: Option<&EntryPath>,
) -> Result<Vec<(EntryPath, Status)>, InstallError> {
    let names = root.list(directory).map_err(|error| match directory {
        Some(directory) => InstallError::io("list", directory)(error),
        None => InstallError::io("list", &own(super::TREE))(error),
    })?;
    Ok(names
        .into_iter()
        .filter_map(|(name, status)| Some((EntryPath::child(directory, &name)?, status)))
        .collect())
}

/// Lets the owner move things out of a directory, into it, and the directory itself.
fn open_up(root: &Root, path: &EntryPath, status: &Status) -> Result<(), InstallError> {
    if status.mode & 0o700 == 0o700 {
        return Ok(());
    }
    root.set_dir_mode(path, status.mode | 0o700)
        .map_err(InstallError::io("open", path))
}

fn is_denied(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether a name that was ours has vanished, or belongs to an application by now.
fn is_somebody_elses(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::DirectoryNotEmpty
    ) || Errno::from_io_error(error) == Some(Errno::LOOP)
}
