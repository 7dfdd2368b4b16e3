//! How far it is, for a person who watches or one who reads the log later.
//!
//! On a terminal it is one line, drawn anew several times a second and gone at the end; elsewhere it is a line of the log for
//! each phase. Neither is ever written to standard output.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tracing::info;

use super::bar::{View, Work, text};
use crate::config::fetch::{FetchConfig, ProgressMode};
use crate::digest::Revision;

/// How often the line is drawn, whether or not something has happened.
const TICK: Duration = Duration::from_millis(100);
/// The width of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;
/// What stands before the text, and one column that stays free: not every terminal keeps its cursor in the last one.
const MARGIN: usize = 3;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is known of the archive yet.
    Wait {
        /// The only one that is taken, if it has to be one.
        revision: Option<Revision>,
    },
    /// Its bytes are on the way.
    Download {
        /// What it holds.
        revision: Revision,
        /// How many of them have to come.
        bytes: u64,
    },
    /// Those of an archive of which nothing else is known.
    Archive {
        /// Its length, where the server tells.
        bytes: Option<u64>,
    },
    /// The tree is complete and moves into its place.
    Install,
}

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// A line on a terminal.
    Bar(Bar),
    /// A line of the log for each phase.
    Log,
    /// Nowhere.
    Off,
}

impl Progress {
    /// Decides by what is configured and by what standard error is.
    ///
    /// There is no bar between lines of JSON, since whoever wants these has a program that reads them.
    #[must_use]
    pub fn of(config: &FetchConfig) -> Self {
        match config.progress {
            ProgressMode::Auto if config.log_format.is_json() => Self::Log,
            // One that cannot draw is hidden: what is no terminal, or one that moves no cursor.
            ProgressMode::Auto => match Bar::new() {
                bar if bar.line.is_hidden() => Self::Log,
                bar => Self::Bar(bar),
            },
            ProgressMode::Off => Self::Off,
        }
    }

    /// Begins a phase.
    pub fn enter(&self, phase: Phase) {
        match self {
            Self::Bar(bar) => bar.enter(phase),
            Self::Log => log(phase),
            Self::Off => {}
        }
    }

    /// So many more bytes of the archive are there.
    pub fn downloaded(&self, bytes: u64) {
        if let Self::Bar(bar) = self {
            bar.shown().trouble = None;
            bar.line.inc(bytes);
        }
    }

    /// An attempt failed, and another one follows. The reason is shown as long as nothing more comes; the log is left to the
    /// caller.
    pub fn failed(&self, reason: &str) {
        if let Self::Bar(bar) = self {
            bar.shown().trouble = Some(reason.into());
        }
    }

    /// Writes to the log what happens meanwhile, past the bar.
    pub fn log(&self, log: impl FnOnce()) {
        match self {
            Self::Bar(bar) => bar.line.suspend(log),
            Self::Log | Self::Off => log(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.line.finish_and_clear();
        }
    }
}

/// A line on a terminal.
#[derive(Debug)]
pub struct Bar {
    line: ProgressBar,
    shown: Arc<Mutex<Shown>>,
}

/// What the line is about.
#[derive(Debug)]
struct Shown {
    phase: Phase,
    trouble: Option<String>,
}

impl Bar {
    /// A line on standard error. Nothing is drawn before the first phase.
    fn new() -> Self {
        let shown = Arc::new(Mutex::new(Shown {
            phase: Phase::Wait { revision: None },
            trouble: None,
        }));
        let seen = Arc::clone(&shown);
        let write = move |state: &ProgressState, line: &mut dyn fmt::Write| {
            // A string takes whatever is written to it.
            let _ = line.write_str(&draw(&lock(&seen), state));
        };
        let style = ProgressStyle::with_template("{spinner} {line}");
        let style = style.expect("the template is constant");
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        line.set_style(style.with_key("line", write));
        Self { line, shown }
    }

    fn enter(&self, phase: Phase) {
        *self.shown() = Shown {
            phase,
            trouble: None,
        };
        match phase {
            Phase::Download { bytes, .. } | Phase::Archive { bytes: Some(bytes) } => {
                self.line.set_length(bytes);
            }
            Phase::Wait { .. } | Phase::Install | Phase::Archive { bytes: None } => {
                self.line.unset_length();
            }
        }
        // Rates and times are those of the phase.
        self.line.reset();
        self.line.enable_steady_tick(TICK);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }
}

/// What is shown is whole at any moment, whoever panicked.
fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw(shown: &Shown, state: &ProgressState) -> String {
    let work = match shown.phase {
        Phase::Wait { .. } => Work::Wait,
        Phase::Install => Work::Install,
        Phase::Download { .. } | Phase::Archive { .. } => Work::Download {
            came: state.pos(),
            size: state.len(),
            rate: whole(state.per_sec()),
        },
    };
    let view = View {
        work,
        trouble: shown.trouble.as_deref(),
        elapsed: state.elapsed(),
    };
    text(&view, width().saturating_sub(MARGIN))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and one beyond all bounds may be shown as the largest"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// Asked for each time, since a terminal may be resized.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL_WIDTH } else { columns }
}

fn log(phase: Phase) {
    match phase {
        Phase::Wait { revision: None } => info!("waiting for the server"),
        Phase::Wait {
            revision: Some(revision),
        } => info!(%revision, "waiting for the server"),
        Phase::Download { revision, bytes } => info!(%revision, bytes, "downloading"),
        Phase::Archive { bytes } => info!(bytes, "downloading"),
        Phase::Install => info!("installing"),
    }
}
