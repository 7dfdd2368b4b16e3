//! Whether the server of a tree serves what was just put there, as somebody beside it can find out.
//!
//! The server's record in its state directory says where it listens and what came of its last build; what it serves, it
//! says itself.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tokio::time::{Instant, sleep};

use crate::config::healthcheck::reachable;
use crate::config::tree::TreeConfig;
use crate::config::url::BaseUrl;
use crate::descriptor::{CODE_REVISION, DESCRIPTOR};
use crate::digest::Revision;
use crate::exit::Exit;
use crate::fetch::client::{Client, ClientError, Timeouts};
use crate::store::{LastBuild, LastResult, ServerRecord};

/// How often the server is asked.
const PAUSE: Duration = Duration::from_millis(100);
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

/// Waits until the server serves a revision whose tree was put into its place at this time.
///
/// Ends with a failed build that has begun since, with the process of the server, or with the time.
pub async fn confirm(
    state_dir: &Path,
    revision: Revision,
    since: SystemTime,
    limit: Duration,
) -> Confirmed {
    let deadline = Instant::now() + limit;
    loop {
        let record = ServerRecord::read(state_dir).ok().flatten();
        let served = match &record {
            Some(record) => ask(record).await,
            None => Served::NoServer,
        };
        let last = record.and_then(|record| record.last_build);
        if let Some(confirmed) = decide(served, last.as_ref(), revision, since) {
            return confirmed;
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

fn decide(
    served: Served,
    last: Option<&LastBuild>,
    revision: Revision,
    since: SystemTime,
) -> Option<Confirmed> {
    let last = last.filter(|last| last.began >= since);
    match (served, last) {
        (Served::NoServer, _) => Some(Confirmed::NotServed),
        (Served::This(found), Some(last))
            if found == revision && last.result == LastResult::Published =>
        {
            Some(Confirmed::Served)
        }
        (Served::This(found), _) if found == revision => Some(Confirmed::Unchanged),
        (_, Some(last)) if last.result == LastResult::Failed => {
            Some(Confirmed::Failed(last.error.clone().unwrap_or_default()))
        }
        _ => None,
    }
}

async fn ask(record: &ServerRecord) -> Served {
    let address = reachable(record.address);
    let Ok(url) = BaseUrl::parse(&format!("http://{address}")) else {
        return Served::Nothing;
    };
    let timeouts = Timeouts {
        lookup: ANSWER,
        connect: ANSWER,
        stall: ANSWER,
    };
    match Client::new(url, timeouts)
        .get(DESCRIPTOR, HeaderMap::new())
        .await
    {
        Ok(answer) if answer.status.is_success() => answer
            .header(CODE_REVISION)
            .and_then(|revision| revision.parse().ok())
            .map_or(Served::Nothing, Served::This),
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

    #[test]
    fn only_a_build_that_began_since_counts() {
        use LastResult::{Failed, Published, Unchanged};
        let check = |served: Served, last: Option<(u64, LastResult)>, expected| {
            let last = last.map(|(began, result)| LastBuild {
                began: at(began),
                result,
                revision: None,
                error: Some("why".into()),
            });
            let found = decide(served, last.as_ref(), revision("new"), at(100));
            assert_eq!(found, expected, "{served:?} {last:?}");
        };
        let (new, old) = (Served::This(revision("new")), Served::This(revision("old")));
        check(new, Some((100, Published)), Some(Confirmed::Served));
        check(new, Some((99, Published)), Some(Confirmed::Unchanged));
        check(new, Some((100, Unchanged)), Some(Confirmed::Unchanged));
        check(new, None, Some(Confirmed::Unchanged));
        check(old, None, None);
        check(old, Some((99, Failed)), None);
        check(old, Some((100, Published)), None);
        check(
            old,
            Some((100, Failed)),
            Some(Confirmed::Failed("why".into())),
        );
        check(
            Served::Nothing,
            Some((100, Failed)),
            Some(Confirmed::Failed("why".into())),
        );
        check(Served::Nothing, None, None);
        check(
            Served::NoServer,
            Some((100, Failed)),
            Some(Confirmed::NotServed),
        );
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
        let confirmed = confirm(
            directory.path(),
            revision("new"),
            at(0),
            Duration::from_mins(10),
        );
        assert_eq!(confirmed.await, Confirmed::NotServed);
    }
}
