//! Serves a directory of code over HTTP: the command line around the library.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use code_server::config::command::Command;
use code_server::config::pack::{PackConfig, Product};
use code_server::exit::Exit;
use code_server::pack::pack;
use code_server::shutdown;
use code_server::telemetry::{self, LogFormat};
use tokio::runtime::{self, Runtime};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let exit = match Command::parse(std::env::args_os()) {
        Ok(Command::Pack(config)) => run_pack(config),
        Ok(_) => Exit::Config,
        Err(error) => {
            error.print();
            error.exit()
        }
    };
    exit.into()
}

/// Packs on a thread of its own, so that a signal can have it clean up.
fn run_pack(config: PackConfig) -> Exit {
    telemetry::start(LogFormat::Text);
    if config.product == Product::Stream && io::stdout().is_terminal() {
        return failed(
            "standard output is a terminal, and an archive is no text: name a file with --output",
            Exit::Usage,
        );
    }
    within_runtime(async move {
        let signalled = match shutdown::signalled() {
            Ok(signalled) => signalled,
            Err(error) => {
                return failed(format_args!("cannot wait for signals: {error}"), Exit::Io);
            }
        };
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
        match (packed, signal) {
            (_, Some(signal)) => signal,
            (Ok(Ok(())), None) => Exit::Done,
            (Ok(Err(error)), None) => failed(&error, error.exit()),
            (Err(panic), None) => failed(panic, Exit::Io),
        }
    })
}

fn within_runtime(work: impl Future<Output = Exit>) -> Exit {
    let runtime: io::Result<Runtime> = runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            runtime.shutdown_background();
            exit
        }
        Err(error) => failed(format_args!("cannot start: {error}"), Exit::Io),
    }
}

/// Says in a sentence why it ends.
fn failed(reason: impl std::fmt::Display, exit: Exit) -> Exit {
    // Nobody is left to tell if standard error is gone.
    drop(writeln!(io::stderr(), "error: {reason}"));
    exit
}
