//! Logs: where they go, in which form, and which of them.
//!
//! One event a line on standard error, as text or as JSON. `RUST_LOG` chooses what is logged, by default everything from
//! `info` on of this program and warnings of its libraries.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

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

/// Starts logging for the rest of the process. Calling it again changes nothing.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,code_server=info,fetch_init=info"));
    let terminal = io::stderr().is_terminal();
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // An error means that a test has started it before.
    drop(if json {
        events
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        events.with_ansi(terminal).with_target(false).try_init()
    });
}
