//! What `code-server healthcheck` is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::credentials::{Credentials, Trust};
use super::serve::listen_address;
use super::url::{BaseUrl, UrlError};
use super::{ConfigError, duration};

/// As typed.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// What to ask; a server without a path stands for its /readyz [default: the server that listens where --listen says]
    #[arg(value_name = "URL")]
    url: Option<String>,

    /// Where the server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", env = "CODE_SERVER_LISTEN", value_parser = listen_address)]
    listen: SocketAddr,

    /// Where the server answers probes, if not there
    #[arg(long, value_name = "ADDRESS:PORT", env = "CODE_SERVER_METRICS_LISTEN", value_parser = listen_address)]
    metrics_listen: Option<SocketAddr>,

    /// The server's own certificate, if it speaks HTTPS: without a URL it is the one that is expected
    #[arg(long, value_name = "FILE", env = "CODE_SERVER_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The authorities that may vouch for an `https://` URL (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "CODE_SERVER_CA_CERT")]
    ca_cert: Option<PathBuf>,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "CODE_SERVER_HEALTHCHECK_TIMEOUT", value_parser = duration)]
    timeout: Duration,
}

/// As decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthcheckConfig {
    /// What to ask.
    pub url: BaseUrl,
    /// Whom to trust; probes need no token.
    pub credentials: Credentials,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl HealthcheckArgs {
    pub(super) fn decide(self) -> Result<HealthcheckConfig, ConfigError> {
        let (url, trust) = match (self.url, self.metrics_listen, self.tls_cert) {
            (Some(url), ..) => (of_probe(&url)?, self.ca_cert.into()),
            (None, None, Some(certificate)) => (
                BaseUrl::parse(&format!("https://{}/readyz", reachable(self.listen)))?,
                Trust::Exactly(certificate),
            ),
            (None, probes, _) => {
                let listen = probes.unwrap_or(self.listen);
                (
                    BaseUrl::parse(&format!("http://{}/readyz", reachable(listen)))?,
                    self.ca_cert.into(),
                )
            }
        };
        Ok(HealthcheckConfig {
            url,
            credentials: Credentials {
                trust,
                token_file: None,
            },
            timeout: self.timeout,
        })
    }
}

/// What is asked for where somebody has typed this.
fn of_probe(text: &str) -> Result<BaseUrl, UrlError> {
    let url = BaseUrl::parse(text)?;
    // The page answers 200 before there is an archive, too.
    match url.path_of("").as_str() {
        "/" => BaseUrl::parse(&format!("{url}/readyz")),
        _ => Ok(url),
    }
}

/// The address under which this machine itself reaches a listener.
#[must_use]
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        // Dual stack, or IPv4 where there is no IPv6: both answer here.
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_the_environment_is_asked_as_it_listens() {
        let check = |metrics_listen: Option<&str>, tls_cert: Option<&str>, expected: &str| {
            let arguments = HealthcheckArgs {
                url: None,
                listen: "[::]:8080".parse().unwrap(),
                metrics_listen: metrics_listen.map(|address| address.parse().unwrap()),
                tls_cert: tls_cert.map(PathBuf::from),
                ca_cert: None,
                timeout: Duration::ZERO,
            };
            let config = arguments.decide().unwrap();
            assert_eq!(config.url.to_string(), expected);
            let is_pinned = matches!(config.credentials.trust, Trust::Exactly(_));
            assert_eq!(is_pinned, config.url.is_secure());
        };
        check(None, None, "http://127.0.0.1:8080/readyz");
        check(None, Some("tls.crt"), "https://127.0.0.1:8080/readyz");
        check(Some("[::1]:9"), None, "http://[::1]:9/readyz");
        check(Some("[::1]:9"), Some("tls.crt"), "http://[::1]:9/readyz");
    }

    #[test]
    fn a_server_is_asked_whether_it_is_ready_unless_something_else_is_named() {
        let check = |typed: &str, expected: &str| {
            assert_eq!(of_probe(typed).unwrap().to_string(), expected);
        };
        check("http://web", "http://web/readyz");
        check("https://web:8443/", "https://web:8443/readyz");
        check("http://web/livez", "http://web/livez");
        check("http://web/code.json", "http://web/code.json");
        assert!(of_probe("web").is_err());
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        };
        check("[::]:8080", "127.0.0.1:8080");
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::1]:8080", "[::1]:8080");
        check("10.0.0.7:8080", "10.0.0.7:8080");
    }
}
