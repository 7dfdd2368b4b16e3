//! Files' contents, on their way to the disk.
//!
//! Small files are gathered and written by several threads, each one whole: created, written, stamped, hashed. A large
//! one is written by the thread that reads the archive, while the others are at their last batches. A file that lies there
//! with the same content is not written.

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
    contents: Vec<Content>,
}

/// A file's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    /// `None` until the file is written.
    pub(super) digest: Option<Digest>,
    /// Whether it lay there before.
    pub(super) is_kept: bool,
}

/// What is to be written.
struct Pending {
    number: usize,
    head: Head,
    /// Of its content, in bytes.
    size: u64,
    /// A file with this content lies there under the same name.
    found: Option<Digest>,
}

impl Pending {
    /// Of a small file.
    fn length(&self) -> usize {
        usize::try_from(self.size).expect("a file that is gathered is small")
    }
}

/// Files that follow each other, and their contents likewise.
#[derive(Default)]
struct Batch {
    files: Vec<Pending>,
    contents: Vec<u8>,
}

/// What became of a batch, by the files' numbers.
struct Written {
    contents: Vec<(usize, Content)>,
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
            contents: Vec::new(),
        })
    }

    /// Takes a file and its content, and gives its number. It may be written later, or not at all if a file with this
    /// content lies there.
    pub(super) fn file(
        &mut self,
        head: Head,
        size: u64,
        found: Option<Digest>,
        content: &mut dyn Read,
    ) -> Result<usize, UnpackError> {
        let number = self.contents.len();
        self.contents.push(Content {
            digest: None,
            is_kept: false,
        });
        let file = Pending {
            number,
            head,
            size,
            found,
        };
        if size <= SMALL {
            self.gather(file, content)?;
        } else {
            self.give_batch()?;
            self.contents[number] = write_through(&self.into, &file, content)?;
        }
        Ok(number)
    }

    /// Takes a file that is there already, and gives its number.
    pub(super) fn kept(&mut self, digest: Option<Digest>) -> usize {
        self.contents.push(Content {
            digest,
            is_kept: true,
        });
        self.contents.len() - 1
    }

    /// Makes a file with the content of another one, which has this number, and gives its own. Waits until all files are
    /// written.
    pub(super) fn copy(
        &mut self,
        from: &EntryPath,
        file: &Head,
        content: usize,
    ) -> Result<usize, UnpackError> {
        self.flush()?;
        let into = &self.into;
        let failed = |error| UnpackError::write(&file.path, error);
        let mut source = into.open_file(from).map_err(failed)?;
        let mut copy = create(into, file)?;
        io::copy(&mut source, &mut copy).map_err(failed)?;
        stamp(&copy, file)?;
        self.contents.push(Content {
            is_kept: false,
            ..self.contents[content]
        });
        Ok(self.contents.len() - 1)
    }

    /// Waits until all files are written, and tells of them by their numbers. Each has a digest.
    pub(super) fn finish(mut self) -> Result<Vec<Content>, UnpackError> {
        self.flush()?;
        Ok(self.contents)
    }

    fn gather(&mut self, file: Pending, content: &mut dyn Read) -> Result<(), UnpackError> {
        let batch = &mut self.batch;
        let start = batch.contents.len();
        batch.contents.resize(start + file.length(), 0);
        content
            .read_exact(&mut batch.contents[start..])
            .map_err(UnpackError::Read)?;
        batch.files.push(file);
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
            self.take_written()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), UnpackError> {
        self.give_batch()?;
        while self.take_written()? {}
        Ok(())
    }

    /// Waits for the oldest batch; `false` where there is none.
    fn take_written(&mut self) -> Result<bool, UnpackError> {
        let Some(written) = self.threads.take() else {
            return Ok(false);
        };
        let Written {
            contents,
            mut spare,
        } = written?;
        if self.batch.files.is_empty() {
            spare.clear();
            self.batch.contents = spare;
        }
        for (number, content) in contents {
            self.contents[number] = content;
        }
        Ok(true)
    }
}

fn write_batch(into: &Root, batch: Batch) -> Result<Written, UnpackError> {
    let mut contents = Vec::with_capacity(batch.files.len());
    let mut rest = &batch.contents[..];
    for file in &batch.files {
        let (content, behind) = rest.split_at(file.length());
        rest = behind;
        let digest = Digest::of(content);
        let is_kept = file.found == Some(digest);
        if !is_kept {
            let mut out = create(into, &file.head)?;
            out.write_all(content)
                .map_err(|error| UnpackError::write(&file.head.path, error))?;
            stamp(&out, &file.head)?;
        }
        let digest = Some(digest);
        contents.push((file.number, Content { digest, is_kept }));
    }
    Ok(Written {
        contents,
        spare: batch.contents,
    })
}

/// Writes a file as its content is read. Only then it is known whether that was needed.
fn write_through(
    into: &Root,
    file: &Pending,
    content: &mut dyn Read,
) -> Result<Content, UnpackError> {
    let (head, size) = (&file.head, file.size);
    let failed = |error| UnpackError::write(&head.path, error);
    let mut out = HashingWriter::new(create(into, head)?);
    let mut piece = vec![0; PIECE];
    while out.count() < size {
        let left = usize::try_from(size - out.count()).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        content.read_exact(piece).map_err(UnpackError::Read)?;
        out.write_all(piece).map_err(failed)?;
    }
    let (out, digest, _) = out.finish();
    stamp(&out, head)?;
    let is_kept = file.found == Some(digest);
    if is_kept {
        into.remove_file(&head.path).map_err(failed)?;
    }
    let digest = Some(digest);
    Ok(Content { digest, is_kept })
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
