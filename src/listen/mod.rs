//! Accepts connections and serves HTTP/1.1 on them, within limits, until told to stop; knows no routes.
//!
//! Every wait for a peer ends: it has so long to send a request's header section, so long to take the bytes sent to it,
//! and so long to finish when the server stops. No more connections are accepted than the limit allows; the others wait
//! in the kernel's backlog, where they cost this process nothing. What lies in a sealed file is sent by the kernel.

mod accept;
mod conversation;
mod outgoing;
mod pace;
pub mod tls;
mod wire;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use accept::{Burst, accept};
use conversation::{Shared, converse};
pub use outgoing::{Connection, Observer};
use pace::Pace;

use crate::machine::Quota;
use crate::metrics::Metrics;

/// How many connections the kernel keeps until they are accepted: a roll-out of that many pods at once is not turned away.
/// The kernel clamps it to `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 4096;

/// The most that a connection buffers, in bytes: a header section is no larger, and a body is not read further ahead.
const BUFFER: usize = 16 << 10;

/// How long and how many.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a connection's first byte, for a TLS handshake, and then for each request's header section, from the end of the
    /// response before. So it also bounds how long a connection may idle. A TLS handshake has as long.
    pub header_timeout: Duration,
    /// How long bytes sent may go unacknowledged, or a peer may refuse to take any, before its connection is cut. Zero leaves
    /// that to the kernel, which waits for about a quarter of an hour, or for ever on a peer that lives.
    pub stall_timeout: Duration,
    /// Connections open at a time. With none, nobody is served.
    pub max_connections: usize,
    /// From the call to stop until what still runs is cut.
    pub drain_timeout: Duration,
    /// Processor time of which sending files leaves a little to the rest. Without meaning where more than one thread serves.
    pub quota: Option<Quota>,
}

/// Where connections come from, and whether they speak TLS.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<tls::Acceptor>>,
}

impl Listener {
    /// Speaks TLS where there is an acceptor, and else plain HTTP.
    #[must_use]
    pub fn new(tcp: TcpListener, tls: Option<Arc<tls::Acceptor>>) -> Self {
        Self { tcp, tls }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, None)
    }
}

/// Listens on this address, of which the kernel chooses the port if it is 0. Must be called within a tokio runtime.
///
/// `[::]` takes IPv4 too, unless the system was told otherwise (`net.ipv6.bindv6only`); where there is no IPv6 it stands
/// for `0.0.0.0`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let SocketAddr::V6(v6) = address else {
        return listen_on(TcpSocket::new_v4()?, address);
    };
    match TcpSocket::new_v6().and_then(|socket| listen_on(socket, address)) {
        Err(error) if *v6.ip() == Ipv6Addr::UNSPECIFIED && means_no_ipv6(&error) => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port()));
            listen_on(TcpSocket::new_v4()?, any)
        }
        result => result,
    }
}

fn listen_on(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    // Or connections of the process before, which are still winding down, would keep this one from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn means_no_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Serves until `shutdown`, then finishes what runs, and returns when no connection is left.
///
/// From `shutdown` on new connections are refused, idle ones closed, and each other one closed behind the response it is
/// at. What still runs after the drain timeout is cut in the middle, which a client sees from the missing bytes.
/// Dropping the future cuts nothing: connections then go on by themselves until `shutdown`.
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let Listener { tcp, tls } = listener.into();
    let server = Server::new(router, tls, &limits, metrics, shutdown.clone());
    // The listener is dropped with the future that owns it: from then on the kernel refuses.
    shutdown.run_until_cancelled(server.accept_all(tcp)).await;
    server.drain().await;
}

fn serves_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

struct Server {
    shared: Arc<Shared>,
    metrics: Metrics,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    drain_timeout: Duration,
    /// Says that each connection has to end now.
    cut: CancellationToken,
}

impl Server {
    fn new(
        router: Router,
        tls: Option<Arc<tls::Acceptor>>,
        limits: &Limits,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(BUFFER);
        let slots = limits.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                http,
                router,
                tls,
                header_timeout: limits.header_timeout,
                stall_timeout: limits.stall_timeout,
                pace: limits
                    .quota
                    .filter(|_| serves_alone())
                    .map(Pace::new)
                    .map(Arc::new),
                shutdown,
            }),
            metrics,
            slots: Arc::new(Semaphore::new(slots)),
            connections: TaskTracker::new(),
            drain_timeout: limits.drain_timeout,
            cut: CancellationToken::new(),
        }
    }

    async fn accept_all(&self, listener: TcpListener) {
        let mut burst = Burst::default();
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.expect("nobody closes the semaphore");
            let (stream, peer) = accept(|| listener.accept(), &mut burst).await;
            self.start(stream, peer, slot);
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let (shared, cut) = (Arc::clone(&self.shared), self.cut.clone());
        let counted = self.metrics.connection();
        self.connections.spawn(async move {
            // By reference, for a future that is passed on by value is kept twice.
            let conversation = pin!(converse(&shared, stream, peer));
            tokio::select! {
                () = cut.cancelled() => {}
                () = conversation => {}
            }
            drop((slot, counted));
        });
    }

    async fn drain(self) {
        let began = Instant::now();
        let open = self.connections.len();
        info!(connections = open, "draining");
        self.connections.close();
        let drained = timeout(self.drain_timeout, self.connections.wait()).await;
        // Nothing can start any more, so this is what the cut below meets.
        let aborted = self.connections.len();
        if drained.is_err() {
            self.cut.cancel();
            self.connections.wait().await;
        }
        info!(connections = open, aborted, elapsed = ?began.elapsed(), "drained");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unspecified_address_takes_ipv4_whether_or_not_there_is_ipv6() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, server) =
            tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        client.unwrap();
        server.unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn only_the_want_of_ipv6_leads_to_ipv4() {
        assert!(means_no_ipv6(&Errno::AFNOSUPPORT.into()));
        assert!(!means_no_ipv6(&Errno::ADDRINUSE.into()));
        assert!(!means_no_ipv6(&Errno::ACCESS.into()));
    }
}
