//! A tar, as it is or within gzip, with the proof that it is whole.
//!
//! What it is tells its content, not its name. Of a gzip every member is read and its sum checked, and nothing may stand
//! behind the last; behind the end of a tar there may be zeros alone.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;

use super::error::Flaw;
use crate::unpack::UnpackError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A header of a tar, in bytes.
const HEADER: usize = 512;
/// Of a header: where the sum of its bytes stands, in octal, and counts as so many spaces.
const SUM: std::ops::Range<usize> = 148..156;
/// How much of something else is shown.
const SHOWN: usize = 60;

/// The input from its first byte on, though some were looked at.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The bytes of a tar.
pub(super) struct Tar<R> {
    packed: Packed<R>,
    limit: u64,
    left: u64,
    /// Why the last read failed, if it is not that the input cannot be read.
    flaw: Option<Flaw>,
}

enum Packed<R> {
    Plain(Whole<R>),
    /// `None` while a member gives way to the next one.
    Gzip(Option<Box<GzDecoder<Whole<R>>>>),
}

/// Why there are no bytes.
enum Failure {
    Flaw(Flaw),
    /// Of the input.
    Input(io::Error),
}

impl<R: Read> Tar<R> {
    /// Looks at the first bytes and waits for them. No more than `limit` bytes of tar will be read.
    pub(super) fn open(mut input: R, limit: u64) -> Result<Self, Flaw> {
        let mut head = Vec::new();
        input
            .by_ref()
            .take(HEADER as u64)
            .read_to_end(&mut head)
            .map_err(UnpackError::Read)?;
        if head.is_empty() {
            return Err(Flaw::Empty);
        }
        let is_gzip = head.starts_with(&GZIP);
        if !is_gzip && !is_header(&head) {
            let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let line = line.trim_ascii();
            return Err(Flaw::Neither {
                begins: line[..line.len().min(SHOWN)].into(),
            });
        }
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
            flaw: None,
        })
    }

    /// Why the last read failed, if it is not that the input cannot be read.
    pub(super) fn take_flaw(&mut self) -> Option<Flaw> {
        self.flaw.take()
    }

    /// Reads what stands behind the tar's own end, up to the end of the input.
    pub(super) fn finish(mut self) -> Result<(), Flaw> {
        let mut piece = [0; 4096];
        loop {
            match self.advance(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) if piece[..length].iter().all(|&byte| byte == 0) => {}
                Ok(_) => return Err(Flaw::Followed),
                Err(Failure::Flaw(flaw)) => return Err(flaw),
                Err(Failure::Input(error)) => {
                    return Err(UnpackError::Read(error).into());
                }
            }
        }
    }

    fn advance(&mut self, into: &mut [u8]) -> Result<usize, Failure> {
        let length = match &mut self.packed {
            Packed::Plain(whole) => whole.read(into).map_err(Failure::Input)?,
            Packed::Gzip(member) => read_members(member, into)?,
        };
        match self.left.checked_sub(length as u64) {
            Some(left) => self.left = left,
            None => return Err(Failure::Flaw(Flaw::TooLong { limit: self.limit })),
        }
        Ok(length)
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.advance(into).map_err(|failure| match failure {
            Failure::Input(error) => error,
            Failure::Flaw(flaw) => {
                self.flaw = Some(flaw);
                io::ErrorKind::InvalidData.into()
            }
        })
    }
}

/// Reads from a gzip member, and from the next one where it ends.
fn read_members<R: Read>(
    member: &mut Option<Box<GzDecoder<Whole<R>>>>,
    into: &mut [u8],
) -> Result<usize, Failure> {
    while let Some(current) = member {
        let length = current.read(into).map_err(of_gzip)?;
        if length > 0 || into.is_empty() {
            return Ok(length);
        }
        let rest = current.get_mut().fill_buf().map_err(Failure::Input)?;
        if rest.is_empty() {
            break;
        }
        if rest[0] != GZIP[0] {
            return Err(Failure::Flaw(Flaw::Followed));
        }
        *member = member
            .take()
            .map(|ended| Box::new(GzDecoder::new(ended.into_inner())));
    }
    Ok(0)
}

fn of_gzip(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Flaw(Flaw::Cut),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Failure::Flaw(Flaw::Damaged),
        _ => Failure::Input(error),
    }
}

/// Whether this begins a tar: a header whose sum fits, or the zeros of an empty one.
fn is_header(head: &[u8]) -> bool {
    if head.len() < HEADER {
        return false;
    }
    let sum: u32 = (0..HEADER)
        .map(|index| {
            u32::from(if SUM.contains(&index) {
                b' '
            } else {
                head[index]
            })
        })
        .sum();
    let told = String::from_utf8_lossy(&head[SUM]);
    let told = told.trim_matches([' ', '\0']);
    head.iter().all(|&byte| byte == 0) || u32::from_str_radix(told, 8) == Ok(sum)
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

    /// A header that is one, and nothing behind it.
    fn header() -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn read(input: &[u8]) -> Result<Vec<u8>, Flaw> {
        let mut tar = Tar::open(input, 1 << 20)?;
        let mut bytes = Vec::new();
        match tar.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(tar.take_flaw().unwrap()),
        }
    }

    #[test]
    fn its_content_tells_what_it_is() {
        assert_eq!(read(&header()).unwrap(), header());
        assert_eq!(read(&gzip(&header())).unwrap(), header());
        assert_eq!(read(&[0; 1024]).unwrap(), [0; 1024]);
        assert!(matches!(read(b""), Err(Flaw::Empty)));
        let mut page = b"<!DOCTYPE html>\n<title>sign in</title>".to_vec();
        for _ in 0..2 {
            let error = read(&page).unwrap_err().to_string();
            assert!(error.contains("begins with \"<!DOCTYPE html>\""), "{error}");
            page.resize(2000, b' ');
        }
        let error = read(b"\x1b[2Jsomething").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn members_are_read_one_after_the_other() {
        let both = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&both).unwrap(), b"one two");
    }

    #[test]
    fn what_is_cut_damaged_or_followed_is_found() {
        let whole = gzip(b"some text that is compressed");
        for length in 2..whole.len() {
            let found = read(&whole[..length]);
            assert!(matches!(found, Err(Flaw::Cut)), "{length}: {found:?}");
        }
        for place in [whole.len() - 1, whole.len() - 8] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            assert!(matches!(read(&damaged), Err(Flaw::Damaged)), "{place}");
        }
        for garbage in [&b"x"[..], b"\0", b"\0\0\0\0"] {
            let followed = [&whole[..], garbage].concat();
            assert!(matches!(read(&followed), Err(Flaw::Followed)));
        }
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let large = gzip(&vec![0; 2 << 20]);
        assert!(matches!(
            read(&large),
            Err(Flaw::TooLong { limit: 1_048_576 })
        ));
    }

    #[test]
    fn zeros_alone_may_follow_a_tar() {
        let finish = |input: &[u8]| {
            let mut tar = Tar::open(input, u64::MAX).unwrap();
            tar.read_exact(&mut [0; HEADER]).unwrap();
            tar.finish()
        };
        let check = |behind: &[u8], fits: bool| {
            let whole = [&header()[..], behind].concat();
            assert_eq!(finish(&whole).is_ok(), fits);
            assert_eq!(finish(&gzip(&whole)).is_ok(), fits);
        };
        check(&[], true);
        check(&[0; 9000], true);
        check(b"\0\0more", false);
        let sealed = gzip(&header());
        assert!(matches!(
            finish(&sealed[..sealed.len() - 1]),
            Err(Flaw::Cut)
        ));
    }
}
