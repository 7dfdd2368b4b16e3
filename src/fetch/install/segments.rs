//! Which entries begin in which segment, written down.
//!
//! A line a segment: its digest, how many entries begin in it, `+` where the last of them goes on in the next segment and `.`
//! where it does not, and, of a segment that is nothing but a piece of a file, where in the file it begins.

use std::io::{self, BufRead, Write};
use std::ops::Range;

use crate::descriptor::Segment;
use crate::digest::{Digest, Revision};
use crate::fetch::plan::{HeldSegment, Within};

/// The size of a tar's blocks: a member begins with one.
const BLOCK: u64 = 512;

/// Takes down where members begin as they pass.
#[derive(Debug)]
pub(in crate::fetch) struct Ledger {
    lines: Vec<HeldSegment>,
    /// Where each segment ends, in bytes of the tar.
    ends: Vec<u64>,
    /// Where the run of members began that passes now.
    base: u64,
    /// Where the next member begins.
    position: u64,
    /// The segment in which it does.
    at: usize,
}

impl Ledger {
    /// A ledger of these segments in which nothing begins yet.
    pub(in crate::fetch) fn new(segments: &[Segment]) -> Self {
        let line = |segment: &Segment| HeldSegment {
            digest: segment.digest,
            entries: 0,
            goes_on: false,
            is_intact: true,
            within: None,
        };
        let ends = segments.iter().scan(0, |end, segment| {
            *end += segment.raw_length;
            Some(*end)
        });
        Self {
            lines: segments.iter().map(line).collect(),
            ends: ends.collect(),
            base: 0,
            position: 0,
            at: 0,
        }
    }

    /// From here on members pass that begin with this segment.
    pub(in crate::fetch) fn begin(&mut self, segment: usize) {
        self.at = segment;
        self.base = segment.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.position = self.base;
    }

    /// A member has passed, whose content lay here in the run.
    pub(in crate::fetch) fn passed(&mut self, content: &Range<u64>) {
        let (start, end) = (self.base + content.start, self.base + content.end);
        let next = end.next_multiple_of(BLOCK);
        self.skip_to(self.position);
        if let Some(line) = self.lines.get_mut(self.at) {
            line.entries += 1;
        }
        for index in self.at..self.ends.len() {
            let ends_here = self.ends[index];
            let begins_here = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            if begins_here >= start && ends_here <= end {
                self.lines[index].within = Some(Within {
                    offset: begins_here - start,
                    is_intact: false,
                });
            }
            if ends_here >= next {
                break;
            }
            self.lines[index].goes_on = true;
        }
        self.position = next;
    }

    /// Segments are those that were held before.
    pub(in crate::fetch) fn keep(&mut self, segments: Range<usize>, held: &[HeldSegment]) {
        self.lines[segments].clone_from_slice(held);
    }

    /// How many entries begin in all of them.
    pub(in crate::fetch) fn entries(&self) -> u64 {
        self.lines.iter().map(|line| line.entries).sum()
    }

    /// Writes it down.
    pub(in crate::fetch) fn write(
        &self,
        revision: Revision,
        mut out: impl Write,
    ) -> io::Result<()> {
        writeln!(out, "{revision}")?;
        for line in &self.lines {
            let sign = if line.goes_on { '+' } else { '.' };
            write!(out, "{} {} {sign}", line.digest.hex(), line.entries)?;
            match line.within {
                Some(within) => writeln!(out, " {}", within.offset)?,
                None => writeln!(out)?,
            }
        }
        out.flush()
    }

    fn skip_to(&mut self, position: u64) {
        while self.ends.get(self.at).is_some_and(|&end| end <= position) {
            self.at += 1;
        }
    }
}

/// Reads segments back; `None` where somebody else wrote them.
pub(super) fn read(text: impl BufRead) -> Option<(Revision, Vec<HeldSegment>)> {
    let mut lines = text.lines();
    let revision = lines.next()?.ok()?.parse().ok()?;
    let segments = lines.map(|line| segment(&line.ok()?));
    Some((revision, segments.collect::<Option<_>>()?))
}

fn segment(line: &str) -> Option<HeldSegment> {
    let mut fields = line.split(' ');
    Some(HeldSegment {
        digest: Digest::from_hex(fields.next()?)?,
        entries: fields.next()?.parse().ok()?,
        goes_on: match fields.next()? {
            "+" => true,
            "." => false,
            _ => return None,
        },
        is_intact: true,
        within: match fields.next() {
            Some(offset) => Some(Within {
                offset: offset.parse().ok()?,
                is_intact: false,
            }),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of so many blocks.
    fn segments(blocks: &[u64]) -> Vec<Segment> {
        let segment = |&blocks| Segment {
            offset: 0,
            length: 1,
            raw_length: blocks * BLOCK,
            digest: Digest::of(b""),
        };
        blocks.iter().map(segment).collect()
    }

    /// Members of a header and so many bytes each.
    fn pass(ledger: &mut Ledger, members: &[u64]) {
        let mut position = 0;
        for &size in members {
            let content = position + BLOCK;
            ledger.passed(&(content..content + size));
            position = (content + size).next_multiple_of(BLOCK);
        }
    }

    #[track_caller]
    fn check(blocks: &[u64], members: &[u64], expected: &str) {
        let mut ledger = Ledger::new(&segments(blocks));
        pass(&mut ledger, members);
        let revision = Revision::of_listing(Digest::of(b""));
        let mut text = Vec::new();
        ledger.write(revision, &mut text).unwrap();
        let read = read(&*text).unwrap();
        assert_eq!(read, (revision, ledger.lines.clone()));
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().skip(1).map(|line| &line[65..]).collect();
        assert_eq!(lines.join(", "), expected);
    }

    #[test]
    fn members_are_counted_where_they_begin() {
        check(&[4, 4], &[0, 1, 0, 600], "3 ., 1 .");
        check(&[8], &[0, 0], "2 .");
    }

    #[test]
    fn a_member_that_goes_on_joins_segments() {
        check(&[2, 2, 2], &[BLOCK * 3, 0, 0], "1 +, 0 . 512, 2 .");
        check(&[2, 2, 3], &[BLOCK * 4 - 1, 0, 0], "1 +, 0 + 512, 2 .");
        check(&[2, 2], &[BLOCK * 2, 0], "1 +, 1 .");
    }

    #[test]
    fn pieces_of_a_file_know_where_they_lie() {
        check(
            &[2, 2, 2, 1],
            &[BLOCK * 6],
            "1 +, 0 + 512, 0 + 1536, 0 . 2560",
        );
        // The last one has padding that is no part of the file.
        check(&[2, 2], &[BLOCK * 3 - 1], "1 +, 0 .");
        check(&[1, 2, 3], &[BLOCK * 2, 0, 0, 0], "1 +, 0 . 0, 3 .");
    }

    #[test]
    fn a_run_begins_with_its_segment() {
        let mut ledger = Ledger::new(&segments(&[2, 2, 3]));
        ledger.begin(1);
        pass(&mut ledger, &[512, 0, 512]);
        let entries: Vec<_> = ledger.lines.iter().map(|line| line.entries).collect();
        assert_eq!(entries, [0, 1, 2]);
        assert_eq!(ledger.entries(), 3);
    }

    #[test]
    fn what_is_no_record_is_none() {
        let hex = Digest::of(b"").hex();
        for text in [
            "",
            "sha256:1\n",
            &format!("sha256:{hex}\n{hex} 1\n"),
            &format!("sha256:{hex}\n{hex} 1 x\n"),
            &format!("sha256:{hex}\n{hex} -1 .\n"),
            &format!("sha256:{hex}\n{hex} 1 . x\n"),
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
