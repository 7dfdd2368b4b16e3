//! Accepting connections, however that goes wrong.
//!
//! What is wrong with a single peer is passed over. What is wrong with this process, such as a want of descriptors, is logged
//! when it begins and waited out: it passes when a connection ends.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// How long to wait after an accept failed for want of something that only time, or the end of a connection, gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long accepting must go well for the next failure to be news.
const BURST_GAP: Duration = Duration::from_secs(10);

/// Accepts one connection, however long that takes.
pub(super) async fn accept<T, F: Future<Output = io::Result<T>>>(
    mut attempt: impl FnMut() -> F,
    burst: &mut Burst,
) -> T {
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_the_peer(&error) => debug!(%error, "connection not accepted"),
            Err(error) => {
                if burst.begins(Instant::now()) {
                    warn!(%error, "cannot accept connections, trying again");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Tells the first of many failures from the others. A process short of descriptors fails, and succeeds once for every
/// connection that ends, hundreds of times a minute.
#[derive(Default)]
pub(super) struct Burst {
    last: Option<Instant>,
}

impl Burst {
    /// Whether a failure at this time is the first after a while without any.
    fn begins(&mut self, now: Instant) -> bool {
        let begins = self.last.is_none_or(|last| now - last > BURST_GAP);
        self.last = Some(now);
        begins
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::ready;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_burst_of_failures_begins_once() {
        let mut burst = Burst::default();
        let start = Instant::now();
        assert!(burst.begins(start));
        assert!(!burst.begins(start + ACCEPT_PAUSE));
        assert!(!burst.begins(start + ACCEPT_PAUSE + BURST_GAP));
        assert!(burst.begins(start + ACCEPT_PAUSE + BURST_GAP * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_goes_on_after_a_pause_when_descriptors_run_out() {
        let mut results = VecDeque::from([
            Err(Errno::NFILE.into()),
            Err(Errno::CONNABORTED.into()),
            Err(Errno::MFILE.into()),
            Ok("a connection"),
        ]);
        let attempt = || ready(results.pop_front().unwrap());
        let mut burst = Burst::default();
        let began = Instant::now();
        assert_eq!(accept(attempt, &mut burst).await, "a connection");
        assert_eq!(began.elapsed().as_millis(), (ACCEPT_PAUSE * 2).as_millis());
    }
}
