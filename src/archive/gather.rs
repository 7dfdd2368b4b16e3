//! The segment that is being gathered: bytes of tar, and contents that need not be read unless the segment turns out to be
//! a new one.

use super::header::{self, Member};
use super::recipe::Ingredients;
use crate::digest::Digest;
use crate::entry::{EntryPath, Stamp};
use crate::root::Root;
use crate::snapshot::{ReadError, read_again};

/// A file whose content is known by its stamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'t> {
    pub(super) path: &'t EntryPath,
    pub(super) stamp: &'t Stamp,
    pub(super) digest: Digest,
}

/// A segment without its end.
#[derive(Debug, Default)]
pub(super) struct Gathering<'t> {
    /// All bytes that are there, without the contents that are put off.
    raw: Vec<u8>,
    put_off: Vec<PutOff<'t>>,
    /// Length of the segment in bytes of tar.
    length: usize,
    ingredients: Ingredients,
    /// Bytes of the file that is being read.
    unnamed: u64,
}

/// A run of a known file that belongs between two bytes.
#[derive(Debug)]
struct PutOff<'t> {
    /// Before so many of the bytes that are there.
    at: usize,
    file: Known<'t>,
    offset: u64,
    length: usize,
}

/// How far a segment had come.
#[derive(Debug)]
pub(super) struct Mark {
    raw: usize,
    length: usize,
    ingredients: Ingredients,
}

/// What a finished segment is made of, as far as that is known.
#[derive(Debug)]
pub(super) enum Made {
    /// Of all this.
    Known(Digest),
    /// Of this, and at its end of so many bytes of the file that is being read.
    Unknown(Ingredients, u64),
}

impl<'t> Gathering<'t> {
    /// An empty segment, in the memory of another one.
    pub(super) fn within(mut raw: Vec<u8>) -> Self {
        raw.clear();
        Self {
            raw,
            ..Self::default()
        }
    }

    /// In bytes of tar.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn begin(&mut self, member: &Member<'_>) {
        self.literal(|raw| header::append(member, raw));
    }

    pub(super) fn append_end(&mut self) {
        self.literal(header::append_end);
    }

    /// Fills up the block in which a content of this length ended.
    pub(super) fn pad(&mut self, content: u64) {
        let before = self.raw.len();
        header::pad(&mut self.raw, content);
        self.length += self.raw.len() - before;
    }

    /// Lets content be appended whose digest is told later, by [`Self::name`]; gives its length.
    pub(super) fn read<E>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let before = self.raw.len();
        read(&mut self.raw)?;
        let count = self.raw.len() - before;
        self.length += count;
        self.unnamed += count as u64;
        Ok(count as u64)
    }

    /// Tells the digest of the file whose content was appended last, and where in the file it began.
    pub(super) fn name(&mut self, digest: Digest, offset: u64) {
        if self.unnamed > 0 {
            self.ingredients.content(digest, offset, self.unnamed);
            self.unnamed = 0;
        }
    }

    /// Appends a run of a known file without reading it.
    pub(super) fn put_off(&mut self, file: Known<'t>, offset: u64, length: usize) {
        self.ingredients.content(file.digest, offset, length as u64);
        self.length += length;
        self.put_off.push(PutOff {
            at: self.raw.len(),
            file,
            offset,
            length,
        });
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            raw: self.raw.len(),
            length: self.length,
            ingredients: self.ingredients.clone(),
        }
    }

    /// Forgets what was read since; nothing may have been put off.
    pub(super) fn return_to(&mut self, mark: Mark) {
        self.raw.truncate(mark.raw);
        self.length = mark.length;
        self.ingredients = mark.ingredients;
        self.unnamed = 0;
    }

    pub(super) fn made_of(&self) -> Made {
        let ingredients = self.ingredients.clone();
        match self.unnamed {
            0 => Made::Known(ingredients.key()),
            unnamed => Made::Unknown(ingredients, unnamed),
        }
    }

    /// The segment's bytes; what was put off is read now.
    pub(super) fn into_raw(self, root: &Root) -> Result<Vec<u8>, ReadError> {
        if self.put_off.is_empty() {
            return Ok(self.raw);
        }
        let mut whole = Vec::with_capacity(self.length);
        let mut taken = 0;
        for run in self.put_off {
            whole.extend_from_slice(&self.raw[taken..run.at]);
            taken = run.at;
            let Known { path, stamp, .. } = run.file;
            read_again(root, (path, stamp), (run.offset, run.length), &mut whole)?;
        }
        whole.extend_from_slice(&self.raw[taken..]);
        Ok(whole)
    }

    /// The memory, for another segment.
    pub(super) fn into_spare(self) -> Vec<u8> {
        self.raw
    }

    fn literal(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let before = self.raw.len();
        append(&mut self.raw);
        self.length += self.raw.len() - before;
        self.ingredients.literal(&self.raw[before..]);
    }
}
