//! What `serve` is told about who may ask it, and how.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::serve::listen_address;

/// As typed.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    /// Answer only those who know the token in this file, or the one to write; probes and metrics need none
    #[arg(long, value_name = "FILE", env = "CODE_SERVER_READ_TOKEN_FILE", value_parser = plain_path)]
    read_token_file: Option<PathBuf>,

    /// Speak HTTPS with the certificate in this file (PEM, with the chain behind it); it is read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "CODE_SERVER_TLS_CERT", value_parser = plain_path)]
    tls_cert: Option<PathBuf>,

    /// The certificate's key (PEM: PKCS#8, PKCS#1 or SEC1)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "CODE_SERVER_TLS_KEY"
    )]
    tls_key: Option<PathBuf>,

    /// Answer probes and /metrics here, by plain HTTP, and not where the code is served
    #[arg(long, value_name = "ADDRESS:PORT", env = "CODE_SERVER_METRICS_LISTEN", value_parser = listen_address)]
    metrics_listen: Option<SocketAddr>,
}

/// As decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Holds the token of those who may read; `None`: everybody may.
    pub read_token_file: Option<PathBuf>,
    /// `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Where probes and metrics are asked for; `None`: where the code is.
    pub metrics_listen: Option<SocketAddr>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// With the chain behind it.
    pub certificate: PathBuf,
    /// Its own.
    pub key: PathBuf,
}

impl AccessArgs {
    /// Whether probes and the code would be at one address; port 0 is another one each time.
    pub(super) fn shares(&self, listen: SocketAddr) -> bool {
        listen.port() != 0 && self.metrics_listen == Some(listen)
    }

    pub(super) fn decide(self) -> AccessConfig {
        let tls = self.tls_cert.zip(self.tls_key);
        AccessConfig {
            read_token_file: self.read_token_file,
            tls: tls.map(|(certificate, key)| TlsConfig { certificate, key }),
            metrics_listen: self.metrics_listen,
        }
    }
}

/// A path that can be told to others as text; a variable that is set to nothing names none.
pub(super) fn plain_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("expected the path of a file".into()),
        path => Ok(path.into()),
    }
}
