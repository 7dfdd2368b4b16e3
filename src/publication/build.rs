//! One build: a directory is walked, read and sealed, again from the start if it changed too much meanwhile.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::survey::{Sight, survey};
use crate::archive::{self, ArchiveError, Options, Order, Output, Outputs, Sealed};
use crate::config::tree::TreeConfig;
use crate::digest::Revision;
use crate::entry::EntryKind;
use crate::exit::{Exit, sentence};
use crate::root::Root;
use crate::snapshot::cache::StatCache;
use crate::snapshot::{ReadError, Snapshot};
use crate::tree::{
    self, Entry, LeftOut, RuleError, Rules, ScanError, Scope, Tree, UNREADABLE, Unreadable,
};

/// How often a tree that changes is walked and read before the build gives up.
const TRIES: u32 = 5;
/// The pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where code comes from, and what of it becomes an archive.
#[derive(Debug)]
pub struct Source {
    /// The directory that holds it, looked up anew for each build: it may be a link that is swapped.
    pub root: PathBuf,
    /// What belongs to it.
    pub scope: Scope,
    /// How it is written.
    pub options: Options,
    /// Whether a tree without any entry is an archive, or a volume that is not mounted yet.
    pub allow_empty: bool,
}

impl Source {
    /// The source that a configuration names; `own` are device and inode of our own files, which may lie in the tree.
    pub fn new(config: &TreeConfig, own: Vec<(u64, u64)>) -> Result<Self, RuleError> {
        let unreadable = if config.skip_unreadable {
            Unreadable::Skip
        } else {
            Unreadable::Fail
        };
        Ok(Self {
            root: config.root.clone(),
            scope: Scope {
                rules: Rules::new(&config.excludes, config.default_excludes)?,
                unreadable,
                own,
            },
            options: Options {
                level: config.level,
                modes: config.modes,
                mtime: config.mtime,
                workers: config.workers,
            },
            allow_empty: config.allow_empty,
        })
    }

    /// Opens the root once, to say early what would be wrong with it.
    pub fn check(&self) -> Result<(), BuildError> {
        self.open().map(drop)
    }

    /// A tree with nothing in it is none, unless that is allowed.
    pub(super) fn require_entries(&self, tree: &Tree) -> Result<(), BuildError> {
        if tree.entries.is_empty() && !self.allow_empty {
            let path = self.root.clone();
            return Err(BuildError::Empty { path });
        }
        Ok(())
    }

    pub(super) fn open(&self) -> Result<Root, BuildError> {
        let path = &self.root;
        Root::open(path).map_err(|error| BuildError::Root {
            path: path.clone(),
            error,
        })
    }
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The root cannot be opened.
    #[error("{}", describe_root(.path, .error))]
    Root {
        /// As it was named.
        path: PathBuf,
        /// How; the text tells it.
        error: io::Error,
    },
    /// The root cannot be walked.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// What was found cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No place to write to.
    #[error("cannot create a file for the archive")]
    Output(#[source] io::Error),
    /// There is nothing in it, and that is not allowed.
    #[error(
        "nothing in {} belongs to the code, so nothing is archived: is the volume mounted, are the rules too wide? \
         (--allow-empty if it is meant to be)",
        .path.display()
    )]
    Empty {
        /// The root as it was named.
        path: PathBuf,
    },
}

fn describe_root(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no directory {path}: name the one that holds the code")
        }
        io::ErrorKind::NotADirectory => {
            format!("{path} is not a directory: name the one that holds the code")
        }
        io::ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            format!(
                "no permission to read {path} as user {uid}: run as its owner (runAsUser), or let a group read it (fsGroup)"
            )
        }
        _ => format!("cannot open {path}: {error}"),
    }
}

impl BuildError {
    /// Whether the tree did not hold still: another try may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Scan(ScanError::Changed { .. })
                | Self::Archive(ArchiveError::Read(ReadError::Changed { .. }))
        )
    }

    /// Whether what was read is sound, and cannot be written.
    #[must_use]
    pub fn is_about_the_output(&self) -> bool {
        matches!(
            self,
            Self::Output(_) | Self::Archive(ArchiveError::Write { .. })
        )
    }

    /// Whether there is no code where it should be, which mounting a volume may mend.
    #[must_use]
    pub fn is_about_the_root(&self) -> bool {
        matches!(self, Self::Root { .. } | Self::Empty { .. })
    }

    /// Whether there is nothing where the root should be.
    #[must_use]
    pub fn is_missing_root(&self) -> bool {
        matches!(self, Self::Root { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the caller had it end early.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Scan(ScanError::Cancelled) | Self::Archive(ArchiveError::Cancelled)
        )
    }

    /// How a program ends that wanted nothing but this build.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Root { error, .. } => match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::Refused,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Exit::Config,
                _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Exit::Config,
                _ => Exit::Io,
            },
            Self::Empty { .. } => Exit::Config,
            Self::Output(_) => Exit::CannotCreate,
            Self::Scan(error) => match error {
                ScanError::Denied(_) => Exit::Refused,
                ScanError::Rule(_) | ScanError::RulesTooLarge { .. } => Exit::Config,
                ScanError::Changed { .. } | ScanError::Cancelled => Exit::Busy,
                ScanError::Io { .. } => Exit::Io,
            },
            Self::Archive(error) => match error {
                ArchiveError::Read(ReadError::Denied(_)) => Exit::Refused,
                ArchiveError::Read(ReadError::Changed { .. }) | ArchiveError::Cancelled => {
                    Exit::Busy
                }
                ArchiveError::Read(ReadError::Io { .. })
                | ArchiveError::Write { .. }
                | ArchiveError::Thread(_) => Exit::Io,
            },
        }
    }
}

/// Opens the root and walks it.
pub fn walk(source: &Source, cancelled: &dyn Fn() -> bool) -> Result<(Root, Tree), BuildError> {
    let root = source.open()?;
    let tree = tree::scan(&root, &source.scope, cancelled)?;
    source.require_entries(&tree)?;
    Ok((root, tree))
}

/// What an archive would not hold, in the order of paths.
///
/// Files are opened only where those that may not be read are left out, to find out which these are; none is read but
/// those with rules, and those into which a rule looks.
pub fn left_out(source: &Source, cancelled: &dyn Fn() -> bool) -> Result<Vec<LeftOut>, BuildError> {
    while_it_changes(cancelled, || {
        let root = source.open()?;
        let mut tree = tree::scan(&root, &source.scope, cancelled)?;
        if source.scope.unreadable == Unreadable::Skip {
            let denied = tree
                .entries
                .into_iter()
                .filter(|entry| is_denied(&root, entry));
            tree.left_out.extend(denied.map(|entry| LeftOut {
                path: entry.path,
                rule: UNREADABLE.into(),
                by_name: None,
            }));
            tree.left_out.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(tree.left_out)
    })
}

fn is_denied(root: &Root, entry: &Entry) -> bool {
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    entry.kind() == EntryKind::File && root.open_file(&entry.path).is_err_and(denied)
}

/// Builds into what `outputs` opens: the archive and the listing, new and empty for each try.
///
/// Waits for disks and compressors, and up to a second between tries.
pub fn build<A: Output, L: Write>(
    source: &Source,
    outputs: &mut dyn FnMut() -> io::Result<(A, L)>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Sealed, BuildError> {
    while_it_changes(cancelled, || {
        let (root, tree) = walk(source, cancelled)?;
        let (archive, listing) = outputs().map_err(BuildError::Output)?;
        let unreadable = source.scope.unreadable;
        let order = Order {
            options: source.options,
            unreadable,
            cancelled,
            previous: None,
        };
        let outputs = Outputs {
            archive,
            listing,
            cache: None,
        };
        let known = StatCache::empty();
        Ok(archive::seal(&root, &tree, &order, known, outputs)?)
    })
}

/// The listing alone: every file is read, nothing is compressed.
pub fn list(source: &Source, cancelled: &dyn Fn() -> bool) -> Result<Vec<u8>, BuildError> {
    let (_, listing) = survey_all(source, cancelled, Vec::new)?;
    Ok(listing)
}

/// The revision alone: as [`list`], and the listing takes no memory.
pub fn revision(source: &Source, cancelled: &dyn Fn() -> bool) -> Result<Revision, BuildError> {
    let (snapshot, _) = survey_all(source, cancelled, io::sink)?;
    Ok(snapshot.revision)
}

fn survey_all<L: Write>(
    source: &Source,
    cancelled: &dyn Fn() -> bool,
    listing: fn() -> L,
) -> Result<(Snapshot, L), BuildError> {
    while_it_changes(cancelled, || {
        let (root, tree) = walk(source, cancelled)?;
        let sight = Sight {
            source,
            root: &root,
            tree: &tree,
            cancelled,
        };
        survey(sight, StatCache::empty(), None, listing())
    })
}

/// Tries again, a few times, as long as the tree is what stands in the way.
pub(super) fn while_it_changes<T>(
    cancelled: &dyn Fn() -> bool,
    mut work: impl FnMut() -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.is_transient() && !cancelled() => {
                tracing::debug!(error = %sentence(&error), "the tree changed: trying again");
            }
            result => return result,
        }
        sleep(pause);
        pause *= 2;
    }
    work()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second at the most, and on a thread that may wait"
)]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryPath;

    /// How often work is done that meets a change these many times, and whether it succeeds.
    fn tries(changes: u32, cancelled: bool) -> (u32, bool) {
        let mut tries = 0;
        let result = while_it_changes(&|| cancelled, || {
            tries += 1;
            if tries > changes {
                return Ok(());
            }
            let path = EntryPath::new(b"x").expect("a name is a path");
            Err(ScanError::Changed { path }.into())
        });
        (tries, result.is_ok())
    }

    #[test]
    fn a_tree_that_changes_is_looked_at_again_a_few_times() {
        assert_eq!(tries(0, false), (1, true));
        assert_eq!(tries(2, false), (3, true));
        assert_eq!(tries(u32::MAX, false), (TRIES, false));
        assert_eq!(tries(u32::MAX, true), (1, false));
    }
}
