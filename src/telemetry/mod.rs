//! Logs: where they go, in which form, and which of them.
//!
//! One event a line on standard error, as text or as JSON. `RUST_LOG` chooses what is logged, by default everything from
//! `info` on of this program and warnings of its libraries. A program that ends soon waits until its lines are written
//! ([`start`]); a server never does ([`start_queued`]).

mod queue;

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use queue::Queue;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,code_server=info,fetch_init=info";
/// How long the end of a program waits for whoever reads its standard error.
const PATIENCE: Duration = Duration::from_secs(1);

/// That of this process, if its lines are queued.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: an object a line.
    Json,
}

impl LogFormat {
    /// Whether lines are for machines, here and now.
    #[must_use]
    pub fn is_json(self) -> bool {
        match self {
            Self::Auto => !io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Starts logging for the rest of the process. Calling it again changes nothing.
///
/// Whoever logs waits until standard error has taken the line.
pub fn start(format: LogFormat) {
    start_with(format, io::stderr);
}

/// Starts logging for the rest of the process without anybody ever waiting for standard error.
///
/// What it does not take in time is dropped and counted, see [`dropped_lines`]. Falls back to [`start`] where standard error
/// is closed, or there can be no thread.
pub fn start_queued(format: LogFormat) -> Queued {
    let queue = Arc::new(Queue::default());
    let draining = Arc::clone(&queue);
    // Not by way of std's own handle: its lock would be held as long as nobody reads.
    let started = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stderr| {
            let output = File::from(stderr);
            let work = move || draining.drain(output, tell_of_dropped);
            thread::Builder::new().name("log".into()).spawn(work)
        });
    if started.is_err() {
        start(format);
        return Queued(None);
    }
    start_with(format, Arc::clone(&queue));
    Queued(Some(Arc::clone(QUEUE.get_or_init(|| queue))))
}

fn tell_of_dropped(lines: u64) {
    warn!(lines, "log lines were dropped: nobody read standard error");
}

/// How many lines were dropped because nobody read standard error.
#[must_use]
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// Logging by way of a queue, if there is one.
#[must_use = "what is queued at the end of the process is lost"]
#[derive(Debug)]
pub struct Queued(Option<Arc<Queue>>);

impl Queued {
    /// Writes what is queued, and takes no more. Whether that could be done within a second: if not, writing anything else
    /// to standard error might never end.
    #[must_use]
    pub fn end(self) -> bool {
        self.0.is_none_or(|queue| queue.close(PATIENCE))
    }
}

fn start_with<W>(format: LogFormat, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let value = env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    let value = value.filter(|value| !value.trim_matches([',', ' ']).is_empty());
    let chosen = value.as_deref().map(filter).transpose();
    let (filter, wrong) = match chosen {
        Ok(filter) => (filter, None),
        Err(reason) => (None, Some(reason)),
    };
    let filter = filter.unwrap_or_else(by_default);
    let terminal = io::stderr().is_terminal();
    let events = tracing_subscriber::fmt::layer().with_writer(writer);
    let events = if format.is_json() {
        events
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    } else {
        events.with_ansi(terminal).with_target(false).boxed()
    };
    // An error means that a test has started it before.
    drop(
        tracing_subscriber::registry()
            .with(filter)
            .with(events)
            .try_init(),
    );
    if let Some(reason) = wrong {
        warn!(
            value,
            reason,
            default = DEFAULT_FILTER,
            "RUST_LOG cannot be understood, so the default applies: write it as in info, or code_server=debug,warn"
        );
    }
}

fn by_default() -> Targets {
    filter(DEFAULT_FILTER).expect("the default is a filter")
}

/// What `RUST_LOG` asks for, or why it makes no sense.
///
/// A single word that is no level would be taken for the name of a library, all of whose events are wanted and nobody else's:
/// with a slip in a level the log would be silent. So it has to be followed by a level.
fn filter(value: &str) -> Result<Targets, String> {
    let directives = value.split(',').map(str::trim);
    directives
        .filter(|directive| !directive.is_empty())
        .try_fold(Targets::new(), |filter, directive| {
            let (target, level) = match directive.split_once('=') {
                Some((target, level)) => (target, level),
                None if directive.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    return Ok(filter.with_default(parse_level(directive)?));
                }
                None => (directive, "trace"),
            };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
            if target.is_empty() || !target.bytes().all(is_name) {
                return Err(format!("{target} is no target"));
            }
            Ok(filter.with_target(target, parse_level(level)?))
        })
}

fn parse_level(word: &str) -> Result<LevelFilter, String> {
    let level = word.parse().ok().filter(|_| !word.is_empty());
    level.ok_or_else(|| format!("{word} is no level"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets_with_levels() {
        for value in [
            "info",
            "WARN",
            "3",
            "off",
            "debug,hyper=warn",
            "code_server=debug",
            "code_server::http=trace, warn",
            "code_server",
            "warn,",
        ] {
            assert!(filter(value).is_ok(), "{value}");
        }
    }

    #[test]
    fn what_would_silence_the_log_by_mistake_is_no_filter() {
        for value in [
            "inof",
            "verbose",
            "warn,inof",
            "code_server=loud",
            "a=b=c",
            "[span]=info",
            "code_server=",
            "=info",
        ] {
            assert!(filter(value).is_err(), "{value}");
        }
        assert_eq!(filter("warn, inof").unwrap_err(), "inof is no level");
    }
}
