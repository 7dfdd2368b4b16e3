//! Which segments of an archive have to come, and which the target has already. Nothing here asks, reads or writes.
//!
//! A segment of the same digest holds the same bytes, so the same entries. Where segments begin and end between two entries,
//! their entries need not be looked at again: they are *kept*, if all of them lie in the target as they were left. A segment
//! within a large file is of use by itself, since its bytes can be *copied* out of that file.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::descriptor::{Descriptor, Segment};
use crate::digest::Digest;

/// A segment of the archive that the target holds, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldSegment {
    /// Of its compressed bytes.
    pub(super) digest: Digest,
    /// How many entries begin in it.
    pub(super) entries: u64,
    /// Whether its last entry goes on in the next segment.
    pub(super) goes_on: bool,
    /// Whether all entries that begin in it lie in the target as they were left.
    pub(super) is_intact: bool,
    /// Where in the content of a file it lies, if it is nothing but a piece of it.
    pub(super) within: Option<Within>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Within {
    /// Where the segment begins, in bytes from the beginning of the file.
    pub(super) offset: u64,
    /// Whether the file lies in the target as it was left.
    pub(super) is_intact: bool,
}

/// How to come by an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// One after the other they are the whole archive.
    pub(super) steps: Vec<Step>,
    /// Segments that are copied out of a file, and the held ones that they are.
    pub(super) copies: BTreeMap<usize, usize>,
}

/// A part of an archive between two entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Segments to be unpacked.
    Unpack(Range<usize>),
    /// Segments whose entries are there.
    Keep {
        /// Which of the archive they are.
        segments: Range<usize>,
        /// Which of those that are held.
        held: Range<usize>,
    },
}

impl Plan {
    /// The shortest download for an archive of these segments. What is held is given in its order.
    pub(super) fn new(wanted: &[Segment], held: &[HeldSegment]) -> Self {
        let groups = groups(held);
        let mut plan = Self::default();
        if wanted.is_empty() {
            plan.steps.push(Step::Unpack(0..0));
        }
        let (mut at, mut behind) = (0, 0);
        while at < wanted.len() {
            let group = groups.get(&wanted[at].digest);
            let group = group.filter(|group| {
                // What is held is read in its order, once.
                group.start >= behind && is_kept(&wanted[at..], held, group)
            });
            if let Some(group) = group {
                behind = group.end;
                plan.keep(at, group);
                at += group.len();
            } else {
                plan.unpack(at);
                at += 1;
            }
        }
        plan.copy(wanted, held);
        plan
    }

    /// The next segments that have to be downloaded, from this one on: as many as follow each other.
    pub(super) fn next_download(&self, from: usize) -> Option<Range<usize>> {
        let mut wanted = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Unpack(segments) => Some(segments.clone()),
                Step::Keep { .. } => None,
            })
            .flatten()
            .filter(|index| *index >= from && !self.copies.contains_key(index));
        let first = wanted.next()?;
        let end = wanted
            .zip(first + 1..)
            .take_while(|(index, next)| index == next)
            .last()
            .map_or(first + 1, |(index, _)| index + 1);
        Some(first..end)
    }

    /// How many bytes of the archive are downloaded.
    pub(super) fn download_size(&self, archive: &Descriptor) -> u64 {
        if self.is_whole() {
            return archive.size;
        }
        let downloads =
            std::iter::successors(self.next_download(0), |last| self.next_download(last.end));
        let segments = downloads.flatten().map(|index| &archive.segments[index]);
        segments.map(|segment| segment.length).sum()
    }

    /// Whether every segment is downloaded.
    pub(super) fn is_whole(&self) -> bool {
        self.copies.is_empty()
            && self
                .steps
                .iter()
                .all(|step| matches!(step, Step::Unpack(_)))
    }

    fn keep(&mut self, at: usize, group: &Range<usize>) {
        let end = at + group.len();
        match self.steps.last_mut() {
            Some(Step::Keep { segments, held }) if held.end == group.start => {
                segments.end = end;
                held.end = group.end;
            }
            _ => self.steps.push(Step::Keep {
                segments: at..end,
                held: group.clone(),
            }),
        }
    }

    fn unpack(&mut self, at: usize) {
        match self.steps.last_mut() {
            Some(Step::Unpack(segments)) => segments.end = at + 1,
            _ => self.steps.push(Step::Unpack(at..at + 1)),
        }
    }

    fn copy(&mut self, wanted: &[Segment], held: &[HeldSegment]) {
        let pieces: HashMap<_, _> = held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.within.is_some_and(|within| within.is_intact))
            .map(|(index, held)| (held.digest, index))
            .collect();
        let unpacked = self.steps.iter().filter_map(|step| match step {
            Step::Unpack(segments) => Some(segments.clone()),
            Step::Keep { .. } => None,
        });
        self.copies = unpacked
            .flatten()
            .filter_map(|index| Some((index, *pieces.get(&wanted[index].digest)?)))
            .collect();
    }
}

/// The runs of held segments between two entries, as short as possible, each under the digest of its first segment.
fn groups(held: &[HeldSegment]) -> HashMap<Digest, Range<usize>> {
    let mut groups = HashMap::new();
    let mut start = 0;
    for (index, segment) in held.iter().enumerate() {
        if !segment.goes_on {
            groups.insert(held[start].digest, start..index + 1);
            start = index + 1;
        }
    }
    groups
}

/// Whether a group is what is wanted next, and all of it is there. The last one holds the archive's end, and no other does.
fn is_kept(wanted: &[Segment], held: &[HeldSegment], group: &Range<usize>) -> bool {
    let ends = (wanted.len() == group.len(), held.len() == group.end);
    let segments = &held[group.clone()];
    ends.0 == ends.1
        && wanted.len() >= segments.len()
        && segments
            .iter()
            .zip(wanted)
            .all(|(held, wanted)| held.is_intact && held.digest == wanted.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of one segment a letter.
    fn wanted(letters: &str) -> Vec<Segment> {
        let segment = |letter: char| Segment {
            offset: 0,
            length: 1,
            raw_length: 1,
            digest: Digest::of(letter.to_string().as_bytes()),
        };
        letters.chars().map(segment).collect()
    }

    /// What is held, one letter a segment: behind it `+` where its last entry goes on, `!` where an entry was touched, and
    /// `~` where it is a piece of a file, or `?` if that file was touched.
    fn held(text: &str) -> Vec<HeldSegment> {
        let mut held: Vec<HeldSegment> = Vec::new();
        for character in text.chars() {
            let last = held.last_mut();
            match (character, last) {
                ('+', Some(last)) => last.goes_on = true,
                ('!', Some(last)) => last.is_intact = false,
                ('~' | '?', Some(last)) => {
                    last.within = Some(Within {
                        offset: 0,
                        is_intact: character == '~',
                    });
                }
                (letter, _) => held.push(HeldSegment {
                    digest: Digest::of(letter.to_string().as_bytes()),
                    entries: 1,
                    goes_on: false,
                    is_intact: true,
                    within: None,
                }),
            }
        }
        held
    }

    /// Upper case: unpacked; lower case: kept; a star: copied.
    #[track_caller]
    fn check(archive: &str, target: &str, expected: &str) {
        let plan = Plan::new(&wanted(archive), &held(target));
        let mut found = String::new();
        let mut letters = archive.chars().enumerate();
        for step in &plan.steps {
            let (segments, is_kept) = match step {
                Step::Unpack(segments) => (segments, false),
                Step::Keep { segments, .. } => (segments, true),
            };
            for (index, letter) in letters.by_ref().take(segments.len()) {
                assert!(segments.contains(&index));
                found.push(match plan.copies.contains_key(&index) {
                    true => '*',
                    false if is_kept => letter.to_ascii_lowercase(),
                    false => letter,
                });
            }
        }
        assert_eq!(found, expected, "{archive} from {target}");
    }

    #[test]
    fn an_empty_target_needs_everything() {
        check("ABC", "", "ABC");
        assert!(Plan::new(&wanted("ABC"), &[]).is_whole());
        assert_eq!(Plan::new(&[], &[]).next_download(0), None);
    }

    #[test]
    fn what_is_there_is_kept() {
        check("ABC", "ABC", "abc");
        check("AXC", "ABC", "aXc");
        check("ABXC", "ABC", "abXc");
        check("AC", "ABC", "ac");
        check("XYZ", "ABC", "XYZ");
    }

    #[test]
    fn an_entry_that_was_touched_brings_its_segment_again() {
        check("ABC", "AB!C", "aBc");
    }

    #[test]
    fn segments_of_one_entry_are_kept_together() {
        check("ABC", "A+BC", "abc");
        check("AXC", "A+BC", "AXc");
        check("XBC", "A+BC", "XBc");
        check("ABC", "A+B!C", "ABc");
        check("ABC", "A!+BC", "ABc");
    }

    #[test]
    fn pieces_of_a_file_are_copied_where_it_changed_elsewhere() {
        check("ABXDE", "A+B~+C~+DE", "A*XDe");
        check("ABCDE", "A!+B~+C~+DE", "A**De");
        check("ABXDE", "A!+B?+C?+DE", "ABXDe");
        // Under another name, too.
        check("XBCYE", "A+B~+C~+DE", "X**Ye");
    }

    #[test]
    fn the_archives_end_is_kept_at_the_end_alone() {
        check("ABX", "AB", "aBX");
        check("AB", "ABX", "aB");
        check("BA", "AB", "BA");
    }

    #[test]
    fn what_is_held_is_read_once_and_in_order() {
        check("BAC", "ABC", "bAc");
    }

    #[test]
    fn neighbours_are_downloaded_together() {
        let plan = Plan::new(&wanted("AXYZBW"), &held("ABC"));
        assert_eq!(plan.next_download(0), Some(1..4));
        assert_eq!(plan.next_download(2), Some(2..4));
        assert_eq!(plan.next_download(4), Some(5..6));
        assert_eq!(plan.next_download(6), None);
        // What is copied lies between two downloads.
        let plan = Plan::new(&wanted("XBY"), &held("A+B~+C"));
        assert_eq!(plan.next_download(0), Some(0..1));
        assert_eq!(plan.next_download(1), Some(2..3));
        // Two steps may follow each other without a gap between their segments.
        assert!(!plan.is_whole());
    }
}
