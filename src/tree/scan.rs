//! The walk: every entry that belongs, in order, without opening a file that need not be opened.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;

use super::floor::holds_private_key;
use super::rules::{CODEIGNORE, Level, RuleError, Rules, Verdict};
use super::{Denied, Entry, Found, LeftOut, Tree, UNREADABLE, Unreadable};
use crate::entry::{EntryKind, EntryPath};
use crate::root::{Kind, Root, Status, status_of};

/// The largest `.codeignore` that is read, in bytes.
const LARGEST_CODEIGNORE: u64 = 1 << 20;

/// What belongs to a tree, besides what its own files say.
#[derive(Debug)]
pub struct Scope {
    /// By name.
    pub rules: Rules,
    /// By whether we may read it.
    pub unreadable: Unreadable,
    /// Device and inode of our own files, which may lie in the tree and are no part of it.
    pub own: Vec<(u64, u64)>,
}

/// Why a tree could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// An entry may not be read, and [`Unreadable::Fail`] holds.
    #[error("{0}")]
    Denied(Denied),
    /// A `.codeignore` cannot be understood.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A `.codeignore` is no file of patterns.
    #[error("{path} is larger than 1 MiB: it should hold a pattern a line")]
    RulesTooLarge {
        /// Which.
        path: EntryPath,
    },
    /// The tree changed under the walk; another one may succeed.
    #[error("{path} changed while it was looked at")]
    Changed {
        /// What changed.
        path: EntryPath,
    },
    /// The file system failed.
    #[error("cannot look at {}", .path.as_ref().map_or_else(|| ".".into(), ToString::to_string))]
    Io {
        /// Where; `None` for the root.
        path: Option<EntryPath>,
        /// How.
        source: io::Error,
    },
    /// The caller wanted no more.
    #[error("cancelled")]
    Cancelled,
}

/// Is told of a directory that belongs (`None`: the root), with its device and inode, before it is listed.
pub type BeforeListing<'a> = dyn FnMut(Option<&EntryPath>, (u64, u64)) + 'a;

/// Walks what lies beneath the root. Asks between two directories whether it shall go on.
///
/// Memory: the entries found, some 150 bytes and the path for each.
pub fn scan(root: &Root, scope: &Scope, cancelled: &dyn Fn() -> bool) -> Result<Tree, ScanError> {
    scan_with(root, scope, cancelled, &mut |_, _| {})
}

/// Like [`scan`], and tells of each directory before it is listed: whoever watches it from then on misses nothing that the
/// walk does not see.
pub fn scan_with(
    root: &Root,
    scope: &Scope,
    cancelled: &dyn Fn() -> bool,
    entering: &mut BeforeListing<'_>,
) -> Result<Tree, ScanError> {
    let mut walk = Walk {
        root,
        scope,
        entering,
        levels: Vec::new(),
        tree: Tree::default(),
    };
    let status = root
        .status(None)
        .map_err(|error| walk.failed(None, error))?;
    let mut open = vec![walk.enter(None, &status)?];
    while let Some(directory) = open.last_mut() {
        if cancelled() {
            return Err(ScanError::Cancelled);
        }
        match directory.names.next() {
            Some((path, status)) => {
                if let Some(directory) = walk.visit(path, &status)? {
                    open.push(directory);
                }
            }
            None => walk.leave(open.pop()),
        }
    }
    Ok(walk.tree)
}

struct Walk<'a> {
    root: &'a Root,
    scope: &'a Scope,
    entering: &'a mut BeforeListing<'a>,
    /// Of the directories being walked, those that have rules.
    levels: Vec<Level>,
    tree: Tree,
}

/// A directory being walked.
struct Directory {
    names: std::vec::IntoIter<(EntryPath, Status)>,
    has_rules: bool,
}

impl Walk<'_> {
    /// Lists a directory in order and takes its rules.
    fn enter(&mut self, path: Option<&EntryPath>, status: &Status) -> Result<Directory, ScanError> {
        (self.entering)(path, (status.device, status.stamp.inode));
        let listed = self
            .root
            .list(path)
            .map_err(|error| self.failed(path, error))?;
        let mut names: Vec<_> = listed
            .into_iter()
            .filter_map(|(name, status)| Some((EntryPath::child(path, &name)?, status)))
            .collect();
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let rules = names
            .iter()
            .find(|(path, _)| path.name() == CODEIGNORE.as_bytes());
        let has_rules = match rules {
            Some((file, status)) if status.kind == Kind::Entry(EntryKind::File) => {
                let text = self.read_rules(file)?;
                self.levels.push(Level::parse(path, &text)?);
                true
            }
            _ => false,
        };
        Ok(Directory {
            names: names.into_iter(),
            has_rules,
        })
    }

    fn leave(&mut self, directory: Option<Directory>) {
        if directory.is_some_and(|directory| directory.has_rules) {
            self.levels.pop();
        }
    }

    /// Takes one name in or leaves it out; a directory that belongs is entered.
    fn visit(&mut self, path: EntryPath, status: &Status) -> Result<Option<Directory>, ScanError> {
        if self
            .scope
            .own
            .contains(&(status.device, status.stamp.inode))
        {
            self.leave_out(path, "our own files".into(), None);
            return Ok(None);
        }
        let kind = match status.kind {
            Kind::Entry(kind) => kind,
            Kind::Special(word) => {
                self.leave_out(path, word.into(), None);
                return Ok(None);
            }
        };
        let is_dir = kind == EntryKind::Directory;
        match self.scope.rules.judge(&self.levels, &path, is_dir) {
            Verdict::LeaveOut(rule) => {
                self.leave_out(path, rule, Some(kind));
                Ok(None)
            }
            Verdict::LeaveOutIfSecret(rule) if kind == EntryKind::File => {
                match self.is_secret(&path) {
                    Ok(true) => self.leave_out(path, rule, None),
                    Ok(false) => return self.take(path, kind, status, true),
                    Err(error) => self.skip_if_denied(path, error)?,
                }
                Ok(None)
            }
            Verdict::Keep | Verdict::LeaveOutIfSecret(_) => self.take(path, kind, status, false),
        }
    }

    /// Adds an entry. A directory is entered first, so that one we may not read is left out with all that it holds.
    fn take(
        &mut self,
        path: EntryPath,
        kind: EntryKind,
        status: &Status,
        sniffed: bool,
    ) -> Result<Option<Directory>, ScanError> {
        let mut entered = None;
        let found = match kind {
            EntryKind::File => Found::File {
                stamp: status.stamp,
                sniffed,
            },
            EntryKind::Symlink => {
                let target = self.root.read_link(&path);
                Found::Symlink(target.map_err(|error| self.failed(Some(&path), error))?)
            }
            EntryKind::Directory => match self.enter(Some(&path), status) {
                Ok(directory) => {
                    entered = Some(directory);
                    Found::Directory
                }
                Err(error) => return self.skip_if_denied(path, error).map(|()| None),
            },
        };
        self.tree.entries.push(Entry {
            path,
            found,
            mode: status.mode,
            mtime: status.stamp.mtime,
        });
        Ok(entered)
    }

    fn leave_out(&mut self, path: EntryPath, rule: String, by_name: Option<EntryKind>) {
        self.tree.left_out.push(LeftOut {
            path,
            rule,
            by_name,
        });
    }

    /// Leaves out what may not be read, if that is allowed; any other error stays one.
    fn skip_if_denied(&mut self, path: EntryPath, error: ScanError) -> Result<(), ScanError> {
        match (error, self.scope.unreadable) {
            (ScanError::Denied(_), Unreadable::Skip) => {
                self.leave_out(path, UNREADABLE.into(), None);
                Ok(())
            }
            (error, _) => Err(error),
        }
    }

    fn is_secret(&self, path: &EntryPath) -> Result<bool, ScanError> {
        let file = self
            .root
            .open_file(path)
            .map_err(|error| self.failed(Some(path), error))?;
        self.status_of_file(path, &file)?;
        holds_private_key(file).map_err(|error| self.failed(Some(path), error))
    }

    fn read_rules(&self, path: &EntryPath) -> Result<Vec<u8>, ScanError> {
        let failed = |error| self.failed(Some(path), error);
        let mut text = Vec::new();
        let file = self.root.open_file(path).map_err(failed)?;
        let before = self.status_of_file(path, &file)?;
        (&file)
            .take(LARGEST_CODEIGNORE + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > LARGEST_CODEIGNORE {
            return Err(ScanError::RulesTooLarge { path: path.clone() });
        }
        // Half of the rules would let in what the other half leaves out.
        if self.status_of_file(path, &file)?.stamp != before.stamp {
            return Err(ScanError::Changed { path: path.clone() });
        }
        Ok(text)
    }

    /// The status of what was opened, if it is a file, as the walk saw it.
    fn status_of_file(&self, path: &EntryPath, file: &File) -> Result<Status, ScanError> {
        let status = status_of(file).map_err(|error| self.failed(Some(path), error))?;
        match status.kind {
            Kind::Entry(EntryKind::File) => Ok(status),
            _ => Err(ScanError::Changed { path: path.clone() }),
        }
    }

    /// Tells a lack of permission and a change under the walk from real failures.
    fn failed(&self, path: Option<&EntryPath>, source: io::Error) -> ScanError {
        let path = path.cloned();
        match (Errno::from_io_error(&source), path) {
            (Some(Errno::ACCESS | Errno::PERM), path) => {
                let status = self.root.status(path.as_ref()).ok();
                ScanError::Denied(Denied { path, status })
            }
            (
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NXIO),
                Some(path),
            ) => ScanError::Changed { path },
            (_, path) => ScanError::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    /// Walks a directory that `make` filled; returns what was taken in and what was left out.
    fn walk(make: impl Fn(&Path), own: &[&str]) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        let own = own.iter().map(|name| {
            let metadata = fs::metadata(directory.path().join(name)).unwrap();
            (metadata.dev(), metadata.ino())
        });
        let scope = Scope {
            rules: Rules::new::<&str>(&[], true).unwrap(),
            unreadable: Unreadable::Fail,
            own: own.collect(),
        };
        let tree = scan(&Root::open(directory.path()).unwrap(), &scope, &|| false).unwrap();
        let entries = tree
            .entries
            .iter()
            .map(|entry| entry.path.to_string())
            .collect();
        let left_out = tree.left_out.iter();
        (
            entries,
            left_out
                .map(|LeftOut { path, rule, .. }| format!("{path}: {rule}"))
                .collect(),
        )
    }

    #[test]
    fn entries_come_in_the_order_of_their_paths() {
        let (entries, _) = walk(
            |root| {
                fs::create_dir_all(root.join("a/z")).unwrap();
                for name in ["b", "a-b", "a/z/x", "a/y"] {
                    fs::write(root.join(name), name).unwrap();
                }
            },
            &[],
        );
        assert_eq!(entries, ["a", "a/y", "a/z", "a/z/x", "a-b", "b"]);
    }

    #[test]
    fn odd_names_are_entries_like_others() {
        let (entries, _) = walk(
            |root| {
                for name in [&b"a\nb"[..], b"\xff", b"-", b" "] {
                    fs::write(root.join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
                }
            },
            &[],
        );
        assert_eq!(entries, [" ", "-", "a\\nb", "\\xff"]);
    }

    #[test]
    fn links_are_taken_as_links_wherever_they_lead() {
        let (entries, left_out) = walk(
            |root| {
                symlink("/etc/passwd", root.join("absolute")).unwrap();
                symlink("nowhere", root.join("dangling")).unwrap();
                symlink(".", root.join("loop")).unwrap();
            },
            &[],
        );
        assert_eq!(
            (entries, left_out.len()),
            (vec!["absolute".into(), "dangling".into(), "loop".into()], 0)
        );
    }

    #[test]
    fn pipes_are_left_out_and_named() {
        let (entries, left_out) = walk(
            |root| {
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, mode, 0).unwrap();
            },
            &[],
        );
        assert_eq!((entries.len(), left_out), (0, vec!["pipe: pipe".into()]));
    }

    #[test]
    fn rules_hold_from_their_directory_downwards() {
        let (entries, left_out) = walk(
            |root| {
                fs::create_dir_all(root.join("a/target/deep")).unwrap();
                fs::create_dir_all(root.join("target")).unwrap();
                fs::write(root.join("a/.codeignore"), "target/\n").unwrap();
            },
            &[],
        );
        assert_eq!(entries, ["a", "a/.codeignore", "target"]);
        assert_eq!(left_out, ["a/target: a/.codeignore target/"]);
    }

    #[test]
    fn what_was_left_out_by_its_name_alone_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join(".git")).unwrap();
        fs::write(root.join(".env"), "").unwrap();
        fs::write(root.join("tls.key"), "-----BEGIN PRIVATE KEY-----").unwrap();
        let tree = scan(&Root::open(root).unwrap(), &scope(), &|| false).unwrap();
        let by_name: Vec<_> = tree.left_out.iter().map(|name| name.by_name).collect();
        let expected = [Some(EntryKind::File), Some(EntryKind::Directory), None];
        assert_eq!(by_name, expected);
    }

    #[test]
    fn directories_that_belong_are_told_of_before_they_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git/c")).unwrap();
        let mut told = Vec::new();
        let mut entering = |path: Option<&EntryPath>, (_, inode)| {
            let path = path.map_or_else(String::new, ToString::to_string);
            let entered = root.join(&path);
            assert_eq!(fs::metadata(&entered).unwrap().ino(), inode);
            fs::write(entered.join("new"), "").unwrap();
            told.push(path);
        };
        let opened = Root::open(root).unwrap();
        let tree = scan_with(&opened, &scope(), &|| false, &mut entering).unwrap();
        assert_eq!(told, ["", "a", "a/b"]);
        assert_eq!(tree.entries.len(), 5);
    }

    #[test]
    fn rules_and_keys_are_read_from_files_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mode = Mode::from_raw_mode(0o644);
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(CWD, pipe, FileType::Fifo, mode, 0).unwrap();
        let scope = scope();
        let walk = Walk {
            root: &Root::open(directory.path()).unwrap(),
            scope: &scope,
            entering: &mut |_, _| {},
            levels: Vec::new(),
            tree: Tree::default(),
        };
        let swapped = EntryPath::new(b"pipe").unwrap();
        let result = walk.read_rules(&swapped);
        assert!(matches!(result, Err(ScanError::Changed { .. })));
        let result = walk.is_secret(&swapped);
        assert!(matches!(result, Err(ScanError::Changed { .. })));
    }

    #[test]
    fn keys_are_left_out_and_certificates_are_not() {
        let (entries, left_out) = walk(
            |root| {
                fs::write(root.join("ca.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
                fs::write(root.join("tls.key"), "-----BEGIN PRIVATE KEY-----").unwrap();
            },
            &[],
        );
        assert_eq!(entries, ["ca.pem"]);
        assert_eq!(left_out, ["tls.key: default *.key with a private key"]);
    }

    #[test]
    fn our_own_files_in_the_tree_are_no_part_of_it() {
        let (entries, left_out) = walk(
            |root| {
                fs::create_dir(root.join("state")).unwrap();
                fs::write(root.join("state/x"), "").unwrap();
            },
            &["state"],
        );
        assert_eq!(
            (entries.len(), left_out),
            (0, vec!["state: our own files".into()])
        );
    }

    fn scope() -> Scope {
        Scope {
            rules: Rules::new::<&str>(&[], true).unwrap(),
            unreadable: Unreadable::Fail,
            own: Vec::new(),
        }
    }

    #[test]
    fn a_walk_can_be_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let result = scan(&Root::open(directory.path()).unwrap(), &scope(), &|| true);
        assert!(matches!(result, Err(ScanError::Cancelled)));
    }
}
