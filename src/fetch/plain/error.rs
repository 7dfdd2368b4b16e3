use std::time::Duration;

use hyper::StatusCode;

use super::super::attempt::{Outlook, may_pass};
use crate::config::url::ResourceUrl;
use crate::digest::{Digest, Revision};
use crate::entry::Escaped;
use crate::exit::Exit;
use crate::unpack::UnpackError;

/// Why a plain web server's archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    /// The server answered something else.
    #[error("{url} answered \"{status}\"{}", what_to_do(*.status))]
    Status {
        /// Behind all redirects.
        url: Box<ResourceUrl>,
        /// What came instead.
        status: StatusCode,
        /// When to come again, as the server wishes.
        retry_after: Option<Duration>,
    },
    /// What came is no archive, or not a whole one, or not one to be unpacked.
    #[error("what {url} has cannot be taken")]
    Flawed {
        /// Behind all redirects.
        url: Box<ResourceUrl>,
        /// What is wrong with it.
        source: Flaw,
    },
    /// It is another archive.
    #[error("what {url} has is {computed}, and --sha256 says {expected}")]
    Digest {
        /// Behind all redirects.
        url: Box<ResourceUrl>,
        /// As configured.
        expected: Digest,
        /// Of all bytes that came.
        computed: Digest,
    },
    /// It holds another tree.
    #[error("what {url} has unpacks to revision {computed}, and --revision says {expected}")]
    Revision {
        /// Behind all redirects.
        url: Box<ResourceUrl>,
        /// As configured.
        expected: Revision,
        /// Of the tree as it was written.
        computed: Revision,
    },
    /// Time was up before it ended.
    #[error("{url} {}", how_far(*.came, *.size))]
    Unfinished {
        /// As configured.
        url: Box<ResourceUrl>,
        /// In bytes.
        came: u64,
        /// Of the whole archive in bytes, where the server told.
        size: Option<u64>,
    },
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// There is not a byte.
    #[error("it is empty")]
    Empty,
    /// It is something else, most often a page that says why.
    #[error("it is neither a gzip nor a tar, and begins with \"{}\"", Escaped(.begins))]
    Neither {
        /// A few bytes.
        begins: Box<[u8]>,
    },
    /// The gzip stream ends before its end.
    #[error("its gzip stream is cut off")]
    Cut,
    /// The gzip stream cannot be inflated, or its sum does not fit.
    #[error("its gzip stream is damaged")]
    Damaged,
    /// There is something behind the end.
    #[error("something that is no part of an archive follows its end")]
    Followed,
    /// There is more in it than is allowed.
    #[error("it is a tar of more than {limit} bytes; a larger --max-size would allow it")]
    TooLong {
        /// In bytes.
        limit: u64,
    },
    /// What is in it cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

impl PlainError {
    /// Whether to try again.
    pub(in crate::fetch) fn outlook(&self) -> Outlook {
        match self {
            Self::Status { status, .. } if may_pass(*status) => Outlook::Transient,
            Self::Status { .. } => Outlook::Permanent,
            Self::Flawed { source, .. } => source.outlook(),
            Self::Digest { .. } | Self::Revision { .. } => Outlook::Damaged,
            Self::Unfinished { .. } => Outlook::Transient,
        }
    }

    /// How the program ends when this was the last attempt.
    pub(in crate::fetch) fn exit(&self) -> Exit {
        match self {
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Refused,
                _ => Exit::Unavailable,
            },
            Self::Flawed { source, .. } => source.exit(),
            Self::Digest { .. } | Self::Revision { .. } => Exit::Data,
            Self::Unfinished { .. } => Exit::Unavailable,
        }
    }

    /// When the server wishes to be asked again.
    pub(in crate::fetch) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Flawed { .. }
            | Self::Digest { .. }
            | Self::Revision { .. }
            | Self::Unfinished { .. } => None,
        }
    }
}

impl Flaw {
    /// A tar or a gzip stream that makes no sense may have been damaged on its way; one that asks for what is not allowed
    /// was made so.
    fn outlook(&self) -> Outlook {
        match self {
            Self::Empty | Self::Neither { .. } | Self::Cut | Self::Damaged | Self::Followed => {
                Outlook::Damaged
            }
            Self::Unpack(UnpackError::Truncated | UnpackError::Malformed(_)) => Outlook::Damaged,
            Self::Unpack(error) if error.exit() != Exit::Data => Outlook::Ours,
            Self::TooLong { .. } | Self::Unpack(_) => Outlook::Permanent,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unpack(error) => error.exit(),
            Self::Empty
            | Self::Neither { .. }
            | Self::Cut
            | Self::Damaged
            | Self::Followed
            | Self::TooLong { .. } => Exit::Data,
        }
    }
}

fn what_to_do(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": give it a token that it knows with --token-file, or a URL whose signature has not expired"
        }
        _ => "",
    }
}

fn how_far(came: u64, size: Option<u64>) -> String {
    match (came, size) {
        (0, _) => "had not answered by then".into(),
        (_, Some(size)) => format!("had sent {came} of the archive's {size} bytes by then"),
        (_, None) => format!("had sent {came} bytes of the archive by then"),
    }
}
