//! Whose certificate is taken for the server's.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::credentials::Trust;

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read {}, which should say whom to trust: name another file with --ca-cert", .path.display())]
    Read {
        /// With the certificates.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else, or empty.
    #[error("{} holds no certificate: it should be PEM, and begin with -----BEGIN CERTIFICATE-----", .path.display())]
    NoCertificate {
        /// With the certificates.
        path: PathBuf,
    },
    /// It was damaged, or cut off.
    #[error("{} is no whole PEM", .path.display())]
    Pem {
        /// With the certificates.
        path: PathBuf,
        /// What stands there.
        source: pem::Error,
    },
    /// None of its certificates can vouch for anybody.
    #[error("the certificates in {} cannot be used", .path.display())]
    Unusable {
        /// With the certificates.
        path: PathBuf,
        /// What is wrong with them.
        source: VerifierBuilderError,
    },
}

/// What TLS needs to know to ask somebody who is trusted. Waits for the disk.
pub(super) fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Verifier::new(trust, Arc::clone(&provider))?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a person is told of a certificate that is not accepted.
pub(super) fn reason(error: &CertificateError) -> String {
    match error {
        // Somebody of the same name may have signed it with another key; and one that vouches for itself, and is not the one in
        // the file, is an error that has no name here.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::Other(_) => {
            "nobody who is trusted here vouches for it; name its authority with --ca-cert".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".into()
        }
        other => other.to_string(),
    }
}

/// All certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let text = fs::read(path).map_err(|source| TrustError::Read {
        path: path.into(),
        source,
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TrustError::NoCertificate { path: path.into() }),
        Ok(found) => Ok(found),
        Err(source) => Err(TrustError::Pem {
            path: path.into(),
            source,
        }),
    }
}

struct Verifier {
    /// From the file, in its order; never empty.
    known: Vec<CertificateDer<'static>>,
    /// `None` where the first of them alone is accepted.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let algorithms = provider.signature_verification_algorithms;
        let (known, authorities) = match trust {
            Trust::Exactly(path) => (certificates(path)?, None),
            Trust::Authorities(path) => {
                let known = certificates(path)?;
                let authorities = authorities(path, &known, provider)?;
                (known, Some(authorities))
            }
        };
        Ok(Self {
            known,
            authorities,
            algorithms,
        })
    }
}

fn authorities(
    path: &Path,
    known: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let mut roots = RootCertStore::empty();
    // One of the system's hundred that is of an unknown kind is no reason to trust none of them.
    roots.add_parsable_certificates(known.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|source| TrustError::Unusable {
        path: path.into(),
        source,
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else {
            return if *end_entity == self.known[0] {
                Ok(ServerCertVerified::assertion())
            } else {
                Err(CertificateError::UnknownIssuer.into())
            };
        };
        match authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // An authority that answers itself, as `openssl req -x509` makes them. Its time was judged before that.
            Err(error) if is_authority_itself(&error) && self.known.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier")
    }
}

/// Whether all that is wrong with a certificate is that it is an authority's.
fn is_authority_itself(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    // There is no variant for it; the words are those of the library's own error.
    other.to_string().contains("CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;
    use crate::exit::sentence;

    fn params(name: &str, is_authority: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// A certificate that vouches for itself.
    fn alone(params: &CertificateParams) -> rcgen::Certificate {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// What comes of a server's certificate, asked for by a name, where a file says whom to trust.
    fn judge(
        trust: fn(PathBuf) -> Trust,
        text: &str,
        certificate: &rcgen::Certificate,
        name: &'static str,
    ) -> Result<(), String> {
        let file = file(text);
        let trust = trust(file.path().into());
        let verifier = Verifier::new(&trust, Arc::new(default_provider())).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let judged =
            verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now());
        match judged {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => Err(reason(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[track_caller]
    fn refused(result: Result<(), String>, expected: &str) {
        let reason = result.unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }

    #[test]
    fn an_authority_vouches_for_a_name_and_for_a_time() {
        let key = KeyPair::generate().unwrap();
        let authority = params("authority", true).self_signed(&key).unwrap();
        let issuer = Issuer::new(params("authority", true), &key);
        let signed = |params: CertificateParams| {
            let own = KeyPair::generate().unwrap();
            params.signed_by(&own, &issuer).unwrap()
        };
        let ask = |certificate: &rcgen::Certificate, name| {
            judge(Trust::Authorities, &authority.pem(), certificate, name)
        };
        let good = signed(params("code", false));
        assert_eq!(ask(&good, "code"), Ok(()));
        refused(ask(&good, "other"), "not valid for name \"other\"");
        let mut old = params("code", false);
        old.not_after = date_time_ymd(2000, 1, 1);
        old.not_before = date_time_ymd(1999, 1, 1);
        refused(ask(&signed(old), "code"), "it has expired");
        let mut new = params("code", false);
        new.not_before = date_time_ymd(4000, 1, 1);
        refused(ask(&signed(new), "code"), "it is not valid yet");
        for is_authority in [false, true] {
            let stranger = alone(&params("code", is_authority));
            refused(ask(&stranger, "code"), "nobody who is trusted here");
        }
    }

    #[test]
    fn a_server_may_vouch_for_itself() {
        for is_authority in [false, true] {
            let own = alone(&params("code", is_authority));
            let ask = |name| judge(Trust::Authorities, &own.pem(), &own, name);
            assert_eq!(ask("code"), Ok(()));
            refused(ask("other"), "not valid for name");
            let other = alone(&params("code", is_authority));
            assert!(judge(Trust::Authorities, &other.pem(), &own, "code").is_err());
            let mut old = params("code", is_authority);
            old.not_before = date_time_ymd(1999, 1, 1);
            old.not_after = date_time_ymd(2000, 1, 1);
            let old = alone(&old);
            refused(
                judge(Trust::Authorities, &old.pem(), &old, "code"),
                "expired",
            );
        }
    }

    #[test]
    fn the_servers_own_file_is_proof_enough() {
        let (own, other) = (alone(&params("code", false)), alone(&params("code", false)));
        let chain = own.pem() + &other.pem();
        assert_eq!(judge(Trust::Exactly, &chain, &own, "127.0.0.1"), Ok(()));
        refused(judge(Trust::Exactly, &chain, &other, "code"), "nobody");
    }

    #[test]
    fn a_file_that_says_nothing_is_named() {
        let check = |text: &str, expected: &str| {
            let file = file(text);
            let error = client_config(&Trust::Authorities(file.path().into())).unwrap_err();
            let (error, path) = (sentence(&error), file.path().display().to_string());
            assert!(error.contains(expected) && error.contains(&path), "{error}");
        };
        check("", "holds no certificate");
        check("-----BEGIN CERTIFICATE-----\nxx", "is no whole PEM");
        let missing = client_config(&Trust::Exactly("/no/such".into())).unwrap_err();
        assert!(sentence(&missing).contains("cannot read /no/such"));
    }
}
