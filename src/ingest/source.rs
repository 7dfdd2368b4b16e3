//! An archive as it is sent: a tar, as it is or within gzip.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;

use super::IngestError;
use crate::unpack::UnpackError;

/// How many bytes tell what the input is.
const HEAD: u64 = 8;
/// A header of a tar, in bytes.
const HEADER: u64 = 512;
/// How much may stand behind a tar's end. GNU tar fills a record up, whose largest size is half of this.
const LARGEST_PADDING: u64 = 2 << 20;

/// The input from its first byte on, though some were looked at.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A tar, read out of whatever it was packed in, and no further than it goes.
pub(super) struct Tar<R> {
    packed: Packed<R>,
    limit: u64,
    left: u64,
}

enum Packed<R> {
    Plain(Whole<R>),
    /// `None` once a member has failed.
    Gzip(Option<Box<GzDecoder<Whole<R>>>>),
}

/// Whether somebody may hold the input open behind the archive's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing behind the end is waited for.
    OfArchive,
    /// What is behind it is read away, if it is not much: only then is the input known to have come whole.
    OfInput,
}

impl<R: Read> Tar<R> {
    /// Looks at the first bytes and waits for them. No more than `limit` bytes of tar will be read.
    pub(super) fn open(mut input: R, limit: u64) -> Result<Self, IngestError> {
        let mut head = Vec::new();
        input
            .by_ref()
            .take(HEAD)
            .read_to_end(&mut head)
            .map_err(UnpackError::Read)?;
        let is_gzip = recognise(&head)?;
        let whole = BufReader::with_capacity(64 << 10, Cursor::new(head).chain(input));
        let packed = if is_gzip {
            Packed::Gzip(Some(Box::new(GzDecoder::new(whole))))
        } else {
            Packed::Plain(whole)
        };
        Ok(Self {
            packed,
            limit,
            left: limit,
        })
    }

    /// Whether not even the first header was one, so that this is no tar at all.
    pub(super) fn is_none(&self, error: &UnpackError) -> bool {
        matches!(error, UnpackError::Malformed(_)) && self.limit - self.left <= HEADER
    }

    /// Reads what belongs to the archive behind the tar's own end: a gzip member's last bytes, with the sum that proves it
    /// whole.
    pub(super) fn finish(self, end: End) -> Result<(), IngestError> {
        match self.packed {
            Packed::Plain(mut rest) if end == End::OfInput => read_padding(&mut rest),
            Packed::Plain(_) | Packed::Gzip(None) => Ok(()),
            Packed::Gzip(Some(mut member)) => {
                read_padding(&mut Checked(&mut member))?;
                if end == End::OfInput {
                    // More members, as `bgzip` ends with, or zeros of a tape: whatever it is, it is no part of the tar.
                    let mut rest = member.into_inner().take(LARGEST_PADDING + 1);
                    let length = io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Read)?;
                    if length > LARGEST_PADDING {
                        return Err(IngestError::Behind);
                    }
                }
                Ok(())
            }
        }
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = match &mut self.packed {
            Packed::Plain(whole) => whole.read(into)?,
            Packed::Gzip(member) => read_members(member, into)?,
        };
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(length)
    }
}

/// Reads from a gzip member, and from the next one where it ends.
fn read_members<R: Read>(
    member: &mut Option<Box<GzDecoder<Whole<R>>>>,
    into: &mut [u8],
) -> io::Result<usize> {
    while let Some(current) = member {
        let length = Checked(current).read(into)?;
        if length > 0 || into.is_empty() {
            return Ok(length);
        }
        if current.get_mut().fill_buf()?.is_empty() {
            break;
        }
        *member = member
            .take()
            .map(|ended| Box::new(GzDecoder::new(ended.into_inner())));
    }
    Ok(0)
}

/// A decoder whose own errors are told from those of what it reads.
struct Checked<'a, R>(&'a mut GzDecoder<R>);

impl<R: BufRead> Read for Checked<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::UnexpectedEof => "its gzip stream is cut off",
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                    "its gzip stream is damaged"
                }
                _ => return error,
            };
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

/// Reads zeros up to the end, and not for ever.
fn read_padding(rest: &mut impl Read) -> Result<(), IngestError> {
    let mut rest = rest.take(LARGEST_PADDING + 1);
    let mut piece = [0; 4096];
    loop {
        match rest.read(&mut piece) {
            Ok(0) if rest.limit() > 0 => return Ok(()),
            Ok(length) if length > 0 && piece[..length].iter().all(|&byte| byte == 0) => {}
            Ok(_) => return Err(IngestError::Behind),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UnpackError::Read(error).into()),
        }
    }
}

/// Whether it is gzip, by its first bytes; what is neither that nor a tar is named where it can be.
fn recognise(head: &[u8]) -> Result<bool, IngestError> {
    const OTHERS: &[(&[u8], &str)] = &[
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"BZh91AY", "compressed with bzip2"),
        (b"PK\x03\x04", "a zip file"),
        (b"PK\x05\x06", "a zip file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
        (b"<!doc", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"<?xml", "an XML document"),
    ];
    if head.is_empty() {
        return Err(IngestError::NoInput);
    }
    let lower = head.to_ascii_lowercase();
    for (magic, what) in OTHERS {
        if head.starts_with(magic) || lower.starts_with(magic) {
            return Err(IngestError::Coding { what });
        }
    }
    Ok(head.starts_with(&[0x1f, 0x8b]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(input: &[u8]) -> Result<Vec<u8>, IngestError> {
        let mut bytes = Vec::new();
        Tar::open(input, 1 << 20)?
            .read_to_end(&mut bytes)
            .map_err(UnpackError::Read)?;
        Ok(bytes)
    }

    #[test]
    fn what_is_neither_tar_nor_gzip_is_named() {
        for (head, what) in [
            (&b"\x28\xb5\x2f\xfd...."[..], "zstd"),
            (b"\xfd7zXZ\0..", "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"PK\x03\x04....", "zip"),
            (b"<!DOCTYPE html>", "HTML"),
            (b"<html>", "HTML"),
            (b"", "empty"),
        ] {
            let error = read(head).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.is_about_the_archive());
        }
    }

    #[test]
    fn members_are_read_one_after_the_other() {
        let both = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&both).unwrap(), b"one two");
        assert_eq!(read(b"plain text").unwrap(), b"plain text");
    }

    #[test]
    fn a_stream_that_is_cut_or_damaged_is_an_error_everywhere() {
        let whole = gzip(b"some text that is compressed");
        for length in 2..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(error.is_about_the_archive(), "{length}: {error}");
        }
        let mut damaged = whole.clone();
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        assert!(read(&damaged).unwrap_err().is_about_the_archive());
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let large = gzip(&vec![0; 2 << 20]);
        let error = read(&large).unwrap_err();
        assert!(
            matches!(&error, IngestError::Unpack(UnpackError::Read(error)) if error.kind() == io::ErrorKind::FileTooLarge),
            "{error:?}"
        );
    }

    #[test]
    fn behind_the_end_only_zeros_may_follow() {
        let check = |input: &[u8], read: usize, end, fits: bool| {
            let mut tar = Tar::open(input, u64::MAX).unwrap();
            tar.read_exact(&mut vec![0; read]).unwrap();
            assert_eq!(tar.finish(end).is_ok(), fits, "{read} of {}", input.len());
        };
        let zeros = vec![0; 20_000];
        check(&gzip(&zeros), 1024, End::OfArchive, true);
        check(&gzip(b"tarmore"), 3, End::OfArchive, false);
        check(&gzip(&vec![0; 4 << 20]), 1024, End::OfArchive, false);
        let two = [gzip(&zeros), gzip(b"x")].concat();
        check(&two, 20_000, End::OfArchive, true);
        check(&two, 20_000, End::OfInput, true);
        check(&zeros, 1024, End::OfInput, true);
        check(b"........tarmore", 11, End::OfInput, false);
        check(b"........tarmore", 11, End::OfArchive, true);
        let cut = &gzip(&zeros)[..gzip(&zeros).len() - 1];
        check(cut, 20_000, End::OfArchive, false);
    }
}
