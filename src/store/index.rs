//! What is remembered of all artifacts, so that only those are opened that somebody wants.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::record::{Record, Retained};
use super::retention::{Retention, select};
use crate::artifact::{Artifact, Lease};
use crate::digest::{Digest, Revision};

/// A use is noted on disk no more often than this.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// The artifacts of a state directory, newest published first.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: Vec<Record>,
    /// What the next start would serve.
    current: Option<Digest>,
}

/// What is needed to open an artifact that nobody has open, or the artifact that somebody has.
pub(super) enum Found {
    Open(Arc<Artifact>),
    Closed { published: SystemTime, lease: Lease },
}

impl Index {
    pub(super) fn new(mut records: Vec<Record>, current: Option<Digest>) -> Self {
        records.sort_by_key(|record| std::cmp::Reverse(record.retained.published_at));
        Self { records, current }
    }

    pub(super) fn current(&self) -> Option<Digest> {
        self.current
    }

    pub(super) fn set_current(&mut self, current: Option<Digest>) {
        self.current = current;
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Record> {
        self.records
            .iter()
            .find(|record| record.retained.digest == *digest)
    }

    fn get_mut(&mut self, digest: &Digest) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .find(|record| record.retained.digest == *digest)
    }

    /// The artifact of a revision that can be had, the newest if there are several.
    pub(super) fn newest_of(&self, revision: &Revision) -> Option<Digest> {
        let mut retained = self.at_hand();
        let newest = retained.find(|retained| retained.revision == *revision);
        newest.map(|retained| retained.digest)
    }

    /// All that can be had.
    pub(super) fn retained(&self) -> Vec<Retained> {
        self.at_hand().cloned().collect()
    }

    /// What somebody has open, or anybody can open.
    fn at_hand(&self) -> impl Iterator<Item = &Retained> {
        let records = self.records.iter();
        let at_hand = records.filter(|record| record.durable || record.open.strong_count() > 0);
        at_hand.map(|record| &record.retained)
    }

    /// When something is published that is published now: after all others, whatever the clock says.
    pub(super) fn next_time(&self, now: SystemTime) -> SystemTime {
        let newest = self.records.first();
        let after = newest.map_or(now, |newest| {
            newest.retained.published_at + Duration::from_nanos(1)
        });
        now.max(after)
    }

    /// Adds an artifact that is newer than all others, in place of one with its digest.
    pub(super) fn add(&mut self, record: Record) {
        let digest = record.retained.digest;
        self.records.retain(|other| other.retained.digest != digest);
        self.records.insert(0, record);
    }

    /// Makes an artifact the newest.
    pub(super) fn republish(&mut self, artifact: &Arc<Artifact>) {
        let digest = artifact.descriptor().digest;
        let mut records = self.records.iter();
        let Some(index) = records.position(|record| record.retained.digest == digest) else {
            return;
        };
        let mut record = self.records.remove(index);
        record.retained.published_at = artifact.published();
        record.open = Arc::downgrade(artifact);
        self.records.insert(0, record);
    }

    /// How an artifact is had; what is given is a claim on it, so it will not be retired meanwhile.
    pub(super) fn find(&self, digest: &Digest) -> Option<Found> {
        let record = self.get(digest)?;
        Some(match record.open.upgrade() {
            Some(artifact) => Found::Open(artifact),
            None => Found::Closed {
                published: record.retained.published_at,
                lease: record.lease.clone(),
            },
        })
    }

    /// Remembers an artifact that was opened; if somebody else was faster, theirs is the one.
    pub(super) fn share(&mut self, opened: Arc<Artifact>) -> Arc<Artifact> {
        let Some(record) = self.get_mut(&opened.descriptor().digest) else {
            return opened;
        };
        if let Some(other) = record.open.upgrade() {
            return other;
        }
        record.open = Arc::downgrade(&opened);
        opened
    }

    pub(super) fn mark_durable(&mut self, digest: &Digest) {
        if let Some(record) = self.get_mut(digest) {
            record.durable = true;
        }
    }

    /// Notes that an artifact was asked for; whether that is to be written down.
    pub(super) fn note_asked(&mut self, digest: &Digest, now: SystemTime) -> bool {
        let Some(record) = self.get_mut(digest) else {
            return false;
        };
        // Of a time in the future, set by a clock that was wrong, nothing is known.
        let since = now.duration_since(record.asked);
        let due = since.is_ok_and(|since| since >= NOTED_EVERY) || now < record.asked;
        if due {
            record.asked = now;
        }
        due
    }

    pub(super) fn remove(&mut self, digest: &Digest) {
        self.records
            .retain(|record| record.retained.digest != *digest);
        self.current.take_if(|current| current == digest);
    }

    /// Forgets what is not to be kept, and gives it.
    pub(super) fn retire(&mut self, retention: &Retention, now: SystemTime) -> Vec<Record> {
        let candidates: Vec<_> = self
            .records
            .iter()
            .enumerate()
            .map(|(index, record)| {
                let current = self.current == Some(record.retained.digest);
                // The newest is served before it is made current.
                record.candidate(current || index == 0)
            })
            .collect();
        let mut stays = select(&candidates, retention, now).into_iter();
        let goes = |_: &mut Record| !stays.next().unwrap_or(true);
        self.records.extract_if(.., goes).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::store::tests::descriptor;

    fn record(archive: &[u8], published: u64) -> Record {
        let published = at(published);
        Record {
            retained: Retained::new(&descriptor(archive, b""), published),
            stored: 1,
            asked: published,
            durable: true,
            open: Weak::new(),
            lease: Lease::default(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn digests(index: &Index) -> Vec<Digest> {
        index
            .retained()
            .iter()
            .map(|retained| retained.digest)
            .collect()
    }

    #[test]
    fn the_newest_artifact_of_a_revision_is_the_one() {
        let records = vec![record(b"b", 20), record(b"c", 30), record(b"a", 10)];
        let index = Index::new(records, None);
        assert_eq!(
            digests(&index),
            [b"c", b"b", b"a"].map(|archive| Digest::of(archive))
        );
        let revision = descriptor(b"a", b"").revision;
        assert_eq!(index.newest_of(&revision), Some(Digest::of(b"c")));
        assert_eq!(index.newest_of(&descriptor(b"a", b"other").revision), None);
    }

    #[test]
    fn what_is_published_next_is_newest_by_any_clock() {
        let index = Index::new(vec![record(b"a", 100)], None);
        assert_eq!(index.next_time(at(200)), at(200));
        assert_eq!(index.next_time(at(50)), at(100) + Duration::from_nanos(1));
        assert_eq!(Index::default().next_time(at(50)), at(50));
    }

    #[test]
    fn uses_are_noted_once_a_minute() {
        let mut index = Index::new(vec![record(b"a", 100)], None);
        let digest = Digest::of(b"a");
        let mut check = |seconds, expected| {
            assert_eq!(
                index.note_asked(&digest, at(seconds)),
                expected,
                "{seconds}"
            );
        };
        check(159, false);
        check(160, true);
        check(161, false);
        check(220, true);
        check(90, true);
        check(91, false);
        assert!(!index.note_asked(&Digest::of(b"unknown"), at(999)));
    }
}
