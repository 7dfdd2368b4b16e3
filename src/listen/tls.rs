//! The server's side of TLS 1.2 and 1.3: a certificate with its key, taken anew when their files change.
//!
//! A pair that cannot be used, because it is half written or its halves do not belong together, never takes the place of
//! one that can. What is wrong with a client costs its own connection alone.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::exit::sentence;
use crate::reread::{ReadError, Reread};

/// What a client is told that takes the port for another one.
const SPEAKS_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 40\r\n\
    Connection: close\r\n\
    \r\n\
    this port speaks HTTPS: ask by https://\n";

/// The most that is read of a request which cannot be answered.
const LONGEST_PLAIN: u64 = 64 << 10;

/// Where a certificate and its key lie, both as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The server's own certificate first, then those that lead to its authority.
    pub certificate: PathBuf,
    /// As PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is something else, or empty.
    #[error("{} holds no certificate: it should be PEM, and begin with -----BEGIN CERTIFICATE-----", .path.display())]
    NoCertificate {
        /// Of the certificate.
        path: PathBuf,
    },
    /// It was damaged, or cut off.
    #[error("{} is no whole PEM", .path.display())]
    Pem {
        /// Of the certificate.
        path: PathBuf,
        /// What stands there.
        source: pem::Error,
    },
    /// It is something else, empty, or encrypted.
    #[error("{} holds no private key: it should be PEM with PKCS#8, PKCS#1 or SEC1, and not encrypted", .path.display())]
    NoKey {
        /// Of the key.
        path: PathBuf,
    },
    /// They do not belong together.
    #[error("{} is not the key of the certificate in {}", .pair.key.display(), .pair.certificate.display())]
    Mismatch {
        /// Of which files.
        pair: Pair,
    },
    /// One of them is of a kind that is not known here.
    #[error("{} and {} cannot be used", .pair.certificate.display(), .pair.key.display())]
    Unusable {
        /// Of which files.
        pair: Pair,
        /// Why.
        source: rustls::Error,
    },
}

/// Makes connections secure.
#[derive(Debug)]
pub struct Acceptor {
    pair: Pair,
    files: Reread,
    current: Mutex<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads a pair, which must be usable now. Waits for the disk.
    pub fn new(pair: Pair) -> Result<Self, TlsError> {
        let files = Reread::new(vec![pair.certificate.clone(), pair.key.clone()]);
        files.is_due(Instant::now());
        let mut found = None;
        files.look(|news| found = Some(pair.configure(news)));
        let current = found.expect("what was never looked at is news")?;
        Ok(Self {
            pair,
            files,
            current: Mutex::new(Arc::new(current)),
        })
    }

    /// Shakes hands with a client. Fails after a client that spoke plain HTTP was told so.
    ///
    /// It has no time limit of its own. Dropping the future closes the connection.
    pub async fn accept(self: &Arc<Self>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // Every method begins with one, and no record of TLS.
        if first[0].is_ascii_uppercase() {
            answer_in_plain(stream).await?;
            return Err(io::Error::other("the client spoke plain HTTP"));
        }
        if self.files.is_due(Instant::now()) {
            let this = Arc::clone(self);
            // Where looking fails, the pair that is known still holds, and another connection looks again.
            drop(tokio::task::spawn_blocking(move || this.look()).await);
        }
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the disk.
    fn look(&self) {
        let certificate = self.pair.certificate.display();
        self.files.look(|news| match self.pair.configure(news) {
            Ok(config) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!(%certificate, "a new certificate is in use");
            }
            Err(error) => {
                warn!(error = %sentence(&error), "the certificate of before stays in use");
            }
        });
    }
}

impl Pair {
    fn configure(&self, read: Result<Vec<Vec<u8>>, ReadError>) -> Result<ServerConfig, TlsError> {
        let read = read?;
        let [certificate, key] = read.as_slice() else {
            unreachable!("two files were asked for");
        };
        let certified = self.parse(certificate, key)?;
        self.offer(Arc::new(SingleCertAndKey::from(certified)))
    }

    /// A chain and its key, each from the text of its file.
    fn parse(&self, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
        let path = || self.certificate.clone();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|source| TlsError::Pem {
                path: path(),
                source,
            })?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate { path: path() });
        }
        // Why a key cannot be read is not told: the reason may quote it.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey {
            path: self.key.clone(),
        })?;
        let pair = self.clone();
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { pair },
            source => TlsError::Unusable { pair, source },
        })
    }

    /// Nothing of before is carried over: a session that was begun under another pair is not resumed.
    fn offer(&self, resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
        let unusable = |source| TlsError::Unusable {
            pair: self.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(unusable)?;
        // A request that came early could be one that somebody recorded.
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// Answers whatever was asked, and waits until the client has it: unread bytes would have the kernel take it back.
async fn answer_in_plain(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(SPEAKS_HTTPS).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(LONGEST_PLAIN);
    let mut piece = [0; 1024];
    while rest.read(&mut piece).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Made, KeyPair, generate_simple_self_signed};

    use super::*;

    fn made() -> Made<KeyPair> {
        generate_simple_self_signed(vec!["code".into()]).unwrap()
    }

    fn pair() -> Pair {
        Pair {
            certificate: "/tls/tls.crt".into(),
            key: "/tls/tls.key".into(),
        }
    }

    #[track_caller]
    fn refused(certificate: &str, key: &str, expected: &str) {
        let parsed = pair().parse(certificate.as_bytes(), key.as_bytes());
        let error = sentence(&parsed.unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_pair_may_have_text_and_a_chain_around_it() {
        let (own, authority) = (made(), made());
        let certificate = format!(
            "subject: code\n{}\n{}",
            own.cert.pem(),
            authority.cert.pem()
        );
        let key = own.signing_key.serialize_pem();
        let parsed = pair().parse(certificate.as_bytes(), key.as_bytes());
        assert_eq!(parsed.unwrap().cert.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_file_that_it_is_wrong_with() {
        let (own, other) = (made(), made());
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        refused("", &key, "/tls/tls.crt holds no certificate");
        refused(&key, &key, "/tls/tls.crt holds no certificate");
        let cut = &certificate[..certificate.len() / 2];
        refused(cut, &key, "/tls/tls.crt is no whole PEM: missing");
        for key in ["", &certificate, &key[..key.len() / 2]] {
            refused(&certificate, key, "/tls/tls.key holds no private key");
        }
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        refused(
            &certificate,
            &encrypted,
            "/tls/tls.key holds no private key",
        );
        let key = other.signing_key.serialize_pem();
        let mismatch = "/tls/tls.key is not the key of the certificate in /tls/tls.crt";
        refused(&certificate, &key, mismatch);
        let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n";
        refused(nonsense, &key, "/tls/tls.crt and /tls/tls.key cannot");
    }

    #[test]
    fn a_pair_holds_until_another_one_can_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair {
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
        };
        let error = Acceptor::new(pair.clone()).unwrap_err();
        assert!(sentence(&error).contains("tls.crt: No such file"));
        let (old, new) = (made(), made());
        fs::write(&pair.certificate, old.cert.pem()).unwrap();
        fs::write(&pair.key, old.signing_key.serialize_pem()).unwrap();
        let acceptor = Acceptor::new(pair.clone()).unwrap();
        let first = acceptor.current();
        fs::write(&pair.certificate, new.cert.pem()).unwrap();
        acceptor.look();
        assert!(Arc::ptr_eq(&first, &acceptor.current()));
        fs::remove_file(&pair.key).unwrap();
        acceptor.look();
        assert!(Arc::ptr_eq(&first, &acceptor.current()));
        fs::write(&pair.key, new.signing_key.serialize_pem()).unwrap();
        acceptor.look();
        assert!(!Arc::ptr_eq(&first, &acceptor.current()));
    }

    #[test]
    fn the_plain_answer_is_as_long_as_it_says() {
        let text = String::from_utf8(SPEAKS_HTTPS.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{text}");
    }
}
