//! What of a response's body is still to be sent by a connection's writer.
//!
//! A handler hands a slice of a mapped file to its connection and gets the bytes for the body, which stand for the slice by
//! their address alone. They pass through the HTTP library and come to the writer, who finds the slice again. The library
//! drops the bytes behind the last of them, or with the connection: so who observes a slice lives exactly as long as
//! something of it may still be sent.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::artifact::Slice;

/// Is told by the writer how a slice moves. Dropped when nothing of it can be sent any more, be it that all was sent.
pub trait Observer: Send + Sync {
    /// So many bytes more were taken by the kernel.
    fn sent(&self, bytes: u64);
}

/// The connection that a request came on: an extension of each request.
#[derive(Clone, Debug)]
pub struct Connection {
    peer: SocketAddr,
    outbox: Outbox,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, outbox: Outbox) -> Self {
        Self { peer, outbox }
    }

    /// The other end's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The body of a response on this connection that is this slice.
    ///
    /// The bytes must be given to the connection as they are, and not be read.
    #[must_use]
    pub fn body(&self, slice: Slice, observer: Arc<dyn Observer>) -> Bytes {
        if slice.addresses().is_empty() {
            return Bytes::new();
        }
        let outgoing = Arc::new(Outgoing { slice, observer });
        self.outbox.put(&outgoing);
        Bytes::from_owner(Held(outgoing))
    }
}

/// A slice on its way.
pub(super) struct Outgoing {
    pub(super) slice: Slice,
    pub(super) observer: Arc<dyn Observer>,
}

/// Keeps a slice findable as long as the body's bytes are there.
struct Held(Arc<Outgoing>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.slice.addresses()
    }
}

/// The slices that a connection has to send, in the order of its responses. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<VecDeque<Weak<Outgoing>>>>);

impl Outbox {
    fn put(&self, outgoing: &Arc<Outgoing>) {
        let mut queue = self.queue();
        queue.retain(|waiting| waiting.strong_count() > 0);
        queue.push_back(Arc::downgrade(outgoing));
    }

    /// The slice that these addresses belong to, and where in its file they lie. Of several it is the first: responses are
    /// sent in order.
    pub(super) fn find(&self, addresses: &[u8]) -> Option<(Arc<Outgoing>, u64)> {
        let queue = self.queue();
        let mut alive = queue.iter().filter_map(Weak::upgrade);
        alive.find_map(|outgoing| {
            let offset = outgoing.slice.offset_of(addresses)?;
            Some((outgoing, offset))
        })
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Weak<Outgoing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Outbox")
    }
}
