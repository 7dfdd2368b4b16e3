//! The names of a state directory, and the few ways in which files get and lose them.
//!
//! No link is followed: what is none of our files is not opened, and a name that is needed is cleared of what has it.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::StoreError;
use crate::digest::Digest;

/// One of the files that an artifact has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The archive. Its time of modification is when it was asked for last.
    Archive,
    /// The listing.
    Listing,
    /// What the next build compares its segments with.
    Recipe,
    /// The descriptor: the mark of an artifact that is whole on disk. Its time of modification is when it was published.
    Descriptor,
}

impl Part {
    /// All but the mark, in the order in which they get their names.
    pub(super) const CONTENT: [Self; 3] = [Self::Archive, Self::Listing, Self::Recipe];
    /// All, in that order.
    pub(super) const ALL: [Self; 4] =
        [Self::Archive, Self::Listing, Self::Recipe, Self::Descriptor];

    fn ending(self) -> &'static str {
        match self {
            Self::Archive => "tar.gz",
            Self::Listing => "list",
            Self::Recipe => "recipe",
            Self::Descriptor => "json",
        }
    }
}

/// Where everything lies beneath a state directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    directory: PathBuf,
}

impl Layout {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    pub(super) fn server(&self) -> PathBuf {
        self.directory.join("server")
    }

    pub(super) fn current(&self) -> PathBuf {
        self.directory.join("current")
    }

    pub(super) fn scan_cache(&self) -> PathBuf {
        self.directory.join("scan-cache")
    }

    pub(super) fn artifacts(&self) -> PathBuf {
        self.directory.join("artifacts")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.directory.join("staging")
    }

    pub(super) fn staged(&self, name: &str) -> PathBuf {
        self.staging().join(name)
    }

    pub(super) fn part(&self, digest: &Digest, part: Part) -> PathBuf {
        let name = format!("{}.{}", digest.hex(), part.ending());
        self.artifacts().join(name)
    }
}

/// What a name under `artifacts/` stands for, if it is one of ours.
pub(super) fn parse(name: &OsStr) -> Option<(Digest, Part)> {
    let (hex, ending) = name.to_str()?.split_once('.')?;
    let part = Part::ALL.into_iter().find(|part| part.ending() == ending)?;
    Some((Digest::from_hex(hex)?, part))
}

/// Opens a regular file for reading; a link, a pipe or a directory is invalid data.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(no_file()),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(no_file())
    }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no regular file")
}

/// Reads a file; one that is longer than this is invalid data.
pub(super) fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, longest)
}

/// As [`read`], of a file that is open.
pub(super) fn read_all(file: File, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let reason = format!("it is longer than {longest} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// Whether an error says that a file is not what it should be, and not that it cannot be had just now.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData
    )
}

/// Makes a new file in place of whatever has the name.
pub(super) fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.open(path)
}

/// Writes a new file in place of whatever has the name.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Writes a file that is whole wherever it is seen: under `path` there is what was there before, or all of this.
pub(super) fn replace(staged: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(staged, bytes)
        .and_then(|()| fs::rename(staged, path))
        .inspect_err(|_| drop(fs::remove_file(staged)))
}

/// As [`replace`], and on disk before it has the name; the name itself is, once its directory is synced.
pub(super) fn replace_synced(
    staged: &Path,
    path: &Path,
    bytes: &[u8],
    modified: SystemTime,
) -> io::Result<()> {
    let written = create(staged).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_modified(modified)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(staged, path))
        .inspect_err(|_| drop(fs::remove_file(staged)))
}

/// Waits until a file is on disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    open(path)?.sync_all()
}

/// Waits until the names in a directory are on disk, where the file system has a way to.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Takes away whatever has a name, a directory with all that is in it. A name that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Holds a lock for as long as the file is open; `None` if another process has it.
pub(super) fn take_lock(path: &Path) -> Result<Option<File>, StoreError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let lock = options
        .open(path)
        .map_err(|source| StoreError::io(path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::io(path, source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_of_parts_parse_back_and_others_do_not() {
        let layout = Layout::new(Path::new("/state"));
        let digest = Digest::of(b"x");
        for part in Part::ALL {
            let path = layout.part(&digest, part);
            assert_eq!(parse(path.file_name().unwrap()), Some((digest, part)));
        }
        let hex = digest.hex();
        for name in [
            String::new(),
            hex.clone(),
            format!("{hex}."),
            format!("{hex}.tar"),
            format!("{hex}.json~"),
            format!(".{hex}.json"),
            format!("{}.json", hex.to_uppercase()),
            format!("{}.json", &hex[1..]),
        ] {
            assert_eq!(parse(OsStr::new(&name)), None, "{name}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("file", path("link")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), pipe, Mode::RUSR, 0).unwrap();
        for name in ["directory", "link", "pipe"] {
            assert!(is_damage(&open(&path(name)).unwrap_err()), "{name}");
        }
        assert_eq!(read(&path("file"), 4).unwrap(), b"text");
        assert!(is_damage(&read(&path("file"), 3).unwrap_err()));
    }

    #[test]
    fn a_new_file_takes_the_place_of_anything_and_leads_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("elsewhere"), "untouched").unwrap();
        fs::create_dir_all(path("a/b")).unwrap();
        symlink("elsewhere", path("link")).unwrap();
        fs::hard_link(path("elsewhere"), path("twin")).unwrap();
        for name in ["a", "link", "twin", "new"] {
            create(&path(name)).unwrap().write_all(b"new").unwrap();
            assert_eq!(read(&path(name), 9).unwrap(), b"new", "{name}");
        }
        assert_eq!(read(&path("elsewhere"), 9).unwrap(), b"untouched");
    }
}
