//! Which directory becomes an archive, and how: what `serve` and `pack` have in common.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ConfigError;
use crate::entry::Modes;

/// As typed.
#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    /// The directory that holds the code
    #[arg(value_name = "ROOT", help_heading = None::<&str>)]
    root: PathBuf,

    /// Leave out what matches this pattern, in the grammar of .gitignore; `!pattern` takes it back in. Repeatable; in the
    /// environment one pattern a line
    #[arg(
        long,
        value_name = "GLOB",
        env = "CODE_SERVER_EXCLUDE",
        value_delimiter = '\n'
    )]
    exclude: Vec<String>,

    /// Take in what is left out by default: version control, editors' swap files, secrets
    #[arg(long, env = "CODE_SERVER_NO_DEFAULT_EXCLUDES")]
    no_default_excludes: bool,

    /// What to do about an entry that may not be read
    #[arg(long, value_enum, default_value_t, env = "CODE_SERVER_UNREADABLE")]
    unreadable: UnreadableArg,

    /// Archive a directory in which nothing belongs to the code, instead of taking it for a volume that is not mounted
    #[arg(long, env = "CODE_SERVER_ALLOW_EMPTY")]
    allow_empty: bool,

    /// How permission bits travel: normal is 0755 for directories and what may be executed, and else 0644
    #[arg(long, value_enum, default_value_t, env = "CODE_SERVER_MODES")]
    modes: ModesArg,

    /// One time for all entries, in seconds since 1970 [default: each its own, or `SOURCE_DATE_EPOCH` where that is set]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "CODE_SERVER_MTIME",
        allow_negative_numbers = true
    )]
    mtime: Option<i64>,

    /// Compression, from 1 (fast) to 9 (small)
    #[arg(long, default_value_t = 6, env = "CODE_SERVER_LEVEL", value_parser = clap::value_parser!(u32).range(1..=9))]
    level: u32,

    /// Threads that compress [default: as many as there are cores to use]
    #[arg(long, value_name = "THREADS", env = "CODE_SERVER_WORKERS", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum UnreadableArg {
    /// Give up, and say which it is
    #[default]
    Fail,
    /// Leave it out, and report it
    Skip,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModesArg {
    /// The same for everybody who checks out the same code
    #[default]
    Normal,
    /// As found, but for set-id and sticky bits
    Keep,
}

/// As decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeConfig {
    /// The directory that holds the code.
    pub root: PathBuf,
    /// Patterns of what to leave out.
    pub excludes: Vec<String>,
    /// Whether the built-in patterns hold.
    pub default_excludes: bool,
    /// Whether an entry that may not be read is left out, or an error.
    pub skip_unreadable: bool,
    /// Whether a tree without entries is one.
    pub allow_empty: bool,
    /// How permission bits travel.
    pub modes: Modes,
    /// One time for all entries, in seconds since 1970.
    pub mtime: Option<i64>,
    /// From 1 to 9.
    pub level: u32,
    /// Threads that compress.
    pub workers: NonZeroUsize,
}

impl TreeArgs {
    /// Decides; `source_date_epoch` is the variable of that name.
    pub(super) fn decide(
        self,
        source_date_epoch: Option<&OsStr>,
    ) -> Result<TreeConfig, ConfigError> {
        let mtime = match self.mtime {
            Some(seconds) => Some(seconds),
            None => source_date_epoch.map(parse_epoch).transpose()?,
        };
        Ok(TreeConfig {
            root: self.root,
            excludes: self.exclude,
            default_excludes: !self.no_default_excludes,
            skip_unreadable: matches!(self.unreadable, UnreadableArg::Skip),
            allow_empty: self.allow_empty,
            modes: match self.modes {
                ModesArg::Normal => Modes::Normal,
                ModesArg::Keep => Modes::Keep,
            },
            mtime,
            level: self.level,
            workers: self
                .workers
                .and_then(|threads| NonZeroUsize::new(threads.into()))
                .unwrap_or_else(available_cores),
        })
    }
}

fn parse_epoch(text: &OsStr) -> Result<i64, ConfigError> {
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.ok_or_else(|| ConfigError::Variable {
        name: "SOURCE_DATE_EPOCH",
        value: text.to_string_lossy().into_owned(),
        expected: "a number of seconds since 1970",
    })
}

/// The cores that this process may use, by its affinity and its control group.
fn available_cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
