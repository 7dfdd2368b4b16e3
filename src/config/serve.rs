//! What `code-server serve` is told.

use std::ffi::OsStr;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::access::{AccessArgs, AccessConfig};
use super::ingest::{UploadArgs, UploadConfig};
use super::retention::{RetentionArgs, RetentionConfig};
use super::tree::{TreeArgs, TreeConfig};
use super::watch::{WatchArgs, WatchConfig};
use super::{ConfigError, LogFormatArg, duration};
use crate::telemetry::LogFormat;

/// As typed.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; `[::]` stands for every address, IPv4 ones too
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", env = "CODE_SERVER_LISTEN", value_parser = listen_address)]
    listen: SocketAddr,

    /// Where archives are kept; not on a memory-backed file system [default: a private one below the directory for
    /// temporary files]
    #[arg(long, value_name = "DIR", env = "CODE_SERVER_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// The form of log lines
    #[arg(long, value_enum, default_value_t, env = "CODE_SERVER_LOG_FORMAT")]
    log_format: LogFormatArg,

    #[command(flatten, next_help_heading = "What belongs to the code")]
    tree: TreeArgs,

    #[command(flatten, next_help_heading = "When it is built")]
    watch: WatchArgs,

    #[command(flatten, next_help_heading = "What is kept")]
    retention: RetentionArgs,

    #[command(flatten, next_help_heading = "Who may ask, and how")]
    access: AccessArgs,

    #[command(flatten, next_help_heading = "Uploads")]
    upload: UploadArgs,

    #[command(flatten, next_help_heading = "Limits")]
    limits: ServeLimitArgs,
}

/// How much at a time, and how long, as typed.
#[derive(Debug, Args)]
struct ServeLimitArgs {
    /// How many archives are sent at a time; more downloads wait for their turn, and get it sooner if the clients are slower
    /// than the link
    #[arg(long, value_name = "N", default_value_t = 2, env = "CODE_SERVER_MAX_DOWNLOADS", value_parser = clap::value_parser!(u32).range(1..))]
    max_downloads: u32,

    /// How many connections may be open at a time; more of them wait to be accepted [default: one for each 32 KiB of the
    /// memory limit, 10000 without one]
    #[arg(long, value_name = "N", env = "CODE_SERVER_MAX_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// How long a client may take to send the head of a request
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "CODE_SERVER_HEADER_TIMEOUT", value_parser = duration)]
    header_timeout: Duration,

    /// How long a client may take no byte of an answer, or send none of an upload, before its connection is cut
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        env = "CODE_SERVER_STALL_TIMEOUT",
        value_parser = duration
    )]
    stall_timeout: Duration,

    /// How long running downloads may go on after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "20s", env = "CODE_SERVER_DRAIN_TIMEOUT", value_parser = duration)]
    drain_timeout: Duration,
}

/// As decided.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// What is served.
    pub tree: TreeConfig,
    /// How its changes are noticed.
    pub watch: WatchConfig,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where archives are kept; `None`: a private place by default.
    pub state_dir: Option<PathBuf>,
    /// Which archives are kept there.
    pub retention: RetentionConfig,
    /// Who may ask, and how.
    pub access: AccessConfig,
    /// Who may replace what is served, and by how much.
    pub upload: UploadConfig,
    /// Archives sent at a time, where the link limits.
    pub max_downloads: usize,
    /// Connections open at a time; `None`: as many as the machine has memory for.
    pub max_connections: Option<usize>,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For a client that takes nothing.
    pub stall_timeout: Duration,
    /// For running downloads at the end.
    pub drain_timeout: Duration,
    /// The form of log lines.
    pub log_format: LogFormat,
}

impl ServeArgs {
    pub(super) fn decide(self) -> Result<ServeConfig, ConfigError> {
        if self.access.shares(self.listen) {
            return Err(ConfigError::OneListener(self.listen));
        }
        let (watch, limits) = (self.watch.decide(), self.limits);
        let mut tree = self
            .tree
            .decide(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())?;
        // It says something about the tree, and is no part of it.
        tree.excludes
            .extend(watch.hold_file.as_deref().map(pattern_of));
        Ok(ServeConfig {
            tree,
            watch,
            listen: self.listen,
            state_dir: self.state_dir,
            retention: self.retention.decide(),
            access: self.access.decide(),
            upload: self.upload.decide(),
            max_downloads: count(limits.max_downloads),
            max_connections: limits.max_connections.map(count),
            header_timeout: limits.header_timeout,
            stall_timeout: limits.stall_timeout,
            drain_timeout: limits.drain_timeout,
            log_format: self.log_format.into(),
        })
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The pattern of this name in the root, and of no other.
fn pattern_of(name: &OsStr) -> String {
    let mut pattern = String::from("/");
    for character in name.to_string_lossy().chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ' ') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// `127.0.0.1:8080`, `[::]:8080`, or `:8080` for every address.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    text.parse()
        .map_err(|_| "expected an address with a port, such as 127.0.0.1:8080 or [::]:8080".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_addresses_with_ports() {
        let check = |text: &str, expected: &str| {
            assert_eq!(listen_address(text).unwrap().to_string(), expected);
        };
        check("127.0.0.1:0", "127.0.0.1:0");
        check("[::1]:8080", "[::1]:8080");
        check(":8080", "[::]:8080");
        for text in [
            "",
            "8080",
            "localhost:8080",
            "127.0.0.1",
            ":",
            ":http",
            "::1:8080:",
        ] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
