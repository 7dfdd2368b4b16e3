//! What `fetch-init` is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::duration;
use crate::digest::Revision;
use crate::telemetry::LogFormat;

/// The prefix of every flag's environment twin.
pub const PREFIX: &str = "FETCH_INIT_";

/// Fetches a tree of code from a code-server into a directory, verified and all at once.
#[derive(Clone, Debug, Parser)]
#[command(name = "fetch-init", version, max_term_width = 100)]
pub struct FetchArgs {
    /// Where the code-server is, such as <http://code:8080>
    #[arg(env = "FETCH_INIT_URL")]
    pub url: String,

    /// The directory that is to hold the tree; it is made if its parent exists
    #[arg(env = "FETCH_INIT_TARGET")]
    pub target: PathBuf,

    /// Wait for exactly this revision and take no other
    #[arg(long, env = "FETCH_INIT_REVISION", value_name = "sha256:HEX")]
    pub revision: Option<Revision>,

    /// How long to try; 0: as long as it takes
    #[arg(long, env = "FETCH_INIT_DEADLINE", value_parser = duration, default_value = "5m")]
    pub deadline: Duration,

    /// How long to wait for a connection
    #[arg(long, env = "FETCH_INIT_CONNECT_TIMEOUT", value_parser = positive, default_value = "2s")]
    pub connect_timeout: Duration,

    /// How long to wait for the next bytes of an answer
    #[arg(long, env = "FETCH_INIT_STALL_TIMEOUT", value_parser = positive, default_value = "30s")]
    pub stall_timeout: Duration,

    /// The largest tar that is taken, such as 2Gi
    #[arg(long, env = "FETCH_INIT_MAX_SIZE", value_parser = size, value_name = "SIZE")]
    pub max_size: Option<u64>,

    /// The most directories, files and links that are taken
    #[arg(long, env = "FETCH_INIT_MAX_ENTRIES", value_name = "COUNT")]
    pub max_entries: Option<u64>,

    /// Threads that inflate, and as many that write [default: as many as there are processors, 4 at most]
    #[arg(long, env = "FETCH_INIT_WORKERS", value_name = "COUNT")]
    pub workers: Option<NonZeroUsize>,

    /// Whether to show how far it is
    #[arg(long, env = "FETCH_INIT_PROGRESS", value_enum, default_value = "auto")]
    pub progress: ProgressMode,

    /// A file that is told the reason of a failure, if it exists
    #[arg(
        long,
        env = "FETCH_INIT_TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    #[arg(value_name = "FILE")]
    pub termination_log: PathBuf,

    /// The form of log lines
    #[arg(
        long,
        env = "FETCH_INIT_LOG_FORMAT",
        value_enum,
        default_value = "auto"
    )]
    pub log_format: LogForm,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, and a line for each phase elsewhere
    Auto,
    /// Nowhere
    Off,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// For people
    Text,
    /// For machines: an object a line
    Json,
}

impl From<LogForm> for LogFormat {
    fn from(form: LogForm) -> Self {
        match form {
            LogForm::Auto => Self::Auto,
            LogForm::Text => Self::Text,
            LogForm::Json => Self::Json,
        }
    }
}

impl FetchArgs {
    /// The deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        (!self.deadline.is_zero()).then_some(self.deadline)
    }

    /// How many threads to use. More than four write no faster, and each takes memory.
    #[must_use]
    pub fn workers(&self) -> NonZeroUsize {
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let most = NonZeroUsize::new(4).expect("four is not zero");
        self.workers.unwrap_or_else(|| processors().min(most))
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a wait of no time would always be too long".into()),
        duration => Ok(duration),
    }
}

/// A size in bytes, as `512`, `64Ki`, `64Mi` or `2Gi`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "Ki" => Some(10),
        "Mi" => Some(20),
        "Gi" => Some(30),
        _ => None,
    };
    let size = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
    size.ok_or_else(|| format!("{text:?} is not a size such as 512, 64Mi or 2Gi"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{ConfigError, parse, unknown_variables};

    fn arguments(flags: &[&str]) -> Result<FetchArgs, ConfigError> {
        let command = ["fetch-init", "http://code", "/app"];
        parse(command.iter().chain(flags).map(OsString::from))
    }

    #[test]
    fn a_url_and_a_target_are_enough() {
        let arguments = arguments(&[]).unwrap();
        assert_eq!(arguments.deadline(), Some(Duration::from_mins(5)));
        assert_eq!(arguments.connect_timeout, Duration::from_secs(2));
        assert_eq!(arguments.stall_timeout, Duration::from_secs(30));
        assert!((1..=4).contains(&arguments.workers().get()));
    }

    #[test]
    fn no_deadline_is_written_as_zero() {
        assert_eq!(arguments(&["--deadline=0"]).unwrap().deadline(), None);
    }

    #[test]
    fn an_error_names_the_flag() {
        for (flag, value) in [
            ("--deadline", "soon"),
            ("--stall-timeout", "0"),
            ("--revision", "abc"),
            ("--workers", "0"),
            ("--max-size", "2GB"),
            ("--progress", "on"),
            ("--colour", "red"),
        ] {
            let error = arguments(&[flag, value]).unwrap_err();
            assert!(matches!(error, ConfigError::Usage(_)));
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64Ki"), Ok(65_536));
        assert_eq!(size("2Gi"), Ok(2_147_483_648));
        for text in ["", "Gi", "2GB", "-1", "1.5Gi", "2 Gi", "99999999999Gi"] {
            assert!(size(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn every_flag_has_its_twin() {
        let twins = [
            "URL",
            "TARGET",
            "REVISION",
            "DEADLINE",
            "LOG_FORMAT",
            "MAX_SIZE",
        ];
        let names = twins.map(|twin| OsString::from(format!("{PREFIX}{twin}")));
        assert!(unknown_variables::<FetchArgs>(PREFIX, names).is_empty());
        let misspelt = [OsString::from("FETCH_INIT_DEADLIEN")];
        assert_eq!(
            unknown_variables::<FetchArgs>(PREFIX, misspelt),
            ["FETCH_INIT_DEADLIEN"]
        );
    }
}
