//! What `code-server ingest` is told, and what `serve` is told about uploads.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::tree::{TreeArgs, TreeConfig};
use super::{ConfigError, duration, size};

/// What an archive may bring, as typed.
#[derive(Debug, Args)]
struct LimitArgs {
    /// The most that all files of an uploaded archive may hold together
    #[arg(long, value_name = "SIZE", default_value = "2Gi", env = "CODE_SERVER_INGEST_MAX_SIZE", value_parser = size)]
    ingest_max_size: u64,

    /// The most directories, files and links that an uploaded archive may have
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        env = "CODE_SERVER_INGEST_MAX_ENTRIES"
    )]
    ingest_max_entries: u64,
}

/// As typed.
#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    #[command(flatten)]
    tree: TreeArgs,

    /// Where the server of ROOT keeps its archives: it is asked whether it serves what was put in [default: the one that it
    /// has by default]
    #[arg(long, value_name = "DIR", env = "CODE_SERVER_STATE_DIR")]
    state_dir: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,

    /// How long to wait until the server serves it
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "CODE_SERVER_INGEST_TIMEOUT", value_parser = duration)]
    timeout: Duration,
}

/// As decided.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// What is replaced, and what of it is served.
    pub tree: TreeConfig,
    /// The server's; `None`: the one by default.
    pub state_dir: Option<PathBuf>,
    /// Content of all files, in bytes.
    pub max_size: u64,
    /// Directories, files and links.
    pub max_entries: u64,
    /// For the server's confirmation.
    pub timeout: Duration,
}

impl IngestArgs {
    pub(super) fn decide(self) -> Result<IngestConfig, ConfigError> {
        Ok(IngestConfig {
            tree: self
                .tree
                .decide(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())?,
            state_dir: self.state_dir,
            max_size: self.limits.ingest_max_size,
            max_entries: self.limits.ingest_max_entries,
            timeout: self.timeout,
        })
    }
}

/// What `serve` is told about uploads, as typed.
#[derive(Debug, Args)]
pub(super) struct UploadArgs {
    /// Take uploads (PUT /code.tar.gz) from those who know the token in this file; it is read again when it changes
    #[arg(long, value_name = "FILE", env = "CODE_SERVER_WRITE_TOKEN_FILE")]
    write_token_file: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,
}

/// What `serve` is told about uploads, as decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// Holds the token of those who may upload; `None`: nobody may.
    pub token_file: Option<PathBuf>,
    /// Content of all files, in bytes, and the most that is sent.
    pub max_size: u64,
    /// Directories, files and links.
    pub max_entries: u64,
}

impl UploadArgs {
    pub(super) fn decide(self) -> UploadConfig {
        UploadConfig {
            token_file: self.write_token_file,
            max_size: self.limits.ingest_max_size,
            max_entries: self.limits.ingest_max_entries,
        }
    }
}
