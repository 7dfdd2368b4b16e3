//! What the machine allows this process: memory and descriptors.
//!
//! Looked at once, at start. How much processor time there is is known to the standard library already
//! ([`std::thread::available_parallelism`] counts a control group's quota, too).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where control groups are found.
const CGROUPS: &str = "/sys/fs/cgroup";
/// No limit is as high; version 1 writes nearly 2⁶³ for none.
const NO_LIMIT: u64 = 1 << 60;

/// How much memory the control group allows this process in bytes; `None` without a limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = limit_files(&groups, Path::new(CGROUPS));
    let limits = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    limits.filter_map(|text| parse_limit(&text)).min()
}

/// Raises the limit on open descriptors as far as this process may, and tells it.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.unwrap_or(u64::MAX)
}

/// The files that may hold a limit: those of the group itself and of each group around it, whichever of them can be seen
/// from here. In a container the group's own path often cannot, and the outermost stands for it.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    lines
        .filter_map(|(controllers, path)| {
            let (base, name) = if controllers.is_empty() {
                (root.to_owned(), "memory.max")
            } else if controllers.split(',').any(|name| name == "memory") {
                (root.join("memory"), "memory.limit_in_bytes")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(groups: &str, expected: &[&str]) {
        let files = limit_files(groups, Path::new("/c"));
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
    fn descriptors_are_raised_to_what_is_allowed() {
        let limit = raise_descriptor_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), limit);
    }
}
