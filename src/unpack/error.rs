use std::io;

use crate::entry::{EntryPath, Escaped};
use crate::exit::Exit;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The one who gives the archive failed.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The archive ends before its end.
    #[error("the archive is cut off")]
    Truncated,
    /// A header is none.
    #[error("the archive is malformed")]
    Malformed(#[source] io::Error),
    /// Names and attributes of one entry take more than any entry needs.
    #[error("the archive has a header of more than {limit} bytes")]
    HeaderTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// A name is empty, absolute, has `..` in it, or is longer than programs can open.
    #[error("the archive names \"{}\", which cannot lie beneath a directory", Escaped(.name))]
    Name {
        /// As the archive has it.
        name: Box<[u8]>,
    },
    /// Neither file nor directory nor link.
    #[error(
        "\"{path}\" in the archive is a {kind}, and only files, directories and links are taken"
    )]
    Kind {
        /// Where it would lie.
        path: EntryPath,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries have one name.
    #[error("\"{path}\" is in the archive twice")]
    Twice {
        /// Where they would lie.
        path: EntryPath,
    },
    /// An entry lies beneath a file or a link.
    #[error("\"{path}\" in the archive lies beneath \"{parent}\", which is not a directory")]
    Through {
        /// Where it would lie.
        path: EntryPath,
        /// What the archive has there.
        parent: EntryPath,
    },
    /// A hard link does not refer to a file that the archive brought before.
    #[error("\"{path}\" in the archive is a hard link to \"{}\", which is no file before it", Escaped(.target))]
    HardLink {
        /// Where it would lie.
        path: EntryPath,
        /// As the archive has it.
        target: Box<[u8]>,
    },
    /// A link's target is empty or longer than a file system takes.
    #[error("the link \"{path}\" in the archive has a target of {length} bytes")]
    LinkTarget {
        /// Where it would lie.
        path: EntryPath,
        /// In bytes.
        length: usize,
    },
    /// A directory or a link has content.
    #[error("\"{path}\" in the archive has content, and is no file")]
    Content {
        /// Where it would lie.
        path: EntryPath,
    },
    /// It has more entries than allowed.
    #[error("the archive has more than {limit} entries")]
    TooManyEntries {
        /// How many are allowed.
        limit: u64,
    },
    /// Its files hold more than allowed.
    #[error("the archive's files hold more than {limit} bytes; \"{path}\" is the one too many")]
    TooManyBytes {
        /// In bytes.
        limit: u64,
        /// The file with which it goes beyond.
        path: EntryPath,
    },
    /// An entry cannot be written; most often since the file system is full.
    #[error("cannot write \"{path}\"")]
    Write {
        /// What was being written.
        path: EntryPath,
        /// What the system said.
        source: io::Error,
    },
    /// The listing cannot be written.
    #[error("cannot write the listing")]
    Listing(#[source] io::Error),
    /// The system gives no threads.
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
}

impl UnpackError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Read(error) if error.kind() != io::ErrorKind::InvalidData => Exit::Io,
            Self::Read(_)
            | Self::Truncated
            | Self::Malformed(_)
            | Self::HeaderTooLarge { .. }
            | Self::Name { .. }
            | Self::Kind { .. }
            | Self::Twice { .. }
            | Self::Through { .. }
            | Self::HardLink { .. }
            | Self::LinkTarget { .. }
            | Self::Content { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyBytes { .. } => Exit::Data,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::CannotCreate
            }
            Self::Write { .. } | Self::Listing(_) | Self::Threads(_) => Exit::Io,
        }
    }

    /// What a failed write of this entry is.
    pub(super) fn write(path: &EntryPath, source: io::Error) -> Self {
        let path = path.clone();
        match source.kind() {
            io::ErrorKind::InvalidFilename => Self::Name {
                name: path.as_bytes().into(),
            },
            _ => Self::Write { path, source },
        }
    }
}
