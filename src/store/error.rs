//! Why a state directory, or something in it, cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be made.
    #[error("cannot create the state directory {}", .path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Somebody else could have put anything into it.
    #[error(
        "the state directory {} is a link, or not ours, or others may write to it: remove it, or name another one \
         with --state-dir",
        .path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// What would be emptied in it is not known to be ours.
    #[error(
        "{} is no state directory, and holds something named staging or artifacts, which a state directory empties: \
         name an empty directory with --state-dir",
        .path.display()
    )]
    Occupied {
        /// Which.
        path: PathBuf,
    },
    /// Something in it cannot be read or written.
    #[error("cannot use {}", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
