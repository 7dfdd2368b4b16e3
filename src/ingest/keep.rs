//! Time stamps: what is the same in the new tree as in the old one keeps them, so that nobody takes it for changed.

use std::collections::HashMap;
use std::io::{self, Read};

use crate::entry::{EntryKind, EntryPath};
use crate::root::{Kind, Root, Status, status_of};

/// How much of two files is compared at once, and so twice this is held in memory.
const PIECE: usize = 64 << 10;

/// What two trees have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Files whose content is the same.
    pub(super) files: u64,
    /// Whether nothing at all differs: no name, no kind, no content, no mode.
    pub(super) same: bool,
}

/// Gives what a staged tree has in common with the live one the live one's times: files of equal content, links with the
/// same target, directories of the same name, the roots among them.
///
/// The staged tree must be as it will be, but for its times. What cannot be compared or stamped counts as different: times
/// are a convenience, and nothing is wrong without them.
pub(super) fn keep(staged: &Root, live: &Root, cancelled: &dyn Fn() -> bool) -> Kept {
    let mut comparison = Comparison {
        staged,
        live,
        pieces: [vec![0; PIECE], vec![0; PIECE]],
        kept: Kept {
            files: 0,
            same: true,
        },
    };
    let mut directories = vec![None];
    while let Some(directory) = directories.pop() {
        if cancelled() {
            comparison.kept.same = false;
            break;
        }
        match comparison.directory(directory.as_ref()) {
            Ok(within) => directories.extend(within.into_iter().map(Some)),
            Err(_) => comparison.kept.same = false,
        }
    }
    comparison.kept
}

struct Comparison<'a> {
    staged: &'a Root,
    live: &'a Root,
    pieces: [Vec<u8>; 2],
    kept: Kept,
}

impl Comparison<'_> {
    /// Compares what two directories hold; gives the directories that both have.
    fn directory(&mut self, path: Option<&EntryPath>) -> io::Result<Vec<EntryPath>> {
        let mut live: HashMap<_, _> = self.live.list(path)?.into_iter().collect();
        let mut directories = Vec::new();
        for (name, staged) in self.staged.list(path)? {
            let Some(child) = EntryPath::child(path, &name) else {
                continue;
            };
            let is_same = match live.remove(&name) {
                Some(live) if live.kind == staged.kind => {
                    if staged.kind == Kind::Entry(EntryKind::Directory) {
                        directories.push(child.clone());
                    }
                    self.entry(&child, &staged, &live).unwrap_or(false)
                }
                _ => false,
            };
            self.kept.same &= is_same;
        }
        self.kept.same &= live.is_empty();
        Ok(directories)
    }

    /// Whether an entry of the same kind is the same; if it is, or is a directory, it gets the live one's time.
    fn entry(&mut self, path: &EntryPath, staged: &Status, live: &Status) -> io::Result<bool> {
        let same_content = match staged.kind {
            Kind::Entry(EntryKind::Directory) => true,
            Kind::Entry(EntryKind::File) => {
                let same = staged.stamp.size == live.stamp.size && self.same_file(path, live)?;
                self.kept.files += u64::from(same);
                same
            }
            Kind::Entry(EntryKind::Symlink) => {
                self.staged.read_link(path)? == self.live.read_link(path)?
            }
            Kind::Special(_) => false,
        };
        if same_content {
            self.staged.set_mtime(path, live.stamp.mtime)?;
        }
        Ok(same_content && staged.mode == live.mode)
    }

    fn same_file(&mut self, path: &EntryPath, seen: &Status) -> io::Result<bool> {
        let live = self.live.open_file(path)?;
        if status_of(&live)?.stamp != seen.stamp {
            return Ok(false);
        }
        same_bytes(self.staged.open_file(path)?, live, &mut self.pieces)
    }
}

/// Whether two readers give the same bytes.
fn same_bytes(
    mut one: impl Read,
    mut other: impl Read,
    [a, b]: &mut [Vec<u8>; 2],
) -> io::Result<bool> {
    loop {
        let length = one.read(a)?;
        if length == 0 {
            return Ok(other.read(b)? == 0);
        }
        match other.read_exact(&mut b[..length]) {
            Ok(()) if a[..length] == b[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    const THEN: Duration = Duration::new(1_000_000_000, 123_456_789);

    fn tree(beneath: &Path, name: &str) -> std::path::PathBuf {
        let root = beneath.join(name);
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(root.join("dir/file"), "content").unwrap();
        fs::write(root.join("empty"), "").unwrap();
        symlink("dir/file", root.join("link")).unwrap();
        root
    }

    fn date(path: &Path) {
        let file = fs::File::open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + THEN))
            .unwrap();
    }

    fn mtime(path: &Path) -> SystemTime {
        fs::symlink_metadata(path).unwrap().modified().unwrap()
    }

    fn check(change: impl FnOnce(&Path, &Path), expected: Kept) {
        let directory = tempfile::tempdir().unwrap();
        let [staged, live] = ["staged", "live"].map(|name| tree(directory.path(), name));
        change(&staged, &live);
        let roots = [&staged, &live].map(|path| Root::open(path).unwrap());
        assert_eq!(keep(&roots[0], &roots[1], &|| false), expected);
    }

    #[test]
    fn what_is_the_same_keeps_its_time_to_the_nanosecond() {
        let directory = tempfile::tempdir().unwrap();
        let [staged, live] = ["staged", "live"].map(|name| tree(directory.path(), name));
        for name in ["dir/file", "dir"] {
            date(&live.join(name));
        }
        let roots = [&staged, &live].map(|path| Root::open(path).unwrap());
        let kept = keep(&roots[0], &roots[1], &|| false);
        assert_eq!(
            kept,
            Kept {
                files: 2,
                same: true
            }
        );
        for name in ["dir/file", "dir", "empty", "link"] {
            assert_eq!(mtime(&staged.join(name)), mtime(&live.join(name)), "{name}");
        }
        assert_eq!(mtime(&staged.join("dir")), UNIX_EPOCH + THEN);
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let some = |files| Kept { files, same: false };
        check(
            |new, _| fs::write(new.join("dir/file"), "CONTENT").unwrap(),
            some(1),
        );
        check(
            |new, _| fs::write(new.join("dir/file"), "longer content").unwrap(),
            some(1),
        );
        check(|new, _| fs::write(new.join("more"), "").unwrap(), some(2));
        check(
            |_, old| fs::write(old.join("dir/more"), "").unwrap(),
            some(2),
        );
        check(
            |_, old| fs::remove_dir_all(old.join("dir")).unwrap(),
            some(1),
        );
        let relink = |new: &Path, _: &Path| {
            fs::remove_file(new.join("link")).unwrap();
            symlink("elsewhere", new.join("link")).unwrap();
        };
        check(relink, some(2));
        let mode = |new: &Path, _: &Path| {
            fs::set_permissions(new.join("empty"), Permissions::from_mode(0o755)).unwrap();
        };
        check(mode, some(2));
        let kind = |_: &Path, old: &Path| {
            fs::remove_file(old.join("empty")).unwrap();
            symlink("dir/file", old.join("empty")).unwrap();
        };
        check(kind, some(1));
    }

    #[test]
    fn what_changed_has_its_own_time() {
        let directory = tempfile::tempdir().unwrap();
        let [staged, live] = ["staged", "live"].map(|name| tree(directory.path(), name));
        fs::write(staged.join("empty"), "no longer").unwrap();
        date(&live.join("empty"));
        let roots = [&staged, &live].map(|path| Root::open(path).unwrap());
        keep(&roots[0], &roots[1], &|| false);
        assert_ne!(mtime(&staged.join("empty")), UNIX_EPOCH + THEN);
    }

    #[test]
    fn links_in_the_live_tree_lead_nowhere() {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("file"), "content").unwrap();
        let swap = |_: &Path, old: &Path| {
            fs::remove_dir_all(old.join("dir")).unwrap();
            symlink(elsewhere.path(), old.join("dir")).unwrap();
        };
        check(
            swap,
            Kept {
                files: 1,
                same: false,
            },
        );
    }
}
