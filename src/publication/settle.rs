//! When to build: not while the tree is being written to, and not while somebody asks to wait.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::config;
use crate::config::watch::WatchConfig;
use crate::tree::watch::{Burst, WatchMode};

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The tree counts as quiet when nothing has changed for this long.
    pub settle: Duration,
    /// A tree that is never quiet is built this long after the first change.
    pub settle_max: Duration,
    /// A hold file holds builds back for this long, counted from its last change.
    pub hold_max: Duration,
}

/// What to do about changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this much time has passed, unless something else happens: ask again then.
    Wait(Duration),
    /// Build.
    Build,
    /// Build although the hold file still stands: it has been there for too long.
    BuildDespiteHold,
}

impl From<&WatchConfig> for Patience {
    fn from(config: &WatchConfig) -> Self {
        Self {
            settle: config.settle,
            settle_max: config.settle_max,
            hold_max: config.hold_max,
        }
    }
}

impl Patience {
    /// Decides about a burst of changes; `held` is for how long the hold file has been standing, if it is there.
    #[must_use]
    pub fn decide(&self, changes: Burst, held: Option<Duration>, now: Instant) -> Step {
        let hold_left = held.map(|held| self.hold_max.saturating_sub(held));
        if let Some(left) = hold_left.filter(|left| !left.is_zero()) {
            return Step::Wait(left);
        }
        let left = |since: Instant, patience: Duration| {
            patience.saturating_sub(now.saturating_duration_since(since))
        };
        let quiet_in = left(changes.last, self.settle);
        let enough_in = left(changes.first, self.settle_max);
        match (quiet_in.min(enough_in), held) {
            (Duration::ZERO, None) => Step::Build,
            (Duration::ZERO, Some(_)) => Step::BuildDespiteHold,
            (wait, _) => Step::Wait(wait),
        }
    }
}

/// For how long a file of this name has been standing in a directory, counted from its last change; `None` if there is
/// none, or none that can be seen. Whatever has the name counts: a file, a directory, a link that leads nowhere.
///
/// A file from the future has been standing for no time at all.
#[must_use]
pub fn held_for(directory: &Path, name: &OsStr, now: SystemTime) -> Option<Duration> {
    let hold = fs::symlink_metadata(directory.join(name)).ok()?;
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = u64::try_from(hold.ctime()).unwrap_or(0);
    let nanoseconds = u32::try_from(hold.ctime_nsec()).unwrap_or(0);
    let changed = Duration::new(seconds, nanoseconds);
    Some(since_epoch.unwrap_or_default().saturating_sub(changed))
}

/// How the tree is watched, as it was configured.
#[must_use]
pub fn watch_mode(mode: config::watch::WatchMode) -> WatchMode {
    match mode {
        config::watch::WatchMode::Auto => WatchMode::Auto,
        config::watch::WatchMode::Inotify => WatchMode::Inotify,
        config::watch::WatchMode::Poll => WatchMode::Poll,
        config::watch::WatchMode::Off => WatchMode::Off,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Decides 100 seconds after some instant, with the first and the last change this long ago.
    fn decide(first: u64, last: u64, held: Option<u64>) -> Step {
        let patience = Patience {
            settle: ms(300),
            settle_max: ms(10_000),
            hold_max: ms(600_000),
        };
        let now = Instant::now() + ms(100_000);
        let changes = Burst {
            first: now.checked_sub(ms(first)).unwrap(),
            last: now.checked_sub(ms(last)).unwrap(),
        };
        patience.decide(changes, held.map(ms), now)
    }

    #[test]
    fn a_tree_is_built_when_it_was_quiet_or_has_never_been_for_too_long() {
        assert_eq!(decide(0, 0, None), Step::Wait(ms(300)));
        assert_eq!(decide(1_000, 100, None), Step::Wait(ms(200)));
        assert_eq!(decide(1_000, 299, None), Step::Wait(ms(1)));
        assert_eq!(decide(300, 300, None), Step::Build);
        assert_eq!(decide(50_000, 50_000, None), Step::Build);
        assert_eq!(decide(9_900, 0, None), Step::Wait(ms(100)));
        assert_eq!(decide(10_000, 0, None), Step::Build);
    }

    #[test]
    fn a_hold_file_comes_first_and_not_for_ever() {
        assert_eq!(decide(50_000, 50_000, Some(0)), Step::Wait(ms(600_000)));
        assert_eq!(decide(50_000, 50_000, Some(599_999)), Step::Wait(ms(1)));
        let built = Step::BuildDespiteHold;
        assert_eq!(decide(50_000, 50_000, Some(600_000)), built);
        assert_eq!(decide(50_000, 0, Some(700_000)), built);
        assert_eq!(decide(100, 100, Some(700_000)), Step::Wait(ms(200)));
    }

    #[test]
    fn changes_from_the_future_are_as_good_as_new() {
        let patience = Patience {
            settle: ms(300),
            settle_max: ms(100),
            hold_max: ms(0),
        };
        let now = Instant::now();
        let changes = Burst {
            first: now + ms(50),
            last: now + ms(50),
        };
        assert_eq!(patience.decide(changes, None, now), Step::Wait(ms(100)));
        assert_eq!(
            patience.decide(changes, Some(ms(0)), now + ms(200)),
            Step::BuildDespiteHold
        );
    }

    #[test]
    fn whatever_has_the_name_of_the_hold_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("file"), "").unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        symlink("nowhere", root.join("link")).unwrap();
        let held = |name: &str, now| held_for(root, OsStr::new(name), now);
        let soon = SystemTime::now() + Duration::from_hours(1);
        for name in ["file", "directory", "link"] {
            let held_for = held(name, soon).unwrap();
            assert!(held_for > Duration::from_mins(59), "{name}");
            assert!(held_for < Duration::from_mins(61), "{name}");
            let past = SystemTime::now() - Duration::from_hours(1);
            assert_eq!(held(name, past), Some(Duration::ZERO), "{name}");
        }
        assert_eq!(held("other", soon), None);
        assert_eq!(held("file/x", soon), None);
    }
}
