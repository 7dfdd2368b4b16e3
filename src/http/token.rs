//! The tokens of those who may read and of those who may write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap};
use tracing::{info, warn};

use crate::digest::Digest;
use crate::exit::sentence;
use crate::reread::{ReadError, Reread};

/// More than any token needs, in bytes.
const LONGEST: usize = 4 << 10;

/// A file with a token. It is read again when it changes, so that a new token holds within a second or two.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    file: Reread,
    /// What it is good for, in a word.
    right: &'static str,
    /// Of the token; `None` while there is none, and then nobody is admitted.
    token: Mutex<Option<Digest>>,
}

impl TokenFile {
    /// The token of those who may read. It is read at once, so that a file without one is told of early.
    #[must_use]
    pub fn to_read(path: &Path) -> Self {
        Self::new(path, "read")
    }

    /// The same of those who may write.
    #[must_use]
    pub fn to_write(path: &Path) -> Self {
        Self::new(path, "write")
    }

    fn new(path: &Path, right: &'static str) -> Self {
        let file = Self {
            path: path.into(),
            file: Reread::new(vec![path.into()]),
            right,
            token: Mutex::default(),
        };
        file.file.is_due(Instant::now());
        file.look();
        file
    }

    /// Whether this is the token. Nobody has it while there is none.
    pub(super) async fn is(self: &Arc<Self>, given: Option<Given>) -> bool {
        if self.file.is_due(Instant::now()) {
            let this = Arc::clone(self);
            // Where looking fails, what was known before still holds, and another request looks again.
            drop(tokio::task::spawn_blocking(move || this.look()).await);
        }
        self.is_known_as(given)
    }

    fn is_known_as(&self, given: Option<Given>) -> bool {
        let token = *self.token.lock().unwrap_or_else(PoisonError::into_inner);
        // Digests take the same time to compare wherever the tokens begin to differ.
        matches!((token, given), (Some(token), Some(Given(given))) if token == given)
    }

    /// Waits for the disk.
    fn look(&self) {
        self.file.look(|news| {
            let token = token(news);
            let known = token.as_deref().ok().map(Digest::of);
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = known;
            let (token_to, file) = (self.right, self.path.display());
            match token {
                Ok(_) => info!(token_to, %file, "there is a new token"),
                Err(reason) => warn!(
                    token_to,
                    %file,
                    reason,
                    "nobody is admitted by this token: write one line into its file"
                ),
            }
        });
    }
}

/// The file's content without the line ends behind it, or why that is no token.
fn token(read: Result<Vec<Vec<u8>>, ReadError>) -> Result<Vec<u8>, String> {
    let mut token = read.map_err(|error| sentence(&error))?.concat();
    while matches!(token.last(), Some(b'\n' | b'\r')) {
        token.pop();
    }
    match token.len() {
        0 => Err("its file is empty".into()),
        1..=LONGEST => Ok(token),
        _ => Err("its file is longer than 4 KiB".into()),
    }
}

/// The digest of what a request brings as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given(Digest);

impl Given {
    /// As a program sends it (RFC 6750 §2.1).
    pub(super) fn as_bearer(request: &HeaderMap) -> Option<Self> {
        let given = credentials(request, b"Bearer ")?;
        Some(Self(Digest::of(given)))
    }

    /// As a browser sends it: the password of any user (RFC 7617).
    fn as_password(request: &HeaderMap) -> Option<Self> {
        let pair = BASE64.decode(credentials(request, b"Basic ")?).ok()?;
        let colon = pair.iter().position(|&byte| byte == b':')?;
        Some(Self(Digest::of(&pair[colon + 1..])))
    }

    /// Either way.
    pub(super) fn by(request: &HeaderMap) -> Option<Self> {
        Self::as_bearer(request).or_else(|| Self::as_password(request))
    }
}

/// The credentials of an `Authorization` header that stands there once and is of this scheme.
fn credentials<'a>(request: &'a HeaderMap, scheme: &[u8]) -> Option<&'a [u8]> {
    let mut lines = request.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (found, given) = line.as_bytes().split_at_checked(scheme.len())?;
    found
        .eq_ignore_ascii_case(scheme)
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
        let file = TokenFile::to_write(&path);
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
            let request = request(lines);
            let bearer = file.is_known_as(Given::as_bearer(&request));
            assert_eq!(bearer, admitted, "{lines:?}");
            assert_eq!(file.is_known_as(Given::by(&request)), admitted, "{lines:?}");
        }
    }

    #[test]
    fn a_password_is_a_token_whoever_the_user_is() {
        let check = |pair: &str, token: Option<&str>| {
            let request = request(&[&format!("Basic {}", BASE64.encode(pair.as_bytes()))]);
            let expected = token.map(|token| Given(Digest::of(token.as_bytes())));
            assert_eq!(Given::by(&request), expected, "{pair}");
            assert_eq!(Given::as_bearer(&request), None);
        };
        check("anybody:s3cret", Some("s3cret"));
        check(":s3cret", Some("s3cret"));
        check("a:b:c", Some("b:c"));
        check("a:", Some(""));
        check("s3cret", None);
        for line in ["Basic ???", "Basic", "Basic "] {
            assert_eq!(Given::by(&request(&[line])), None, "{line}");
        }
    }

    #[test]
    fn a_new_token_takes_the_place_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let file = TokenFile::to_read(&path);
        let admits = |token: &str| {
            file.look();
            let request = request(&[&format!("Bearer {token}")]);
            file.is_known_as(Given::by(&request))
        };
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
