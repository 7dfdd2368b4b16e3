//! Fetches a tree of code into a directory: the init container.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use code_server::config::fetch::{FetchArgs, PREFIX, ProgressMode};
use code_server::config::{parse, unknown_variables};
use code_server::exit::Exit;
use code_server::fetch::client::{BaseUrl, Timeouts, UrlError};
use code_server::fetch::progress::Progress;
use code_server::fetch::{self, Config, LOOKUP_TIMEOUT, Summary, sentence};
use code_server::telemetry;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// What Kubernetes shows of a termination log.
const LONGEST_MESSAGE: usize = 4096;

fn main() -> ExitCode {
    let arguments = match parse::<FetchArgs>(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            error.print();
            return error.exit().into();
        }
    };
    telemetry::start(arguments.log_format.into());
    for variable in
        unknown_variables::<FetchArgs>(PREFIX, std::env::vars_os().map(|(name, _)| name))
    {
        warn!(variable, "unknown variable; see fetch-init --help");
    }
    match fetch(&arguments) {
        Ok(summary) => {
            report(&summary);
            Exit::Done.into()
        }
        Err(failure) => {
            error!("{}", failure.reason);
            note_reason(&arguments.termination_log, &failure.reason);
            failure.exit.into()
        }
    }
}

/// Why the program ends without the tree.
struct Failure {
    reason: String,
    exit: Exit,
}

impl Failure {
    fn new(error: &dyn std::error::Error, exit: Exit) -> Self {
        Self {
            reason: sentence(error),
            exit,
        }
    }
}

fn fetch(arguments: &FetchArgs) -> Result<Summary, Failure> {
    let config = decide(arguments).map_err(|error| Failure::new(&error, Exit::Usage))?;
    let progress = progress(arguments.progress);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(&error, Exit::Io))?;
    let fetched = run(&runtime, &config, &progress);
    progress.finish();
    // A lookup that nobody waits for any more cannot be cancelled, and must not hold the process.
    runtime.shutdown_background();
    fetched
}

fn decide(arguments: &FetchArgs) -> Result<Config, UrlError> {
    Ok(Config {
        url: BaseUrl::parse(&arguments.url)?,
        target: arguments.target.clone(),
        revision: arguments.revision,
        deadline: arguments.deadline(),
        timeouts: Timeouts {
            lookup: LOOKUP_TIMEOUT,
            connect: arguments.connect_timeout,
            stall: arguments.stall_timeout,
        },
        max_size: arguments.max_size,
        max_entries: arguments.max_entries,
        workers: arguments.workers(),
    })
}

fn progress(mode: ProgressMode) -> Progress {
    match mode {
        ProgressMode::Auto if io::stderr().is_terminal() => Progress::bar(),
        ProgressMode::Auto => Progress::Log,
        ProgressMode::Off => Progress::Off,
    }
}

/// Fetches until done or until a signal comes; then what is staged is removed, and the signal decides how to end.
fn run(runtime: &Runtime, config: &Config, progress: &Progress) -> Result<Summary, Failure> {
    runtime.block_on(async {
        let failed = |error| Failure::new(&error, Exit::Io);
        // Without handlers, a process with id 1 would not even see these signals.
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop = CancellationToken::new();
        let fetched = fetch::run(config, progress, stop.clone());
        tokio::pin!(fetched);
        let number = tokio::select! {
            fetched = &mut fetched => return fetched.map_err(|error| Failure::new(&error, error.exit())),
            number = either(&mut terminate, &mut interrupt) => number,
        };
        stop.cancel();
        fetched
            .await
            .map_err(|error| Failure::new(&error, Exit::Signal(number)))
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> u8 {
    let kind = tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    };
    u8::try_from(kind.as_raw_value()).expect("signals have small numbers")
}

fn report(summary: &Summary) {
    info!(
        revision = %summary.revision,
        files = summary.files,
        downloaded = summary.downloaded,
        attempts = summary.attempts,
        seconds = (summary.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        "installed"
    );
}

/// Tells Kubernetes the reason. The file is there if somebody wants to know; it is never made.
fn note_reason(file: &Path, reason: &str) {
    let mut end = reason.len().min(LONGEST_MESSAGE);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    let noted = match opened {
        Ok(mut file) => file.write_all(&reason.as_bytes()[..end]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        warn!(%error, file = %file.display(), "cannot write the termination log");
    }
}
