use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::entry::Escaped;
use crate::exit::Exit;
use crate::publication::build::BuildError;
use crate::snapshot::ReadError;
use crate::tree::{RuleError, ScanError};
use crate::unpack::UnpackError;

/// Why a tree was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// An `--exclude` pattern cannot be understood.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// There is no directory that could hold the tree, or it cannot be worked in.
    #[error("cannot use {}, the directory that is to hold the tree", shown(.path))]
    Parent {
        /// Of the root.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The root is something that cannot change places with a directory.
    #[error("{} is {what}, and cannot be exchanged: {}", shown(.root), one_level_higher(.root))]
    Fixed {
        /// As it was named, made absolute.
        root: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Something is mounted in the tree, and would go with it.
    #[error(
        "{} is a mount point within the tree, and would go away with the old one: unmount it, or mount it elsewhere",
        shown(.inside)
    )]
    MountedInside {
        /// Where.
        inside: PathBuf,
    },
    /// The root is no directory.
    #[error("{} is not a directory: name the one that holds the code, or is to hold it", shown(.root))]
    NotADirectory {
        /// As it was named, made absolute.
        root: PathBuf,
    },
    /// Another ingest has the lock.
    #[error("another ingest is at work in {}: try again when it has ended", shown(.parent))]
    Busy {
        /// The directory that is locked.
        parent: PathBuf,
    },
    /// The one who asked for the ingest meant to replace something else than what is there.
    #[error("the tree is not the one that was to be replaced")]
    Precondition,
    /// The input has no byte.
    #[error("the input is empty, and should be a tar or a tar.gz")]
    NoInput,
    /// The input is something else.
    #[error("the input is {what}, and should be a tar or a tar.gz")]
    Coding {
        /// What it looks like.
        what: &'static str,
    },
    /// The archive is hostile, broken, cut off or beyond the limits, or cannot be written.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The archive goes on and on.
    #[error("the archive has more than {limit} bytes when it is decompressed")]
    TooLong {
        /// In bytes.
        limit: u64,
    },
    /// Something follows the archive.
    #[error(
        "there is something behind the archive's end, so it is more than one archive, or damaged"
    )]
    Behind,
    /// The file system is too full for it.
    #[error(
        "the archive needs {} bytes, and the file system of {} has {free} left: make room, or let the volume grow",
        at_least(*.needed),
        shown(.parent)
    )]
    NoSpace {
        /// In bytes; `None`: more than there are.
        needed: Option<u64>,
        /// In bytes.
        free: u64,
        /// The directory that holds the tree.
        parent: PathBuf,
    },
    /// By the rules nothing would be served of it.
    #[error(
        "nothing in the archive belongs to the code, so nothing is replaced (--allow-empty if it is meant to be)"
    )]
    Nothing,
    /// The new tree could not be served.
    #[error(transparent)]
    Build(BuildError),
    /// The place beside the root cannot be worked in.
    #[error("cannot {what} {}", shown(.path))]
    Staging {
        /// What was to be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new tree cannot be put into its place.
    #[error("cannot put the new tree into the place of {}", shown(.root))]
    Exchange {
        /// As it was named, made absolute.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller wanted no more.
    #[error("cancelled before anything was replaced")]
    Cancelled,
}

/// A path as it may be shown.
fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_encoded_bytes()).to_string()
}

fn at_least(needed: Option<u64>) -> String {
    needed.map_or_else(|| "more".into(), |needed| format!("at least {needed}"))
}

/// What to do about a root that is mounted or linked.
fn one_level_higher(root: &Path) -> String {
    match root.parent().filter(|parent| parent.parent().is_some()) {
        Some(parent) => format!(
            "mount the volume one level higher: {}, and serve {}",
            shown(parent),
            shown(root)
        ),
        None => format!(
            "serve a directory within it, such as {}",
            shown(&root.join("workspace"))
        ),
    }
}

impl IngestError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Rule(_) => Exit::Usage,
            Self::Parent { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Exit::Refused,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Exit::Config,
                _ => Exit::Io,
            },
            Self::NotADirectory { .. } => Exit::Config,
            Self::Fixed { .. } | Self::MountedInside { .. } => Exit::CannotCreate,
            Self::Busy { .. } | Self::Precondition | Self::Cancelled => Exit::Busy,
            Self::NoInput
            | Self::Coding { .. }
            | Self::TooLong { .. }
            | Self::Behind
            | Self::Nothing => Exit::Data,
            Self::Unpack(error) => error.exit(),
            Self::Build(error) => error.exit(),
            Self::NoSpace { .. } | Self::Exchange { .. } => Exit::Io,
            Self::Staging { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Exit::CannotCreate
                }
                _ => Exit::Io,
            },
        }
    }

    /// Whether the archive itself is at fault, so that its sender has to mend it and no other try helps.
    #[must_use]
    pub fn is_about_the_archive(&self) -> bool {
        match self {
            Self::NoInput
            | Self::Coding { .. }
            | Self::TooLong { .. }
            | Self::Behind
            | Self::Nothing => true,
            Self::Unpack(error) => error.exit() == Exit::Data,
            Self::Build(error) => matches!(
                error,
                BuildError::Scan(
                    ScanError::Rule(_) | ScanError::RulesTooLarge { .. } | ScanError::Denied(_)
                ) | BuildError::Archive(ArchiveError::Read(ReadError::Denied(_)))
            ),
            _ => false,
        }
    }

    /// Whether the file system has no room for it.
    #[must_use]
    pub fn is_about_space(&self) -> bool {
        let source = match self {
            Self::NoSpace { .. } => return true,
            Self::Unpack(UnpackError::Write { source, .. })
            | Self::Staging { source, .. }
            | Self::Exchange { source, .. } => source,
            _ => return false,
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

impl From<BuildError> for IngestError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Empty { .. } => Self::Nothing,
            error if error.is_cancelled() => Self::Cancelled,
            error => Self::Build(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_exchanged_is_told_where_to_mount() {
        let check = |root: &str, expected: &str| {
            let root = root.into();
            let what = "a mount point";
            let text = IngestError::Fixed { root, what }.to_string();
            assert_eq!(text, format!("{expected}"));
        };
        check(
            "/data/workspace",
            "/data/workspace is a mount point, and cannot be exchanged: mount the volume one level higher: /data, and serve \
             /data/workspace",
        );
        check(
            "/data",
            "/data is a mount point, and cannot be exchanged: serve a directory within it, such as /data/workspace",
        );
    }

    #[test]
    fn space_is_told_in_figures() {
        let error = |needed| IngestError::NoSpace {
            needed,
            free: 7,
            parent: "/da\nta".into(),
        };
        let start = |text: String| text.split(':').next().unwrap().to_owned();
        assert_eq!(
            start(error(Some(10)).to_string()),
            "the archive needs at least 10 bytes, and the file system of /da\\nta has 7 left"
        );
        assert!(error(None).to_string().contains("needs more bytes"));
    }
}
