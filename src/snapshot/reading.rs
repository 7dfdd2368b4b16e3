//! One file, read from its first byte to its last, or found torn.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::ClockId;

use crate::digest::{Digest, Hasher};
use crate::entry::{EntryKind, EntryPath, Stamp, Timestamp};
use crate::root::{Kind, Root, Status, status_of};
use crate::tree::{Denied, Entry, Found};

/// Two changes closer together than this may carry the same time: the kernel takes file times from a clock that ticks at
/// least every 10 ms, doubled for safety.
const TICK: Duration = Duration::from_millis(20);
/// The same on file systems that keep whole seconds or even pairs of them.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// How often a file is given time to settle before it is taken for one that never does.
const PAUSES: u32 = 5;

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no longer what the walk saw, or somebody wrote to it while it was read. Another try may succeed.
    #[error("{path} changed while it was read: {how}")]
    Changed {
        /// Which entry.
        path: EntryPath,
        /// What was seen of the change.
        how: &'static str,
    },
    /// We may not read it.
    #[error("{0}")]
    Denied(Denied),
    /// The file system failed.
    #[error("cannot read {path}")]
    Io {
        /// Which entry.
        path: EntryPath,
        /// How.
        source: io::Error,
    },
}

/// A file being read, from its first byte to its last.
#[derive(Debug)]
pub struct Reading<'a> {
    path: &'a EntryPath,
    file: File,
    before: Status,
    left: u64,
    hasher: Hasher,
}

impl<'a> Reading<'a> {
    /// Opens a file that the walk saw. Waits, for a tick of the file system's clock at the most, until a change during the
    /// reading could not go unseen.
    pub fn begin(root: &Root, entry: &'a Entry) -> Result<Self, ReadError> {
        let path = &entry.path;
        let file = root
            .open_file(path)
            .map_err(|error| failed(root, path, error))?;
        let before = settled_status(path, &file)?;
        if !is_file(&before) {
            return Err(changed(path, "it is no file any more"));
        }
        match entry.found {
            Found::File {
                stamp,
                sniffed: true,
            } if stamp != before.stamp => Err(changed(path, "it may hold a private key now")),
            _ => Ok(Self {
                path,
                file,
                left: before.stamp.size,
                before,
                hasher: Hasher::new(),
            }),
        }
    }

    /// Length in bytes, and so how much will be read.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.before.stamp.size
    }

    /// Permission bits as found.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.before.mode
    }

    /// When it was changed last.
    #[must_use]
    pub fn mtime(&self) -> Timestamp {
        self.before.stamp.mtime
    }

    /// How many bytes are still to be read.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Appends the next bytes, `length` of them or up to the end.
    pub fn read(&mut self, length: u64, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let length = length.min(self.left);
        let start = buffer.len();
        let read = (&self.file).take(length).read_to_end(buffer);
        let read = read.map_err(|source| ReadError::Io {
            path: self.path.clone(),
            source,
        })?;
        if (read as u64) < length {
            return Err(changed(self.path, "it became shorter"));
        }
        self.left -= length;
        self.hasher.update(&buffer[start..]);
        Ok(())
    }

    /// The digest of what was read, if nobody wrote to the file meanwhile.
    pub fn finish(self) -> Result<Digest, ReadError> {
        let after = status(self.path, &self.file)?;
        if after.stamp != self.before.stamp {
            return Err(changed(self.path, "somebody wrote to it"));
        }
        Ok(self.hasher.finish())
    }
}

/// The status of a file whose last change lies far enough back.
fn settled_status(path: &EntryPath, file: &File) -> Result<Status, ReadError> {
    for _ in 0..PAUSES {
        let status = status(path, file)?;
        match pause_before_reading(&status.stamp, now()) {
            // The clock that is looked at lags behind the one that ends the sleep by up to half a tick.
            Some(pause) if is_file(&status) => sleep(pause + TICK / 2),
            _ => return Ok(status),
        }
    }
    Err(changed(path, "somebody keeps writing to it"))
}

/// How long to wait until a change made from then on must show in another stamp; `None`: it would by now.
///
/// A time that lies ahead of the clock (the clock was set back) is told from that of any change made now, so there is
/// nothing to wait for.
fn pause_before_reading(stamp: &Stamp, now: Timestamp) -> Option<Duration> {
    let whole_seconds = stamp.ctime.nanoseconds == 0;
    let tick = if whole_seconds { COARSE_TICK } else { TICK };
    if stamp.ctime.since(now) > tick {
        return None;
    }
    tick.checked_sub(now.since(stamp.ctime))
        .filter(|pause| !pause.is_zero())
}

fn is_file(status: &Status) -> bool {
    status.kind == Kind::Entry(EntryKind::File)
}

/// The clock that file times are taken from.
fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "two seconds at the most, and on a thread that may wait"
)]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

fn status(path: &EntryPath, file: &File) -> Result<Status, ReadError> {
    status_of(file).map_err(|source| ReadError::Io {
        path: path.clone(),
        source,
    })
}

fn changed(path: &EntryPath, how: &'static str) -> ReadError {
    ReadError::Changed {
        path: path.clone(),
        how,
    }
}

fn failed(root: &Root, path: &EntryPath, source: io::Error) -> ReadError {
    match Errno::from_io_error(&source) {
        Some(Errno::ACCESS | Errno::PERM) => {
            let status = root.status(Some(path)).ok();
            ReadError::Denied(Denied {
                path: Some(path.clone()),
                status,
            })
        }
        Some(Errno::NOENT) => changed(path, "it is gone"),
        // A link, a socket or a device without a driver.
        Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => changed(path, "it is no file any more"),
        _ => ReadError::Io {
            path: path.clone(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType};

    use super::*;
    use crate::tree::{Rules, Scope, Unreadable, scan};

    fn stamp(seconds: i64, nanoseconds: u32) -> Stamp {
        let ctime = Timestamp {
            seconds,
            nanoseconds,
        };
        Stamp {
            size: 0,
            mtime: ctime,
            ctime,
            inode: 1,
        }
    }

    /// A file that some walk has seen.
    fn entry() -> Entry {
        Entry {
            path: EntryPath::new(b"x").unwrap(),
            found: Found::File {
                stamp: stamp(0, 0),
                sniffed: false,
            },
            mode: 0o644,
            mtime: Timestamp::default(),
        }
    }

    #[test]
    fn a_file_is_read_only_once_a_further_change_would_show() {
        let check = |(seconds, nanoseconds), pause| {
            let now = Timestamp {
                seconds: 100,
                nanoseconds: 500_000_000,
            };
            assert_eq!(
                pause_before_reading(&stamp(seconds, nanoseconds), now),
                pause
            );
        };
        check((100, 500_000_000), Some(Duration::from_millis(20)));
        check((100, 485_000_000), Some(Duration::from_millis(5)));
        check((100, 480_000_000), None);
        check((7, 1), None);
        // Whole seconds.
        check((100, 0), Some(Duration::from_millis(1500)));
        check((98, 0), None);
        // Ahead of the clock: a little by the rounding of clocks, or far because it was set back.
        check((100, 500_000_001), Some(Duration::from_millis(20)));
        check((200, 1), None);
    }

    /// Walks a directory with one file, lets `change` have it, and opens the file then.
    fn begin_after(change: impl Fn(&std::path::Path)) -> Result<Digest, ReadError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pem");
        fs::write(&file, "content").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let scope = Scope {
            rules: Rules::new::<&str>(&[], true).unwrap(),
            unreadable: Unreadable::Fail,
            own: Vec::new(),
        };
        let tree = scan(&root, &scope, &|| false).unwrap();
        change(&file);
        let mut reading = Reading::begin(&root, &tree.entries[0])?;
        let mut buffer = Vec::new();
        reading.read(3, &mut buffer)?;
        reading.read(u64::MAX, &mut buffer)?;
        let digest = reading.finish()?;
        assert_eq!(digest, Digest::of(&buffer));
        Ok(digest)
    }

    fn change_seen(change: impl Fn(&std::path::Path)) -> &'static str {
        match begin_after(change) {
            Err(ReadError::Changed { how, .. }) => how,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_holds_still_is_read_whole() {
        assert_eq!(begin_after(|_| {}).unwrap(), Digest::of(b"content"));
    }

    #[test]
    fn reading_begins_once_a_further_change_would_show() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x"), "content").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let entry = entry();
        let reading = Reading::begin(&root, &entry).unwrap();
        assert!(now().since(reading.before.stamp.ctime) >= TICK);
    }

    #[test]
    fn a_file_that_vanished_is_a_change() {
        assert_eq!(
            change_seen(|file| fs::remove_file(file).unwrap()),
            "it is gone"
        );
    }

    #[test]
    fn a_file_swapped_for_a_link_or_a_pipe_is_a_change() {
        let swapped = "it is no file any more";
        let link = |file: &std::path::Path| {
            fs::remove_file(file).unwrap();
            symlink("/etc/passwd", file).unwrap();
        };
        assert_eq!(change_seen(link), swapped);
        let pipe = |file: &std::path::Path| {
            fs::remove_file(file).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(CWD, file, FileType::Fifo, mode, 0).unwrap();
        };
        assert_eq!(change_seen(pipe), swapped);
        let directory = |file: &std::path::Path| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        };
        assert_eq!(change_seen(directory), swapped);
    }

    #[test]
    fn a_certificate_that_changed_since_it_was_looked_at_is_not_read() {
        let change = |file: &std::path::Path| fs::write(file, "PRIVATE KEY-----").unwrap();
        assert_eq!(change_seen(change), "it may hold a private key now");
    }

    #[test]
    fn a_file_written_to_while_it_is_read_is_torn() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        fs::write(&file, "before").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let entry = entry();
        for (text, how) in [
            ("after!", "somebody wrote to it"),
            ("aft", "it became shorter"),
        ] {
            fs::write(&file, "before").unwrap();
            let mut reading = Reading::begin(&root, &entry).unwrap();
            let mut buffer = Vec::new();
            reading.read(1, &mut buffer).unwrap();
            fs::write(&file, text).unwrap();
            let result = reading
                .read(u64::MAX, &mut buffer)
                .and_then(|()| reading.finish());
            let Err(ReadError::Changed { how: seen, .. }) = result else {
                panic!("{result:?}")
            };
            assert_eq!(seen, how);
        }
    }
}
