//! A sealed file as an address range, whose addresses stand for its bytes.
//!
//! A body's bytes have to be a slice of memory to pass through the HTTP library, and its writer has to know the file behind
//! them to have the kernel send it. A slice of a mapping is both. Nobody reads the memory itself: that would bring the file
//! into this process page by page, and wait for the disk in the middle of an asynchronous task.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::Mmap;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::Lease;

/// How much is read into the page cache at once by a thread that may wait.
const PAGE_IN: usize = 64 << 10;

/// How far apart the bytes are that are looked for: the kernel reads ahead, and takes back, many pages at a time.
const LOOK_EVERY: usize = 512 << 10;

/// A file that never changes, and the addresses that stand for its bytes. It outlives the file's name.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) file: File,
    addresses: Mmap,
}

impl Mapping {
    /// Maps a file as it is; it must not be written to any more.
    pub(super) fn new(file: File) -> io::Result<Self> {
        // SAFETY: memory that changes beneath a slice is undefined behaviour. The files mapped here are sealed: this process
        // never opens them for writing again, and they lie in a directory that is its user's alone. Should another process of
        // that user truncate one, nothing goes wrong here, for the memory is not read: only the file is, through its handle.
        #[expect(
            unsafe_code,
            reason = "the one place that maps a file, and the file is sealed"
        )]
        let addresses = unsafe { Mmap::map(&file) }?;
        Ok(Self { file, addresses })
    }
}

/// A range of a mapped file, of which something may be sent.
#[derive(Clone, Debug)]
pub struct Slice {
    pub(super) mapping: Arc<Mapping>,
    pub(super) range: Range<usize>,
    /// Counts by being there.
    pub(super) _lease: Lease,
}

impl Slice {
    /// The addresses that stand for the bytes. Not to be read, but passed on.
    #[must_use]
    pub fn addresses(&self) -> &[u8] {
        &self.mapping.addresses[self.range.clone()]
    }

    /// The file that holds the bytes.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.mapping.file
    }

    /// Where in the file these addresses lie, if they all belong to the slice. No addresses belong to nobody.
    #[must_use]
    pub fn offset_of(&self, addresses: &[u8]) -> Option<u64> {
        let own = self.addresses().as_ptr_range();
        let asked = addresses.as_ptr_range();
        let within = !asked.is_empty() && own.start <= asked.start && asked.end <= own.end;
        let before = asked.start.addr().wrapping_sub(own.start.addr());
        within.then(|| (self.range.start + before) as u64)
    }

    /// Fills a buffer from the file, as `read_exact` does. Waits for the disk if the pages are not in memory.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.mapping.file.read_exact_at(buffer, offset)
    }

    /// Whether reading these bytes of the file would wait for the disk, as far as a few of them tell.
    ///
    /// A file system that cannot say so is taken to wait.
    #[must_use]
    pub fn would_wait(&self, bytes: &Range<u64>) -> bool {
        let last = bytes.end.saturating_sub(1).max(bytes.start);
        let between = (bytes.start..last).step_by(LOOK_EVERY).skip(1);
        between.chain([last]).any(|offset| self.is_absent(offset))
    }

    /// Whether a byte's page is not in memory, or not in the file.
    fn is_absent(&self, offset: u64) -> bool {
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        match preadv2(
            &self.mapping.file,
            &mut buffers,
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(read) => read == 0,
            // An interrupted look is as good as none.
            Err(error) => error != Errno::INTR,
        }
    }

    /// Reads these bytes of the file into the page cache, and has the kernel begin with as many behind them. Waits for the
    /// disk: not for an asynchronous task.
    pub fn page_in(&self, bytes: &Range<u64>) -> io::Result<()> {
        let file = &self.mapping.file;
        let ahead = std::num::NonZeroU64::new(bytes.end - bytes.start);
        // Only a hint.
        fadvise(file, bytes.end, ahead, Advice::WillNeed).ok();
        let mut buffer = vec![0; PAGE_IN];
        let mut offset = bytes.start;
        while offset < bytes.end {
            match file.read_at(&mut buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => offset += read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn slice(content: &[u8], range: Range<usize>) -> Slice {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Slice {
            mapping: Arc::new(Mapping::new(file).unwrap()),
            range,
            _lease: Lease::default(),
        }
    }

    #[test]
    fn addresses_of_a_slice_have_an_offset_and_others_have_none() {
        let slice = slice(b"0123456789", 2..8);
        let addresses = slice.addresses();
        assert_eq!(slice.offset_of(addresses), Some(2));
        assert_eq!(slice.offset_of(&addresses[3..]), Some(5));
        assert_eq!(slice.offset_of(&addresses[5..6]), Some(7));
        assert_eq!(slice.offset_of(&addresses[3..3]), None);
        let whole = Slice {
            range: 0..10,
            ..slice.clone()
        };
        assert_eq!(slice.offset_of(&whole.addresses()[1..4]), None);
        assert_eq!(slice.offset_of(&whole.addresses()[7..9]), None);
        assert_eq!(slice.offset_of(b"234567"), None);
    }

    #[test]
    fn another_mapping_of_the_same_file_has_addresses_of_its_own() {
        let one = slice(b"0123456789", 0..10);
        let two = Slice {
            mapping: Arc::new(Mapping::new(one.file().try_clone().unwrap()).unwrap()),
            ..one.clone()
        };
        assert_eq!(one.offset_of(two.addresses()), None);
    }

    #[test]
    fn an_empty_file_can_be_mapped() {
        assert!(slice(b"", 0..0).addresses().is_empty());
    }

    #[test]
    fn what_was_paged_in_does_not_wait() {
        let slice = slice(&vec![7; 100_000], 0..100_000);
        slice.page_in(&(0..100_000)).unwrap();
        let waits = slice.would_wait(&(0..100_000));
        // Not every file system can tell; one that can has them in memory now.
        let mut byte = [0];
        let told = preadv2(
            slice.file(),
            &mut [IoSliceMut::new(&mut byte)],
            0,
            ReadWriteFlags::NOWAIT,
        );
        assert_eq!(waits, told.is_err());
    }

    #[test]
    fn a_file_that_lost_its_end_is_an_error_and_no_end() {
        let slice = slice(&vec![7; 100_000], 0..100_000);
        slice.file().set_len(50_000).unwrap();
        for error in [
            slice.page_in(&(0..100_000)).unwrap_err(),
            slice.read_at(49_999, &mut [0; 2]).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(slice.would_wait(&(0..100_000)));
    }
}
