//! A root: one handle on a directory, and every access to what lies beneath it.
//!
//! The one who reads a tree and the one who unpacks into one share this idea. Paths are [`EntryPath`]s, resolved from the
//! handle and never through a symbolic link, whatever somebody else does to the tree meanwhile: nothing outside the root can
//! be opened, created or removed through it. The kernel does that in one call (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`); where a kernel or a seccomp profile lacks it, and for paths longer than the kernel takes, the
//! path is walked component by component.
//!
//! No handle stays open but the root's own, so depth is not bound by the limit on open files.

mod room;
mod write;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use crate::entry::{EntryKind, EntryPath, Stamp, Timestamp};
pub use room::Room;
pub use write::Existing;

/// The longest path that one call takes, with room for the terminating NUL.
const LONGEST_PATH: usize = 4095;

/// A directory's handle, beneath which everything is opened.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    resolution: Resolution,
}

/// Who keeps a path beneath the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// `openat2`.
    Kernel,
    /// One `openat` with `O_NOFOLLOW` a component.
    Walk,
}

/// What `stat` tells of one name, its link not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// The owner's user id.
    pub uid: u32,
    /// The owning group's id.
    pub gid: u32,
    /// The file system it lies on.
    pub device: u64,
    /// Size, times and inode.
    pub stamp: Stamp,
}

/// What a file system can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something an archive can hold.
    Entry(EntryKind),
    /// A socket, a pipe or a device; the word says which.
    Special(&'static str),
}

impl Root {
    /// Opens a directory by any path, links followed: the user named it, and it is the only thing named so.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let resolution = resolution_for(directory.as_fd())?;
        Ok(Self {
            directory,
            resolution,
        })
    }

    /// A directory beneath this one as a root of its own.
    pub fn open_dir(&self, path: &EntryPath) -> io::Result<Self> {
        let directory = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        Ok(Self {
            directory,
            resolution: self.resolution,
        })
    }

    /// The handle itself, for what is done to an open directory.
    #[must_use]
    pub fn into_handle(self) -> File {
        self.directory.into()
    }

    /// Opens a file to read it. Never waits for the writer of a pipe; what was opened may be anything but a link, so look
    /// at [`status_of`] before reading.
    pub fn open_file(&self, path: &EntryPath) -> io::Result<File> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)
            .map(File::from)
    }

    /// The names in a directory (`None`: the root itself), in no order, each with its status.
    ///
    /// A name that vanishes meanwhile is not among them.
    pub fn list(&self, path: Option<&EntryPath>) -> io::Result<Vec<(Box<[u8]>, Status)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let mut directory = match path {
            Some(path) => Dir::new(self.open_at(path, flags, 0)?)?,
            None => Dir::read_from(&self.directory)?,
        };
        let mut names = Vec::new();
        while let Some(entry) = directory.read() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name.into_boxed_slice());
            }
        }
        let handle = directory.fd()?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            match rustix::fs::statat(handle, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => found.push((name, Status::from(&stat))),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// The status of a name, or of the root itself.
    pub fn status(&self, path: Option<&EntryPath>) -> io::Result<Status> {
        let Some(path) = path else {
            return status_of(&self.directory);
        };
        let parent = self.parent_of(path)?;
        let stat = rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Status::from(&stat))
    }

    /// The status of a name, found quickly where it lies in the same directory as the one before.
    pub fn status_near(&self, near: &mut Near, path: &EntryPath) -> io::Result<Status> {
        let parent = near.parent_of(self, path)?;
        let stat = rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Status::from(&stat))
    }

    /// Whether another file system, or another part of one, is mounted on a name. Where the kernel does not tell, a mount
    /// is known by its device alone.
    pub fn is_mount_point(&self, path: &EntryPath) -> io::Result<bool> {
        let parent = self.parent_of(path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let told = rustix::fs::statx(&parent, path.name(), flags, StatxFlags::BASIC_STATS)
            .ok()
            .filter(|found| {
                found
                    .stx_attributes_mask
                    .contains(StatxAttributes::MOUNT_ROOT)
            });
        if let Some(found) = told {
            return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        }
        Ok(self.status(Some(path))?.device != status_of(&parent)?.device)
    }

    /// Where a symbolic link points, as written in it.
    pub fn read_link(&self, path: &EntryPath) -> io::Result<Box<[u8]>> {
        let parent = self.parent_of(path)?;
        let target = rustix::fs::readlinkat(&parent, path.name(), Vec::new())?;
        Ok(target.into_bytes().into())
    }

    /// Opens a path beneath the root. The last component is not followed either.
    fn open_at(&self, path: &EntryPath, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        if self.resolution == Resolution::Kernel && path.as_bytes().len() <= LONGEST_PATH {
            return Ok(rustix::fs::openat2(
                &self.directory,
                path.as_bytes(),
                flags,
                mode,
                BENEATH,
            )?);
        }
        let parent = self.walk_to_parent(path)?;
        Ok(rustix::fs::openat(&parent, path.name(), flags, mode)?)
    }

    /// A handle on the directory that holds this name, for calls that take a handle and one name.
    fn parent_of(&self, path: &EntryPath) -> io::Result<Parent<'_>> {
        let Some(parent) = path.parent() else {
            return Ok(Parent::Root(self.directory.as_fd()));
        };
        self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY, 0)
            .map(Parent::Opened)
    }

    fn walk_to_parent(&self, path: &EntryPath) -> io::Result<Parent<'_>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parent = Parent::Root(self.directory.as_fd());
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            if components.peek().is_some() {
                parent = Parent::Opened(rustix::fs::openat(
                    &parent,
                    component,
                    flags,
                    Mode::empty(),
                )?);
            }
        }
        Ok(parent)
    }
}

/// The directory in which something was done last beneath one root.
#[derive(Debug, Default)]
pub struct Near {
    directory: Option<(EntryPath, OwnedFd)>,
}

impl Near {
    fn parent_of<'a>(&'a mut self, root: &'a Root, path: &EntryPath) -> io::Result<BorrowedFd<'a>> {
        let Some(parent) = path.parent() else {
            return Ok(root.as_fd());
        };
        if self.directory.as_ref().is_none_or(|last| last.0 != parent) {
            let opened = root.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY, 0)?;
            self.directory = Some((parent, opened));
        }
        let directory = self.directory.as_ref().expect("opened above");
        Ok(directory.1.as_fd())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Asks the kernel once whether it resolves beneath a handle by itself.
fn resolution_for(directory: BorrowedFd<'_>) -> io::Result<Resolution> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(directory, ".", flags, Mode::empty(), BENEATH) {
        Ok(_) => Ok(Resolution::Kernel),
        Err(Errno::NOSYS | Errno::PERM) => Ok(Resolution::Walk),
        Err(error) => Err(error.into()),
    }
}

/// The status of what a handle is open on.
pub fn status_of(handle: impl AsFd) -> io::Result<Status> {
    Ok(Status::from(&rustix::fs::fstat(handle)?))
}

/// What the kernel calls this boot; the same text always where it does not say. Stamps prove something within one boot:
/// after a crash a file may have its stamp, and not what was written to it.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().into()
}

/// The directory that holds a name.
enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(handle) => *handle,
            Self::Opened(handle) => handle.as_fd(),
        }
    }
}

impl From<&Stat> for Status {
    fn from(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::Entry(EntryKind::File),
            FileType::Directory => Kind::Entry(EntryKind::Directory),
            FileType::Symlink => Kind::Entry(EntryKind::Symlink),
            FileType::Fifo => Kind::Special("pipe"),
            FileType::Socket => Kind::Special("socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Kind::Special("device"),
            FileType::Unknown => Kind::Special("unknown kind"),
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_dev,
            stamp: Stamp {
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
                ctime: timestamp(stat.st_ctime, stat.st_ctime_nsec),
                inode: stat.st_ino,
            },
        }
    }
}

fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    /// A directory that holds `inside/file` and links of several kinds, seen through either way of resolving.
    fn check(test: impl Fn(&Root)) {
        for resolution in [Resolution::Kernel, Resolution::Walk] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("secret"), "outside").unwrap();
            let root = directory.path().join("root");
            fs::create_dir_all(root.join("inside")).unwrap();
            fs::write(root.join("inside/file"), "content").unwrap();
            symlink("..", root.join("up")).unwrap();
            symlink("inside", root.join("within")).unwrap();
            symlink("/etc/passwd", root.join("absolute")).unwrap();
            test(&Root {
                resolution,
                ..Root::open(&root).unwrap()
            });
        }
    }

    #[test]
    fn files_beneath_the_root_are_opened() {
        check(|root| {
            let text = io::read_to_string(root.open_file(&path("inside/file")).unwrap()).unwrap();
            assert_eq!(text, "content");
        });
    }

    #[test]
    fn no_link_is_followed_on_the_way_or_at_the_end() {
        check(|root| {
            for name in ["up/secret", "within/file", "within", "absolute", "up"] {
                assert!(root.open_file(&path(name)).is_err(), "{name}");
                assert!(root.open_dir(&path(name)).is_err(), "{name}");
            }
            assert!(root.status(Some(&path("within/file"))).is_err());
        });
    }

    #[test]
    fn links_are_read_and_not_followed() {
        check(|root| {
            assert_eq!(&*root.read_link(&path("up")).unwrap(), b"..");
            let status = root.status(Some(&path("up"))).unwrap();
            assert_eq!(status.kind, Kind::Entry(EntryKind::Symlink));
        });
    }

    #[test]
    fn a_directory_lists_its_names_with_their_kinds() {
        check(|root| {
            let mut names: Vec<_> = root.list(None).unwrap();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            let names: Vec<_> = names
                .iter()
                .map(|(name, status)| (&**name, status.kind))
                .collect();
            let link = Kind::Entry(EntryKind::Symlink);
            let directory = Kind::Entry(EntryKind::Directory);
            let expected: [(&[u8], Kind); 4] = [
                (b"absolute", link),
                (b"inside", directory),
                (b"up", link),
                (b"within", link),
            ];
            assert_eq!(names, expected);
        });
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_are_walked() {
        check(|root| {
            let name = "d".repeat(250);
            let mut deep = path("inside");
            for _ in 0..20 {
                deep = EntryPath::child(Some(&deep), name.as_bytes()).unwrap();
                root.create_dir(&deep, 0o755).unwrap();
            }
            let file = EntryPath::child(Some(&deep), b"file").unwrap();
            assert!(file.as_bytes().len() > LONGEST_PATH);
            root.create_file(&file, 0o644).unwrap();
            assert!(root.open_file(&file).is_ok());
            root.remove_tree(&path("inside")).unwrap();
        });
    }
}
