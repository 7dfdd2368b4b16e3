//! Serves a directory of code over HTTP: the command line around the library.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use code_server::config::command::Command;
use code_server::config::pack::{PackConfig, Product};
use code_server::config::serve::ServeConfig;
use code_server::exit::Exit;
use code_server::pack::pack;
use code_server::server::Server;
use code_server::telemetry::{self, LogFormat};
use code_server::{listen, shutdown};
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why it ends: a code, and a sentence for a person unless the reason is plain.
type Ended = Result<Exit, (Exit, String)>;

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            error.print();
            return error.exit().into();
        }
    };
    telemetry::start(match &command {
        Command::Serve(config) => config.log_format,
        Command::Pack(_) | Command::Healthcheck(_) => LogFormat::Text,
    });
    for name in Command::unknown_variables() {
        warn!(%name, "no flag has this variable as its twin: is it misspelt?");
    }
    let ended = match command {
        Command::Serve(config) => run_serve(&config),
        Command::Pack(config) => run_pack(config),
        Command::Healthcheck(_) => Ok(Exit::Done),
    };
    ended
        .unwrap_or_else(|(exit, reason)| {
            // Nobody is left to tell if standard error is gone.
            drop(writeln!(io::stderr(), "error: {reason}"));
            exit
        })
        .into()
}

fn run_serve(config: &ServeConfig) -> Ended {
    let server = Server::new(config).map_err(|error| because(error.exit(), error))?;
    within_runtime(async {
        let signalled = shutdown::signalled().map_err(|error| no_signals(&error))?;
        let listener =
            listen::bind(config.listen).map_err(|error| cannot_listen(config.listen, &error))?;
        let shutdown = CancellationToken::new();
        let mut serving = std::pin::pin!(server.run(listener, shutdown.clone()));
        let signal = tokio::select! {
            () = &mut serving => return Ok(Exit::Done),
            signal = signalled => signal,
        };
        info!(signal = signal.code() - 128, "draining");
        shutdown.cancel();
        serving.await;
        Ok(Exit::Done)
    })
}

/// Packs on a thread of its own, so that a signal can have it clean up.
fn run_pack(config: PackConfig) -> Ended {
    if config.product == Product::Stream && io::stdout().is_terminal() {
        let reason =
            "standard output is a terminal, and an archive is no text: name a file with --output";
        return Err(because(Exit::Usage, reason));
    }
    within_runtime(async move {
        let signalled = shutdown::signalled().map_err(|error| no_signals(&error))?;
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let mut packing = tokio::task::spawn_blocking(move || {
            pack(&config, io::stdout().lock(), &|| cancelled.is_cancelled())
        });
        let (packed, signal) = tokio::select! {
            packed = &mut packing => (packed, None),
            signal = signalled => {
                cancel.cancel();
                (packing.await, Some(signal))
            }
        };
        match (signal, packed) {
            (Some(signal), _) => Ok(signal),
            (None, Ok(Ok(()))) => Ok(Exit::Done),
            (None, Ok(Err(error))) => Err(because(error.exit(), error)),
            (None, Err(panic)) => Err(because(Exit::Io, panic)),
        }
    })
}

/// Runs on as many threads as there are cores to use; one core needs no second thread to hand work to.
fn within_runtime(work: impl Future<Output = Ended>) -> Ended {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime =
        runtime.map_err(|error| because(Exit::Io, format_args!("cannot start: {error}")))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> (Exit, String) {
    match error.kind() {
        io::ErrorKind::AddrInUse => because(
            Exit::CannotCreate,
            format_args!(
                "cannot listen on {address}: another program does already; choose another port with --listen"
            ),
        ),
        io::ErrorKind::PermissionDenied => because(
            Exit::Refused,
            format_args!(
                "no permission to listen on {address}: choose a port from 1024 on with --listen"
            ),
        ),
        io::ErrorKind::AddrNotAvailable => because(
            Exit::Config,
            format_args!(
                "cannot listen on {address}: this machine has no such address; [::] stands for all of them"
            ),
        ),
        _ => because(
            Exit::CannotCreate,
            format_args!("cannot listen on {address}: {error}"),
        ),
    }
}

fn no_signals(error: &io::Error) -> (Exit, String) {
    because(Exit::Io, format_args!("cannot wait for signals: {error}"))
}

fn because(exit: Exit, reason: impl Display) -> (Exit, String) {
    (exit, reason.to_string())
}
