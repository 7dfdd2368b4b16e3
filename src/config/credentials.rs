//! What a client shows to a server, and whom it trusts.

use std::path::PathBuf;

/// Where the system's authorities lie, on nearly every Linux.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Whom to trust, and with what to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Matters to `https://` alone.
    pub trust: Trust,
    /// Holds the token that is sent; `None`: none is.
    pub token_file: Option<PathBuf>,
}

/// Which certificates are taken for the server's. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those for its name that lead to an authority in this file, or stand there themselves.
    Authorities(PathBuf),
    /// The first one of this file alone, whatever name and time it is for: who reads the server's own file needs no other
    /// proof.
    Exactly(PathBuf),
}

impl Default for Trust {
    /// The system's authorities, of which OpenSSL's variable says where they lie if not at the usual place.
    fn default() -> Self {
        let told = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
        Self::Authorities(told.map_or_else(|| SYSTEM_ROOTS.into(), PathBuf::from))
    }
}

impl From<Option<PathBuf>> for Trust {
    /// The authorities in a file that was named, or else the system's.
    fn from(file: Option<PathBuf>) -> Self {
        file.map_or_else(Self::default, Self::Authorities)
    }
}
