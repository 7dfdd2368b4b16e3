//! Whether the server of a tree serves what was just put there, as somebody beside it can find out.
//!
//! The server's record in its state directory says where it listens and what came of its last build; what it serves, it
//! says itself.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tokio::time::{Instant, sleep, timeout};

use crate::config::credentials::{Credentials, Trust};
use crate::config::healthcheck::reachable;
use crate::config::tree::TreeConfig;
use crate::config::url::BaseUrl;
use crate::descriptor::{CODE_REVISION, DESCRIPTOR, LARGEST_DESCRIPTOR};
use crate::digest::Revision;
use crate::exit::Exit;
use crate::fetch::client::{Client, ClientError, Timeouts};
use crate::store::{LastBuild, LastResult, ServerRecord};

/// How often its record is read.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the server is asked though its record says nothing new: each time leaves a line in its log.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// How long one answer may take: the server is on the same machine.
const ANSWER: Duration = Duration::from_secs(5);

/// What came of a new tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It is served.
    Served,
    /// Its code is what was served before.
    Unchanged,
    /// There is no server.
    NotServed,
    /// The server could not build an archive of it, for this reason.
    Failed(String),
    /// The server has not said so in time.
    TimedOut,
}

impl Confirmed {
    /// How a program ends for which the tree is in its place.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Served | Self::Unchanged | Self::NotServed => Exit::Done,
            Self::Failed(_) => Exit::Io,
            Self::TimedOut => Exit::Unavailable,
        }
    }

    /// The same for a person.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Served => "served".into(),
            Self::Unchanged => "unchanged: the server serves this revision already".into(),
            Self::NotServed => {
                "not served: no server uses the state directory (name it with --state-dir)".into()
            }
            Self::Failed(reason) => {
                format!("the new tree is in its place, but the server could not build it: {reason}")
            }
            Self::TimedOut => {
                "the new tree is in its place, but the server did not say in time that it serves it"
                    .into()
            }
        }
    }
}

/// The rules by which the server of a state directory judges a tree, with what is told where it has none.
pub fn with_rules_of_server(state_dir: &Path, told: TreeConfig) -> io::Result<TreeConfig> {
    let Some(ServerRecord { rules, .. }) = ServerRecord::read(state_dir)? else {
        return Ok(told);
    };
    Ok(TreeConfig {
        excludes: rules.excludes,
        default_excludes: rules.default_excludes,
        skip_unreadable: rules.skip_unreadable,
        allow_empty: rules.allow_empty,
        modes: rules.modes,
        ..told
    })
}

/// A tree that was put into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What the server computes for it.
    pub revision: Revision,
    /// When that was.
    pub at: SystemTime,
    /// What [`served`] gave before.
    pub before: Option<Revision>,
}

/// What the server of a state directory serves now; `None` where there is none, or it serves nothing yet.
pub async fn served(state_dir: &Path) -> Option<Revision> {
    let record = ServerRecord::read(state_dir).ok().flatten()?;
    match timeout(ANSWER, ask(&record)).await {
        Ok(Served::This(revision)) => Some(revision),
        _ => None,
    }
}

/// Waits until the server serves a tree.
///
/// Ends with a failed build that has begun since it was put into its place, with the process of the server, or with the
/// time.
pub async fn confirm(state_dir: &Path, placed: &Placed, limit: Duration) -> Confirmed {
    let deadline = Instant::now() + limit;
    let mut asked = None;
    loop {
        let record = ServerRecord::read(state_dir).ok().flatten();
        let is_old_news = asked
            .as_ref()
            .is_some_and(|(known, at): &(_, Instant)| *known == record && at.elapsed() < ASK_AGAIN);
        if !is_old_news {
            let served = match &record {
                Some(record) => ask(record).await,
                None => Served::NoServer,
            };
            let last = record
                .as_ref()
                .and_then(|record| record.last_build.as_ref());
            if let Some(confirmed) = decide(served, last, placed) {
                return confirmed;
            }
            asked = Some((record, Instant::now()));
        }
        if Instant::now() >= deadline {
            return Confirmed::TimedOut;
        }
        sleep(PAUSE).await;
    }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    This(Revision),
    /// Nothing yet, or not now.
    Nothing,
    /// Nobody is there to answer.
    NoServer,
}

fn decide(served: Served, last: Option<&LastBuild>, placed: &Placed) -> Option<Confirmed> {
    let last = last.filter(|last| last.began >= placed.at);
    match (served, last) {
        (Served::NoServer, _) => Some(Confirmed::NotServed),
        // The record cannot tell which of both it is: it may be from before the last moment, and the answer from after it.
        (Served::This(found), _) if found == placed.revision => match placed.before {
            Some(before) if before == found => Some(Confirmed::Unchanged),
            _ => Some(Confirmed::Served),
        },
        (_, Some(last)) if last.result == LastResult::Failed => {
            Some(Confirmed::Failed(last.error.clone().unwrap_or_default()))
        }
        _ => None,
    }
}

async fn ask(record: &ServerRecord) -> Served {
    let address = reachable(record.address);
    let access = record.access.clone();
    let (scheme, trust) = match access.certificate {
        Some(certificate) => ("https", Trust::Exactly(certificate)),
        None => ("http", Trust::default()),
    };
    let credentials = Credentials {
        trust,
        token_file: access.token_file,
    };
    let Ok(url) = BaseUrl::parse(&format!("{scheme}://{address}")) else {
        return Served::Nothing;
    };
    let timeouts = Timeouts {
        lookup: ANSWER,
        connect: ANSWER,
        stall: ANSWER,
    };
    // A file that is being replaced can be read the next time.
    let Ok(client) = Client::new(url, timeouts, &credentials) else {
        return Served::Nothing;
    };
    // What is not there yet is not waited for: the record tells when to ask again.
    let at_once = HeaderMap::from_iter([(PREFER, HeaderValue::from_static("wait=0"))]);
    match client.get(DESCRIPTOR, at_once).await {
        Ok(answer) if answer.status.is_success() => {
            let revision = answer.header(CODE_REVISION);
            let served = revision
                .and_then(|revision| revision.parse().ok())
                .map_or(Served::Nothing, Served::This);
            // The server's log would tell of a download that was aborted.
            drop(answer.collect(LARGEST_DESCRIPTOR).await);
            served
        }
        Err(ClientError::Refused { .. }) if is_gone(record.pid) => Served::NoServer,
        _ => Served::Nothing,
    }
}

/// Whether there is no such process.
fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn revision(text: &str) -> Revision {
        Revision::of_listing(Digest::of(text.as_bytes()))
    }

    fn placed(before: &str) -> Placed {
        Placed {
            revision: revision("new"),
            at: at(100),
            before: Some(revision(before)),
        }
    }

    #[test]
    fn only_a_build_that_began_since_counts() {
        use LastResult::{Failed, Published};
        let check = |served: Served, last: Option<(u64, LastResult)>, expected| {
            let last = last.map(|(began, result)| LastBuild {
                began: at(began),
                result,
                revision: None,
                error: Some("why".into()),
            });
            let found = decide(served, last.as_ref(), &placed("old"));
            assert_eq!(found, expected, "{served:?} {last:?}");
        };
        let (new, old) = (Served::This(revision("new")), Served::This(revision("old")));
        check(new, Some((100, Published)), Some(Confirmed::Served));
        check(new, Some((99, Published)), Some(Confirmed::Served));
        check(new, None, Some(Confirmed::Served));
        check(old, None, None);
        check(old, Some((99, Failed)), None);
        check(old, Some((100, Published)), None);
        let failed = Some(Confirmed::Failed("why".into()));
        check(old, Some((100, Failed)), failed.clone());
        check(Served::Nothing, Some((100, Failed)), failed);
        check(Served::Nothing, None, None);
        let not_served = Some(Confirmed::NotServed);
        check(Served::NoServer, Some((100, Failed)), not_served);
    }

    #[test]
    fn what_was_served_before_is_unchanged_whatever_was_built() {
        let same = Served::This(revision("new"));
        let unchanged = Some(Confirmed::Unchanged);
        assert_eq!(decide(same, None, &placed("new")), unchanged);
        let before = None;
        let first = Placed {
            before,
            ..placed("new")
        };
        assert_eq!(decide(same, None, &first), Some(Confirmed::Served));
    }

    #[test]
    fn a_server_has_the_say_which_rules_hold() {
        let directory = tempfile::tempdir().unwrap();
        let told = TreeConfig {
            root: "/data".into(),
            excludes: vec!["told".into()],
            default_excludes: true,
            skip_unreadable: false,
            allow_empty: false,
            modes: crate::entry::Modes::Normal,
            mtime: None,
            level: 6,
            workers: std::num::NonZeroUsize::MIN,
        };
        let same = with_rules_of_server(directory.path(), told.clone()).unwrap();
        assert_eq!(same, told);
        let json = r#"{"address":"[::]:8080","pid":1,"rules":{"excludes":["*.log"],"default_excludes":false,
            "skip_unreadable":true,"allow_empty":true,"modes":"keep"},"last_build":{"began":
            "2024-01-01T00:00:00.123456789Z","result":"failed","revision":null,"error":"why"}}"#;
        std::fs::write(directory.path().join("server"), json).unwrap();
        let ruled = with_rules_of_server(directory.path(), told.clone()).unwrap();
        assert_eq!(ruled.excludes, ["*.log"]);
        assert!(!ruled.default_excludes && ruled.skip_unreadable && ruled.allow_empty);
        assert_eq!(ruled.modes, crate::entry::Modes::Keep);
        assert_eq!(ruled.root, told.root);
    }

    #[tokio::test]
    async fn where_nobody_serves_nobody_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Duration::from_mins(10);
        let confirmed = confirm(directory.path(), &placed("old"), limit).await;
        assert_eq!(confirmed, Confirmed::NotServed);
        assert_eq!(served(directory.path()).await, None);
    }
}
