//! Every metric, its unit and its labels.
//!
//! [`Metrics`] is told plain values by whoever has them, and written out for a scrape. Counters begin at zero with all their
//! labels, so that a rate over the first event is right; the figures of the artifact are zero while there is none. Labels
//! have values from fixed lists, but for the one revision that is current.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

/// The media type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the name of each metric begins with.
const PREFIX: &str = "codeserver";
/// The first bound of a build's duration in seconds; a tree of a few files takes less.
const FASTEST_BUILD: f64 = 0.01;
/// So many bounds, each twice the one before: the last is 5 minutes and a half.
const BUILD_BOUNDS: u16 = 16;

type Label = [(&'static str, &'static str); 1];

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

/// Downloads of archives under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downloads {
    /// Those that bytes are sent for.
    pub running: u64,
    /// Those that wait for their turn.
    pub waiting: u64,
}

/// All metrics of a server. Clones count the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    registry: Registry,
    artifact_info: Family<[(&'static str, String); 1], Gauge>,
    artifact_size: Gauge,
    artifact_uncompressed_size: Gauge,
    artifact_files: Gauge,
    artifact_published: Gauge<f64, AtomicU64>,
    builds: Family<Label, Counter>,
    build_duration: Histogram,
    segments: Family<Label, Counter>,
    watch_events: Counter,
    watch_errors: Counter,
    ingests: Family<Label, Counter>,
}

impl Metrics {
    /// Nothing has happened yet. `version` is that of the program.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut new = Registrar(Registry::with_prefix(PREFIX));
        let build_info = new.metric(
            "build_info",
            "The program that runs",
            Family::<Label, Gauge>::default(),
        );
        build_info.get_or_create(&[("version", version)]).set(1);
        let metrics = Registered {
            artifact_info: new.metric("artifact_info", "The current artifact", Family::default()),
            artifact_size: new.metric(
                "artifact_size_bytes",
                "Length of the current archive",
                Gauge::default(),
            ),
            artifact_uncompressed_size: new.metric(
                "artifact_uncompressed_size_bytes",
                "Length of the tar in the current archive",
                Gauge::default(),
            ),
            artifact_files: new.metric(
                "artifact_files",
                "Files in the current archive",
                Gauge::default(),
            ),
            artifact_published: new.metric(
                "artifact_published_timestamp_seconds",
                "When the current artifact was published, in seconds since 1970",
                Gauge::default(),
            ),
            builds: new.metric(
                "builds",
                "Builds that ended, by what came of them",
                Family::default(),
            ),
            build_duration: new.metric(
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
            registry: new.finish(),
        };
        metrics.begin_at_zero();
        Self(Arc::new(metrics))
    }

    /// An artifact is the current one from now on.
    pub fn published(&self, artifact: &ArtifactFigures) {
        let Self(metrics) = self;
        metrics.artifact_info.clear();
        let label = [("revision", artifact.revision.clone())];
        metrics.artifact_info.get_or_create(&label).set(1);
        metrics.artifact_size.set(whole(artifact.size));
        let tar = whole(artifact.uncompressed_size);
        metrics.artifact_uncompressed_size.set(tar);
        metrics.artifact_files.set(whole(artifact.files));
        let since = artifact.published.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs_f64();
        metrics.artifact_published.set(seconds);
    }

    /// No artifact is the current one any more.
    pub fn withdrawn(&self) {
        let Self(metrics) = self;
        metrics.artifact_info.clear();
        metrics.artifact_size.set(0);
        metrics.artifact_uncompressed_size.set(0);
        metrics.artifact_files.set(0);
        metrics.artifact_published.set(0.0);
    }

    /// A build ended, and took so long.
    pub fn built(&self, result: BuildResult, elapsed: Duration) {
        self.0.builds.get_or_create(&result.label()).inc();
        self.0.build_duration.observe(elapsed.as_secs_f64());
    }

    /// An archive was written whose segments were compressed anew, or copied from its predecessor.
    pub fn segments(&self, compressed: u64, reused: u64) {
        self.0
            .segments
            .get_or_create(&COMPRESSED)
            .inc_by(compressed);
        self.0.segments.get_or_create(&REUSED).inc_by(reused);
    }

    /// So many changes were told of.
    pub fn watch_events(&self, count: u64) {
        self.0.watch_events.inc_by(count);
    }

    /// Watching failed, or events were lost, so many times.
    pub fn watch_errors(&self, count: u64) {
        self.0.watch_errors.inc_by(count);
    }

    /// An upload ended.
    pub fn ingested(&self, result: IngestResult) {
        self.0.ingests.get_or_create(&result.label()).inc();
    }

    /// Downloads under way at this moment.
    #[must_use]
    pub fn downloads(&self) -> Downloads {
        Downloads::default()
    }

    /// All of them, in Prometheus' text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.0.registry).expect("a string takes any text");
        classic(&text)
    }
}

impl Registered {
    fn begin_at_zero(&self) {
        for result in BuildResult::ALL {
            self.builds.get_or_create(&result.label()).inc_by(0);
        }
        for result in IngestResult::ALL {
            self.ingests.get_or_create(&result.label()).inc_by(0);
        }
        for source in [COMPRESSED, REUSED] {
            self.segments.get_or_create(&source).inc_by(0);
        }
    }
}

/// A length as a gauge has it; no real one is too large.
fn whole(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Gives metrics their names.
struct Registrar(Registry);

impl Registrar {
    fn metric<M: Metric + Clone + Debug>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn finish(self) -> Registry {
        self.0
    }
}

/// `OpenMetrics` as the older text format, which every scraper and linter reads.
///
/// There a counter's samples have the name of their family: the help and the type of `x` become those of `x_total`.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len() + 256);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let of_counter = is_counter(line)
            || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        if of_counter {
            let name = line.split(' ').nth(2).unwrap_or_default();
            classic.push_str(&line.replacen(name, &format!("{name}_total"), 1));
        } else {
            classic.push_str(line);
        }
        classic.push('\n');
    }
    classic
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn figures(revision: &str) -> ArtifactFigures {
        ArtifactFigures {
            revision: revision.into(),
            size: 120,
            uncompressed_size: 3072,
            files: 2,
            published: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
        }
    }

    /// Whether this line is among those written, without the prefix.
    fn has(metrics: &Metrics, line: &str) -> bool {
        let line = format!("{PREFIX}_{line}");
        metrics.encode().lines().any(|found| found == line)
    }

    #[test]
    fn everything_is_there_before_anything_has_happened() {
        let metrics = Metrics::new("1.2.3");
        for line in [
            "build_info{version=\"1.2.3\"} 1",
            "artifact_size_bytes 0",
            "builds_total{result=\"published\"} 0",
            "builds_total{result=\"unchanged\"} 0",
            "builds_total{result=\"torn\"} 0",
            "builds_total{result=\"failed\"} 0",
            "build_duration_seconds_count 0",
            "build_segments_total{source=\"compressed\"} 0",
            "build_segments_total{source=\"reused\"} 0",
            "watch_events_total 0",
            "watch_errors_total 0",
            "ingests_total{result=\"replaced\"} 0",
        ] {
            assert!(has(&metrics, line), "{line} in {}", metrics.encode());
        }
    }

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new("1");
        metrics.built(BuildResult::Torn, Duration::from_millis(15));
        metrics.clone().segments(3, 40);
        metrics.watch_events(7);
        metrics.watch_errors(1);
        metrics.ingested(IngestResult::Rejected);
        for line in [
            "builds_total{result=\"torn\"} 1",
            "build_duration_seconds_sum 0.015",
            "build_duration_seconds_bucket{le=\"0.01\"} 0",
            "build_duration_seconds_bucket{le=\"0.02\"} 1",
            "build_segments_total{source=\"compressed\"} 3",
            "build_segments_total{source=\"reused\"} 40",
            "watch_events_total 7",
            "watch_errors_total 1",
            "ingests_total{result=\"rejected\"} 1",
        ] {
            assert!(has(&metrics, line), "{line} in {}", metrics.encode());
        }
    }

    #[test]
    fn only_the_current_artifact_is_described() {
        let metrics = Metrics::new("1");
        metrics.published(&figures("sha256:a"));
        metrics.published(&figures("sha256:b"));
        let infos = |revision: &str| {
            has(
                &metrics,
                &format!("artifact_info{{revision=\"{revision}\"}} 1"),
            )
        };
        assert!(!infos("sha256:a"));
        assert!(infos("sha256:b"));
        for line in [
            "artifact_size_bytes 120",
            "artifact_uncompressed_size_bytes 3072",
            "artifact_files 2",
            "artifact_published_timestamp_seconds 1700000000.5",
        ] {
            assert!(has(&metrics, line), "{line} in {}", metrics.encode());
        }
        metrics.withdrawn();
        assert!(!infos("sha256:b"));
        assert!(has(&metrics, "artifact_files 0"));
    }

    /// What `promtool check metrics` wants of names and texts.
    #[test]
    fn names_are_as_prometheus_has_them() {
        let metrics = Metrics::new("1");
        metrics.published(&figures("sha256:a"));
        let text = metrics.encode();
        let said = |what: &str| -> BTreeMap<String, String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(what));
            lines
                .map(|line| line.split_once(' ').unwrap())
                .map(|(name, rest)| (name.into(), rest.into()))
                .collect()
        };
        let (helps, types) = (said("# HELP "), said("# TYPE "));
        assert_eq!(helps.len(), 12);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| name.strip_suffix(ending))
                .filter(|name| types.get(*name).is_some_and(|kind| kind == "histogram"));
            let family = histogram.unwrap_or(name);
            let kind = types
                .get(family)
                .unwrap_or_else(|| panic!("{name} has no type"));
            assert!(helps[family].len() > 10, "{name}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{name}");
            assert!(
                !family.contains("milli") && family.starts_with(PREFIX),
                "{name}"
            );
        }
    }
}
