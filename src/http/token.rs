//! The token that those know who may write.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, HeaderMap};
use tracing::warn;

use crate::digest::Digest;

/// More than any token needs.
const LONGEST: u64 = 4 << 10;

/// A file with a token. It is read each time, so that a new token holds from the next request on.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    /// Whether it was complained about, and nothing has changed since.
    is_known_bad: AtomicBool,
}

impl TokenFile {
    /// Reads it once, so that a file without a token is told of early.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let file = Self {
            path: path.into(),
            is_known_bad: AtomicBool::new(false),
        };
        file.token();
        file
    }

    /// Whether a request brings the token (RFC 6750 §2.1). Nobody does while there is none. Waits for the disk.
    pub(super) fn admits(&self, request: &HeaderMap) -> bool {
        match (self.token(), bearer(request)) {
            // Digests take the same time to compare wherever the tokens begin to differ.
            (Some(token), Some(given)) => Digest::of(&token) == Digest::of(given),
            _ => false,
        }
    }

    /// The token; `None` where there is none, which is logged when it begins.
    fn token(&self) -> Option<Vec<u8>> {
        let reason = match read(&self.path) {
            Ok(token) if !token.is_empty() => {
                self.is_known_bad.store(false, Ordering::Relaxed);
                return Some(token);
            }
            Ok(_) => "it is empty".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.is_known_bad.swap(true, Ordering::Relaxed) {
            warn!(file = %self.path.display(), reason, "there is no write token, so nobody may upload");
        }
        None
    }
}

/// The file's content, without the line ends behind it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut token = Vec::new();
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut token)?;
    if token.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 4 KiB"));
    }
    while matches!(token.last(), Some(b'\n' | b'\r')) {
        token.pop();
    }
    Ok(token)
}

/// The credentials of an `Authorization` header that stands there once and is of that kind.
fn bearer(request: &HeaderMap) -> Option<&[u8]> {
    let mut lines = request.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (scheme, given) = line.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| given.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_token_itself_admits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "s3cret\n").unwrap();
        let file = TokenFile::new(&path);
        for (lines, admitted) in [
            (&["Bearer s3cret"][..], true),
            (&["bearer  s3cret"], true),
            (&["Bearer s3cre"], false),
            (&["Bearer s3crets"], false),
            (&["Bearer S3CRET"], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["Basic s3cret"], false),
            (&["s3cret"], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
            (&[], false),
        ] {
            assert_eq!(file.admits(&request(lines)), admitted, "{lines:?}");
        }
    }

    #[test]
    fn a_new_token_holds_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let file = TokenFile::new(&path);
        let admits = |token: &str| file.admits(&request(&[&format!("Bearer {token}")]));
        assert!(!admits("") && !admits("one"));
        for (content, token) in [("one\r\n", "one"), ("two", "two")] {
            fs::write(&path, content).unwrap();
            assert!(admits(token));
        }
        assert!(!admits("one"));
        for content in ["", "\n"] {
            fs::write(&path, content).unwrap();
            assert!(!admits("") && !admits("two"));
        }
        fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(!admits(&"x".repeat(5000)));
        fs::remove_file(&path).unwrap();
        assert!(!admits("two"));
    }
}
