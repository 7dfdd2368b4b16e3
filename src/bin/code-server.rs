//! Serves a directory of code over HTTP: the command line around the library.

use std::io::{self, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use code_server::config::command::Command;
use code_server::config::healthcheck::HealthcheckConfig;
use code_server::config::ingest::IngestConfig;
use code_server::config::pack::{PackConfig, Product};
use code_server::config::serve::ServeConfig;
use code_server::confirm::{Placed, confirm, served, with_rules_of_server};
use code_server::exit::{Exit, Failure};
use code_server::fetch::client::{Client, Timeouts};
use code_server::ingest::{End, Feeder, Ingested, Order, feed, ingest};
use code_server::pack::pack;
use code_server::server::Server;
use code_server::telemetry::{self, LogFormat, Queued};
use code_server::unpack::Limits;
use code_server::{listen, shutdown, store};
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a packing that a signal ended may take to remove what it wrote.
const CLEAN_UP: Duration = Duration::from_secs(3);
/// More threads write no faster, and each of them takes memory.
const MOST_WRITERS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            error.print();
            return error.exit().into();
        }
    };
    let queued = match &command {
        Command::Serve(config) => Some(telemetry::start_queued(config.log_format)),
        Command::Pack(_) | Command::Ingest(_) | Command::Healthcheck(_) => {
            telemetry::start(LogFormat::Text);
            None
        }
    };
    for name in Command::unknown_variables() {
        warn!(%name, "no flag has this variable as its twin: is it misspelt?");
    }
    let ended = match command {
        Command::Serve(config) => serve(&config),
        Command::Pack(config) => pack_until_signalled(config),
        Command::Ingest(config) => ingest_until_signalled(&config),
        Command::Healthcheck(config) => within_runtime(healthcheck(config)),
    };
    let is_read = queued.is_none_or(Queued::end);
    match ended {
        Ok(exit) => exit.into(),
        Err(Failure { exit, reason }) => {
            if is_read {
                // Nobody is left to tell if standard error is gone.
                drop(writeln!(io::stderr(), "error: {reason}"));
            }
            exit.into()
        }
    }
}

/// Serves until a signal comes, and drains then.
fn serve(config: &ServeConfig) -> Result<Exit, Failure> {
    let server = Server::new(config).map_err(|error| Failure::of(error.exit(), &error))?;
    within_runtime(async {
        let signalled = shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))?;
        let listener = bind(config.listen, "--listen")?;
        let server = match config.access.metrics_listen {
            Some(address) => server.observed_on(bind(address, "--metrics-listen")?),
            None => server,
        };
        let shutdown = CancellationToken::new();
        let mut serving = std::pin::pin!(server.run(listener, shutdown.clone()));
        tokio::select! {
            () = &mut serving => {}
            signal = signalled => {
                info!(signal = signal.code() - Exit::Signal(0).code(), "a signal came");
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

/// Replaces a tree by the archive on standard input, prints its revision, and says what the server makes of it.
fn ingest_until_signalled(config: &IngestConfig) -> Result<Exit, Failure> {
    if io::stdin().is_terminal() {
        let reason = "standard input is a terminal, and should be an archive: redirect it, as in < code.tar.gz";
        return Err(Failure::new(Exit::Usage, reason));
    }
    let state_dir = match &config.state_dir {
        Some(path) => path.clone(),
        None => store::default_directory(&config.tree.root)
            .map_err(|error| Failure::of(Exit::CannotCreate, &error))?,
    };
    let tree = with_rules_of_server(&state_dir, config.tree.clone())
        .map_err(|error| Failure::of(Exit::Io, &error))?;
    let order = Order {
        workers: tree.workers.min(MOST_WRITERS),
        tree,
        limits: Limits {
            entries: config.max_entries,
            bytes: config.max_size,
        },
        expected_size: size_of_input(),
        end: End::OfArchive,
        cancel: CancellationToken::new(),
    };
    within_runtime(async {
        let signalled = shutdown::signalled().map_err(|error| Failure::of(Exit::Io, &error))?;
        let mut signalled = std::pin::pin!(signalled);
        let before = served(&state_dir).await;
        let (ingested, signal) = match ingest_input(order, signalled.as_mut()).await? {
            Ended::Ingested(ingested, signal) => (ingested, signal),
            Ended::Signalled(signal) => return Ok(signal),
        };
        // Whoever does not listen any more has the revision from the server.
        drop(writeln!(io::stdout(), "{}", ingested.revision));
        if let Some(signal) = signal {
            return Ok(signal);
        }
        let placed = Placed {
            revision: ingested.revision,
            at: ingested.at,
            before,
        };
        let confirmed = tokio::select! {
            confirmed = confirm(&state_dir, &placed, config.timeout) => confirmed,
            signal = signalled => return Ok(signal),
        };
        match confirmed.exit() {
            Exit::Done => {
                drop(writeln!(io::stderr(), "{}", confirmed.sentence()));
                Ok(Exit::Done)
            }
            exit => Err(Failure::new(exit, confirmed.sentence())),
        }
    })
}

/// How an ingest ended that did not fail.
enum Ended {
    /// With the new tree in its place, and perhaps a signal besides.
    Ingested(Ingested, Option<Exit>),
    /// By a signal, with the old one.
    Signalled(Exit),
}

/// Ingests standard input; a signal ends that before anything is replaced, or comes too late for it.
async fn ingest_input(
    order: Order,
    signalled: impl Future<Output = Exit>,
) -> Result<Ended, Failure> {
    let cancel = order.cancel.clone();
    let (feeder, feed) = feed(cancel.clone());
    // Nobody waits for it: it may be at a read that never ends.
    drop(tokio::task::spawn_blocking(move || read_input(feeder)));
    let mut ingesting = tokio::task::spawn_blocking(move || ingest(&order, feed, || Ok(())));
    let (ingested, signal) = tokio::select! {
        ingested = &mut ingesting => (ingested, None),
        signal = signalled => {
            cancel.cancel();
            (ingesting.await, Some(signal))
        }
    };
    match (ingested, signal) {
        (Ok(Ok(ingested)), signal) => Ok(Ended::Ingested(ingested, signal)),
        (_, Some(signal)) => Ok(Ended::Signalled(signal)),
        (Ok(Err(error)), None) => Err(Failure::of(error.exit(), &error)),
        (Err(panic), None) => Err(Failure::of(Exit::Io, &panic)),
    }
}

/// Passes standard input on until nobody takes more of it.
fn read_input(feeder: Feeder) {
    let mut input = io::stdin().lock();
    let mut piece = vec![0; 64 << 10];
    let ended = loop {
        match input.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                if !feeder.give_from_thread(Bytes::copy_from_slice(&piece[..length])) {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    feeder.end_from_thread(ended);
}

/// How long standard input is, if it is a file.
fn size_of_input() -> Option<u64> {
    let stat = rustix::fs::fstat(io::stdin()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    u64::try_from(stat.st_size).ok().filter(|_| is_file)
}

/// Asks a server whether it is ready.
async fn healthcheck(config: HealthcheckConfig) -> Result<Exit, Failure> {
    let HealthcheckConfig {
        url,
        credentials,
        timeout,
    } = config;
    let timeouts = Timeouts {
        lookup: timeout,
        connect: timeout,
        stall: timeout,
    };
    let client = Client::new(url, timeouts, &credentials)
        .map_err(|error| Failure::of(error.exit(), &error))?;
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
    // What has come is looked for after so many steps of what is at work: by default that is after 61, which for a few busy
    // downloads and a tenth of a core would be several times the tenth of a second that a probe may take.
    let runtime = builder.enable_all().event_interval(8).build();
    let runtime = runtime.map_err(|error| Failure::of(Exit::Io, &error))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    listen::bind(address).map_err(|error| cannot_listen(address, flag, &error))
}

fn cannot_listen(address: SocketAddr, flag: &str, error: &io::Error) -> Failure {
    let (exit, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Exit::CannotCreate,
            format!("another program does already; choose another port with {flag}"),
        ),
        io::ErrorKind::PermissionDenied => (
            Exit::Refused,
            format!("no permission; choose a port from 1024 on with {flag}"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            Exit::Config,
            format!(
                "this machine has no such address; [::] stands for all that it has: {flag} [::]:{}",
                address.port()
            ),
        ),
        _ => (
            Exit::CannotCreate,
            format!("{error}; it is named by {flag}"),
        ),
    };
    Failure::new(exit, format!("cannot listen on {address}: {hint}"))
}
