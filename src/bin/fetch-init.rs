//! Fetches a tree of code into a directory: the command line around the library.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use code_server::config::ConfigError;
use code_server::config::fetch::{Action, FetchConfig, TERMINATION_LOG};
use code_server::exit::{Exit, Failure};
use code_server::fetch::progress::Progress;
use code_server::fetch::{FetchError, follow};
use code_server::{fetch, shutdown, telemetry};
use rustix::fs::Mode;
use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// What Kubernetes shows of a termination log, in bytes.
const LONGEST_REASON: usize = 4096;
/// How long a follower may take to end: it was promised to be gone within a second.
const LONGEST_ENDING: Duration = Duration::from_millis(900);

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
            if config.log_format.is_json() {
                error!(code = exit.code(), "{reason}");
            } else {
                // Nobody is left to tell if standard error is gone.
                drop(writeln!(io::stderr(), "error: {reason}"));
            }
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
    let done = runtime.block_on(act(config, &progress));
    // A lookup that nobody waits for any more cannot be cancelled, and must not hold the process.
    runtime.shutdown_background();
    progress.finish();
    done
}

async fn act(config: &FetchConfig, progress: &Progress) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    match &config.action {
        Action::Install => {
            let fetching = fetch::run(config, progress, stop.clone());
            until_signalled(Box::pin(fetching), &stop).await.map(drop)
        }
        Action::Print => {
            let asking = fetch::inquire(config, progress, stop.clone());
            let revision = until_signalled(Box::pin(asking), &stop).await?;
            writeln!(io::stdout(), "{revision}").map_err(|error| {
                Failure::new(Exit::Io, format!("cannot write the revision: {error}"))
            })
        }
        Action::Follow(reaction) => {
            let following = follow::follow(config, reaction, progress, stop.clone());
            follow_until_signalled(Box::pin(following), &stop).await
        }
    }
}

/// Works until it is done or a signal comes; then what is staged is removed, and the signal decides how to end.
async fn until_signalled<T>(
    mut work: impl Future<Output = Result<T, FetchError>> + Unpin,
    stop: &CancellationToken,
) -> Result<T, Failure> {
    let signalled = signalled()?;
    let (done, signal) = tokio::select! {
        done = &mut work => (done, None),
        signal = signalled => {
            stop.cancel();
            (work.await, Some(signal))
        }
    };
    done.map_err(|error| Failure::of(signal.unwrap_or_else(|| error.exit()), &error))
}

/// Follows until a signal comes, which is the end that a follower is made for. What takes too long then is left to the next
/// run, as if this one had been killed.
async fn follow_until_signalled(
    mut following: impl Future<Output = Result<(), FetchError>> + Unpin,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let signalled = signalled()?;
    tokio::select! {
        ended = &mut following => ended.map_err(|error| Failure::of(error.exit(), &error)),
        _ = signalled => {
            stop.cancel();
            if timeout(LONGEST_ENDING, following).await.is_err() {
                warn!("ended while the target was being changed: the next run finishes it");
            }
            Ok(())
        }
    }
}

fn signalled() -> Result<impl Future<Output = Exit>, Failure> {
    shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))
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
