//! The signals that end a program, and the one that has it look again.
//!
//! Installing a handler is what makes them work at all for the first process of a container: the kernel gives it no default
//! action.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

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

/// The SIGHUPs from now on, which no longer end the process.
pub fn hangups() -> io::Result<Hangups> {
    signal(SignalKind::hangup()).map(Hangups)
}

/// SIGHUPs as they come.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Waits for a SIGHUP. Those that came since the last one was taken count as one; none is lost if the future is dropped.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime takes no signals any more, so none will come.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// Sends one to ourselves and waits until it has arrived.
    async fn hang_up(witness: &mut Hangups) {
        kill_process(getpid(), Signal::HUP).unwrap();
        witness.next().await;
    }

    fn has_come(hangups: &mut Hangups) -> bool {
        let next = pin!(hangups.next());
        next.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[tokio::test]
    async fn hangups_that_nobody_took_yet_count_as_one() {
        let (mut hangups, mut witness) = (hangups().unwrap(), hangups().unwrap());
        assert!(!has_come(&mut hangups));
        hang_up(&mut witness).await;
        hang_up(&mut witness).await;
        assert!(has_come(&mut hangups));
        assert!(!has_come(&mut hangups));
        hang_up(&mut witness).await;
        assert!(has_come(&mut hangups));
    }
}
