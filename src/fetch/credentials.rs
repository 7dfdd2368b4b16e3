//! What a client needs before it can ask: whom to trust, and a token to show.

use std::io;
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;

use super::trust::TrustError;
use crate::exit::Exit;

/// Why a server cannot be asked as it should be.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be told from others.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is no token.
    #[error("cannot read the token in {}", .path.display())]
    Token {
        /// Of the token.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there cannot be sent.
    #[error("{} holds no token: it should be one line of visible characters", .path.display())]
    NoToken {
        /// Of the token.
        path: PathBuf,
    },
}

impl CredentialsError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::Config
    }
}

/// Shows the token in a file, without the line end behind it (RFC 6750 §2.1).
pub(super) fn authorization(path: &Path) -> Result<HeaderValue, CredentialsError> {
    let text = std::fs::read(path).map_err(|source| CredentialsError::Token {
        path: path.into(),
        source,
    })?;
    let token = text.trim_ascii();
    let is_token = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    let header = HeaderValue::from_bytes(&[b"Bearer ", token].concat());
    let header = header.ok().filter(|_| is_token);
    let mut header = header.ok_or_else(|| CredentialsError::NoToken { path: path.into() })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_can_be_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            authorization(&path)
        };
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let header = read(content.as_bytes()).unwrap();
            assert_eq!(header, "Bearer s3cret");
            assert!(header.is_sensitive());
        }
        for content in [&b""[..], b"\n", b"two lines\n", b"a\nb", b"\xff", b"a\0"] {
            let error = read(content).unwrap_err();
            assert!(error.to_string().contains("holds no token"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = authorization(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(error.exit(), Exit::Config);
    }
}
