//! What a fetch came to, in one line.

use std::fmt;
use std::time::Duration;

use tracing::info;

use super::count;
use super::figures::{amount, elapsed, part};
use crate::digest::Revision;

/// What was fetched, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What the target holds now.
    pub revision: Revision,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Whether the target did not hold it before.
    pub is_new: bool,
    /// Bytes of archives that came from the network, those that had to come again included.
    pub downloaded: u64,
    /// Bytes of the archive in all.
    pub size: u64,
    /// Bytes of the archive that did not have to come, since the target held what they bring.
    pub reused: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// Writes the line to the log: a sentence for people, and for machines fields that have their unit in their name.
    pub(super) fn report(&self, json: bool) {
        if !json {
            info!("{self}");
            return;
        }
        info!(
            revision = %self.revision,
            is_new = self.is_new,
            entries = self.entries,
            files = self.files,
            downloaded_bytes = self.downloaded,
            size_bytes = self.size,
            reused_bytes = self.reused,
            attempts = self.attempts,
            elapsed_seconds = self.elapsed.as_secs_f64(),
            "{}",
            self.outcome()
        );
    }

    fn outcome(&self) -> &'static str {
        if self.is_new {
            "installed"
        } else {
            "up to date"
        }
    }
}

/// A sentence without an end, as `installed sha256:…: 7599 files, 22.1 of 22.4 MiB downloaded, 1 attempt, 0.37s`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = match self.files {
            1 => "1 file".into(),
            files => format!("{files} files"),
        };
        write!(f, "{} {}: {files}", self.outcome(), self.revision)?;
        if self.downloaded > self.size {
            let (downloaded, size) = (amount(self.downloaded), amount(self.size));
            write!(f, ", {downloaded} downloaded for {size}")?;
        } else if self.is_new || self.downloaded > 0 {
            write!(f, ", {} downloaded", part(self.downloaded, self.size))?;
        }
        if self.reused > 0 {
            write!(f, ", {} reused", amount(self.reused))?;
        }
        write!(f, ", {}, {}", count(self.attempts), elapsed(self.elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn check(change: impl FnOnce(&mut Summary), expected: &str) {
        let mut summary = Summary {
            revision: Revision::of_listing(Digest::of(b"")),
            entries: 9000,
            files: 7599,
            downloaded: 23_173_530,
            size: 23_500_000,
            reused: 314_572,
            is_new: true,
            attempts: 1,
            elapsed: Duration::from_millis(371),
        };
        change(&mut summary);
        let shown = summary.to_string();
        let (outcome, rest) = shown.split_once(": ").unwrap();
        let outcome = outcome.replace(&summary.revision.to_string(), "R");
        assert_eq!(format!("{outcome}: {rest}"), expected);
    }

    #[test]
    fn an_installation_is_told_with_what_it_took() {
        check(
            |_| {},
            "installed R: 7599 files, 22.1 of 22.4 MiB downloaded, 307.1 KiB reused, 1 attempt, 0.37s",
        );
    }

    #[test]
    fn what_did_not_happen_is_not_told() {
        check(
            |summary| {
                summary.files = 1;
                summary.reused = 0;
                summary.attempts = 3;
            },
            "installed R: 1 file, 22.1 of 22.4 MiB downloaded, 3 attempts, 0.37s",
        );
    }

    #[test]
    fn what_had_to_come_again_is_no_part_of_the_whole() {
        check(
            |summary| {
                summary.downloaded = 30_000_000;
                summary.reused = 0;
                summary.attempts = 2;
            },
            "installed R: 7599 files, 28.6 MiB downloaded for 22.4 MiB, 2 attempts, 0.37s",
        );
    }

    #[test]
    fn a_target_that_held_it_already_is_up_to_date() {
        check(
            |summary| {
                summary.is_new = false;
                summary.downloaded = 0;
                summary.reused = 0;
            },
            "up to date R: 7599 files, 1 attempt, 0.37s",
        );
    }
}
