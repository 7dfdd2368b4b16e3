//! Accepts connections and serves HTTP/1.1 on them, within limits, until told to stop; knows no routes.
//!
//! Every wait for a peer ends: it has so long to send a request's header section, so long to take the bytes sent to it,
//! and so long to finish when the server stops. No more connections are accepted than the limit allows; the others wait
//! in the kernel's backlog, where they cost this process nothing.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::request::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::field::display;
use tracing::{debug, info, warn};

/// How many connections the kernel keeps until they are accepted: a roll-out of that many pods at once is not turned away.
/// The kernel clamps it to `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 4096;

/// The most that a connection buffers, in bytes: a header section is no larger, and a body is not read further ahead.
const BUFFER: usize = 16 << 10;

/// How long to wait after an accept failed for want of something that only time, or the end of a connection, gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long accepting must go well for the next failure to be news.
const BURST_GAP: Duration = Duration::from_secs(10);

/// How long and how many.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the start of a connection, or the end of the response before, to the end of a request's header section. So it
    /// also bounds how long a connection may idle.
    pub header_timeout: Duration,
    /// How long bytes sent may go unacknowledged, or a peer may refuse to take any, before its connection is cut. Zero leaves
    /// that to the kernel, which waits for about a quarter of an hour, or for ever on a peer that lives.
    pub stall_timeout: Duration,
    /// Connections open at a time. With none, nobody is served.
    pub max_connections: usize,
    /// From the call to stop until what still runs is cut.
    pub drain_timeout: Duration,
}

/// The connection that a request came on: an extension of each request.
#[derive(Clone, Debug)]
pub struct Connection {
    peer: SocketAddr,
}

impl Connection {
    /// The other end's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
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
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let server = Server::new(router, limits, shutdown.clone());
    // The listener is dropped with the future that owns it: from then on the kernel refuses.
    shutdown
        .run_until_cancelled(server.accept_all(listener))
        .await;
    server.drain().await;
}

struct Server {
    http: http1::Builder,
    router: Router,
    limits: Limits,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    /// Says that each connection has to end behind its response.
    shutdown: CancellationToken,
    /// Says that each connection has to end now.
    cut: CancellationToken,
}

impl Server {
    fn new(router: Router, limits: Limits, shutdown: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(BUFFER);
        let slots = limits.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            http,
            router,
            limits,
            slots: Arc::new(Semaphore::new(slots)),
            connections: TaskTracker::new(),
            shutdown,
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
        if let Err(error) = configure(&stream, self.limits.stall_timeout) {
            debug!(%error, "connection lost before its first byte");
            return;
        }
        // In a place of its own, for what it is passed to by value would keep it twice.
        let conversation = Box::pin(converse(
            self.http.clone(),
            stream,
            (self.router.clone(), Connection { peer }),
            self.shutdown.clone(),
        ));
        let cut = self.cut.clone();
        self.connections.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(conversation).await {
                report(&error);
            }
            drop(slot);
        });
    }

    async fn drain(self) {
        let began = Instant::now();
        let open = self.connections.len();
        info!(connections = open, "draining");
        self.connections.close();
        let drained = timeout(self.limits.drain_timeout, self.connections.wait()).await;
        // Nothing can start any more, so this is what the cut below meets.
        let aborted = self.connections.len();
        if drained.is_err() {
            self.cut.cancel();
            self.connections.wait().await;
        }
        info!(connections = open, aborted, elapsed = ?began.elapsed(), "drained");
    }
}

/// Serves one connection until its end, which after `shutdown` is behind the response that it is at.
async fn converse(
    http: http1::Builder,
    stream: TcpStream,
    (router, connection): (Router, Connection),
    shutdown: CancellationToken,
) -> hyper::Result<()> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        router.clone().call(request.map(Body::new))
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // First, or what the same call to stop brings about would be answered without a word on the connection's end.
        biased;
        () = shutdown.cancelled() => {}
        result = connection.as_mut() => return result,
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Sends small responses at once, and gives up on a peer that takes nothing.
fn configure(stream: &TcpStream, stall_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // The kernel reads it as a signed number.
    let milliseconds = i32::try_from(stall_timeout.as_millis()).unwrap_or(i32::MAX);
    set_tcp_user_timeout(stream, milliseconds.unsigned_abs())?;
    Ok(())
}

/// That a client goes away or talks nonsense is no news; that a response cannot be finished is.
fn report(error: &hyper::Error) {
    let cause = error.source().map(display);
    if error.is_user() {
        warn!(cause, "response broken off");
    } else {
        debug!(%error, cause, "connection failed");
    }
}

/// Accepts one connection, however long that takes. What is wrong with a single peer is passed over; what is wrong with
/// this process is logged when it begins, and waited out.
async fn accept<T, F: Future<Output = io::Result<T>>>(
    mut attempt: impl FnMut() -> F,
    burst: &mut Burst,
) -> T {
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_the_peer(&error) => debug!(%error, "connection not accepted"),
            Err(error) => {
                if burst.begins(Instant::now()) {
                    warn!(%error, "cannot accept connections, trying again");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Tells the first of many failures from the others. A process short of descriptors fails, and succeeds once for every
/// connection that ends, hundreds of times a minute.
#[derive(Default)]
struct Burst {
    last: Option<Instant>,
}

impl Burst {
    /// Whether a failure at this time is the first after a while without any.
    fn begins(&mut self, now: Instant) -> bool {
        let begins = self.last.is_none_or(|last| now - last > BURST_GAP);
        self.last = Some(now);
        begins
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::ready;

    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_burst_of_failures_begins_once() {
        let mut burst = Burst::default();
        let start = Instant::now();
        assert!(burst.begins(start));
        assert!(!burst.begins(start + ACCEPT_PAUSE));
        assert!(!burst.begins(start + ACCEPT_PAUSE + BURST_GAP));
        assert!(burst.begins(start + ACCEPT_PAUSE + BURST_GAP * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_goes_on_after_a_pause_when_descriptors_run_out() {
        let mut results = VecDeque::from([
            Err(Errno::NFILE.into()),
            Err(Errno::CONNABORTED.into()),
            Err(Errno::MFILE.into()),
            Ok("a connection"),
        ]);
        let attempt = || ready(results.pop_front().unwrap());
        let mut burst = Burst::default();
        let began = Instant::now();
        assert_eq!(accept(attempt, &mut burst).await, "a connection");
        assert_eq!(began.elapsed().as_millis(), (ACCEPT_PAUSE * 2).as_millis());
    }

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
