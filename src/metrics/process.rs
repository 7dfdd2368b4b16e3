//! The process as the kernel sees it, under the names that every exporter uses.
//!
//! Read from `/proc` at each scrape. What cannot be read there is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::telemetry;

/// A figure with its name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figure {
    name: &'static str,
    help: &'static str,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// Seconds that only become more.
    Counter(f64),
    Seconds(f64),
    Number(u64),
}

/// Writes the figures at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    /// When the machine was booted, in seconds since 1970: asked once, because the file is long on machines of many cores.
    booted: Option<u64>,
}

impl Process {
    pub(super) fn new() -> Self {
        let stat = fs::read_to_string("/proc/stat");
        Self {
            booted: stat.ok().and_then(|text| boot_time(&text)),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let stat = fs::read_to_string("/proc/self/stat");
        let stat = stat.ok().and_then(|text| Stat::parse(&text));
        let units = Units {
            ticks: clock_ticks_per_second(),
            page: page_size() as u64,
        };
        let mut figures = stat.map_or_else(Vec::new, |stat| stat.figures(&units, self.booted));
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            figures.push(Figure {
                name: "process_open_fds",
                help: "Number of open file descriptors",
                // But for the one that counts them.
                value: Value::Number((open.count() as u64).saturating_sub(1)),
            });
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            figures.push(Figure {
                name: "process_max_fds",
                help: "Maximum number of open file descriptors",
                value: Value::Number(limit),
            });
        }
        figures
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Figure { name, help, value } in self.figures() {
            let kind = match value {
                Value::Counter(_) => MetricType::Counter,
                Value::Seconds(_) | Value::Number(_) => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match value {
                Value::Counter(value) => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
                Value::Seconds(value) => metric.encode_gauge(&value),
                Value::Number(value) => metric.encode_gauge(&value),
            }?;
        }
        Ok(())
    }
}

/// What this process could not write to its log.
#[derive(Debug)]
pub(super) struct Log;

impl Collector for Log {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut dropped = encoder.encode_descriptor(
            "log_lines_dropped",
            "Lines of the log that were dropped because nobody read standard error",
            None,
            MetricType::Counter,
        )?;
        dropped.encode_counter::<NoLabelSet, _, u64>(&telemetry::dropped_lines(), None)
    }
}

/// What the kernel counts in.
struct Units {
    /// Ticks a second.
    ticks: u64,
    /// Bytes a page.
    page: u64,
}

/// What `/proc/self/stat` says, in the kernel's units (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Ticks on a processor, in the program and in the kernel.
    processor: u64,
    threads: u64,
    /// Ticks between the boot and its start.
    started: u64,
    /// Bytes of address space.
    virtual_size: u64,
    /// Pages of memory.
    resident: u64,
}

impl Stat {
    /// `None` where it is not as documented. The program's name may hold blanks and brackets.
    fn parse(text: &str) -> Option<Self> {
        let (_, behind_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind_name.split_ascii_whitespace().collect();
        // The first one behind the name is the third in the documentation's count.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            processor: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            started: field(22)?,
            virtual_size: field(23)?,
            resident: field(24)?,
        })
    }

    fn figures(&self, units: &Units, booted: Option<u64>) -> Vec<Figure> {
        let seconds = |ticks: u64| fraction(ticks, units.ticks);
        let mut figures = vec![
            Figure {
                name: "process_cpu_seconds",
                help: "Total user and system CPU time spent in seconds",
                value: Value::Counter(seconds(self.processor)),
            },
            Figure {
                name: "process_resident_memory_bytes",
                help: "Resident memory size in bytes",
                value: Value::Number(self.resident.saturating_mul(units.page)),
            },
            Figure {
                name: "process_virtual_memory_bytes",
                help: "Virtual memory size in bytes",
                value: Value::Number(self.virtual_size),
            },
            Figure {
                name: "process_threads",
                help: "Number of threads",
                value: Value::Number(self.threads),
            },
        ];
        figures.extend(booted.map(|booted| {
            Figure {
                name: "process_start_time_seconds",
                help: "Start time of the process since the Unix epoch in seconds",
                value: Value::Seconds(fraction(
                    booted
                        .saturating_mul(units.ticks)
                        .saturating_add(self.started),
                    units.ticks,
                )),
            }
        }));
        figures
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a floating point number holds ticks to the end of this century exactly"
)]
fn fraction(ticks: u64, a_second: u64) -> f64 {
    ticks as f64 / a_second.max(1) as f64
}

/// When the machine was booted, of `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (code-server) S 1 7 7 0 -1 4194560 900 0 3 0 120 30 0 0 20 0 4 0 5000 73400320 1280 \
                        18446744073709551615 1 1 0 0 0 0 0 4096 1088 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    const PARSED: Stat = Stat {
        processor: 150,
        threads: 4,
        started: 5000,
        virtual_size: 73_400_320,
        resident: 1280,
    };

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        assert_eq!(Stat::parse(STAT), Some(PARSED));
        for name in ["a b", ") S 1 2 3", "((", "", "1) (2"] {
            let text = STAT.replace("code-server", name);
            assert_eq!(Stat::parse(&text), Some(PARSED), "{name}");
        }
    }

    #[test]
    fn what_is_not_the_kernels_line_is_nothing() {
        let short = &STAT[..STAT.find(" 1280").unwrap()];
        let minus = STAT.replace(" 120 ", " -120 ");
        for text in ["", "7", "7 (code-server)", short, &minus] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_kernels_units_become_seconds_and_bytes() {
        let units = Units {
            ticks: 100,
            page: 4096,
        };
        let figures = PARSED.figures(&units, Some(1_700_000_000));
        let value = |name: &str| {
            figures
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .value
        };
        assert_eq!(value("process_cpu_seconds"), Value::Counter(1.5));
        assert_eq!(
            value("process_resident_memory_bytes"),
            Value::Number(5_242_880)
        );
        assert_eq!(
            value("process_virtual_memory_bytes"),
            Value::Number(73_400_320)
        );
        assert_eq!(value("process_threads"), Value::Number(4));
        assert_eq!(
            value("process_start_time_seconds"),
            Value::Seconds(1_700_000_050.0)
        );
        assert_eq!(PARSED.figures(&units, None).len(), 4);
    }

    #[test]
    fn the_boot_is_one_line_of_many() {
        assert_eq!(
            boot_time("cpu 1 2\nintr 5 btime 3\nbtime 1700000000\nx 1\n"),
            Some(1_700_000_000)
        );
        assert_eq!(boot_time("cpu 1 2\nbtime soon\n"), None);
        assert_eq!(boot_time(""), None);
    }

    #[test]
    fn this_very_process_is_described() {
        let figures = Process::new().figures();
        for name in [
            "process_resident_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            let figure = figures.iter().find(|figure| figure.name == name);
            let value = figure.unwrap_or_else(|| panic!("no {name}")).value;
            assert!(matches!(value, Value::Number(1..)), "{name}: {value:?}");
        }
        let started = figures
            .iter()
            .find(|figure| figure.name == "process_start_time_seconds");
        assert!(matches!(started.unwrap().value, Value::Seconds(1.6e9..)));
    }
}
