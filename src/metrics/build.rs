//! What becomes of the tree: artifacts, builds, uploads.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::Label;
use super::text::Registrar;

/// The first bound of a build's duration in seconds; a tree of a few files takes less.
const FASTEST_BUILD: f64 = 0.01;
/// So many bounds, each twice the one before: the last is 5 minutes and a half.
const BUILD_BOUNDS: u16 = 16;

const COMPRESSED: Label = [("source", "compressed")];
const REUSED: Label = [("source", "reused")];

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildResult {
    /// With an artifact that is now the current one.
    Published,
    /// With what is current already.
    Unchanged,
    /// The tree did not hold still.
    Torn,
    /// For another reason, such as an entry that may not be read or a full disk.
    Failed,
}

impl BuildResult {
    const ALL: [Self; 4] = [Self::Published, Self::Unchanged, Self::Torn, Self::Failed];

    fn label(self) -> Label {
        let value = match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::Torn => "torn",
            Self::Failed => "failed",
        };
        [("result", value)]
    }
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngestResult {
    /// The tree is what was uploaded.
    Replaced,
    /// The tree was that already.
    Unchanged,
    /// What was uploaded is damaged, hostile or too large.
    Rejected,
    /// For a reason on this side, such as a full disk.
    Failed,
}

impl IngestResult {
    const ALL: [Self; 4] = [
        Self::Replaced,
        Self::Unchanged,
        Self::Rejected,
        Self::Failed,
    ];

    fn label(self) -> Label {
        let value = match self {
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        };
        [("result", value)]
    }
}

/// What is told of the current artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFigures {
    /// The identity of its content, as it is written.
    pub revision: String,
    /// The length of the archive in bytes.
    pub size: u64,
    /// The length of the tar in bytes.
    pub uncompressed_size: u64,
    /// How many files it has.
    pub files: u64,
    /// When it was published.
    pub published: SystemTime,
}

/// The current artifact as gauges.
#[derive(Debug)]
pub(super) struct Artifact {
    info: Family<[(&'static str, String); 1], Gauge>,
    size: Gauge,
    uncompressed_size: Gauge,
    files: Gauge,
    published: Gauge<f64, AtomicU64>,
}

impl Artifact {
    pub(super) fn register(new: &mut Registrar) -> Self {
        Self {
            info: new.metric("artifact_info", "The current artifact", Family::default()),
            size: new.metric(
                "artifact_size_bytes",
                "Length of the current archive",
                Gauge::default(),
            ),
            uncompressed_size: new.metric(
                "artifact_uncompressed_size_bytes",
                "Length of the tar in the current archive",
                Gauge::default(),
            ),
            files: new.metric(
                "artifact_files",
                "Files in the current archive",
                Gauge::default(),
            ),
            published: new.metric(
                "artifact_published_timestamp_seconds",
                "When the current artifact was published, in seconds since 1970",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn published(&self, artifact: &ArtifactFigures) {
        self.info.clear();
        let label = [("revision", artifact.revision.clone())];
        self.info.get_or_create(&label).set(1);
        self.size.set(whole(artifact.size));
        self.uncompressed_size
            .set(whole(artifact.uncompressed_size));
        self.files.set(whole(artifact.files));
        let since = artifact.published.duration_since(SystemTime::UNIX_EPOCH);
        self.published.set(since.unwrap_or_default().as_secs_f64());
    }

    pub(super) fn withdrawn(&self) {
        self.info.clear();
        self.size.set(0);
        self.uncompressed_size.set(0);
        self.files.set(0);
        self.published.set(0.0);
    }
}

/// A length as a gauge has it; no real one is too large.
fn whole(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// What was done about the tree.
#[derive(Debug)]
pub(super) struct Builds {
    ended: Family<Label, Counter>,
    duration: Histogram,
    segments: Family<Label, Counter>,
    pub(super) watch_events: Counter,
    pub(super) watch_errors: Counter,
    ingests: Family<Label, Counter>,
}

impl Builds {
    pub(super) fn register(new: &mut Registrar) -> Self {
        let builds = Self {
            ended: new.metric(
                "builds",
                "Builds that ended, by what came of them",
                Family::default(),
            ),
            duration: new.metric(
                "build_duration_seconds",
                "How long builds took",
                Histogram::new(exponential_buckets(FASTEST_BUILD, 2.0, BUILD_BOUNDS)),
            ),
            segments: new.metric(
                "build_segments",
                "Segments of archives, by where their bytes came from",
                Family::default(),
            ),
            watch_events: new.metric(
                "watch_events",
                "Changes of the tree that the kernel told of",
                Counter::default(),
            ),
            watch_errors: new.metric(
                "watch_errors",
                "Times that watching the tree failed or lost events",
                Counter::default(),
            ),
            ingests: new.metric(
                "ingests",
                "Uploads that ended, by what came of them",
                Family::default(),
            ),
        };
        builds.begin_at_zero();
        builds
    }

    fn begin_at_zero(&self) {
        for result in BuildResult::ALL {
            self.ended.get_or_create(&result.label()).inc_by(0);
        }
        for result in IngestResult::ALL {
            self.ingests.get_or_create(&result.label()).inc_by(0);
        }
        self.segments(0, 0);
    }

    pub(super) fn built(&self, result: BuildResult, elapsed: Duration) {
        self.ended.get_or_create(&result.label()).inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    pub(super) fn segments(&self, compressed: u64, reused: u64) {
        self.segments.get_or_create(&COMPRESSED).inc_by(compressed);
        self.segments.get_or_create(&REUSED).inc_by(reused);
    }

    pub(super) fn ingested(&self, result: IngestResult) {
        self.ingests.get_or_create(&result.label()).inc();
    }
}
