//! Which predecessors of the current archive a server keeps.

use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// As typed.
#[derive(Debug, Args)]
pub(super) struct RetentionArgs {
    /// How many archives are kept at least, the current one among them
    #[arg(long, value_name = "N", default_value_t = 3, env = "CODE_SERVER_KEEP", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,

    /// How long an archive is kept after it was published or asked for
    #[arg(long, value_name = "DURATION", default_value = "720h", env = "CODE_SERVER_KEEP_FOR", value_parser = duration)]
    keep_for: Duration,

    /// How much disk all archives may take; the oldest go first, the current one and those being downloaded never
    #[arg(long, value_name = "SIZE", default_value = "2Gi", env = "CODE_SERVER_STATE_SIZE", value_parser = size)]
    state_size: u64,
}

/// As decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// So many archives stay at least, one or more.
    pub keep: usize,
    /// How long others stay after they were published or asked for.
    pub keep_for: Duration,
    /// The bytes of disk that all of them may take.
    pub state_size: u64,
}

impl RetentionArgs {
    pub(super) fn decide(self) -> RetentionConfig {
        RetentionConfig {
            keep: usize::try_from(self.keep).unwrap_or(usize::MAX),
            keep_for: self.keep_for,
            state_size: self.state_size,
        }
    }
}
