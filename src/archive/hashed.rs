//! What an archive is written to, and the digest of all that was written.

use std::io;

use super::reuse::{Found, Output, Previous};
use crate::digest::Hasher;

/// The archive's file with the digest of all that was written.
#[derive(Debug)]
pub(super) struct Hashed<W> {
    pub(super) inner: W,
    pub(super) hasher: Hasher,
    /// Bytes so far.
    pub(super) count: u64,
    /// The digest's state before each segment.
    pub(super) states: Vec<Hasher>,
}

impl<W: Output> Hashed<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            count: 0,
            states: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
        Ok(())
    }

    /// Takes over a segment, and the digest's state behind it: all that comes before is the same, too.
    pub(super) fn append(
        &mut self,
        from: &Previous,
        found: &Found,
        state: &Hasher,
    ) -> io::Result<()> {
        from.append_to(found, &mut self.inner)?;
        self.hasher.clone_from(state);
        self.count += found.segment.length;
        Ok(())
    }

    /// Takes over a segment in another place.
    pub(super) fn copy(&mut self, from: &Previous, found: &Found) -> io::Result<()> {
        from.copy(found, &mut self.inner, &mut self.hasher)?;
        self.count += found.segment.length;
        Ok(())
    }
}
