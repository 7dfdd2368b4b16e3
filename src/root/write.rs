//! What changes a tree beneath a root: creating, moving, removing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::{Kind, Near, Root};
use crate::entry::{EntryKind, EntryPath, Timestamp};

const DIRECTORY: Kind = Kind::Entry(EntryKind::Directory);

/// What becomes of something that already has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The call fails with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// It is replaced in one step; a directory only if it is empty, and only by a directory.
    Replace,
}

impl Root {
    /// Makes a directory; the process's umask is applied to the mode.
    pub fn create_dir(&self, path: &EntryPath, mode: u32) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        Ok(rustix::fs::mkdirat(
            &parent,
            path.name(),
            Mode::from_raw_mode(mode),
        )?)
    }

    /// Makes an empty file and opens it to write; fails where the name is taken, by a link too. The process's umask is
    /// applied to the mode.
    pub fn create_file(&self, path: &EntryPath, mode: u32) -> io::Result<File> {
        self.open_at(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)
            .map(File::from)
    }

    /// Makes a symbolic link; its target is data and is not looked at.
    pub fn create_symlink(&self, path: &EntryPath, target: &[u8]) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        Ok(rustix::fs::symlinkat(target, &parent, path.name())?)
    }

    /// Sets a directory's permission bits as they are given, also where they forbid its owner to open it.
    pub fn set_dir_mode(&self, path: &EntryPath, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let parent = self.parent_of(path)?;
                // The call follows links. Who may not open the directory has no privileges: a link that somebody puts into
                // its place leads to nothing but what is the caller's anyway.
                rustix::fs::chmodat(parent.as_fd(), path.name(), mode, AtFlags::empty())?;
                Ok(())
            }
            directory => Ok(rustix::fs::fchmod(directory?, mode)?),
        }
    }

    /// Sets the time of the last change of anything, a link itself included; the time of the last access stays.
    pub fn set_mtime(&self, path: &EntryPath, mtime: Timestamp) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: mtime.nanoseconds.into(),
            },
        };
        Ok(rustix::fs::utimensat(
            &parent,
            path.name(),
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Moves anything, a whole directory too, beneath another root of the same file system.
    pub fn rename(
        &self,
        from: &EntryPath,
        to_root: &Self,
        to: &EntryPath,
        existing: Existing,
    ) -> io::Result<()> {
        let (from_parent, to_parent) = (self.parent_of(from)?, to_root.parent_of(to)?);
        let flags = match existing {
            Existing::Keep => RenameFlags::NOREPLACE,
            Existing::Replace => RenameFlags::empty(),
        };
        let (from, to) = (from.name(), to.name());
        Ok(rustix::fs::renameat_with(
            &from_parent,
            from,
            &to_parent,
            to,
            flags,
        )?)
    }

    /// Gives a file or a link a second name, the same path beneath another root of the same file system.
    pub fn link(
        &self,
        near: &mut Near,
        path: &EntryPath,
        (to_root, to_near): (&Self, &mut Near),
    ) -> io::Result<()> {
        let from_parent = near.parent_of(self, path)?;
        let to_parent = to_near.parent_of(to_root, path)?;
        let name = path.name();
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(
            from_parent,
            name,
            to_parent,
            name,
            flags,
        )?)
    }

    /// Lets two names change places in one step. Not every file system can.
    pub fn exchange(&self, one: &EntryPath, other: &EntryPath) -> io::Result<()> {
        let (one_parent, other_parent) = (self.parent_of(one)?, self.parent_of(other)?);
        Ok(rustix::fs::renameat_with(
            &one_parent,
            one.name(),
            &other_parent,
            other.name(),
            RenameFlags::EXCHANGE,
        )?)
    }

    /// Removes a file, a link or any other name that is not a directory.
    pub fn remove_file(&self, path: &EntryPath) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(
            &parent,
            path.name(),
            AtFlags::empty(),
        )?)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &EntryPath) -> io::Result<()> {
        let parent = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(
            &parent,
            path.name(),
            AtFlags::REMOVEDIR,
        )?)
    }

    /// Removes a name with all that lies beneath it; a name that is not there is as good as removed.
    pub fn remove_tree(&self, path: &EntryPath) -> io::Result<()> {
        match self.try_remove_tree(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn try_remove_tree(&self, path: &EntryPath) -> io::Result<()> {
        let status = self.status(Some(path))?;
        if status.kind != DIRECTORY {
            return self.remove_file(path);
        }
        if status.mode & 0o700 != 0o700 {
            self.set_dir_mode(path, 0o700)?;
        }
        self.empty(path)?;
        self.remove_dir(path)
    }

    /// Removes all that lies in a directory.
    fn empty(&self, path: &EntryPath) -> io::Result<()> {
        let names = self.list(Some(path))?;
        let directory = self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        for (name, status) in names {
            if status.kind != DIRECTORY {
                match rustix::fs::unlinkat(&directory, &*name, AtFlags::empty()) {
                    Err(error) if error != Errno::NOENT => return Err(error.into()),
                    _ => {}
                }
            } else if let Some(child) = EntryPath::child(Some(path), &name) {
                self.remove_tree(&child)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn a_name_that_is_taken_is_not_created_again() {
        let (_directory, root) = root();
        root.create_file(&path("a"), 0o644).unwrap();
        root.create_symlink(&path("link"), b"elsewhere").unwrap();
        for name in ["a", "link"] {
            let error = root.create_file(&path(name), 0o644).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
        }
    }

    #[test]
    fn a_directory_moves_with_all_it_holds() {
        let (directory, root) = root();
        root.create_dir(&path("a"), 0o755).unwrap();
        root.create_file(&path("a/b"), 0o644)
            .unwrap()
            .write_all(b"b")
            .unwrap();
        root.rename(&path("a"), &root, &path("c"), Existing::Keep)
            .unwrap();
        assert_eq!(fs::read(directory.path().join("c/b")).unwrap(), b"b");
        root.create_dir(&path("d"), 0o755).unwrap();
        let error = root
            .rename(&path("c"), &root, &path("d"), Existing::Keep)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_time_of_a_link_is_set_and_not_its_targets() {
        let (directory, root) = root();
        root.create_file(&path("a"), 0o644).unwrap();
        root.create_symlink(&path("link"), b"a").unwrap();
        root.set_mtime(
            &path("link"),
            Timestamp {
                seconds: 7,
                nanoseconds: 0,
            },
        )
        .unwrap();
        let modified = |name: &str| {
            fs::symlink_metadata(directory.path().join(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        assert_eq!(modified("link"), UNIX_EPOCH + Duration::from_secs(7));
        assert_ne!(modified("a"), UNIX_EPOCH + Duration::from_secs(7));
    }

    #[test]
    fn a_tree_is_removed_though_its_directories_are_locked() {
        let (directory, root) = root();
        root.create_dir(&path("a"), 0o755).unwrap();
        root.create_dir(&path("a/b"), 0o755).unwrap();
        root.create_file(&path("a/b/c"), 0o644).unwrap();
        fs::set_permissions(
            directory.path().join("a/b"),
            fs::Permissions::from_mode(0o000),
        )
        .unwrap();
        root.remove_tree(&path("a")).unwrap();
        assert!(!directory.path().join("a").exists());
        root.remove_tree(&path("a")).unwrap();
    }
}
