//! A body, from the connection to the one who reads it.

use std::io;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::ingest::Feeder;

/// How much of a body is read away behind an answer that was found early. A client that sends all before it listens would
/// miss the answer of one who hangs up, and most archives are smaller than this.
const READ_AWAY: u64 = 64 << 20;
/// And for how long.
const READ_AWAY_TIME: Duration = Duration::from_secs(10);

/// A body on its way here.
pub(super) struct Sent {
    pub(super) body: Body,
    pub(super) stall_timeout: Duration,
    /// Whether the client sends it, asked or not.
    pub(super) is_coming: bool,
}

impl Sent {
    /// Passes it on, as soon as somebody wants it and as long as somebody does.
    pub(super) async fn pass_on(&mut self, mut feeder: Feeder) {
        if !feeder.is_wanted().await {
            return;
        }
        self.is_coming = true;
        let ended = loop {
            let frame = tokio::select! {
                () = feeder.is_gone() => return,
                frame = timeout(self.stall_timeout, self.body.frame()) => frame,
            };
            match frame {
                Err(_) => {
                    self.is_coming = false;
                    break Err(io::ErrorKind::TimedOut.into());
                }
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => {
                    // Its wrapping says the same once more.
                    let error = error.into_inner();
                    break Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
                }
                Ok(Some(Ok(frame))) => {
                    // What is no data is a trailer, and means nothing here.
                    let data = frame.into_data().unwrap_or_default();
                    if !feeder.give(data).await {
                        return;
                    }
                }
            }
        };
        feeder.end(ended).await;
    }

    /// Takes some of what the client still sends while it is being answered, and not for ever.
    pub(super) async fn read_away(mut self) {
        if !self.is_coming {
            return;
        }
        let mut left = READ_AWAY;
        let reading = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        drop(timeout(READ_AWAY_TIME, reading).await);
    }
}
