//! Files' contents, on their way to the disk.
//!
//! Small files are gathered and written by several threads, each one whole: created, written, stamped, hashed. A large
//! one is written by the thread that reads the archive, while the others are at their last batches.

use std::fs::{File, FileTimes};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::UnpackError;
use super::member::Head;
use crate::digest::{Digest, HashingWriter};
use crate::entry::EntryPath;
use crate::ordered::Ordered;
use crate::root::Root;

/// Files up to this size are gathered. One system call writes any of them, and a thread is kept busy by none.
const SMALL: u64 = 256 << 10;
/// A batch is given away once it holds this many bytes; it may hold one file more.
const BATCH_BYTES: usize = 256 << 10;
/// Or this many files: empty ones take time, too.
const BATCH_FILES: usize = 64;
/// What a large file is read by.
const PIECE: usize = 64 << 10;

/// Writes files and remembers their digests, each under its number: files are counted as they come.
pub(super) struct Writer {
    into: Arc<Root>,
    threads: Ordered<Batch, Result<Written, UnpackError>>,
    batch: Batch,
    digests: Vec<Option<Digest>>,
}

/// Files that follow each other, and their contents likewise.
#[derive(Default)]
struct Batch {
    first: usize,
    files: Vec<(Head, usize)>,
    contents: Vec<u8>,
}

/// The digests of a batch, from this number on.
struct Written {
    first: usize,
    digests: Vec<Digest>,
    /// The memory of its contents, to be filled again.
    spare: Vec<u8>,
}

impl Writer {
    pub(super) fn new(into: Arc<Root>, workers: NonZeroUsize) -> io::Result<Self> {
        let root = Arc::clone(&into);
        Ok(Self {
            into,
            threads: Ordered::new(workers, move |batch| write_batch(&root, batch))?,
            batch: Batch::default(),
            digests: Vec::new(),
        })
    }

    /// Takes a file and its content, and gives its number. It may be written later.
    pub(super) fn file(
        &mut self,
        file: Head,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<usize, UnpackError> {
        let number = self.digests.len();
        self.digests.push(None);
        match usize::try_from(size) {
            Ok(length) if size <= SMALL => self.gather(file, number, length, content)?,
            _ => {
                self.give_batch()?;
                self.digests[number] = Some(write_through(&self.into, &file, size, content)?);
            }
        }
        Ok(number)
    }

    /// Makes a file with the content of another one. Waits until all files are written.
    pub(super) fn copy(&mut self, from: &EntryPath, file: &Head) -> Result<(), UnpackError> {
        self.flush()?;
        let failed = |error| UnpackError::write(&file.path, error);
        let mut source = self.into.open_file(from).map_err(failed)?;
        let mut copy = create(&self.into, file)?;
        io::copy(&mut source, &mut copy).map_err(failed)?;
        stamp(&copy, file)
    }

    /// Waits until all files are written, and gives their digests by their numbers.
    pub(super) fn finish(mut self) -> Result<Vec<Digest>, UnpackError> {
        self.flush()?;
        let digests = self.digests.into_iter();
        Ok(digests
            .map(|digest| digest.expect("every file was written"))
            .collect())
    }

    fn gather(
        &mut self,
        file: Head,
        number: usize,
        length: usize,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        let batch = &mut self.batch;
        if batch.files.is_empty() {
            batch.first = number;
        }
        let start = batch.contents.len();
        batch.contents.resize(start + length, 0);
        content
            .read_exact(&mut batch.contents[start..])
            .map_err(UnpackError::Read)?;
        batch.files.push((file, length));
        if batch.contents.len() >= BATCH_BYTES || batch.files.len() >= BATCH_FILES {
            self.give_batch()?;
        }
        Ok(())
    }

    fn give_batch(&mut self) -> Result<(), UnpackError> {
        if self.batch.files.is_empty() {
            return Ok(());
        }
        self.threads.give(std::mem::take(&mut self.batch));
        while self.threads.is_full() {
            self.take_digests()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), UnpackError> {
        self.give_batch()?;
        while self.take_digests()? {}
        Ok(())
    }

    /// Waits for the oldest batch; `false` where there is none.
    fn take_digests(&mut self) -> Result<bool, UnpackError> {
        let Some(written) = self.threads.take() else {
            return Ok(false);
        };
        let Written {
            first,
            digests,
            mut spare,
        } = written?;
        if self.batch.files.is_empty() {
            spare.clear();
            self.batch.contents = spare;
        }
        for (slot, digest) in self.digests[first..].iter_mut().zip(digests) {
            *slot = Some(digest);
        }
        Ok(true)
    }
}

fn write_batch(into: &Root, batch: Batch) -> Result<Written, UnpackError> {
    let mut digests = Vec::with_capacity(batch.files.len());
    let mut rest = &batch.contents[..];
    for (file, length) in &batch.files {
        let (content, behind) = rest.split_at(*length);
        rest = behind;
        let mut out = create(into, file)?;
        out.write_all(content)
            .map_err(|error| UnpackError::write(&file.path, error))?;
        stamp(&out, file)?;
        digests.push(Digest::of(content));
    }
    Ok(Written {
        first: batch.first,
        digests,
        spare: batch.contents,
    })
}

fn write_through(
    into: &Root,
    file: &Head,
    size: u64,
    content: &mut dyn Read,
) -> Result<Digest, UnpackError> {
    let mut out = HashingWriter::new(create(into, file)?);
    let mut piece = vec![0; PIECE];
    while out.count() < size {
        let left = usize::try_from(size - out.count()).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        content.read_exact(piece).map_err(UnpackError::Read)?;
        out.write_all(piece)
            .map_err(|error| UnpackError::write(&file.path, error))?;
    }
    let (out, digest, _) = out.finish();
    stamp(&out, file)?;
    Ok(digest)
}

fn create(into: &Root, file: &Head) -> Result<File, UnpackError> {
    into.create_file(&file.path, file.mode.bits())
        .map_err(|error| UnpackError::write(&file.path, error))
}

fn stamp(out: &File, file: &Head) -> Result<(), UnpackError> {
    let since_1970 = Duration::from_secs(file.mtime.seconds.try_into().unwrap_or(0));
    out.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + since_1970))
        .map_err(|error| UnpackError::write(&file.path, error))
}
