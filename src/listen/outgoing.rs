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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::ops::Range;
    use std::time::SystemTime;

    use super::*;
    use crate::artifact::{Artifact, Part};
    use crate::descriptor::Descriptor;
    use crate::digest::{Digest, Revision};

    struct Untold;

    impl Observer for Untold {
        fn sent(&self, _: u64) {}
    }

    fn artifact() -> Artifact {
        let mut archive = tempfile::tempfile().unwrap();
        archive.write_all(b"0123456789").unwrap();
        let digest = Digest::of(b"0123456789");
        let descriptor = Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(digest),
            digest,
            size: 10,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: SystemTime::UNIX_EPOCH,
            segments: Vec::new(),
            left_out: std::collections::BTreeMap::new(),
        };
        let listing = tempfile::tempfile().unwrap();
        Artifact::new(descriptor, archive, listing, SystemTime::UNIX_EPOCH).unwrap()
    }

    fn body(connection: &Connection, artifact: &Artifact, range: Range<u64>) -> Bytes {
        match artifact.archive().part(range) {
            Part::Mapped(slice) => connection.body(slice, Arc::new(Untold)),
            Part::Memory(_) => unreachable!("an archive is a file"),
        }
    }

    #[test]
    fn a_connection_remembers_only_what_it_still_has_to_send() {
        let outbox = Outbox::default();
        let connection = Connection::new("127.0.0.1:1".parse().unwrap(), outbox.clone());
        let artifact = artifact();
        for _ in 0..100 {
            drop(body(&connection, &artifact, 0..10));
        }
        let (one, other) = (
            body(&connection, &artifact, 0..5),
            body(&connection, &artifact, 5..9),
        );
        assert_eq!(outbox.queue().len(), 2);
        assert_eq!(outbox.find(&other[1..]).unwrap().1, 6);
        drop(other);
        let whole = body(&connection, &artifact, 0..10);
        assert_eq!(outbox.queue().len(), 2);
        assert!(outbox.find(&whole[4..6]).is_some());
        drop(whole);
        assert!(outbox.find(&one[1..]).is_some());
    }
}
