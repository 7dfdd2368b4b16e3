//! One connection, from its first byte to its end.
//!
//! Until a peer has sent its first byte it costs a socket, a timer and a small task; the HTTP library's buffers come with
//! the byte.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::request::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::field::display;
use tracing::{debug, warn};

use super::outgoing::{Connection, Outbox};
use super::pace::Pace;
use super::tls::Acceptor;
use super::wire::{Transport, Wire};

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) http: http1::Builder,
    pub(super) router: Router,
    /// `None` where plain HTTP is spoken.
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) header_timeout: Duration,
    pub(super) stall_timeout: Duration,
    /// Where processor time is short.
    pub(super) pace: Option<Arc<Pace>>,
    /// Says that each connection has to end behind its response.
    pub(super) shutdown: CancellationToken,
}

/// Serves one connection until its end, which after `shutdown` is behind the response that it is at.
pub(super) async fn converse(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = configure(&stream, shared.stall_timeout) {
        debug!(%error, "connection lost before its first byte");
        return;
    }
    if !says_something(shared, &stream).await {
        return;
    }
    let transport = match &shared.tls {
        None => Transport::Plain(stream),
        Some(tls) => match Box::pin(secure(shared, tls, stream)).await {
            Some(stream) => Transport::Tls(Box::new(stream)),
            None => return,
        },
    };
    let served = Box::pin(serve(shared, transport, peer)).await;
    if let Err(error) = served {
        report(&error);
    }
}

/// Waits for the first byte, which stays to be read. `false` if none comes in time, or before `shutdown`.
///
/// Polled by hand, for this is what thousands of idle connections are: a timer and a place to be woken from.
async fn says_something(shared: &Shared, stream: &TcpStream) -> bool {
    let mut stopped = pin!(shared.shutdown.cancelled());
    let mut too_late = pin!(sleep(shared.header_timeout));
    poll_fn(|context| {
        let gives_up =
            stopped.as_mut().poll(context).is_ready() || too_late.as_mut().poll(context).is_ready();
        if gives_up {
            return Poll::Ready(false);
        }
        let mut byte = [0];
        let peeked = stream.poll_peek(context, &mut ReadBuf::new(&mut byte));
        peeked.map(|length| matches!(length, Ok(1)))
    })
    .await
}

/// Shakes hands. `None` where that comes to nothing, or to nothing in time, or not before `shutdown`.
async fn secure(
    shared: &Shared,
    tls: &Arc<Acceptor>,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let shaking = timeout(shared.header_timeout, tls.accept(stream));
    match shared.shutdown.run_until_cancelled(shaking).await? {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
        Err(_) => debug!("TLS handshake took too long"),
    }
    None
}

async fn serve(shared: &Shared, transport: Transport, peer: SocketAddr) -> hyper::Result<()> {
    let outbox = Outbox::default();
    let wire = Wire::new(transport, outbox.clone(), shared.pace.clone());
    let connection = Connection::new(peer, outbox);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        shared.router.clone().call(request.map(Body::new))
    });
    let mut serving = pin!(shared.http.serve_connection(TokioIo::new(wire), service));
    tokio::select! {
        // First, or what the same call to stop brings about would be answered without a word on the connection's end.
        biased;
        () = shared.shutdown.cancelled() => {}
        result = serving.as_mut() => return result,
    }
    serving.as_mut().graceful_shutdown();
    serving.await
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
