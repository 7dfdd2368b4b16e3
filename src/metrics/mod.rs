//! Every metric, its unit and its labels.
//!
//! [`Metrics`] is told plain values by whoever has them, and written out for a scrape. What is told for each request takes
//! no lock and no allocation. Counters begin at zero with all their labels, so that a rate over the first event is right;
//! only of requests those combinations wait for their first one that hardly ever occur. The figures of the artifact are zero
//! while there is none. Labels have values from fixed lists, but for the one revision that is current.
//!
//! | module | what is counted |
//! |---|---|
//! | `build` | artifacts, builds, uploads |
//! | `requests`, `route` | requests, by names from fixed lists |
//! | `download` | connections, downloads, bytes |
//! | `process` | what the kernel knows of this process, and what its log lost |
//! | `text` | how it is written |

mod build;
mod download;
mod process;
mod requests;
mod route;
mod text;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use build::{Artifact, Builds};
use download::Traffic;
use process::{Log, Process};
use requests::Requests;
use text::Registrar;

pub use build::{ArtifactFigures, BuildResult, IngestResult};
pub use download::{DownloadResult, Downloads, Ongoing};
pub use requests::RequestFigures;
pub use route::{Method, Route};

/// The media type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the name of each metric of ours begins with.
const PREFIX: &str = "codeserver";

type Label = [(&'static str, &'static str); 1];

/// All metrics of a server. Clones count the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    artifact: Artifact,
    builds: Builds,
    requests: Arc<Requests>,
    traffic: Traffic,
    registry: Registry,
    /// Of the names that have no prefix.
    process: Registry,
}

impl Metrics {
    /// Nothing has happened yet. `version` is that of the program.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut new = Registrar::new(PREFIX);
        let build_info = new.metric(
            "build_info",
            "The program that runs",
            Family::<Label, Gauge>::default(),
        );
        build_info.get_or_create(&[("version", version)]).set(1);
        let artifact = Artifact::register(&mut new);
        let builds = Builds::register(&mut new);
        let requests = Arc::new(Requests::new());
        let collector = Box::new(Arc::clone(&requests));
        new.registry().register_collector(collector);
        let traffic = Traffic::register(&mut new);
        new.registry().register_collector(Box::new(Log));
        let mut process = Registry::default();
        process.register_collector(Box::new(Process::new()));
        Self(Arc::new(Registered {
            artifact,
            builds,
            requests,
            traffic,
            registry: new.finish(),
            process,
        }))
    }

    /// An artifact is the current one from now on.
    pub fn published(&self, artifact: &ArtifactFigures) {
        self.0.artifact.published(artifact);
    }

    /// No artifact is the current one any more.
    pub fn withdrawn(&self) {
        self.0.artifact.withdrawn();
    }

    /// A build ended, and took so long.
    pub fn built(&self, result: BuildResult, elapsed: Duration) {
        self.0.builds.built(result, elapsed);
    }

    /// An archive was written whose segments were compressed anew, or copied from its predecessor.
    pub fn segments(&self, compressed: u64, reused: u64) {
        self.0.builds.segments(compressed, reused);
    }

    /// So many changes were told of.
    pub fn watch_events(&self, count: u64) {
        self.0.builds.watch_events.inc_by(count);
    }

    /// Watching failed, or events were lost, so many times.
    pub fn watch_errors(&self, count: u64) {
        self.0.builds.watch_errors.inc_by(count);
    }

    /// An upload ended.
    pub fn ingested(&self, result: IngestResult) {
        self.0.builds.ingested(result);
    }

    /// A connection is open for as long as what is returned is kept.
    pub fn connection(&self) -> Ongoing {
        Ongoing::count(&self.0.traffic.connections)
    }

    /// The head of a response is ready.
    pub fn requested(&self, request: &RequestFigures) {
        self.0.requests.count(request);
    }

    /// So many more bytes of a body were sent.
    pub fn sent(&self, bytes: u64) {
        self.0.traffic.sent.inc_by(bytes);
    }

    /// A download waits for its turn for as long as what is returned is kept.
    pub fn download_waits(&self) -> Ongoing {
        Ongoing::count(&self.0.traffic.waiting)
    }

    /// A download is being sent for as long as what is returned is kept.
    pub fn download_runs(&self) -> Ongoing {
        Ongoing::count(&self.0.traffic.running)
    }

    /// A download was turned away because too many waited.
    pub fn download_rejected(&self) {
        self.0.traffic.rejected.inc();
    }

    /// A download that had begun came to its end.
    pub fn download_ended(&self, result: DownloadResult) {
        self.0.traffic.ended(result);
    }

    /// How many downloads there are at this moment.
    #[must_use]
    pub fn downloads(&self) -> Downloads {
        self.0.traffic.downloads()
    }

    /// All of them, in Prometheus' text format. Reads a few files of `/proc`.
    #[must_use]
    pub fn encode(&self) -> String {
        text::encode(&[&self.0.registry, &self.0.process])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

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
            "http_requests_total{route=\"/code.tar.gz\",method=\"GET\",code=\"206\"} 0",
            "http_requests_total{route=\"/readyz\",method=\"GET\",code=\"503\"} 0",
            "http_requests_total{route=\"other\",method=\"GET\",code=\"404\"} 0",
            "http_request_duration_seconds_count 0",
            "http_response_bytes_total 0",
            "downloads_in_flight 0",
            "downloads_waiting 0",
            "downloads_rejected_total 0",
            "downloads_total{result=\"complete\"} 0",
            "downloads_total{result=\"aborted\"} 0",
            "connections_active 0",
            "log_lines_dropped_total 0",
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

    /// A request that took 2 ms.
    fn request(route: Route, method: Method, status: u16) -> RequestFigures {
        RequestFigures {
            route,
            method,
            status,
            elapsed: Some(Duration::from_millis(2)),
        }
    }

    #[test]
    fn requests_are_counted_by_names_from_fixed_lists() {
        let metrics = Metrics::new("1");
        let before = metrics.encode().lines().count();
        for figures in [
            request(Route::Archive, Method::Get, 304),
            request(Route::Archive, Method::Get, 304),
            request(Route::RevisionListing, Method::Head, 200),
            request(Route::Archive, Method::Put, 507),
            request(Route::Other, Method::Other, 418),
            request(Route::Other, Method::Other, 599),
        ] {
            metrics.requested(&figures);
        }
        for labels in [
            "route=\"/code.tar.gz\",method=\"GET\",code=\"304\"} 2",
            "route=\"/revisions/{revision}/code.list\",method=\"HEAD\",code=\"200\"} 1",
            "route=\"/code.tar.gz\",method=\"PUT\",code=\"507\"} 1",
            "route=\"other\",method=\"other\",code=\"other\"} 2",
        ] {
            let line = format!("http_requests_total{{{labels}");
            assert!(has(&metrics, &line), "{line} in {}", metrics.encode());
        }
        assert_eq!(metrics.encode().lines().count(), before + 3);
    }

    #[test]
    fn only_answers_that_nothing_held_up_are_timed() {
        let metrics = Metrics::new("1");
        metrics.requested(&request(Route::Listing, Method::Get, 200));
        metrics.requested(&RequestFigures {
            elapsed: Some(Duration::from_mins(2)),
            ..request(Route::Listing, Method::Head, 200)
        });
        metrics.requested(&request(Route::Archive, Method::Put, 200));
        metrics.requested(&request(Route::Ready, Method::Get, 200));
        metrics.requested(&RequestFigures {
            elapsed: None,
            ..request(Route::Listing, Method::Get, 200)
        });
        for line in [
            "http_request_duration_seconds_count 2",
            "http_request_duration_seconds_sum 120.002",
            "http_request_duration_seconds_bucket{le=\"0.001\"} 0",
            "http_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "http_request_duration_seconds_bucket{le=\"60.0\"} 1",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(has(&metrics, line), "{line} in {}", metrics.encode());
        }
    }

    #[test]
    fn what_lasts_is_counted_while_it_does() {
        let metrics = Metrics::new("1");
        let connection = metrics.connection();
        let waiting = (metrics.download_waits(), metrics.download_waits());
        let running = metrics.download_runs();
        let downloads = |running, waiting| Downloads { running, waiting };
        assert_eq!(metrics.downloads(), downloads(1, 2));
        assert!(has(&metrics, "connections_active 1"));
        assert!(has(&metrics, "downloads_in_flight 1"));
        assert!(has(&metrics, "downloads_waiting 2"));
        drop((connection, waiting, running));
        assert_eq!(metrics.downloads(), downloads(0, 0));
        assert!(has(&metrics, "connections_active 0"));
    }

    #[test]
    fn downloads_are_counted_by_their_end() {
        let metrics = Metrics::new("1");
        metrics.download_ended(DownloadResult::Complete);
        metrics.download_ended(DownloadResult::Aborted);
        metrics.download_ended(DownloadResult::Complete);
        metrics.download_rejected();
        metrics.sent(7);
        for line in [
            "downloads_total{result=\"complete\"} 2",
            "downloads_total{result=\"aborted\"} 1",
            "downloads_rejected_total 1",
            "http_response_bytes_total 7",
        ] {
            assert!(has(&metrics, line), "{line} in {}", metrics.encode());
        }
    }

    #[test]
    fn the_process_goes_by_the_names_of_everybody() {
        let text = Metrics::new("1").encode();
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_start_time_seconds",
        ] {
            let found = text.lines().any(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(' '))
            });
            assert!(found, "{name} in {text}");
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
        assert!(helps.len() > 20);
        assert_eq!(helps.len(), types.len());
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
                !family.contains("milli")
                    && (family.starts_with(PREFIX) || family.starts_with("process_")),
                "{name}"
            );
        }
    }
}
