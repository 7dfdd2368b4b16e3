//! What the machine allows this process: memory, processor time and descriptors.
//!
//! Looked at once, at start. How many threads the processor time is worth is known to the standard library already
//! ([`std::thread::available_parallelism`] counts a control group's quota, too).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{self, Rlimit, getrlimit, setrlimit};

/// Where control groups are found.
const CGROUPS: &str = "/sys/fs/cgroup";
/// No limit is as high; version 1 writes nearly 2⁶³ for none.
const NO_LIMIT: u64 = 1 << 60;

/// What limits one resource: a controller, and its file in either version of control groups.
struct Resource {
    controller: &'static str,
    version_1: &'static str,
    version_2: &'static str,
}

const MEMORY: Resource = Resource {
    controller: "memory",
    version_1: "memory.limit_in_bytes",
    version_2: "memory.max",
};
const PROCESSOR: Resource = Resource {
    controller: "cpu",
    version_1: "cpu.cfs_quota_us",
    version_2: "cpu.max",
};
/// Version 1 has the period in a file of its own.
const PERIOD: &str = "cpu.cfs_period_us";

/// Processor time that may be used in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Of one processor; more than the period where there are several.
    pub time: Duration,
    /// A tenth of a second, unless somebody chose another.
    pub period: Duration,
}

/// How much memory the control group allows this process in bytes; `None` without a limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let files = limit_files(&own_groups(), Path::new(CGROUPS), &MEMORY);
    let limits = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    limits.filter_map(|text| parse_limit(&text)).min()
}

/// How much processor time the control group allows this process; `None` without a limit.
#[must_use]
pub fn processor_quota() -> Option<Quota> {
    let files = limit_files(&own_groups(), Path::new(CGROUPS), &PROCESSOR);
    let quotas = files.iter().filter_map(|file| {
        let limit = fs::read_to_string(file).ok()?;
        let period = fs::read_to_string(file.with_file_name(PERIOD)).unwrap_or_default();
        parse_quota(&format!("{limit} {period}"))
    });
    quotas.min_by(|one, other| {
        let part = |quota: &Quota| quota.time.div_duration_f64(quota.period);
        part(one).total_cmp(&part(other))
    })
}

fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Raises the limit on open descriptors as far as this process may, and tells it.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(process::Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(process::Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.unwrap_or(u64::MAX)
}

/// The files that may hold a limit: those of the group itself and of each group around it, whichever of them can be seen
/// from here. In a container the group's own path often cannot, and the outermost stands for it.
fn limit_files(groups: &str, root: &Path, resource: &Resource) -> Vec<PathBuf> {
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    lines
        .filter_map(|(controllers, path)| {
            let (base, name) = if controllers.is_empty() {
                (root.to_owned(), resource.version_2)
            } else if controllers
                .split(',')
                .any(|name| name == resource.controller)
            {
                (root.join(resource.controller), resource.version_1)
            } else {
                return None;
            };
            Some(around(path).map(move |group| base.join(group).join(name)))
        })
        .flatten()
        .collect()
}

/// A group and all around it, as paths beneath the outermost.
fn around(path: &str) -> impl Iterator<Item = &Path> {
    Path::new(path.trim_start_matches('/')).ancestors()
}

fn parse_limit(text: &str) -> Option<u64> {
    let limit = text.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

/// Both numbers are microseconds, the time first; what is no number above zero is no limit.
fn parse_quota(text: &str) -> Option<Quota> {
    let mut numbers = text.split_whitespace();
    let mut next = || numbers.next()?.parse().ok().filter(|&number| number > 0);
    let (time, period) = (next()?, next()?);
    Some(Quota {
        time: Duration::from_micros(time),
        period: Duration::from_micros(period),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(groups: &str, expected: &[&str]) {
        let files = limit_files(groups, Path::new("/c"), &MEMORY);
        let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(files, expected, "{groups}");
    }

    #[test]
    fn version_two_has_one_hierarchy() {
        check(
            "0::/pods/a\n",
            &[
                "/c/pods/a/memory.max",
                "/c/pods/memory.max",
                "/c/memory.max",
            ],
        );
        check("0::/\n", &["/c/memory.max"]);
    }

    #[test]
    fn version_one_has_a_hierarchy_for_memory() {
        check(
            "3:cpu,cpuacct:/a\n2:memory:/a\n1:name=systemd:/a\n",
            &[
                "/c/memory/a/memory.limit_in_bytes",
                "/c/memory/memory.limit_in_bytes",
            ],
        );
        check("4:hugetlb,memory:/\n", &["/c/memory/memory.limit_in_bytes"]);
    }

    #[test]
    fn what_is_no_line_of_it_names_no_file() {
        check("", &[]);
        check("nonsense\n1\n1:memory\n", &[]);
    }

    #[test]
    fn a_limit_is_a_number_of_bytes_or_none() {
        for (text, limit) in [
            ("67108864\n", Some(67_108_864)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("", None),
            ("-1\n", None),
        ] {
            assert_eq!(parse_limit(text), limit, "{text}");
        }
    }

    #[test]
    fn version_one_has_a_hierarchy_for_the_processor() {
        let files = limit_files("3:cpu,cpuacct:/a\n", Path::new("/c"), &PROCESSOR);
        let expected = ["/c/cpu/a/cpu.cfs_quota_us", "/c/cpu/cpu.cfs_quota_us"];
        assert_eq!(files, expected.map(PathBuf::from));
    }

    #[test]
    fn a_quota_is_two_numbers_of_microseconds_or_none() {
        for (text, quota) in [
            ("10000 100000\n", Some((10, 100))),
            ("10000\n 50000\n", Some((10, 50))),
            ("150000 100000\n", Some((150, 100))),
            ("max 100000\n", None),
            ("-1\n 100000\n", None),
            ("0 100000\n", None),
            ("10000\n", None),
            ("10000 0\n", None),
            ("", None),
        ] {
            let milliseconds = Duration::from_millis;
            let quota = quota.map(|(time, period)| Quota {
                time: milliseconds(time),
                period: milliseconds(period),
            });
            assert_eq!(parse_quota(text), quota, "{text}");
        }
    }

    #[test]
    fn descriptors_are_raised_to_what_is_allowed() {
        let limit = raise_descriptor_limit();
        let now = getrlimit(process::Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), limit);
    }
}
