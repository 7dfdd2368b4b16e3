//! The facts of the page: what is served, what else can be had, and how it goes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::super::revisions::{self, Line, write_time};
use crate::artifact::Artifact;
use crate::digest::{Digest, Revision};
use crate::metrics::{BuildResult, Metrics};
use crate::publication::PastBuild;
use crate::publication::Publication;

/// All that is told, at one moment. It names no path of the server but those of the code.
#[derive(Serialize)]
pub(super) struct Facts {
    /// Of the program.
    pub(super) version: &'static str,
    /// The server's clock, to which all other times belong.
    #[serde(serialize_with = "write_time")]
    pub(super) now: SystemTime,
    /// `None` before the first artifact.
    pub(super) current: Option<Current>,
    /// What can be had, newest published first; the current one is among it.
    pub(super) revisions: Vec<Line>,
    /// The last builds, newest first.
    pub(super) builds: Vec<Build>,
    pub(super) downloads: Downloads,
    #[serde(flatten)]
    pub(super) ways: Ways,
}

/// What the commands to fetch and to replace depend on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(in crate::http) struct Ways {
    /// Whether an upload can be sent over HTTP.
    pub(in crate::http) uploads: bool,
    /// Whether only those are answered who know a token.
    pub(in crate::http) read_token: bool,
    /// Whether the server speaks HTTPS; a browser knows it by itself.
    #[serde(skip)]
    pub(in crate::http) tls: bool,
}

/// What is served.
#[derive(Serialize)]
pub(super) struct Current {
    pub(super) revision: Revision,
    pub(super) digest: Digest,
    /// The tag of `/code.json`, which tells a waiting request what is known already.
    tag: String,
    pub(super) size: u64,
    pub(super) uncompressed_size: u64,
    pub(super) entries: u64,
    pub(super) files: u64,
    #[serde(serialize_with = "write_time")]
    created_at: SystemTime,
    #[serde(serialize_with = "write_time")]
    pub(super) published_at: SystemTime,
    /// How many names each rule left out.
    pub(super) left_out: BTreeMap<String, u64>,
}

/// A build that came to its end.
#[derive(Serialize)]
pub(super) struct Build {
    #[serde(serialize_with = "write_time")]
    pub(super) began_at: SystemTime,
    /// How long it took.
    pub(super) seconds: f64,
    pub(super) result: &'static str,
    /// `None` where it failed.
    pub(super) revision: Option<Revision>,
    /// Why it failed, in a sentence.
    pub(super) error: Option<String>,
    /// How often in a row.
    pub(super) times: u32,
}

/// Downloads under way.
#[derive(Serialize)]
pub(super) struct Downloads {
    pub(super) running: u64,
    pub(super) waiting: u64,
}

impl Facts {
    pub(super) fn gather(publication: &Publication, metrics: &Metrics, ways: Ways) -> Self {
        let current = publication.current();
        let downloads = metrics.downloads();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now: SystemTime::now(),
            revisions: revisions::lines(publication, current.as_deref()),
            current: current.as_deref().map(Current::new),
            builds: publication.builds().into_iter().map(Build::new).collect(),
            downloads: Downloads {
                running: downloads.running,
                waiting: downloads.waiting,
            },
            ways,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and times can be written")
    }
}

impl Current {
    fn new(artifact: &Artifact) -> Self {
        let descriptor = artifact.descriptor();
        Self {
            revision: descriptor.revision,
            digest: descriptor.digest,
            tag: format!("\"{}\"", artifact.json().digest().hex()),
            size: descriptor.size,
            uncompressed_size: descriptor.uncompressed_size,
            entries: descriptor.entries,
            files: descriptor.files,
            created_at: descriptor.created_at,
            published_at: artifact.published(),
            left_out: descriptor.left_out.clone(),
        }
    }
}

impl Build {
    fn new(build: PastBuild) -> Self {
        let (revision, error) = match build.outcome {
            Ok(revision) => (Some(revision), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            began_at: build.began,
            seconds: build.took.as_secs_f64(),
            result: match build.result {
                BuildResult::Published => "published",
                BuildResult::Unchanged => "unchanged",
                BuildResult::Torn => "torn",
                BuildResult::Failed => "failed",
            },
            revision,
            error,
            times: build.times,
        }
    }
}
