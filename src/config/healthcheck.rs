//! What `code-server healthcheck` is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::serve::listen_address;
use super::url::BaseUrl;
use super::{ConfigError, duration};

/// As typed.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// What to ask [default: /readyz of the server that listens where --listen says]
    #[arg(value_name = "URL")]
    url: Option<String>,

    /// Where the server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", env = "CODE_SERVER_LISTEN", value_parser = listen_address)]
    listen: SocketAddr,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "CODE_SERVER_HEALTHCHECK_TIMEOUT", value_parser = duration)]
    timeout: Duration,
}

/// As decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthcheckConfig {
    /// What to ask.
    pub url: BaseUrl,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl HealthcheckArgs {
    pub(super) fn decide(self) -> Result<HealthcheckConfig, ConfigError> {
        let own = || format!("http://{}/readyz", reachable(self.listen));
        Ok(HealthcheckConfig {
            url: BaseUrl::parse(&self.url.unwrap_or_else(own))?,
            timeout: self.timeout,
        })
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
