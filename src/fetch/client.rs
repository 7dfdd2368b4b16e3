//! A small HTTP/1.1 client, with or without TLS: one connection a request, and every wait with a limit of its own.
//!
//! Redirects are followed by those clients alone that were told to. Each of them has a connection of its own, secured for the
//! host that it leads to; the token is shown to nobody but the server it is for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::credentials::{CredentialsError, authorization};
use super::redirect::{Unfollowed, follow, is_redirect};
use super::trust::{self, TrustError};
use crate::config::credentials::{Credentials, Trust};
use crate::config::url::{BaseUrl, ResourceUrl};

/// For so long, addresses are not looked up again: a server that does not listen yet is asked ten times a second, and the
/// cluster's resolver need not be.
const LOOKUP_KEPT: Duration = Duration::from_secs(1);
/// A handshake is a few small packets each way, so it need not have as long as an answer.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// How long each wait may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the addresses of a host. A lookup cannot be cancelled: it goes on in a thread of the runtime, which must be
    /// ended without waiting for it.
    pub lookup: Duration,
    /// For a connection to one address.
    pub connect: Duration,
    /// For an answer to begin, and for each piece of it.
    pub stall: Duration,
}

/// Asks one server.
#[derive(Clone, Debug)]
pub struct Client {
    url: BaseUrl,
    timeouts: Timeouts,
    /// `None` for plain HTTP.
    tls: Option<Arc<ClientConfig>>,
    /// Shows the token.
    authorization: Option<HeaderValue>,
    /// Whom to trust where a redirect leads; `None`: none is followed.
    following: Option<Trust>,
    /// Of the host, once it was looked up. Clones share it.
    lookup: Arc<Mutex<Option<Lookup>>>,
}

#[derive(Debug)]
struct Lookup {
    when: Instant,
    addresses: Vec<SocketAddr>,
}

/// Why there is no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The resolver does not know the host, or does not answer.
    #[error("cannot look up \"{host}\"")]
    UnknownHost {
        /// As it was looked up.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The resolver takes too long.
    #[error("the lookup of \"{host}\" took longer than {}", humantime::format_duration(*.limit))]
    LookupTimeout {
        /// As it was looked up.
        host: String,
        /// What it was given.
        limit: Duration,
    },
    /// Nobody listens at the port.
    #[error("cannot connect to {url}: connection refused")]
    Refused {
        /// Of the server.
        url: BaseUrl,
    },
    /// There is no way to the host, or it does not answer.
    #[error("cannot connect to {url}")]
    Connect {
        /// Of the server.
        url: BaseUrl,
        /// What the system said.
        source: io::Error,
    },
    /// The other end is not who it should be.
    #[error("the certificate of {host} is not accepted: {reason}")]
    Certificate {
        /// As it was asked for.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a connection, and it cannot be made secure.
    #[error("cannot speak TLS with {url}{}", instead(.source))]
    Handshake {
        /// Of the server.
        url: BaseUrl,
        /// What happened.
        source: io::Error,
    },
    /// There is a connection, and it is not made secure in time.
    #[error("{url} did not finish the TLS handshake within {}", humantime::format_duration(*.limit))]
    HandshakeTimeout {
        /// Of the server.
        url: BaseUrl,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The request was sent, and no answer has begun.
    #[error("{url} did not answer within {}", humantime::format_duration(*.limit))]
    NoAnswer {
        /// Of the server.
        url: BaseUrl,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection broke before the answer's end.
    #[error("the connection to {url} broke")]
    Broken {
        /// Of the server.
        url: BaseUrl,
        /// What happened.
        source: hyper::Error,
    },
    /// The answer ended in order, and too early.
    #[error("the answer of {url} ended too early")]
    Short {
        /// Of the server.
        url: BaseUrl,
    },
    /// The server fell silent within an answer.
    #[error("{url} sent nothing more for {}", humantime::format_duration(*.limit))]
    Stalled {
        /// Of the server.
        url: BaseUrl,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server says that it is elsewhere, and there it is not asked.
    #[error("{from} redirects to {to}, {reason}")]
    Redirect {
        /// Who redirects.
        from: Box<ResourceUrl>,
        /// Where it leads, as it can be shown.
        to: String,
        /// Why it is not followed.
        reason: Unfollowed,
    },
    /// A redirect leads to a secure server, and nothing tells whether to trust it.
    #[error("cannot follow the redirect to {to}")]
    Trust {
        /// Where it leads.
        to: Box<BaseUrl>,
        /// What is wrong.
        source: Box<TrustError>,
    },
    /// The answer is larger than anybody wants to hold.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong {
        /// Of the server.
        url: BaseUrl,
        /// In bytes.
        limit: u64,
    },
}

impl Client {
    /// A client of the server at this URL. Reads what the credentials name, as far as it is needed.
    pub fn new(
        url: BaseUrl,
        timeouts: Timeouts,
        credentials: &Credentials,
    ) -> Result<Self, CredentialsError> {
        let tls = if url.is_secure() {
            Some(trust::client_config(&credentials.trust)?)
        } else {
            None
        };
        let token_file = credentials.token_file.as_deref();
        Ok(Self {
            url,
            timeouts,
            tls,
            authorization: token_file.map(authorization).transpose()?,
            following: None,
            lookup: Arc::default(),
        })
    }

    /// The same client, which follows redirects; the authorities of these credentials vouch for where they lead.
    #[must_use]
    pub fn following(mut self, credentials: &Credentials) -> Self {
        self.following = Some(credentials.trust.clone());
        self
    }

    /// The same client, which waits longer for each answer and each piece of it: for servers that are asked to hold a
    /// request.
    #[must_use]
    pub fn with_patience(mut self, longer: Duration) -> Self {
        self.timeouts.stall += longer;
        self
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &BaseUrl {
        &self.url
    }

    /// Asks for a resource beneath the base, or for the base itself if it has no name, as [`Client::get_at`] does.
    pub async fn get(&self, resource: &str, headers: HeaderMap) -> Result<Response, ClientError> {
        self.get_at(&self.url.resource(resource), headers).await
    }

    /// Asks for a resource, and returns when the answer's headers are there. The token is shown if the resource is the
    /// server's. Where redirects are followed, the answer is that of the last one; one without a place is an answer like
    /// any other.
    ///
    /// Dropping the future, or the response, closes the connection.
    pub async fn get_at(
        &self,
        url: &ResourceUrl,
        headers: HeaderMap,
    ) -> Result<Response, ClientError> {
        let mut client = if self.url.is_of_one_origin(url.base()) {
            self.clone()
        } else {
            self.towards(url)?
        };
        let mut trail = vec![url.clone()];
        loop {
            let at = trail.last().expect("it begins with one");
            let response = client.get_once(at, headers.clone()).await?;
            let location = response.headers.get(LOCATION);
            let (true, Some(location)) = (
                self.following.is_some() && is_redirect(response.status),
                location,
            ) else {
                return Ok(response);
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            let to = follow(&trail, &location).map_err(|(to, reason)| ClientError::Redirect {
                from: Box::new(at.clone()),
                to,
                reason,
            })?;
            client = client.towards(&to)?;
            trail.push(to);
        }
    }

    /// A client for where a resource is. The token is not taken along to another server, nor is it there on the way back.
    fn towards(&self, to: &ResourceUrl) -> Result<Self, ClientError> {
        let to = to.base().clone();
        let stays = self.url.is_of_one_origin(&to);
        let tls = match (&self.tls, &self.following) {
            (tls, _) if stays => tls.clone(),
            (_, Some(trust)) if to.is_secure() => {
                let config = trust::client_config(trust);
                Some(config.map_err(|source| ClientError::Trust {
                    to: Box::new(to.clone()),
                    source: Box::new(source),
                })?)
            }
            (tls, _) => tls.clone().filter(|_| to.is_secure()),
        };
        Ok(Self {
            url: to,
            timeouts: self.timeouts,
            tls,
            authorization: self.authorization.clone().filter(|_| stays),
            following: self.following.clone(),
            lookup: if stays {
                Arc::clone(&self.lookup)
            } else {
                Arc::default()
            },
        })
    }

    async fn get_once(
        &self,
        url: &ResourceUrl,
        headers: HeaderMap,
    ) -> Result<Response, ClientError> {
        let stream = self.connect().await?;
        match &self.tls {
            Some(tls) => {
                let stream = self.secure(tls, stream).await?;
                self.ask(stream, url, headers).await
            }
            None => self.ask(stream, url, headers).await,
        }
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        url: &ResourceUrl,
        headers: HeaderMap,
    ) -> Result<Response, ClientError> {
        let broken = |source| self.broken(source);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut driver = JoinSet::new();
        // What ends the connection early is told to the one who waits for the answer.
        driver.spawn(async { drop(connection.await) });
        let answer = timeout(
            self.timeouts.stall,
            sender.send_request(self.request(url, headers)),
        );
        let unanswered = |_| ClientError::NoAnswer {
            url: self.url.clone(),
            limit: self.timeouts.stall,
        };
        let answer = answer.await.map_err(unanswered)?.map_err(broken)?;
        let (head, body) = answer.into_parts();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
            url: url.clone(),
            client: self.clone(),
            _driver: driver,
        })
    }

    fn request(&self, url: &ResourceUrl, headers: HeaderMap) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url
            .request_target()
            .parse()
            .expect("what a URL has behind its authority is a path with a query");
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(self.url.authority());
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            host.expect("an authority has visible characters only"),
        );
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let agent = concat!("code-server/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        request
    }

    /// A connection to the first of the host's addresses that takes one.
    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let mut last = io::Error::other("the host has no address");
        let mut refused = false;
        for address in self.look_up().await? {
            match timeout(self.timeouts.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are small and alone: nothing is gained by waiting for more.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    refused |= error.kind() == io::ErrorKind::ConnectionRefused;
                    last = error;
                }
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        let url = self.url.clone();
        // The host is there, whichever of its addresses cannot be reached from here.
        Err(if refused {
            ClientError::Refused { url }
        } else {
            ClientError::Connect { url, source: last }
        })
    }

    async fn secure(
        &self,
        tls: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let url = || self.url.clone();
        let name = ServerName::try_from(self.url.host().to_owned());
        let name = name.map_err(|error| ClientError::Handshake {
            url: url(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        let shaking = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let limit = self.timeouts.stall.min(LONGEST_HANDSHAKE);
        let shaken = timeout(limit, shaking).await;
        shaken
            .map_err(|_| ClientError::HandshakeTimeout { url: url(), limit })?
            .map_err(|source| match refusal(&source) {
                Some(reason) => ClientError::Certificate {
                    host: self.url.host().into(),
                    reason,
                },
                None => ClientError::Handshake { url: url(), source },
            })
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let lookup = || self.lookup.lock().expect("nobody panics with it");
        if let Some(last) = &*lookup()
            && last.when.elapsed() < LOOKUP_KEPT
        {
            return Ok(last.addresses.clone());
        }
        let addresses = self.look_up_anew().await?;
        *lookup() = Some(Lookup {
            when: Instant::now(),
            addresses: addresses.clone(),
        });
        Ok(addresses)
    }

    async fn look_up_anew(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let host = self.url.host();
        let lookup = tokio::net::lookup_host((host, self.url.port()));
        match timeout(self.timeouts.lookup, lookup).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(source)) => Err(ClientError::UnknownHost {
                host: host.into(),
                source,
            }),
            Err(_) => Err(ClientError::LookupTimeout {
                host: host.into(),
                limit: self.timeouts.lookup,
            }),
        }
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Broken {
            url: self.url.clone(),
            source,
        }
    }

    fn stalled(&self) -> ClientError {
        ClientError::Stalled {
            url: self.url.clone(),
            limit: self.timeouts.stall,
        }
    }
}

/// Why a certificate was not accepted, if that is what went wrong.
fn refusal(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(error) => Some(trust::reason(error)),
        _ => None,
    }
}

/// What a server probably speaks whose first bytes are no TLS.
fn instead(error: &io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    match error {
        Some(rustls::Error::InvalidMessage(_)) => ", which may speak plain http:// only",
        _ => "",
    }
}

/// An answer: its head is there, its body is on the way.
#[derive(Debug)]
pub struct Response {
    /// Whatever it is: only the asker knows which ones are errors.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    body: Incoming,
    url: ResourceUrl,
    client: Client,
    /// Owns the task that moves the connection's bytes.
    _driver: JoinSet<()>,
}

impl Response {
    /// Whose answer it is, behind all redirects.
    #[must_use]
    pub fn url(&self) -> &ResourceUrl {
        &self.url
    }

    /// A header that is plain text; another one counts as absent.
    #[must_use]
    pub fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body, never empty; `None` at its end. A body shorter than promised is an error.
    ///
    /// Cancel safe.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = timeout(self.client.timeouts.stall, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.client.stalled())? else {
                return Ok(None);
            };
            let frame = frame.map_err(|source| self.client.broken(source))?;
            // What is no data is a trailer, and means nothing here.
            if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, if it has no more than `limit` bytes.
    pub async fn collect(mut self, limit: u64) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if (body.len() + piece.len()) as u64 > limit {
                let url = self.client.url;
                return Err(ClientError::TooLong { url, limit });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_refuses_at_one_of_its_addresses_refuses() {
        // Nobody listens there as long as this is only bound.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusing = bound.local_addr().unwrap();
        let unreachable: SocketAddr = "255.255.255.255:1".parse().unwrap();
        let limit = Duration::from_secs(5);
        let timeouts = Timeouts {
            lookup: limit,
            connect: limit,
            stall: limit,
        };
        let credentials = Credentials {
            trust: Trust::default(),
            token_file: None,
        };
        let check = async |addresses: &[SocketAddr], expected: bool| {
            let url = BaseUrl::parse("http://code").unwrap();
            let client = Client::new(url, timeouts, &credentials).unwrap();
            *client.lookup.lock().unwrap() = Some(Lookup {
                when: Instant::now(),
                addresses: addresses.into(),
            });
            let error = client.connect().await.unwrap_err();
            let refused = matches!(error, ClientError::Refused { .. });
            assert_eq!(refused, expected, "{addresses:?}: {error}");
        };
        check(&[refusing, unreachable], true).await;
        check(&[unreachable, refusing], true).await;
        check(&[unreachable], false).await;
    }
}
