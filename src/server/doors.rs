//! Where a server is asked, and what it wants to see before it answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::access::AccessConfig;
use crate::http::{Access, Guard, TokenFile};
use crate::listen::tls::{Acceptor, Pair, TlsError};
use crate::store::ServerAccess;

/// All that a configuration says of it, with what was found on the disk.
#[derive(Debug)]
pub(super) struct Doors {
    /// `None` where plain HTTP is spoken.
    pub(super) tls: Option<Arc<Acceptor>>,
    /// For probes and metrics; `None` where they are asked for where the code is.
    pub(super) observation: Option<TcpListener>,
    /// For those who ask on this machine.
    pub(super) told: ServerAccess,
    /// `None` where everybody may read.
    read: Option<Arc<TokenFile>>,
}

impl Doors {
    /// Reads certificate, key and token.
    pub(super) fn new(config: &AccessConfig) -> Result<Self, TlsError> {
        let token_file = config.read_token_file.as_deref();
        let acceptor = |pair| Acceptor::new(pair).map(Arc::new);
        let pair = config.tls.as_ref().map(|tls| Pair {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
        });
        Ok(Self {
            told: ServerAccess {
                certificate: pair.as_ref().map(|pair| whole(&pair.certificate)),
                token_file: token_file.map(whole),
            },
            tls: pair.map(acceptor).transpose()?,
            observation: None,
            read: token_file.map(|path| Arc::new(TokenFile::to_read(path))),
        })
    }

    /// Who may read, if those who may write have this token.
    pub(super) fn access(&self, write: Option<Arc<TokenFile>>) -> Access {
        Access {
            guard: self.read.clone().map(|read| Guard { read, write }),
            observed_elsewhere: self.observation.is_some(),
            tls: self.tls.is_some(),
        }
    }
}

/// As it can be opened from another directory, if that can be told as text.
fn whole(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).ok();
    let told = absolute.filter(|path| path.to_str().is_some());
    told.unwrap_or_else(|| path.into())
}
