//! Why one attempt failed, and what that means for the next one.

use std::time::Duration;

use hyper::StatusCode;

use super::client::ClientError;
use super::install::InstallError;
use super::plain::PlainError;
use crate::config::url::{BaseUrl, ResourceUrl};
use crate::descriptor::DescriptorError;
use crate::digest::{Digest, Revision};
use crate::exit::Exit;
use crate::unpack::UnpackError;

/// Why an attempt did not bring the tree.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// There was no answer, or only a part of one.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server answered something else.
    #[error("{url} answered \"{status}\" when asked for {resource}{}", what_to_do(*.status))]
    Status {
        /// Of the server.
        url: BaseUrl,
        /// What was asked for.
        resource: String,
        /// What came instead.
        status: StatusCode,
        /// When to come again, as the server wishes.
        retry_after: Option<Duration>,
    },
    /// The revision that is waited for is not there.
    #[error("revision {wanted} is not served; {}", served_instead(*.served))]
    NotServed {
        /// What is waited for.
        wanted: Revision,
        /// What the server has instead.
        served: Option<Revision>,
        /// When to come again, as the server wishes.
        retry_after: Option<Duration>,
    },
    /// The archive that the descriptor describes is not there any more.
    #[error("the archive that the descriptor names is not served any more")]
    Replaced,
    /// The descriptor cannot be used.
    #[error("{url} {}", flawed(.source))]
    Descriptor {
        /// Behind all redirects.
        url: Box<ResourceUrl>,
        /// What is wrong with it.
        source: DescriptorError,
    },
    /// The descriptor is another revision's.
    #[error("the server gave the descriptor of revision {found} for that of {wanted}")]
    WrongRevision {
        /// What was asked for.
        wanted: Revision,
        /// What came.
        found: Revision,
    },
    /// The archive is larger than is allowed here.
    #[error("the archive has {found} {what}, and {limit} are allowed by {flag}")]
    TooLarge {
        /// Bytes or entries.
        what: &'static str,
        /// Where that is configured.
        flag: &'static str,
        /// As the descriptor has it.
        found: u64,
        /// As configured.
        limit: u64,
    },
    /// Another number of bytes is on the way.
    #[error("the server sends an archive of {found} bytes, and the descriptor promises {expected}")]
    Length {
        /// As the descriptor has it.
        expected: u64,
        /// As the server says.
        found: u64,
    },
    /// A range was asked for, and another one is on the way.
    #[error("the server answered a range from byte {asked} with \"{found}\"")]
    Range {
        /// Where it should begin.
        asked: u64,
        /// The answer's `Content-Range`.
        found: String,
    },
    /// A segment is not what the descriptor says.
    #[error(
        "segment {index} of the archive has digest {computed}, and the descriptor promises {expected}"
    )]
    Segment {
        /// Counted from zero.
        index: usize,
        /// As the descriptor has it.
        expected: Digest,
        /// Of the bytes that came.
        computed: Digest,
    },
    /// The bytes around the segments are not those of a gzip member with this content.
    #[error("the archive's gzip {part} does not fit its content")]
    Frame {
        /// Header or trailer.
        part: &'static str,
    },
    /// What came cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// An archive of a plain web server is not taken.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// The segments are as promised, and their content is not.
    #[error("the content has {what} {found}, and the descriptor promises {promised}")]
    Content {
        /// What was compared.
        what: &'static str,
        /// As the descriptor has it.
        promised: String,
        /// As computed from what was written.
        found: String,
    },
    /// What came and what the target has already do not make the tree. Without the target's part they may.
    #[error("what the target holds does not fit what came")]
    Patchwork(#[source] Box<AttemptError>),
    /// The target does not take what came.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Time was up before it ended.
    #[error("{url} {}", how_far(*.came))]
    Unfinished {
        /// Of the server.
        url: BaseUrl,
        /// How many bytes of the archive are there, and how many it has; `None` where not even that is known.
        came: Option<(u64, u64)>,
    },
}

/// What an error says about the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may well succeed.
    Transient,
    /// What is waited for may still come.
    NotYet,
    /// It may succeed if the damage came from the way; not if it happens again and again.
    Damaged,
    /// It would fail likewise, if the same server is asked.
    Permanent,
    /// It would fail likewise, whoever is asked: something on this side is in the way.
    Ours,
}

impl AttemptError {
    /// Whether to try again.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        match self {
            Self::Client(error) => match error {
                ClientError::UnknownHost { .. }
                | ClientError::LookupTimeout { .. }
                | ClientError::Refused { .. }
                | ClientError::Connect { .. }
                | ClientError::Handshake { .. }
                | ClientError::HandshakeTimeout { .. }
                | ClientError::NoAnswer { .. }
                | ClientError::Broken { .. }
                | ClientError::Short { .. }
                | ClientError::Stalled { .. } => Outlook::Transient,
                ClientError::TooLong { .. }
                | ClientError::Certificate { .. }
                | ClientError::Redirect { .. }
                | ClientError::Trust { .. } => Outlook::Permanent,
            },
            Self::Status { status, .. } if may_pass(*status) => Outlook::Transient,
            Self::Plain(error) => error.outlook(),
            Self::NotServed { .. } => Outlook::NotYet,
            Self::Replaced | Self::Patchwork(_) | Self::Unfinished { .. } => Outlook::Transient,
            Self::Length { .. }
            | Self::Range { .. }
            | Self::Segment { .. }
            | Self::Frame { .. }
            | Self::Descriptor {
                source: DescriptorError::Malformed(_),
                ..
            } => Outlook::Damaged,
            Self::Unpack(error) if error.exit() != Exit::Data => Outlook::Ours,
            Self::TooLarge { .. } | Self::Install(_) => Outlook::Ours,
            Self::Status { .. }
            | Self::Descriptor { .. }
            | Self::WrongRevision { .. }
            | Self::Unpack(_)
            | Self::Content { .. } => Outlook::Permanent,
        }
    }

    /// How the program ends when this was the last attempt.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Refused,
                _ => Exit::Unavailable,
            },
            Self::Client(ClientError::TooLong { .. })
            | Self::Descriptor { .. }
            | Self::WrongRevision { .. }
            | Self::TooLarge { .. }
            | Self::Length { .. }
            | Self::Range { .. }
            | Self::Segment { .. }
            | Self::Frame { .. }
            | Self::Content { .. } => Exit::Data,
            Self::Client(ClientError::Trust { .. }) => Exit::Config,
            Self::Plain(error) => error.exit(),
            Self::Unpack(error) => error.exit(),
            Self::Install(error) => error.exit(),
            Self::Patchwork(error) => error.exit(),
            Self::Client(_) | Self::NotServed { .. } | Self::Replaced | Self::Unfinished { .. } => {
                Exit::Unavailable
            }
        }
    }

    /// When the server wishes to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::NotServed { retry_after, .. } => *retry_after,
            Self::Plain(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// The part of a [`AttemptError::Frame`] before the segments.
pub(super) const HEADER: &str = "header";
/// The part of a [`AttemptError::Frame`] behind the segments.
pub(super) const TRAILER: &str = "trailer";

/// Whether a status speaks of this moment alone.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

fn what_to_do(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": give it a token that it knows with --token-file"
        }
        StatusCode::NOT_FOUND => {
            ": give the base URL of a code-server, or of an archive one that ends with .tar.gz, .tgz or .tar"
        }
        _ => "",
    }
}

fn flawed(error: &DescriptorError) -> &'static str {
    match error {
        DescriptorError::Malformed(_) => "is not what a code-server answers",
        _ => "cannot be used",
    }
}

fn how_far(came: Option<(u64, u64)>) -> String {
    match came {
        Some((came, size)) => format!("had sent {came} of the archive's {size} bytes by then"),
        None => "had not answered by then".into(),
    }
}

fn served_instead(served: Option<Revision>) -> String {
    match served {
        Some(revision) => format!("the server has {revision}"),
        None => "the server does not say what it has".into(),
    }
}
