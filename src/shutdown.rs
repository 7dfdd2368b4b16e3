//! The signals that end a program.
//!
//! Installing a handler is what makes them work at all for the first process of a container: the kernel gives it no default
//! action.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;

/// Waits for SIGTERM or SIGINT.
///
/// From the first call on, neither ends the process by itself; one that arrives before the future is polled is not lost.
pub fn signalled() -> io::Result<impl Future<Output = Exit>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        };
        Exit::Signal(u8::try_from(kind.as_raw_value()).expect("signals have small numbers"))
    })
}
