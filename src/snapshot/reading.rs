//! One file, read from its first byte to its last, or found torn.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::still::{Still, has_still, is_file};
use crate::digest::{Digest, Hasher};
use crate::entry::{EntryPath, Stamp, Timestamp};
use crate::root::Root;
use crate::tree::{Denied, Entry, Found};

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
    still: Still,
    left: u64,
    hasher: Hasher,
}

/// A file that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Of its bytes.
    pub digest: Digest,
    /// As long as the file has this stamp, it has this content; `None` where that is not sure.
    pub proof: Option<Stamp>,
}

impl<'a> Reading<'a> {
    /// Opens a file that the walk saw. Waits, for a tick of the file system's clock at the most, until a change during the
    /// reading could not go unseen.
    pub fn begin(root: &Root, entry: &'a Entry) -> Result<Self, ReadError> {
        let path = &entry.path;
        let file = open(root, path)?;
        let still = Still::wait(&file).map_err(|error| cannot_read(path, error))?;
        let still = still.ok_or_else(|| changed(path, "somebody keeps writing to it"))?;
        if !is_file(&still.status) {
            return Err(changed(path, "it is no file any more"));
        }
        match entry.found {
            Found::File {
                stamp,
                sniffed: true,
            } if stamp != still.status.stamp => Err(changed(path, "it may hold a private key now")),
            _ => Ok(Self {
                path,
                file,
                left: still.status.stamp.size,
                still,
                hasher: Hasher::new(),
            }),
        }
    }

    /// Length in bytes, and so how much will be read.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.still.status.stamp.size
    }

    /// Permission bits as found.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.still.status.mode
    }

    /// When it was changed last.
    #[must_use]
    pub fn mtime(&self) -> Timestamp {
        self.still.status.stamp.mtime
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
        let read = read.map_err(|error| cannot_read(self.path, error))?;
        if (read as u64) < length {
            return Err(changed(self.path, "it became shorter"));
        }
        self.left -= length;
        self.hasher.update(&buffer[start..]);
        Ok(())
    }

    /// What was read, if nobody wrote to the file meanwhile.
    pub fn finish(self) -> Result<Content, ReadError> {
        require_stamp(self.path, &self.file, &self.still.status.stamp)?;
        Ok(Content {
            digest: self.hasher.finish(),
            proof: self.still.proof(),
        })
    }
}

/// Appends a run of the content of a file that has to have the very stamp with which it was read whole before.
pub fn read_again(
    root: &Root,
    (path, stamp): (&EntryPath, &Stamp),
    (offset, length): (u64, usize),
    buffer: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let file = open(root, path)?;
    let start = buffer.len();
    buffer.resize(start + length, 0);
    file.read_exact_at(&mut buffer[start..], offset)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(path, "it became shorter"),
            _ => cannot_read(path, error),
        })?;
    // No write leaves a stamp that proves something as it was, so what has it now had it all the time.
    require_stamp(path, &file, stamp)
}

fn require_stamp(path: &EntryPath, file: &File, stamp: &Stamp) -> Result<(), ReadError> {
    match has_still(file, stamp) {
        Ok(true) => Ok(()),
        Ok(false) => Err(changed(path, "somebody wrote to it")),
        Err(error) => Err(cannot_read(path, error)),
    }
}

fn open(root: &Root, path: &EntryPath) -> Result<File, ReadError> {
    root.open_file(path)
        .map_err(|error| failed(root, path, error))
}

fn cannot_read(path: &EntryPath, source: io::Error) -> ReadError {
    ReadError::Io {
        path: path.clone(),
        source,
    }
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
        _ => cannot_read(path, source),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType};

    use super::super::still::Scene;
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
        let Content { digest, proof } = reading.finish()?;
        assert_eq!(digest, Digest::of(&buffer));
        let mut again = Vec::new();
        let stamp = proof.expect("it is not from the future");
        read_again(&root, (&tree.entries[0].path, &stamp), (3, 4), &mut again)?;
        assert_eq!(again, buffer[3..7]);
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
        let tick = Duration::from_millis(20);
        assert!(reading.file.now().since(reading.still.status.stamp.ctime) >= tick);
    }

    #[test]
    fn a_file_with_another_stamp_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        fs::write(&file, "before").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let entry = entry();
        let reading = Reading::begin(&root, &entry).unwrap();
        let stamp = reading.still.proof().unwrap();
        fs::write(&file, "after!").unwrap();
        let result = read_again(&root, (&entry.path, &stamp), (0, 6), &mut Vec::new());
        assert!(matches!(result, Err(ReadError::Changed { .. })));
        // Nor beyond its end.
        let stamp = Reading::begin(&root, &entry)
            .unwrap()
            .still
            .proof()
            .unwrap();
        let result = read_again(&root, (&entry.path, &stamp), (0, 7), &mut Vec::new());
        assert!(matches!(result, Err(ReadError::Changed { .. })));
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
