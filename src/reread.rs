//! Small files that are read again when they change: tokens, certificates and keys.
//!
//! They are looked at once a second at most, however many ask, and read only where their stamps say so. Kubernetes swaps a
//! link when a Secret changes, which shows in the stamps of what is found behind it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use crate::digest::Digest;

/// How long what was found counts.
const PAUSE: Duration = Duration::from_secs(1);
/// A file that changed less than this ago may change once more without another stamp: some file systems keep whole seconds.
const TICK: Duration = Duration::from_secs(2);
/// The longest file that is read, in bytes: more than any chain of certificates needs.
const LONGEST: u64 = 1 << 20;

/// Why there is no content.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .path.display())]
pub struct ReadError {
    /// Which of the files.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Files that belong together.
#[derive(Debug)]
pub struct Reread {
    paths: Vec<PathBuf>,
    looked: Mutex<Option<Instant>>,
    last: Mutex<Last>,
}

/// What was found the last time.
#[derive(Debug, Default)]
struct Last {
    stamps: Vec<Option<Stamp>>,
    /// Whether these stamps cannot stand for another content, too.
    settled: bool,
    /// Of each content, or the sentence of an error.
    found: Option<Result<Vec<Digest>, String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Reread {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            looked: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Whether it is time to look again. Of those who ask within a second, one is told so.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE);
        if due {
            *looked = Some(now);
        }
        due
    }

    /// Tells what the files hold, in their order, where that is not what it was when this was called before. An error that
    /// lasts is told once.
    ///
    /// Waits for the disk. News of several callers is told one after the other.
    pub fn look(&self, news: impl FnOnce(Result<Vec<Vec<u8>>, ReadError>)) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Stamped before they are read: what changes in between is found by the next look.
        let stamps: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        if last.settled && last.stamps == stamps {
            return;
        }
        let now = SystemTime::now();
        last.settled = stamps.iter().flatten().all(|stamp| stamp.is_settled(now));
        last.stamps = stamps;
        let contents: Result<Vec<_>, _> = self.paths.iter().map(|path| read(path)).collect();
        let found = match &contents {
            Ok(contents) => Ok(contents.iter().map(|bytes| Digest::of(bytes)).collect()),
            Err(error) => Err(format!("{}: {}", error.path.display(), error.source)),
        };
        if last.found.as_ref() != Some(&found) {
            last.found = Some(found);
            news(contents);
        }
    }
}

impl Stamp {
    /// `None` where there is no file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether a change of the file from now on would show. A time in the future says nothing.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.ctime;
        let since = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds).unwrap_or(0),
        );
        let changed = SystemTime::UNIX_EPOCH.checked_add(since);
        changed.is_some_and(|changed| {
            now.duration_since(changed)
                .is_ok_and(|elapsed| elapsed > TICK)
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_whole(path).map_err(|source| ReadError {
        path: path.into(),
        source,
    })
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes to would be waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is told by a look; `None` where there is no news.
    fn look(files: &Reread) -> Option<Result<Vec<Vec<u8>>, io::ErrorKind>> {
        let mut told = None;
        files.look(|news| told = Some(news.map_err(|error| error.source.kind())));
        told
    }

    #[test]
    fn one_of_many_looks_in_a_second() {
        let files = Reread::new(Vec::new());
        let now = Instant::now();
        assert!(files.is_due(now));
        assert!(!files.is_due(now));
        assert!(!files.is_due(now + PAUSE / 2));
        assert!(files.is_due(now + PAUSE));
        assert!(!files.is_due(now + PAUSE));
    }

    #[test]
    fn a_change_is_told_once_and_so_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let files = Reread::new(vec![path.clone()]);
        for content in ["one", "two", "", "six"] {
            fs::write(&path, content).unwrap();
            assert_eq!(look(&files), Some(Ok(vec![content.into()])));
            assert_eq!(look(&files), None);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&files), Some(Err(io::ErrorKind::NotFound)));
        assert_eq!(look(&files), None);
        fs::write(&path, "six").unwrap();
        assert_eq!(look(&files), Some(Ok(vec![b"six".into()])));
        fs::write(&path, vec![0; 2 << 20]).unwrap();
        assert_eq!(look(&files), Some(Err(io::ErrorKind::Other)));
    }

    #[test]
    fn a_link_that_is_swapped_changes_all_files_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(path(version)).unwrap();
            for name in ["a", "b"] {
                fs::write(path(version).join(name), version).unwrap();
            }
        }
        symlink("1", path("..data")).unwrap();
        let files = Reread::new(vec![path("..data/a"), path("..data/b")]);
        assert_eq!(look(&files), Some(Ok(vec![b"1".into(), b"1".into()])));
        symlink("2", path("new")).unwrap();
        fs::rename(path("new"), path("..data")).unwrap();
        assert_eq!(look(&files), Some(Ok(vec![b"2".into(), b"2".into()])));
    }

    #[test]
    fn a_stamp_settles_when_its_tick_has_passed() {
        let stamp = Stamp {
            device: 0,
            inode: 0,
            size: 0,
            mtime: (0, 0),
            ctime: (100, 0),
        };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(stamp.is_settled(at(103)));
        assert!(!stamp.is_settled(at(102)));
        assert!(!stamp.is_settled(at(99)));
    }
}
