//! Fetches a tree of code into a directory: the command line around the library.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use code_server::config::ConfigError;
use code_server::config::fetch::{FetchConfig, TERMINATION_LOG};
use code_server::exit::{Exit, Failure};
use code_server::fetch::progress::Progress;
use code_server::{fetch, shutdown, telemetry};
use rustix::fs::Mode;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What Kubernetes shows of a termination log, in bytes.
const LONGEST_REASON: usize = 4096;

fn main() -> ExitCode {
    let config = match FetchConfig::parse(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => {
            error.print();
            if !matches!(error, ConfigError::Shown(_)) {
                note(Path::new(TERMINATION_LOG), &error.to_string());
            }
            return error.exit().into();
        }
    };
    telemetry::start(config.log_format);
    if let Some(umask) = config.umask {
        // It belongs to the process, so it is set before there is a second thread.
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    for name in FetchConfig::unknown_variables() {
        warn!(%name, "no flag has this variable as its twin: is it misspelt?");
    }
    match run(&config) {
        Ok(()) => Exit::Done.into(),
        Err(Failure { exit, reason }) => {
            // Nobody is left to tell if standard error is gone.
            drop(writeln!(io::stderr(), "error: {reason}"));
            note(&config.termination_log, &reason);
            exit.into()
        }
    }
}

fn run(config: &FetchConfig) -> Result<(), Failure> {
    let progress = Progress::of(config);
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Exit::Io, format!("cannot begin: {error}")))?;
    let fetched = runtime.block_on(fetch_until_signalled(config, &progress));
    // A lookup that nobody waits for any more cannot be cancelled, and must not hold the process.
    runtime.shutdown_background();
    progress.finish();
    fetched
}

/// Fetches until it is done or a signal comes; then what is staged is removed, and the signal decides how to end.
async fn fetch_until_signalled(config: &FetchConfig, progress: &Progress) -> Result<(), Failure> {
    let signalled = shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))?;
    let stop = CancellationToken::new();
    let mut fetching = std::pin::pin!(fetch::run(config, progress, stop.clone()));
    let (fetched, signal) = tokio::select! {
        fetched = &mut fetching => (fetched, None),
        signal = signalled => {
            stop.cancel();
            (fetching.await, Some(signal))
        }
    };
    fetched
        .map(|_| ())
        .map_err(|error| Failure::of(signal.unwrap_or_else(|| error.exit()), &error))
}

/// Tells Kubernetes the reason of a failure. The file is there if somebody wants to know; it is never made.
fn note(file: &Path, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    match opened.and_then(|mut file| file.write_all(reason.as_bytes())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%error, file = %file.display(), "cannot write the termination log");
        }
        _ => {}
    }
}
