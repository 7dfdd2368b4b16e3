//! How far it is, for a person who watches or one who reads the log later.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::info;

use crate::digest::Revision;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is known of the archive yet.
    Wait,
    /// Its bytes are on the way.
    Download {
        /// What it holds.
        revision: Revision,
        /// How many of them have to come.
        bytes: u64,
    },
    /// The tree is complete and moves into its place.
    Install,
}

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// A bar on a terminal.
    Bar(ProgressBar),
    /// A line of the log for each phase.
    Log,
    /// Nowhere.
    Off,
}

impl Progress {
    /// A bar on standard error, which is a terminal.
    #[must_use]
    pub fn bar() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self::Bar(bar)
    }

    /// Begins a phase.
    pub fn enter(&self, phase: Phase) {
        match self {
            Self::Bar(bar) => draw(bar, phase),
            Self::Log => log(phase),
            Self::Off => {}
        }
    }

    /// So many more bytes of the archive are there.
    pub fn downloaded(&self, bytes: u64) {
        if let Self::Bar(bar) = self {
            bar.inc(bytes);
        }
    }

    /// Writes to the log what happens meanwhile, past the bar.
    pub fn log(&self, log: impl FnOnce()) {
        match self {
            Self::Bar(bar) => bar.suspend(log),
            Self::Log | Self::Off => log(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, phase: Phase) {
    let (message, style) = match phase {
        Phase::Wait => ("waiting for the server", "{spinner} {msg} ({elapsed})"),
        Phase::Install => ("installing", "{spinner} {msg} ({elapsed})"),
        Phase::Download { bytes, .. } => {
            bar.set_length(bytes);
            let style = "{spinner} {msg} [{wide_bar:.cyan/blue}] {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
            ("downloading", style)
        }
    };
    let style = ProgressStyle::with_template(style).expect("the templates are constant");
    bar.set_style(style.progress_chars("=> "));
    // Rates and times are those of the phase.
    bar.reset();
    bar.set_message(message);
}

fn log(phase: Phase) {
    match phase {
        Phase::Wait => info!("waiting for the server"),
        Phase::Download { revision, bytes } => info!(%revision, bytes, "downloading"),
        Phase::Install => info!("installing"),
    }
}
