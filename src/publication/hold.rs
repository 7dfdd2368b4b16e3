//! The hold file: while it stands in the root, nothing is built.
//!
//! Whoever changes many files makes it first and removes it at last, and so is never seen half way. It does not hold for
//! ever: a script that dies must not keep all later code from being served.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

/// Which file it is, and what was seen of it.
#[derive(Debug)]
pub(super) struct HoldFile {
    name: Option<OsString>,
    longest: Duration,
    seen: Hold,
}

/// Whether something keeps builds from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing does.
    Free,
    /// The file stands.
    Stands,
    /// The file has stood for so long that nobody can be meaning it any more.
    Expired,
}

impl HoldFile {
    /// A file of this name, which holds for so long after its last change; `None`: there is no such file.
    pub(super) fn new(name: Option<OsString>, longest: Duration) -> Self {
        Self {
            name,
            longest,
            seen: Hold::Free,
        }
    }

    /// Looks at the file, and says in the log what has changed about it.
    pub(super) fn look(&mut self, root: &Path) -> Hold {
        let Some(name) = &self.name else {
            return Hold::Free;
        };
        let changed = fs::symlink_metadata(root.join(name)).map(|file| changed(&file));
        let found = judge(changed.ok(), SystemTime::now(), self.longest);
        if found != self.seen {
            let file = name.display();
            match found {
                Hold::Free => info!(%file, "the hold file is gone"),
                Hold::Stands => {
                    info!(%file, longest = ?self.longest, "nothing is built while the hold file stands");
                }
                Hold::Expired => {
                    warn!(%file, longest = ?self.longest, "the hold file was left behind and counts no longer: remove it");
                }
            }
        }
        self.seen = found;
        found
    }
}

/// When a file was changed last, in a way that nobody can set.
fn changed(file: &fs::Metadata) -> SystemTime {
    let seconds = u64::try_from(file.ctime()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn judge(changed: Option<SystemTime>, now: SystemTime, longest: Duration) -> Hold {
    let Some(changed) = changed else {
        return Hold::Free;
    };
    // A file from the future was made just now, by another clock.
    let age = now.duration_since(changed).unwrap_or_default();
    if age <= longest {
        Hold::Stands
    } else {
        Hold::Expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_for_so_long_after_its_last_change() {
        let longest = Duration::from_mins(10);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let check = |changed, expected| assert_eq!(judge(changed, now, longest), expected);
        check(None, Hold::Free);
        check(Some(now), Hold::Stands);
        check(Some(now - longest), Hold::Stands);
        check(Some(now - longest - Duration::from_secs(1)), Hold::Expired);
        check(Some(now + Duration::from_hours(9)), Hold::Stands);
    }

    #[test]
    fn anything_of_that_name_holds() {
        let root = tempfile::tempdir().unwrap();
        let mut hold = HoldFile::new(Some(".code-hold".into()), Duration::from_mins(1));
        assert_eq!(hold.look(root.path()), Hold::Free);
        let file = root.path().join(".code-hold");
        fs::write(&file, "").unwrap();
        assert_eq!(hold.look(root.path()), Hold::Stands);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        assert_eq!(hold.look(root.path()), Hold::Stands);
        let mut none = HoldFile::new(None, Duration::from_mins(1));
        assert_eq!(none.look(root.path()), Hold::Free);
    }
}
