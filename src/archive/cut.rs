//! Where segments end.

use crate::digest::Digest;
use crate::entry::EntryPath;

/// Behind an entry, a segment of this many raw bytes may end.
const MAY_END: usize = 256 << 10;
/// Behind an entry, a segment of this many raw bytes ends; inside a file, one does at each multiple of it.
const MUST_END: usize = 1 << 20;
/// How many entries in which a segment may end there is one in which it does, in the mean.
const ODDS: u32 = 8;

/// Whether a segment with so many raw bytes ends behind this entry.
///
/// The path decides, not how many entries came before: two trees that differ in an entry agree again on a later cut.
pub(super) fn ends_behind(path: &EntryPath, gathered: usize) -> bool {
    gathered >= MUST_END
        || gathered >= MAY_END
            && Digest::of(path.as_bytes())
                .first_32_bits()
                .is_multiple_of(ODDS)
}

/// A run of a file's content that lies in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) length: u64,
    /// No cut inside the file follows.
    pub(super) is_last: bool,
}

/// The runs into which a file of this size is cut; none for an empty one.
pub(super) fn pieces(size: u64) -> impl Iterator<Item = Piece> {
    let length = MUST_END as u64;
    (0..size.div_ceil(length)).map(move |index| {
        let left = size - index * length;
        Piece {
            length: left.min(length),
            is_last: left <= length,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_early_behind_one_name_of_eight() {
        let path = |n: u32| EntryPath::new(format!("file-{n}").as_bytes()).unwrap();
        let ends = |gathered| {
            (0..8000)
                .filter(|&n| ends_behind(&path(n), gathered))
                .count()
        };
        assert_eq!(ends(MAY_END - 1), 0);
        assert!((900..1100).contains(&ends(MAY_END)), "{}", ends(MAY_END));
        assert_eq!(ends(MUST_END - 1), ends(MAY_END));
        assert_eq!(ends(MUST_END), 8000);
    }

    #[test]
    fn files_are_cut_at_multiples_of_a_mebibyte() {
        let check = |size, expected: &[(u64, bool)]| {
            let pieces: Vec<_> = pieces(size)
                .map(|piece| (piece.length, piece.is_last))
                .collect();
            assert_eq!(pieces, expected, "{size}");
        };
        check(0, &[]);
        check(1, &[(1, true)]);
        check(1 << 20, &[(1 << 20, true)]);
        check((1 << 20) + 1, &[(1 << 20, false), (1, true)]);
        check(2 << 20, &[(1 << 20, false), (1 << 20, true)]);
    }
}
