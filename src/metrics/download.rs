//! Connections, and the downloads on them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Label;
use super::text::Registrar;

/// How a download ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadResult {
    /// With all bytes of the response sent.
    Complete,
    /// Before that, for whatever reason.
    Aborted,
}

impl DownloadResult {
    /// As the label has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
        }
    }
}

/// The downloads of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downloads {
    /// Those that are sent.
    pub running: u64,
    /// Those that wait for their turn.
    pub waiting: u64,
}

/// Something that lasts, counted in a gauge until this is dropped.
#[must_use = "it is counted only while this is kept"]
#[derive(Debug)]
pub struct Ongoing(Gauge);

impl Ongoing {
    pub(super) fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) connections: Gauge,
    pub(super) running: Gauge,
    pub(super) waiting: Gauge,
    pub(super) rejected: Counter,
    pub(super) sent: Counter,
    complete: Counter,
    aborted: Counter,
}

impl Traffic {
    pub(super) fn register(new: &mut Registrar) -> Self {
        let ended = new.metric(
            "downloads",
            "Downloads of archives that ended, by whether every byte was sent",
            Family::<Label, Counter>::default(),
        );
        let counter =
            |result: DownloadResult| ended.get_or_create_owned(&[("result", result.name())]);
        Self {
            complete: counter(DownloadResult::Complete),
            aborted: counter(DownloadResult::Aborted),
            connections: new.metric(
                "connections_active",
                "Connections that are open",
                Gauge::default(),
            ),
            running: new.metric(
                "downloads_in_flight",
                "Downloads of archives that are being sent",
                Gauge::default(),
            ),
            waiting: new.metric(
                "downloads_waiting",
                "Downloads of archives that wait for their turn",
                Gauge::default(),
            ),
            rejected: new.metric(
                "downloads_rejected",
                "Downloads that were turned away because too many waited",
                Counter::default(),
            ),
            sent: new.metric(
                "http_response_bytes",
                "Bytes of the bodies of responses",
                Counter::default(),
            ),
        }
    }

    pub(super) fn ended(&self, result: DownloadResult) {
        match result {
            DownloadResult::Complete => self.complete.inc(),
            DownloadResult::Aborted => self.aborted.inc(),
        };
    }

    pub(super) fn downloads(&self) -> Downloads {
        // Never below zero: each guard counts down what it counted up.
        let number = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        Downloads {
            running: number(&self.running),
            waiting: number(&self.waiting),
        }
    }
}
