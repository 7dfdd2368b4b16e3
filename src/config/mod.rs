//! From arguments as typed to configuration as decided.
//!
//! A configuration in hand is valid as far as that can be told without touching a disk or a network. Each flag has an
//! environment twin, made of the program's name and the flag's: `--listen` is also `CODE_SERVER_LISTEN`. A flag wins over
//! its twin. A misspelt flag is an error; a misspelt twin cannot be told from somebody else's variable, so
//! [`unknown_variables`] finds them for a warning.

pub mod access;
pub mod command;
pub mod credentials;
pub mod fetch;
pub mod follow;
pub mod healthcheck;
pub mod ingest;
pub mod pack;
pub mod retention;
pub mod serve;
pub mod tree;
pub mod url;
pub mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser, ValueEnum};

use crate::exit::Exit;
use crate::telemetry::LogFormat;

/// No duration is longer: it can be added to any moment that a clock gives.
const LONGEST_DURATION: Duration = Duration::from_hours(100 * 366 * 24);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing is wrong: help or the version was asked for, and this is it.
    #[error("{0}")]
    Shown(clap::Error),
    /// The command line cannot be understood; the text names the flag.
    #[error("{0}")]
    Usage(clap::Error),
    /// Something is no URL that can be asked.
    #[error(transparent)]
    Url(#[from] url::UrlError),
    /// A variable of the environment has a value that does not fit.
    #[error("the variable {name} is {value:?}, and should be {expected}")]
    Variable {
        /// Which.
        name: &'static str,
        /// As found.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Nothing tells what an archive has to be.
    #[error(
        "nothing tells what {0} has to be: give its --sha256 (or --allow-unverified to take whatever comes); the base URL of a code-server, such as http://code:8080, needs neither"
    )]
    Unverified(String),
    /// What is for archives on plain web servers was given, and there is none.
    #[error(
        "{flag} is for archives on plain web servers, and no URL names one: leave it out, since a code-server tells what its archive is"
    )]
    NoArchive {
        /// What was given.
        flag: &'static str,
    },
    /// What only a code-server can do was asked of another server.
    #[error(
        "{flag} needs a code-server's base URL, such as http://code:8080, and {url} is an archive on a plain web server"
    )]
    Unfollowed {
        /// Of the archive.
        url: String,
        /// What was given.
        flag: &'static str,
    },
    /// Archive and descriptor would both go to standard output.
    #[error("--json and --output - both write to standard output: name a file for the archive")]
    TwoOnStandardOutput,
    /// The code and the probes would share a port.
    #[error("--listen and --metrics-listen are both {0}: choose another port for one of them")]
    OneListener(SocketAddr),
}

impl ConfigError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Shown(_) => Exit::Done,
            Self::Usage(_)
            | Self::Url(_)
            | Self::Variable { .. }
            | Self::Unverified(_)
            | Self::NoArchive { .. }
            | Self::Unfollowed { .. }
            | Self::TwoOnStandardOutput
            | Self::OneListener(_) => Exit::Usage,
        }
    }

    /// Writes help to standard output and errors to standard error, coloured on a terminal.
    pub fn print(&self) {
        // Nobody is left to tell if that fails.
        drop(match self {
            Self::Shown(text) | Self::Usage(text) => text.print(),
            other => writeln!(io::stderr(), "error: {other}"),
        });
    }
}

/// Parses a command line, program name first, and the environment twins of its flags.
pub fn parse<A: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<A, ConfigError> {
    parse_by(A::command(), arguments)
}

/// As [`parse`], with a command line that was arranged for its readers.
fn parse_by<A: Parser>(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<A, ConfigError> {
    let matches = with_plain_help(command).try_get_matches_from(arguments);
    let parsed = matches.and_then(|matches| A::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ConfigError::Shown(error),
        _ => ConfigError::Usage(error),
    })
}

/// Tells the rule for environment twins once at the end of each help text, instead of a twin at each flag.
fn with_plain_help(command: Command) -> Command {
    let twins = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let command = command.mut_args(|argument| argument.hide_env(true));
    command.mut_subcommands(|subcommand| with_plain_help(subcommand.after_help(twins.clone())))
}

/// The variables that begin with a program's prefix and are no flag's twin: most likely misspelt.
///
/// Kubernetes gives every container variables for each Service, and a Service may be named like the program:
/// `CODE_SERVER_SERVICE_HOST`, `CODE_SERVER_PORT_8080_TCP`. Those are left out.
#[must_use]
pub fn unknown_variables<A: CommandFactory>(
    prefix: &str,
    variables: impl IntoIterator<Item = OsString>,
) -> Vec<String> {
    let command = A::command();
    let names = variables
        .into_iter()
        .filter_map(|name| name.into_string().ok());
    names
        .filter(|name| {
            name.starts_with(prefix) && !is_from_kubernetes(name) && !is_twin(&command, name)
        })
        .collect()
}

fn is_twin(command: &Command, name: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|argument| argument.get_env().is_some_and(|twin| twin == name))
        || command
            .get_subcommands()
            .any(|subcommand| is_twin(subcommand, name))
}

fn is_from_kubernetes(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|ending| name.ends_with(ending))
        || ["_SERVICE_PORT_", "_PORT_"]
            .iter()
            .any(|infix| name.contains(infix))
}

/// The form of log lines, as typed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormatArg {
    /// Text on a terminal, JSON elsewhere
    #[default]
    Auto,
    /// For people
    Text,
    /// An object a line
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Auto => Self::Auto,
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

/// A duration as `10s`, `5m` or `1h 30m`; `0` needs no unit.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration such as 300ms, 10s or 5m"))?;
    if duration > LONGEST_DURATION {
        return Err(format!("{text:?} is longer than a hundred years"));
    }
    Ok(duration)
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
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("99years").is_ok());
        for text in [
            "",
            "10",
            "-1s",
            "10 parsecs",
            "101years",
            "18446744073709551615s",
        ] {
            assert!(duration(text).unwrap_err().contains(text), "{text}");
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
    fn misspelt_variables_are_told_from_those_of_kubernetes() {
        #[derive(Parser)]
        struct Arguments {
            #[arg(long, env = "CODE_SERVER_LISTEN")]
            _listen: Option<String>,
        }
        let variables = [
            "CODE_SERVER_LISTEN",
            "CODE_SERVER_LISTNE",
            "CODE_SERVER_SERVICE_HOST",
            "CODE_SERVER_SERVICE_PORT_HTTP",
            "CODE_SERVER_PORT",
            "CODE_SERVER_PORT_8080_TCP_ADDR",
            "HOME",
        ];
        let unknown = unknown_variables::<Arguments>("CODE_SERVER_", variables.map(OsString::from));
        assert_eq!(unknown, ["CODE_SERVER_LISTNE"]);
    }
}
