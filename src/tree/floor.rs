//! What never belongs unless somebody asks for it: the state of version control and of our own programs, and secrets.
//!
//! Names are compared without regard to case. Certificates and keys share their endings, so those files are left out only
//! if they hold a private key.
//!
//! The few kinds of pattern there are here are matched here: a library would compile regular expressions for them, and the
//! code that does so is half a megabyte that every idle server would run once and keep in memory.

use std::io::{self, Read};

use crate::entry::EntryPath;

/// Left out by name.
pub(super) const BY_NAME: &[&str] = &[
    // Version control, and what the tools at work on the tree keep beside it.
    ".git",
    ".hg",
    ".svn",
    ".jac",
    "/lost+found",
    "/.code-*",
    ".*.sw?",
    ".#*",
    // Secrets.
    ".env",
    ".env.*",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".ssh/",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
];

/// Left out if [`holds_private_key`].
pub(super) const BY_CONTENT: &[&str] = &["*.pem", "*.key"];

/// The first of these patterns that a path's last name matches: `*` stands for any bytes and `?` for one, either a `/`
/// before them for the root alone, or one behind them for directories alone.
pub(super) fn find(
    patterns: &'static [&'static str],
    path: &EntryPath,
    is_dir: bool,
) -> Option<&'static str> {
    let path = path.as_bytes();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let is_in_root = name.len() == path.len();
    let matches = |pattern: &&&str| {
        let in_root = pattern.strip_prefix('/');
        let for_directories = pattern.strip_suffix('/');
        let glob = in_root.or(for_directories).unwrap_or(pattern);
        (in_root.is_none() || is_in_root)
            && (for_directories.is_none() || is_dir)
            && matches(glob.as_bytes(), name)
    };
    patterns.iter().find(matches).copied()
}

fn matches(glob: &[u8], name: &[u8]) -> bool {
    match (glob, name) {
        ([b'*', glob @ ..], _) => (0..=name.len()).any(|any| matches(glob, &name[any..])),
        ([b'?', glob @ ..], [_, name @ ..]) => matches(glob, name),
        ([wanted, glob @ ..], [byte, name @ ..]) => {
            wanted.eq_ignore_ascii_case(byte) && matches(glob, name)
        }
        (glob, name) => glob.is_empty() && name.is_empty(),
    }
}

/// How far a private key is looked for.
const LOOKED_AT: u64 = 64 << 10;

/// Whether a private key in PEM form begins within the first 64 KiB.
pub(super) fn holds_private_key(file: impl Read) -> io::Result<bool> {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    let mut head = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut head)?;
    Ok(head.windows(MARK.len()).any(|window| window == MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_matched_whole() {
        let check = |glob: &str, name: &str, expected| {
            let found = matches(glob.as_bytes(), name.as_bytes());
            assert_eq!(found, expected, "{glob} {name}");
        };
        for (glob, names) in [
            (".git", &[".git", ".GIT"][..]),
            ("id_rsa*", &["id_rsa", "id_rsa.pub", "ID_RSA2"]),
            ("*.p12", &["x.p12", ".p12", "x.p12.P12"]),
            (".*.sw?", &[".a.swp", "..swo", ".a.b.swx"]),
        ] {
            for name in names {
                check(glob, name, true);
            }
        }
        for (glob, names) in [
            (".git", &["", ".gi", ".gitt", "x.git"][..]),
            ("id_rsa*", &["id_rs", "xid_rsa"]),
            ("*.p12", &["p12", "x.p12x", "x.p1"]),
            (".*.sw?", &[".swp", ".a.sw", "a.swp", ".a.swpp"]),
        ] {
            for name in names {
                check(glob, name, false);
            }
        }
    }

    #[test]
    fn a_slash_says_where_and_what() {
        let check = |path: &str, is_dir, expected| {
            let path = EntryPath::new(path.as_bytes()).unwrap();
            assert_eq!(find(&["/a", "b/", "c"], &path, is_dir), expected, "{path}");
        };
        check("a", false, Some("/a"));
        check("a", true, Some("/a"));
        check("c/a", false, None);
        check("b", true, Some("b/"));
        check("c/b", true, Some("b/"));
        check("c/b", false, None);
        check("a/c", false, Some("c"));
        check("c/d", false, None);
    }

    #[test]
    fn a_private_key_is_told_from_a_certificate() {
        let check = |text: &str, expected| {
            assert_eq!(
                holds_private_key(text.as_bytes()).unwrap(),
                expected,
                "{text}"
            );
        };
        check("-----BEGIN RSA PRIVATE KEY-----\nMII", true);
        check(
            "-----BEGIN CERTIFICATE-----\n…\n-----BEGIN PRIVATE KEY-----\n",
            true,
        );
        check("-----BEGIN CERTIFICATE-----\nMII", false);
        check("-----BEGIN PUBLIC KEY-----\nMII", false);
        check("", false);
    }

    #[test]
    fn a_key_is_found_within_the_first_64_kib() {
        const KEY: &[u8] = b"PRIVATE KEY-----";
        let check = |before: usize, expected| {
            let file = [&vec![b'x'; before], KEY].concat();
            assert_eq!(holds_private_key(&*file).unwrap(), expected, "{before}");
        };
        check((64 << 10) - KEY.len(), true);
        check((64 << 10) - KEY.len() + 1, false);
    }
}
