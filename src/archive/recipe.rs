//! Recipes: what each segment of an archive was made of.
//!
//! The key of a segment is the SHA-256 over its tar headers and, for each run of content, the file's digest and where in
//! the file the run lies. The segment's bytes follow from these and from the format, so two segments of one format that have
//! the same key are the same bytes, and neither has to be read or compressed again.
//!
//! A recipe is kept as text: for each segment a line of its key and the CRC of its raw bytes, both in hexadecimal.

use std::fmt::Write;

use crate::digest::{Digest, Hasher};

/// The recipe of a whole archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe(Vec<Line>);

/// What is written down of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What it was made of.
    pub(super) key: Digest,
    /// Of its raw bytes.
    pub(super) crc: u32,
}

impl Recipe {
    pub(super) fn new(lines: Vec<Line>) -> Self {
        Self(lines)
    }

    /// In the order of the segments.
    pub(super) fn lines(&self) -> &[Line] {
        &self.0
    }

    /// The text that is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Line { key, crc } in &self.0 {
            writeln!(text, "{} {crc:08x}", key.hex()).expect("memory takes every write");
        }
        text
    }

    /// Reads that text; `None` where it is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let lines: Option<_> = text.lines().map(parse_line).collect();
        lines.map(Self)
    }
}

fn parse_line(line: &str) -> Option<Line> {
    let (key, crc) = line.split_once(' ')?;
    Some(Line {
        key: Digest::from_hex(key)?,
        crc: u32::from_str_radix(crc, 16).ok()?,
    })
}

/// Gathers what a segment is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Ingredients(Hasher);

impl Ingredients {
    /// Bytes that are no content; the padding of contents goes without saying.
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.0.update(b"l");
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// A run of a file's content, which is never empty.
    pub(super) fn content(&mut self, digest: Digest, offset: u64, length: u64) {
        self.0.update(b"c");
        self.0.update(digest.as_bytes());
        self.0.update(&offset.to_le_bytes());
        self.0.update(&length.to_le_bytes());
    }

    /// The key.
    pub(super) fn key(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_that_was_written_is_read_back() {
        let line = |text: &str, crc| Line {
            key: Digest::of(text.as_bytes()),
            crc,
        };
        for lines in [vec![], vec![line("a", 0), line("b", u32::MAX)]] {
            let recipe = Recipe::new(lines);
            assert_eq!(Recipe::parse(recipe.to_text().as_bytes()), Some(recipe));
        }
        for text in ["x", "00 00", &format!("{} x", Digest::of(b"").hex())] {
            assert_eq!(Recipe::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn each_ingredient_counts_and_so_does_where_it_ends() {
        let key = |add: &dyn Fn(&mut Ingredients)| {
            let mut ingredients = Ingredients::default();
            add(&mut ingredients);
            ingredients.key()
        };
        let digest = Digest::of(b"");
        let keys = [
            key(&|_| ()),
            key(&|some| some.literal(b"ab")),
            key(&|some| {
                some.literal(b"a");
                some.literal(b"b");
            }),
            key(&|some| some.content(digest, 0, 1)),
            key(&|some| some.content(digest, 1, 1)),
            key(&|some| some.content(digest, 0, 2)),
            key(&|some| some.content(Digest::of(b"x"), 0, 1)),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{index}");
        }
    }
}
