//! What a server has: its descriptor, or that of one revision.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};

use super::attempt::AttemptError;
use super::attempts::Task;
use super::client::{Client, Response};
use super::retry::retry_after;
use crate::config::fetch::FetchConfig;
use crate::config::url::BaseUrl;
use crate::descriptor::{CODE_REVISION, DESCRIPTOR, Descriptor, LARGEST_DESCRIPTOR, REVISIONS};
use crate::digest::Revision;

/// No server is asked to hold a request for longer: many proxies give up on an answer after a minute.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(55);
/// How long a server that has nothing yet may hold a request while another one could be asked.
const SHARED_HOLD: Duration = Duration::from_secs(1);
/// How a server says that it has heard how long it may hold a request.
const PREFERENCE_APPLIED: &str = "preference-applied";

/// How long a server may hold a request, of one or of several: well before its silence would count as a stall, and so that
/// it can say what it has instead before time is up.
pub(super) fn hold(config: &FetchConfig, alone: bool) -> Duration {
    hold_within(config.stall_timeout, config.deadline, alone)
}

fn hold_within(stall_timeout: Duration, deadline: Option<Duration>, alone: bool) -> Duration {
    let longest = if alone { LONGEST_HOLD } else { SHARED_HOLD };
    let longest = longest.min(stall_timeout / 2);
    deadline.map_or(longest, |deadline| longest.min(deadline / 4 * 3))
}

/// The headers of a request that a server may hold until it has something, or something else than what has this tag.
pub(super) fn held(hold: Duration, tag: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if hold >= Duration::from_secs(1) {
        let wait = HeaderValue::try_from(format!("wait={}", hold.as_secs()));
        let wait = wait.expect("digits are visible");
        headers.insert(HeaderName::from_static("prefer"), wait);
    }
    if let Some(tag) = tag {
        headers.insert(IF_NONE_MATCH, tag.clone());
    }
    headers
}

/// What is asked for: the descriptor of what is current, or of one revision.
pub(super) fn resource(wanted: Option<Revision>) -> String {
    match wanted {
        Some(revision) => format!("{REVISIONS}/{revision}/{DESCRIPTOR}"),
        None => DESCRIPTOR.into(),
    }
}

/// Reads the descriptor in an answer with status 200.
pub(super) async fn read(
    response: Response,
    wanted: Option<Revision>,
) -> Result<Descriptor, AttemptError> {
    let url = response.url().clone();
    let text = response.collect(LARGEST_DESCRIPTOR).await?;
    let descriptor = Descriptor::parse(&text).map_err(|source| AttemptError::Descriptor {
        url: Box::new(url),
        source,
    })?;
    match wanted {
        Some(wanted) if wanted != descriptor.revision => Err(AttemptError::WrongRevision {
            wanted,
            found: descriptor.revision,
        }),
        _ => Ok(descriptor),
    }
}

/// What an answer with another status means.
pub(super) fn refusal(
    url: &BaseUrl,
    wanted: Option<Revision>,
    resource: String,
    response: &Response,
) -> AttemptError {
    let retry_after = response
        .header(RETRY_AFTER)
        .and_then(|wish| retry_after(wish, SystemTime::now()));
    let served: Option<Revision> = response
        .header(CODE_REVISION)
        .and_then(|text| text.parse().ok());
    let status = response.status;
    match wanted {
        Some(wanted) if status == StatusCode::NOT_FOUND || served.is_some() => {
            AttemptError::NotServed {
                wanted,
                served,
                retry_after,
            }
        }
        _ => AttemptError::Status {
            url: url.clone(),
            resource,
            status,
            retry_after,
        },
    }
}

/// Asks what there is, and takes nothing of it.
#[derive(Debug)]
pub(super) struct Inquiry<'a> {
    clients: &'a [Client],
    wanted: Option<Revision>,
    /// What it is about: only something else than this is worth an answer.
    known: Option<HeaderValue>,
    /// How long the only server left may hold the request, and how long one of several.
    holds: [Duration; 2],
    turn: usize,
    alone: bool,
}

/// What a server has.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which one it is, in the order of the sources.
    pub(super) turn: usize,
    /// `None`: what is known already.
    pub(super) descriptor: Option<Descriptor>,
    /// What to ask with next time.
    pub(super) tag: Option<HeaderValue>,
    /// Whether the server holds requests.
    pub(super) holds: bool,
}

impl<'a> Inquiry<'a> {
    /// Asks for what is current, or waits for one revision.
    pub(super) fn new(clients: &'a [Client], config: &FetchConfig) -> Self {
        Self {
            clients,
            wanted: config.revision,
            known: None,
            holds: [true, false].map(|alone| hold(config, alone)),
            turn: 0,
            alone: true,
        }
    }

    /// Waits for something else than what has this tag. The clients must be patient enough for the longest hold.
    pub(super) fn for_change(clients: &'a [Client], known: Option<HeaderValue>) -> Self {
        Self {
            clients,
            wanted: None,
            known,
            holds: [LONGEST_HOLD; 2],
            turn: 0,
            alone: true,
        }
    }
}

impl Task for Inquiry<'_> {
    type Done = Answer;

    fn turn_to(&mut self, turn: usize, alone: bool) {
        (self.turn, self.alone) = (turn, alone);
    }

    async fn attempt(&mut self) -> Result<Answer, AttemptError> {
        let client = &self.clients[self.turn];
        let resource = resource(self.wanted);
        let [alone, shared] = self.holds;
        let hold = if self.alone { alone } else { shared };
        let headers = held(hold, self.known.as_ref());
        let response = client.get(&resource, headers).await?;
        let tag = response.headers.get(ETAG).cloned();
        let holds = response.header(PREFERENCE_APPLIED).is_some();
        let descriptor = match response.status {
            StatusCode::OK => Some(read(response, self.wanted).await?),
            StatusCode::NOT_MODIFIED if self.known.is_some() => None,
            _ => return Err(refusal(client.url(), self.wanted, resource, &response)),
        };
        Ok(Answer {
            turn: self.turn,
            descriptor,
            tag,
            holds,
        })
    }

    fn progress(&self) -> usize {
        0
    }

    fn unfinished(&self) -> AttemptError {
        AttemptError::Unfinished {
            url: self.clients[self.turn].url().clone(),
            came: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_holds_a_request_for_less_than_a_stall_and_for_less_than_there_is_time() {
        let check = |stall, deadline: Option<u64>, alone, expected| {
            let deadline = deadline.map(Duration::from_secs);
            let hold = hold_within(Duration::from_secs(stall), deadline, alone);
            assert_eq!(
                hold,
                Duration::from_millis(expected),
                "{stall} {deadline:?} {alone}"
            );
        };
        check(30, None, true, 15_000);
        check(30, Some(300), true, 15_000);
        check(30, Some(4), true, 3000);
        check(300, None, true, 55_000);
        check(30, None, false, 1000);
        check(30, Some(1), false, 750);
        check(1, None, true, 500);
        check(1, Some(300), false, 500);
    }

    #[test]
    fn a_hold_of_less_than_a_second_is_not_asked_for() {
        assert!(held(Duration::from_millis(999), None).is_empty());
        let tag = HeaderValue::from_static("\"a\"");
        let headers = held(Duration::from_millis(1500), Some(&tag));
        assert_eq!(headers["prefer"], "wait=1");
        assert_eq!(headers[IF_NONE_MATCH], tag);
    }
}
