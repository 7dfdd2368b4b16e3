//! What is mounted where, as far as this process can see.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The first mount point beneath a directory, by what `/proc/self/mountinfo` says.
pub(super) fn mount_within(mounts: &[u8], directory: &Path) -> Option<PathBuf> {
    let lines = mounts.split(|&byte| byte == b'\n');
    let points = lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    points
        .map(|point| PathBuf::from(OsStr::from_bytes(&unescape(point))))
        .find(|point| point != directory && point.starts_with(directory))
}

/// A path in which blanks and backslashes stand as three octal digits behind a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.get(..3).filter(|_| first == b'\\');
        let code =
            code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_within_a_tree_is_found() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 22 0:5 / /data rw - ext4 x rw\n\
            31 30 0:6 / /data/my\\040code/cache rw - tmpfs x rw\n\
            32 30 0:6 / /data/codes rw - tmpfs x rw\n";
        let check = |directory: &str, expected: Option<&str>| {
            let found = mount_within(mounts, Path::new(directory));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{directory}");
        };
        check("/data/my code", Some("/data/my code/cache"));
        check("/data/my code/cache", None);
        check("/data/code", None);
        check("/data/codes", None);
        check("/", Some("/data"));
        assert_eq!(unescape(b"a\\134b\\x\\0"), b"a\\b\\x\\0");
    }
}
