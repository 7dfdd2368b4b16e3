//! What never belongs unless somebody asks for it: the state of version control and of our own programs, and secrets.
//!
//! Names are compared without regard to case. Certificates and keys share their endings, so those files are left out only
//! if they hold a private key.

use std::io::{self, Read};

/// Left out by name.
pub(super) const BY_NAME: &[&str] = &[
    // Version control, and what the tools at work on the tree keep beside it.
    ".git",
    ".hg",
    ".svn",
    ".jac",
    "/lost+found",
    "/.code-*",
    ".*.sw[a-p]",
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
