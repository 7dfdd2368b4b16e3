//! Archives made byte by byte, so that they can say anything.

pub(crate) const BLOCK: usize = 512;

/// A header with its content, or any other bytes.
pub(crate) type Piece = Vec<u8>;

/// Where a field of a header lies.
pub(crate) type Field = std::ops::Range<usize>;
pub(crate) const MODE: Field = 100..108;
pub(crate) const SIZE: Field = 124..136;
pub(crate) const MTIME: Field = 136..148;
pub(crate) const CHECKSUM: Field = 148..156;
pub(crate) const MAGIC: Field = 257..265;
pub(crate) const PREFIX: Field = 345..500;

/// A member of any kind.
pub(crate) fn any(
    kind: u8,
    name: impl AsRef<[u8]>,
    link: impl AsRef<[u8]>,
    content: impl AsRef<[u8]>,
) -> Piece {
    let (name, link, content) = (name.as_ref(), link.as_ref(), content.as_ref());
    let mut piece = vec![0; BLOCK];
    piece[..name.len()].copy_from_slice(name);
    piece[MODE].copy_from_slice(if kind == b'5' {
        b"0000755\0"
    } else {
        b"0000644\0"
    });
    piece[108..124].copy_from_slice(b"0000000\x000000000\0");
    piece[SIZE].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    piece[MTIME].copy_from_slice(b"07346545000\0");
    piece[156] = kind;
    piece[157..157 + link.len()].copy_from_slice(link);
    piece[MAGIC].copy_from_slice(b"ustar  \0");
    piece.extend(content);
    piece.resize(piece.len().next_multiple_of(BLOCK), 0);
    with_checksum(piece)
}

fn with_checksum(mut piece: Piece) -> Piece {
    piece[CHECKSUM].fill(b' ');
    let sum: u32 = piece[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
    piece[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    piece
}

/// As old programs did it, which took bytes for signed numbers.
pub(crate) fn with_signed_checksum(mut piece: Piece) -> Piece {
    piece[CHECKSUM].fill(b' ');
    let sum: i32 = piece[..BLOCK]
        .iter()
        .map(|&byte| i32::from(byte.cast_signed()))
        .sum();
    piece[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    piece
}

/// The same with a field of the header replaced.
pub(crate) fn with(field: Field, value: &[u8], mut piece: Piece) -> Piece {
    let start = field.start;
    piece[field].fill(0);
    piece[start..start + value.len()].copy_from_slice(value);
    with_checksum(piece)
}

/// The same with one byte changed, and the checksum as it was.
pub(crate) fn broken(at: usize, mut piece: Piece) -> Piece {
    piece[at] ^= 1;
    piece
}

pub(crate) fn file(name: impl AsRef<[u8]>) -> Piece {
    any(b'0', name, "", "content")
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> Piece {
    any(b'5', name, "", "")
}

pub(crate) fn link(name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Piece {
    any(b'2', name, to, "")
}

pub(crate) fn hard(name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Piece {
    any(b'1', name, to, "")
}

/// Attributes for the next entry, as they are.
pub(crate) fn pax(records: impl AsRef<[u8]>) -> Piece {
    any(b'x', "PaxHeaders/x", "", records)
}

/// One attribute, with its length before it.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value.as_ref(), b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

pub(crate) fn long_name(name: impl AsRef<[u8]>) -> Piece {
    any(b'L', "././@LongLink", "", name)
}

pub(crate) fn long_link(name: impl AsRef<[u8]>) -> Piece {
    any(b'K', "././@LongLink", "", name)
}

pub(crate) fn end() -> Piece {
    vec![0; 2 * BLOCK]
}

/// An archive with its end.
pub(crate) fn tar(pieces: &[Piece]) -> Vec<u8> {
    [pieces.concat(), end()].concat()
}

/// A name of so many components.
pub(crate) fn deep(components: usize) -> String {
    vec!["a"; components].join("/")
}

/// An old GNU sparse file: a hole, and seven bytes behind it.
pub(crate) fn old_sparse(name: &str) -> Piece {
    let piece = any(b'S', name, "", "content");
    let piece = with(386..410, b"00000001000\x0000000000007\0", piece);
    with(483..495, b"00000001007\0", piece)
}
