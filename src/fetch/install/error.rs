use std::io;
use std::path::PathBuf;

use rustix::process::geteuid;

use super::space::Shortfall;
use crate::entry::EntryPath;
use crate::exit::Exit;

/// Why a tree is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The target is no directory, or cannot be made one.
    #[error("cannot use {} as target{}", .path.display(), what_to_do(.source))]
    Target {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What an earlier run has left in the target is not for this one.
    #[error(
        "cannot use {}, which should be a directory of this user's own: remove it as the user who made it, or run as that one",
        .path.display()
    )]
    Hidden {
        /// The hidden directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process installs into it.
    #[error("another fetch-init is at work in {}", .path.display())]
    Busy {
        /// As configured.
        path: PathBuf,
    },
    /// A file of the tree has the name of a directory that holds other things.
    #[error(
        "\"{directory}\" in the target holds \"{entry}\", which was not fetched, and the tree has a file in its place"
    )]
    InTheWay {
        /// What the tree has as a file or a link.
        directory: EntryPath,
        /// What would be lost.
        entry: EntryPath,
    },
    /// What the tree has cannot be moved to where another volume is.
    #[error(
        "another volume is mounted on \"{path}\" in the target, and the tree has files there: mount it elsewhere, or leave them out of the tree"
    )]
    Mounted {
        /// The mount point.
        path: EntryPath,
    },
    /// The tree has a name that is needed here.
    #[error("the tree has an entry \"{name}\", a name that is kept for the installation itself")]
    Reserved {
        /// Which one.
        name: &'static str,
    },
    /// Something else has a name that is needed here.
    #[error(
        "\"{name}\" in the target was not made by fetch-init: remove it, or choose another target"
    )]
    Foreign {
        /// Which one.
        name: &'static str,
    },
    /// An earlier run was told another layout.
    #[error("{} holds a tree of --layout={found}: choose another target for the other layout", .path.display())]
    Layout {
        /// As configured.
        path: PathBuf,
        /// What the target was made with.
        found: &'static str,
    },
    /// The file system of the target is too full for it.
    #[error("the file system of {} {shortfall}", .path.display())]
    NoRoom {
        /// As configured.
        path: PathBuf,
        /// What there is too little of.
        shortfall: Shortfall,
    },
    /// The target cannot be changed or read.
    #[error("cannot {action} \"{path}\" in the target")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: EntryPath,
        /// What the system said.
        source: io::Error,
    },
}

impl InstallError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Target { .. }
            | Self::Hidden { .. }
            | Self::InTheWay { .. }
            | Self::Mounted { .. }
            | Self::Foreign { .. }
            | Self::Layout { .. } => Exit::CannotCreate,
            Self::Busy { .. } => Exit::Busy,
            Self::Reserved { .. } => Exit::Data,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::CannotCreate
            }
            Self::NoRoom { .. } | Self::Io { .. } => Exit::Io,
        }
    }

    /// What a failure to do something with a name is.
    pub(super) fn io(action: &'static str, path: &EntryPath) -> impl FnOnce(io::Error) -> Self {
        let path = path.clone();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What a volume has to be like, as far as it is known by the failure that it is not.
fn what_to_do(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => ", whose parent is not there (is the volume mounted?)".into(),
        io::ErrorKind::ReadOnlyFilesystem => {
            ", where a volume has to be mounted that can be written".into()
        }
        io::ErrorKind::PermissionDenied => {
            let user = geteuid().as_raw();
            format!(", which user {user} has to own or to be let in by a group (fsGroup in a pod)")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::sentence;

    #[test]
    fn a_target_that_cannot_be_used_is_told_with_what_it_takes() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let (path, source) = (PathBuf::from("/app"), kind.into());
            let text = sentence(&InstallError::Target { path, source });
            assert!(text.starts_with("cannot use /app as target"), "{text}");
            assert!(text.contains(expected), "{text}");
        };
        check(io::ErrorKind::NotFound, "is the volume mounted");
        check(io::ErrorKind::ReadOnlyFilesystem, "can be written");
        let user = format!("user {} ", geteuid().as_raw());
        check(io::ErrorKind::PermissionDenied, &user);
        check(io::ErrorKind::NotADirectory, "target: not a directory");
    }
}
