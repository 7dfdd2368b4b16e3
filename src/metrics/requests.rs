//! Requests by route, method and status, and how long answers took to begin.
//!
//! Counting takes a few relaxed additions: no lock, no allocation. The labels are put together when somebody asks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::route::{Method, Route};

/// The status codes that are counted by themselves: those that this server answers with. The rest are `other`.
const CODES: [u16; 22] = [
    200, 206, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 415, 416, 422, 429, 431, 500,
    503, 504, 507,
];
/// Theirs, and that of the rest.
const PLACES: usize = CODES.len() + 1;

/// The bounds of the histogram in microseconds. A 304 takes tens of them; what takes seconds waits for something.
const BOUNDS: [u64; 10] = [
    100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000, 60_000_000,
];

/// A request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFigures {
    /// What for.
    pub route: Route,
    /// What to do.
    pub method: Method,
    /// The number of the status.
    pub status: u16,
    /// From the request's head to the response's; `None` of one that asked to be held.
    pub elapsed: Option<Duration>,
}

/// All requests so far.
#[derive(Debug)]
pub(super) struct Requests {
    /// By route, method and place of the status, in this order.
    counts: [AtomicU64; Route::ALL.len() * Method::ALL.len() * PLACES],
    /// Of those that took no longer than the bound of the same place, and longer than the one before.
    durations: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds: it holds five centuries.
    total: AtomicU64,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; _],
            durations: [const { AtomicU64::new(0) }; _],
            total: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, request: &RequestFigures) {
        let place = CODES.binary_search(&request.status).unwrap_or(CODES.len());
        self.counts[index(request.route, request.method, place)].fetch_add(1, Ordering::Relaxed);
        if let Some(elapsed) = request.elapsed
            && is_timed(request.route, request.method)
        {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let bucket = BOUNDS.partition_point(|&bound| bound < micros);
            self.durations[bucket].fetch_add(1, Ordering::Relaxed);
            let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            self.total.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn encode_counts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "http_requests",
            "Requests that were answered",
            None,
            MetricType::Counter,
        )?;
        for route in Route::ALL {
            for method in Method::ALL {
                for place in 0..PLACES {
                    let count = self.counts[index(route, method, place)].load(Ordering::Relaxed);
                    let code = CODES.get(place);
                    let is_usual = method == Method::Get
                        && code.is_some_and(|code| route.usual_codes().contains(code));
                    if count == 0 && !is_usual {
                        continue;
                    }
                    let code = code.map_or("other".into(), u16::to_string);
                    let labels = [
                        ("route", route.pattern()),
                        ("method", method.name()),
                        ("code", &code),
                    ];
                    let mut one = family.encode_family(&labels)?;
                    one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut histogram = encoder.encode_descriptor(
            "http_request_duration_seconds",
            "Time until the head of an answer was ready, for GET and HEAD of anything but probes and metrics, \
             without requests that asked to be held (Prefer)",
            None,
            MetricType::Histogram,
        )?;
        let bounds = BOUNDS
            .iter()
            .map(|&bound| seconds(Duration::from_micros(bound)));
        let counts = self
            .durations
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let total = Duration::from_nanos(self.total.load(Ordering::Relaxed));
        histogram.encode_histogram::<NoLabelSet>(seconds(total), count, &buckets, None)
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_counts(&mut encoder)?;
        self.encode_durations(&mut encoder)
    }
}

fn index(route: Route, method: Method, place: usize) -> usize {
    (route as usize * Method::ALL.len() + method as usize) * PLACES + place
}

/// An upload takes as long as its client, and probes come so often that nothing else would show.
fn is_timed(route: Route, method: Method) -> bool {
    matches!(method, Method::Get | Method::Head) && !route.is_observation()
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
