//! Serves a directory of code over HTTP: the command line around the library.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use code_server::config::command::Command;
use code_server::config::healthcheck::HealthcheckConfig;
use code_server::config::pack::{PackConfig, Product};
use code_server::config::serve::ServeConfig;
use code_server::exit::{Exit, Failure};
use code_server::fetch::client::{Client, Timeouts};
use code_server::pack::pack;
use code_server::server::Server;
use code_server::telemetry::{self, LogFormat};
use code_server::{listen, shutdown};
use http::{HeaderMap, StatusCode};
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a packing that a signal ended may take to remove what it wrote.
const CLEAN_UP: Duration = Duration::from_secs(3);

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
        Command::Serve(config) => serve(&config),
        Command::Pack(config) => pack_until_signalled(config),
        Command::Healthcheck(config) => within_runtime(healthcheck(config)),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(Failure { exit, reason }) => {
            // Nobody is left to tell if standard error is gone.
            drop(writeln!(io::stderr(), "error: {reason}"));
            exit.into()
        }
    }
}

/// Serves until a signal comes, and drains then.
fn serve(config: &ServeConfig) -> Result<Exit, Failure> {
    let server = Server::new(config).map_err(|error| Failure::of(error.exit(), &error))?;
    within_runtime(async {
        let signalled = shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))?;
        let listener =
            listen::bind(config.listen).map_err(|error| cannot_listen(config.listen, &error))?;
        let shutdown = CancellationToken::new();
        let mut serving = std::pin::pin!(server.run(listener, shutdown.clone()));
        tokio::select! {
            () = &mut serving => {}
            signal = signalled => {
                info!(exit = signal.code(), "a signal came");
                shutdown.cancel();
                serving.await;
            }
        }
        Ok(Exit::Done)
    })
}

/// Packs on a thread of its own, so that a signal can have it clean up.
fn pack_until_signalled(config: PackConfig) -> Result<Exit, Failure> {
    if config.product == Product::Stream && io::stdout().is_terminal() {
        let reason =
            "standard output is a terminal, and an archive is no text: name a file with --output";
        return Err(Failure::new(Exit::Usage, reason));
    }
    within_runtime(async move {
        let signalled = shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))?;
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let mut packing = tokio::task::spawn_blocking(move || {
            pack(&config, io::stdout().lock(), &|| cancelled.is_cancelled())
        });
        let packed = tokio::select! {
            packed = &mut packing => packed,
            signal = signalled => {
                cancel.cancel();
                // It has ended before that, or waits for somebody who does not read its output.
                drop(tokio::time::timeout(CLEAN_UP, packing).await);
                return Ok(signal);
            }
        };
        match packed {
            Ok(Ok(())) => Ok(Exit::Done),
            Ok(Err(error)) => Err(Failure::of(error.exit(), &error)),
            Err(panic) => Err(Failure::of(Exit::Io, &panic)),
        }
    })
}

/// Asks a server whether it is ready.
async fn healthcheck(config: HealthcheckConfig) -> Result<Exit, Failure> {
    let HealthcheckConfig { url, timeout } = config;
    let timeouts = Timeouts {
        lookup: timeout,
        connect: timeout,
        stall: timeout,
    };
    let client = Client::new(url, timeouts);
    let answer = tokio::time::timeout(timeout, client.get("", HeaderMap::new())).await;
    let url = client.url();
    match answer {
        Ok(Ok(answer)) if answer.status == StatusCode::OK => Ok(Exit::Done),
        Ok(Ok(answer)) => {
            let status = answer.status;
            Err(Failure::new(
                Exit::Unavailable,
                format!("{url} answers {status}"),
            ))
        }
        Ok(Err(error)) => Err(Failure::of(Exit::Unavailable, &error)),
        Err(_) => Err(Failure::new(
            Exit::Unavailable,
            format!("{url} does not answer within {timeout:?}"),
        )),
    }
}

/// Runs on as many threads as there are cores to use; one core needs no second thread to hand work to.
fn within_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of(Exit::Io, &error))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let (exit, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Exit::CannotCreate,
            "another program does already; choose another port with --listen".into(),
        ),
        io::ErrorKind::PermissionDenied => (
            Exit::Refused,
            "no permission; choose a port from 1024 on with --listen".into(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            Exit::Config,
            "this machine has no such address; [::] stands for all that it has".into(),
        ),
        _ => (Exit::CannotCreate, error.to_string()),
    };
    Failure::new(exit, format!("cannot listen on {address}: {hint}"))
}
