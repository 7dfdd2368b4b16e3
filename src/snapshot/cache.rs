//! The scan cache: the digests of files that were read before, found again by their stamps.
//!
//! A digest is remembered only for a stamp that proves something: the file was read between two equal stamps, the last
//! change lay at least one tick of the clock before the first byte was read, and not in the future. So whoever writes to
//! the file later gives it another stamp, and a file that still has the remembered one still has the content. (Git's index
//! has the same problem with changes within one tick, and calls such entries racy; here they never get in.)
//!
//! A machine that went down may have lost what was written, and kept its stamps, so a cache counts in its own boot only;
//! and another user may not be allowed to read what this one could, so it counts for one user only.
//!
//! The cache lies in a file, in the order of paths, and is read and written beside a walk in the same order: it costs no
//! memory. Layout, integers little-endian:
//!
//! ```text
//! "code-server scan cache 1 <boot id> <user id>\n"
//! for each file: path length u32, path, size u64, mtime i64 + u32, ctime i64 + u32, inode u64, SHA-256 of the content
//! 0u32, SHA-256 of all that comes before
//! ```

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use crate::digest::{Digest, Hasher, HashingWriter};
use crate::entry::{EntryPath, Stamp, Timestamp};
use crate::root::boot_id;

/// How much of the file is read or written at once.
const BUFFER: usize = 64 << 10;
/// Length of a record behind its path.
const FIXED: usize = 8 + 12 + 12 + 8 + 32;
/// Longer than the first line can be.
const LONGEST_HEAD: usize = 256;

/// What is known of files, looked up in the order of their paths.
#[derive(Debug, Default)]
pub struct StatCache {
    records: Option<BufReader<File>>,
    next: Option<Record>,
}

#[derive(Debug)]
struct Record {
    path: EntryPath,
    stamp: Stamp,
    digest: Digest,
}

impl StatCache {
    /// A cache that knows nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The cache in a file that [`is_whole`] accepted, or that a [`StatCacheWriter`] of this process has written.
    pub fn open(mut file: File) -> io::Result<Self> {
        file.rewind()?;
        let mut records = BufReader::with_capacity(BUFFER, file);
        read_head(&mut records)?;
        let mut cache = Self {
            records: Some(records),
            next: None,
        };
        cache.advance();
        Ok(cache)
    }

    /// The digest of a file's content, if it was read when it had this very stamp. Paths must be asked for in their order.
    pub fn find(&mut self, path: &EntryPath, stamp: &Stamp) -> Option<Digest> {
        loop {
            let record = self.next.as_ref()?;
            match record.path.cmp(path) {
                Ordering::Less => self.advance(),
                Ordering::Equal if record.stamp == *stamp => return Some(record.digest),
                Ordering::Equal | Ordering::Greater => return None,
            }
        }
    }

    /// Reads one record on. What cannot be read is not known.
    fn advance(&mut self) {
        self.next = self
            .records
            .as_mut()
            .and_then(|file| read_record(file).ok());
        if self.next.is_none() {
            self.records = None;
        }
    }
}

/// Whether a file holds a cache that can be relied on: whole, of this version, of this boot.
#[must_use]
pub fn is_whole(file: &mut File) -> bool {
    check(file).unwrap_or(false)
}

fn check(file: &mut File) -> io::Result<bool> {
    let mut sum = [0; 32];
    let Some(length) = file.metadata()?.len().checked_sub(sum.len() as u64) else {
        return Ok(false);
    };
    file.rewind()?;
    let mut reader = BufReader::with_capacity(BUFFER, &*file);
    let mut hasher = Hasher::new();
    let mut piece = vec![0; BUFFER];
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        reader.read_exact(&mut piece[..most])?;
        hasher.update(&piece[..most]);
        left -= most as u64;
    }
    reader.read_exact(&mut sum)?;
    file.rewind()?;
    let is_ours = read_head(&mut BufReader::new(&*file)).is_ok();
    Ok(is_ours && hasher.finish() == Digest::from_bytes(sum))
}

/// Writes a new cache, file by file in the order of their paths.
#[derive(Debug)]
pub struct StatCacheWriter {
    out: HashingWriter<BufWriter<File>>,
}

impl StatCacheWriter {
    /// Writes from the start of an empty file.
    pub fn new(file: File) -> io::Result<Self> {
        let mut out = HashingWriter::new(BufWriter::with_capacity(BUFFER, file));
        out.write_all(&head())?;
        Ok(Self { out })
    }

    /// Remembers the content of a file.
    pub fn add(&mut self, path: &EntryPath, stamp: &Stamp, digest: Digest) -> io::Result<()> {
        let name = path.as_bytes();
        let length = u32::try_from(name.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(4 + name.len() + FIXED);
        record.extend(length.to_le_bytes());
        record.extend(name);
        record.extend(stamp.size.to_le_bytes());
        for time in [stamp.mtime, stamp.ctime] {
            record.extend(time.seconds.to_le_bytes());
            record.extend(time.nanoseconds.to_le_bytes());
        }
        record.extend(stamp.inode.to_le_bytes());
        record.extend(digest.as_bytes());
        self.out.write_all(&record)
    }

    /// Ends the cache and gives its file back.
    pub fn finish(mut self) -> io::Result<File> {
        self.out.write_all(&0_u32.to_le_bytes())?;
        let (mut out, sum, _) = self.out.finish();
        out.write_all(sum.as_bytes())?;
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

fn head() -> Vec<u8> {
    let user = rustix::process::geteuid().as_raw();
    format!("code-server scan cache 1 {} {user}\n", boot_id()).into_bytes()
}

/// Passes over the first line, if it is the one that a cache of this boot has.
fn read_head(file: &mut impl Read) -> io::Result<()> {
    let expected = head();
    let mut found = vec![0; expected.len().min(LONGEST_HEAD)];
    file.read_exact(&mut found)?;
    if found == expected {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn read_record(file: &mut impl Read) -> io::Result<Record> {
    let length = u32::from_le_bytes(read_array(file)?);
    let mut path = Vec::new();
    file.take(length.into()).read_to_end(&mut path)?;
    let path = EntryPath::new(&path).filter(|_| path.len() as u64 == u64::from(length));
    let path = path.ok_or(io::ErrorKind::InvalidData)?;
    let size = u64::from_le_bytes(read_array(file)?);
    let (mtime, ctime) = (read_time(file)?, read_time(file)?);
    let inode = u64::from_le_bytes(read_array(file)?);
    Ok(Record {
        path,
        stamp: Stamp {
            size,
            mtime,
            ctime,
            inode,
        },
        digest: Digest::from_bytes(read_array(file)?),
    })
}

fn read_time(file: &mut impl Read) -> io::Result<Timestamp> {
    Ok(Timestamp {
        seconds: i64::from_le_bytes(read_array(file)?),
        nanoseconds: u32::from_le_bytes(read_array(file)?),
    })
}

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn stamp(size: u64) -> Stamp {
        let time = |seconds| Timestamp {
            seconds,
            nanoseconds: 7,
        };
        Stamp {
            size,
            mtime: time(-1),
            ctime: time(1_700_000_000),
            inode: u64::MAX,
        }
    }

    /// A cache of these files; the size of each is its place in the list.
    fn cache(paths: &[&str]) -> File {
        let mut writer = StatCacheWriter::new(tempfile::tempfile().unwrap()).unwrap();
        for (size, name) in (0..).zip(paths) {
            let digest = Digest::of(name.as_bytes());
            writer.add(&path(name), &stamp(size), digest).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_remembered_is_found_by_path_and_stamp() {
        let mut file = cache(&["a", "a/b", "a-b", "c"]);
        assert!(is_whole(&mut file));
        let mut known = StatCache::open(file).unwrap();
        let mut find = |name, size| known.find(&path(name), &stamp(size));
        assert_eq!(find("a", 0), Some(Digest::of(b"a")));
        assert_eq!(find("a/a", 0), None);
        assert_eq!(find("a/b", 1), Some(Digest::of(b"a/b")));
        // Another stamp: another content, perhaps.
        assert_eq!(find("a-b", 7), None);
        assert_eq!(find("b", 0), None);
        assert_eq!(find("c", 3), Some(Digest::of(b"c")));
        assert_eq!(find("d", 3), None);
    }

    #[test]
    fn each_part_of_a_stamp_counts() {
        let differ = |change: fn(&mut Stamp)| {
            let mut other = stamp(0);
            change(&mut other);
            let mut known = StatCache::open(cache(&["a"])).unwrap();
            known.find(&path("a"), &other).is_none()
        };
        assert!(!differ(|_| {}));
        assert!(differ(|stamp| stamp.size += 1));
        assert!(differ(|stamp| stamp.mtime.nanoseconds += 1));
        assert!(differ(|stamp| stamp.ctime.seconds += 1));
        assert!(differ(|stamp| stamp.inode -= 1));
    }

    #[test]
    fn a_cache_with_a_flipped_bit_or_without_its_end_is_none() {
        let whole = cache(&["a", "b/c"]);
        let length = whole.metadata().unwrap().len();
        for offset in 0..length {
            let mut file = cache(&["a", "b/c"]);
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
            assert!(!is_whole(&mut file), "{offset}");
            file.write_all_at(&byte, offset).unwrap();
            assert!(is_whole(&mut file), "{offset}");
            file.set_len(offset).unwrap();
            assert!(!is_whole(&mut file), "{offset}");
        }
    }

    #[test]
    fn a_cache_of_another_version_boot_or_user_is_none() {
        let check = |head: &str, expected| {
            let mut file = tempfile::tempfile().unwrap();
            let mut out = HashingWriter::new(file.try_clone().unwrap());
            out.write_all(head.as_bytes()).unwrap();
            out.write_all(&[0; 4]).unwrap();
            let sum = out.finish().1;
            file.write_all(sum.as_bytes()).unwrap();
            assert_eq!(is_whole(&mut file), expected, "{head}");
        };
        let boot = boot_id();
        let other = boot.replace(|letter: char| letter.is_ascii_hexdigit(), "x");
        let user = rustix::process::geteuid().as_raw();
        let head =
            |version, boot: &str, user| format!("code-server scan cache {version} {boot} {user}\n");
        check(&head(1, &boot, user), true);
        check(&head(2, &boot, user), false);
        check(&head(1, &other, user), false);
        check(&head(1, &boot, user ^ 1), false);
    }
}
