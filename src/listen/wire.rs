//! The writer of a connection: has the kernel send what lies in a file.
//!
//! What comes to it is plain bytes, which are written as they are, and addresses of mapped slices, for which the same range
//! of the file is sent without passing through this process. Where that cannot be, under TLS or where the kernel refuses,
//! the range is read from the file and written, a little at a time and without a buffer that stays. In both cases the pages
//! are in memory before: a thread that may wait sees to that, so that no disk holds up the other connections.
//!
//! A connection that takes everything at once lets the others go on in between.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::outgoing::{Outbox, Outgoing};
use super::pace::Pace;
use crate::artifact::Slice;

/// How much is sent at once, and looked for in memory before: large beside the cost of doing so. A rest that is a little
/// larger is sent with it.
const PIECE: usize = 1 << 20;
const REST: usize = PIECE / 8;

/// How much is copied at once where it has to be: a record of TLS.
const COPY: usize = 16 << 10;

/// After how many bytes taken without a pause another connection has its turn: an eighth of a millisecond.
const FAIR: usize = 1 << 20;

/// After how many bytes of a connection it is asked whether to pause: most pieces are larger, and records of TLS smaller.
const PACED: usize = 256 << 10;

/// How long a disk may take for a piece. A volume that needs longer has gone away, and may never answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How bytes get to the other end.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection as the HTTP library reads and writes it.
pub(super) struct Wire {
    transport: Transport,
    outbox: Outbox,
    /// Whether the kernel has refused to send from a file here.
    copies: bool,
    /// Addresses whose pages were in memory when that was looked at.
    warm: Range<usize>,
    paging: Option<Paging>,
    /// Bytes taken since another connection had its turn.
    unbroken: usize,
    /// Where processor time is short.
    pace: Option<Arc<Pace>>,
    /// Bytes sent since that was asked, and for how long it said to pause.
    unpaced: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Pages on their way into memory, and the addresses that stand for them.
struct Paging {
    addresses: Range<usize>,
    work: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl Wire {
    pub(super) fn new(transport: Transport, outbox: Outbox, pace: Option<Arc<Pace>>) -> Self {
        Self {
            transport,
            outbox,
            copies: false,
            warm: 0..0,
            paging: None,
            unbroken: 0,
            pace,
            unpaced: 0,
            pause: None,
        }
    }

    /// Writes some of the first buffers.
    fn poll_some(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found = buffers
            .iter()
            .enumerate()
            .find_map(|(index, buffer)| Some((index, self.outbox.find(buffer)?)));
        match found {
            Some((0, (outgoing, offset))) => {
                ready!(self.poll_fair(context));
                ready!(self.poll_paced(context));
                self.poll_slice(context, (&outgoing, offset), &buffers[0])
            }
            Some((plain, _)) => self.poll_plain(context, &buffers[..plain], true),
            None => self.poll_plain(context, buffers, false),
        }
    }

    /// Writes some of the buffers before the first that stands for a slice.
    fn poll_plain(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        // A head begins another response, for whose slice the addresses of one that is gone may have been given out again.
        self.warm = 0..0;
        match (&mut self.transport, buffers) {
            // The head of a response leaves with the first bytes of its body.
            (Transport::Plain(stream), [head]) if more => {
                let with_more = |stream: &TcpStream| send(stream, head, SendFlags::MORE);
                poll_io(stream, context, (head.len(), with_more))
            }
            (Transport::Plain(stream), [only]) => Pin::new(stream).poll_write(context, only),
            (Transport::Plain(stream), _) => Pin::new(stream).poll_write_vectored(context, buffers),
            (Transport::Tls(stream), _) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    /// Sends some of a slice, from these addresses on.
    fn poll_slice(
        &mut self,
        context: &mut Context<'_>,
        (outgoing, offset): (&Outgoing, u64),
        addresses: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = match addresses.len() {
            rest if rest <= PIECE + REST => rest,
            _ => PIECE,
        };
        let length =
            ready!(self.poll_in_memory(context, (&outgoing.slice, offset), &addresses[..length]))?;
        let sent = ready!(self.poll_send(context, (&outgoing.slice, offset), length))?;
        self.unbroken += sent;
        self.unpaced += sent;
        outgoing.observer.sent(sent as u64);
        Poll::Ready(Ok(sent))
    }

    /// Waits until the file's bytes for these addresses, or for the first of them, are in memory; tells for how many.
    fn poll_in_memory(
        &mut self,
        context: &mut Context<'_>,
        (slice, offset): (&Slice, u64),
        addresses: &[u8],
    ) -> Poll<io::Result<usize>> {
        let start = addresses.as_ptr().addr();
        loop {
            if let Some(paging) = &mut self.paging {
                let paged = ready!(paging.work.as_mut().poll(context));
                self.warm = std::mem::take(&mut paging.addresses);
                self.paging = None;
                paged?;
            }
            if self.warm.contains(&start) {
                return Poll::Ready(Ok(addresses.len().min(self.warm.end - start)));
            }
            let addresses = start..start + addresses.len();
            let bytes = offset..offset + addresses.len() as u64;
            if slice.would_wait(&bytes) {
                let work = Box::pin(page_in(slice.clone(), bytes));
                self.paging = Some(Paging { addresses, work });
            } else {
                self.warm = addresses;
            }
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        (slice, offset): (&Slice, u64),
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if let (Transport::Plain(stream), false) = (&mut self.transport, self.copies) {
            let from_file = |stream: &TcpStream| {
                let mut offset = offset;
                sendfile(stream, slice.file(), Some(&mut offset), length)
            };
            match ready!(poll_io(stream, context, (length, from_file))) {
                // The file has lost its end.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if means_no_sendfile(&error) => self.copies = true,
                sent => return Poll::Ready(sent),
            }
        }
        let mut copy = [0; COPY];
        let copy = &mut copy[..length.min(COPY)];
        slice.read_at(offset, copy)?;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, copy),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, copy),
        }
    }

    /// Lets other connections go on, if this one has sent much without a pause.
    fn poll_fair(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.unbroken < FAIR {
            return Poll::Ready(());
        }
        self.unbroken = 0;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Pauses where sending would use up the processor time of all.
    fn poll_paced(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let (Some(pace), PACED..) = (&self.pace, self.unpaced) {
            self.unpaced = 0;
            self.pause = pace.pause().map(|pause| Box::pin(sleep(pause)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

async fn page_in(slice: Slice, bytes: Range<u64>) -> io::Result<()> {
    match timeout(READ_TIMEOUT, spawn_blocking(move || slice.page_in(&bytes))).await {
        Ok(Ok(result)) => result,
        Ok(Err(stopped)) => Err(io::Error::other(stopped)),
        Err(elapsed) => Err(elapsed.into()),
    }
}

/// Tries a system call that would take so many bytes until it takes some, waiting until the socket has room in between.
fn poll_io(
    stream: &TcpStream,
    context: &mut Context<'_>,
    (length, mut call): (usize, impl FnMut(&TcpStream) -> rustix::io::Result<usize>),
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let mut some = None;
        let done = stream.try_io(Interest::WRITABLE, || {
            let taken = call(stream)?;
            if (1..length).contains(&taken) {
                // Now it is full, and need not be asked again until it says otherwise.
                some = Some(taken);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(taken)
        });
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(taken) = some {
                    return Poll::Ready(Ok(taken));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Whether this kind of file, or this kernel, takes no part in `sendfile(2)`.
fn means_no_sendfile(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)
    )
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_some(context, buffers);
        if written.is_pending() {
            self.unbroken = 0;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use bytes::{Buf, Bytes};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::super::outgoing::{Connection, Observer};
    use super::*;
    use crate::artifact::{Artifact, Part};
    use crate::descriptor::Descriptor;
    use crate::digest::{Digest, Revision};
    use crate::machine::Quota;

    /// Counts what it is told.
    #[derive(Default)]
    struct Count(AtomicU64);

    impl Observer for Count {
        fn sent(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// An artifact whose archive is a file with this content.
    fn artifact(content: &[u8]) -> (Artifact, std::fs::File) {
        let mut archive = tempfile::tempfile().unwrap();
        archive.write_all(content).unwrap();
        let digest = Digest::of(content);
        let descriptor = Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(digest),
            digest,
            size: content.len() as u64,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: SystemTime::UNIX_EPOCH,
            segments: Vec::new(),
            left_out: std::collections::BTreeMap::new(),
        };
        let file = archive.try_clone().unwrap();
        let listing = tempfile::tempfile().unwrap();
        let artifact = Artifact::new(descriptor, archive, listing, SystemTime::UNIX_EPOCH);
        (artifact.unwrap(), file)
    }

    fn slice(artifact: &Artifact, range: Range<u64>) -> Slice {
        match artifact.archive().part(range) {
            Part::Mapped(slice) => slice,
            Part::Memory(_) => unreachable!("an archive is a file"),
        }
    }

    /// Bytes of which no two pieces are alike.
    fn noise(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    /// A connection: this end's writer with what a handler has of it, and the other end.
    async fn pair() -> (Wire, Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (other, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.unwrap();
        let outbox = Outbox::default();
        let wire = Wire::new(Transport::Plain(stream), outbox.clone(), None);
        (wire, Connection::new(peer, outbox), other.unwrap())
    }

    /// Writes as the HTTP library does: all that is left at once, each buffer dropped when it was taken.
    async fn write(wire: &mut Wire, mut buffers: Vec<Bytes>) -> io::Result<()> {
        while !buffers.is_empty() {
            let slices: Vec<_> = buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut written =
                std::future::poll_fn(|cx| Pin::new(&mut *wire).poll_write_vectored(cx, &slices))
                    .await?;
            drop(slices);
            buffers.retain_mut(|bytes| {
                let taken = written.min(bytes.len());
                bytes.advance(taken);
                written -= taken;
                !bytes.is_empty()
            });
        }
        wire.shutdown().await
    }

    async fn read(mut other: TcpStream) -> Vec<u8> {
        let mut received = Vec::new();
        other.read_to_end(&mut received).await.unwrap();
        received
    }

    /// What comes of responses that are slices of two artifacts and plain bytes, one behind the other.
    async fn check(copies: bool) {
        let content = noise(3_000_000);
        let ((one, _), (two, _)) = (artifact(&content), artifact(&content[..700_000]));
        let (mut wire, connection, other) = pair().await;
        wire.copies = copies;
        let (mut buffers, mut expected) = (Vec::new(), Vec::<u8>::new());
        let mut counts = Vec::new();
        for (artifact, range) in [
            (&one, 0..3_000_000),
            (&two, 5..6),
            (&two, 5..6),
            (&two, 9..9),
            (&one, 262_143..524_289),
            (&two, 0..700_000),
        ] {
            let head = format!("head of {range:?}");
            expected.extend(head.as_bytes());
            let indices =
                usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            expected.extend(&content[indices]);
            let count = Arc::new(Count::default());
            let observer = Arc::<Count>::clone(&count);
            counts.push((count, range.end - range.start));
            buffers.push(Bytes::from(head));
            buffers.push(connection.body(slice(artifact, range), observer));
        }
        let (written, received) = tokio::join!(write(&mut wire, buffers), read(other));
        written.unwrap();
        assert!(received == expected, "{} bytes came", received.len());
        for (count, length) in counts {
            assert_eq!(count.0.load(Ordering::Relaxed), length);
            // What was sent is forgotten.
            assert_eq!(Arc::strong_count(&count), 1);
        }
    }

    #[tokio::test]
    async fn slices_and_plain_bytes_come_in_order() {
        check(false).await;
    }

    #[tokio::test]
    async fn where_the_kernel_does_not_send_from_a_file_its_bytes_are_copied() {
        check(true).await;
    }

    #[tokio::test]
    async fn pages_that_are_not_in_memory_are_brought_there_first() {
        let content = noise(1_000_000);
        let (artifact, _) = artifact(&content);
        let (mut wire, connection, other) = pair().await;
        let whole = slice(&artifact, 0..1_000_000);
        let start = whole.addresses().as_ptr().addr();
        wire.paging = Some(Paging {
            addresses: start..start + 10,
            work: Box::pin(page_in(whole.clone(), 0..10)),
        });
        let body = connection.body(whole, Arc::new(Count::default()));
        let (written, received) = tokio::join!(write(&mut wire, vec![body]), read(other));
        written.unwrap();
        assert!(received == content);
    }

    #[tokio::test]
    async fn what_is_known_of_addresses_ends_with_their_response() {
        let (artifact, _) = artifact(&noise(1000));
        let (mut wire, connection, other) = pair().await;
        let head = Bytes::from_static(b"head");
        let body = connection.body(slice(&artifact, 0..1000), Arc::new(Count::default()));
        for (bytes, known) in [(&head, 0), (&body, 1000), (&head, 0)] {
            let written = std::future::poll_fn(|cx| Pin::new(&mut wire).poll_write(cx, bytes));
            assert_eq!(written.await.unwrap(), bytes.len());
            assert_eq!(wire.warm.len(), known);
        }
        drop(other);
    }

    #[tokio::test]
    async fn pages_that_cannot_be_brought_are_an_error_each_time() {
        let (artifact, file) = artifact(&noise(600_000));
        file.set_len(100_000).unwrap();
        let (mut wire, connection, _other) = pair().await;
        let whole = slice(&artifact, 0..600_000);
        let body = connection.body(whole, Arc::new(Count::default()));
        for _ in 0..2 {
            let behind = &body[300_000..];
            let written = std::future::poll_fn(|cx| Pin::new(&mut wire).poll_write(cx, behind));
            assert_eq!(
                written.await.unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_lost_its_end_ends_the_connection() {
        for copies in [false, true] {
            let (artifact, file) = artifact(&noise(600_000));
            file.set_len(100_000).unwrap();
            let (mut wire, connection, other) = pair().await;
            wire.copies = copies;
            let body = connection.body(slice(&artifact, 0..600_000), Arc::new(Count::default()));
            let (written, received) = tokio::join!(
                async move { write(&mut wire, vec![body]).await },
                read(other)
            );
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(received.len() <= 100_000);
        }
    }

    #[tokio::test]
    async fn a_connection_that_takes_everything_lets_others_go_on() {
        let (artifact, _) = artifact(&noise(8 << 20));
        let (mut wire, connection, other) = pair().await;
        let reading = tokio_util::task::TaskTracker::new().spawn(read(other));
        let mut body = connection.body(slice(&artifact, 0..8 << 20), Arc::new(Count::default()));
        let mut longest = 0;
        let mut unbroken = 0;
        while !body.is_empty() {
            std::future::poll_fn(|context| {
                let buffers = [IoSlice::new(&body)];
                match Pin::new(&mut wire).poll_write_vectored(context, &buffers) {
                    Poll::Ready(written) => {
                        let written = written.unwrap();
                        body.advance(written);
                        unbroken += written;
                        longest = longest.max(unbroken);
                        Poll::Ready(())
                    }
                    Poll::Pending => {
                        unbroken = 0;
                        Poll::Pending
                    }
                }
            })
            .await;
        }
        wire.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap().len(), 8 << 20);
        assert!(longest <= FAIR + PIECE + REST, "{longest}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_processor_time_is_short_it_pauses_between_pieces() {
        let content = noise(3_000_000);
        let (artifact, _) = artifact(&content);
        let (mut wire, connection, other) = pair().await;
        wire.pace = Some(Arc::new(Pace::new(Quota {
            time: Duration::from_micros(1),
            period: Duration::from_secs(1),
        })));
        let body = connection.body(slice(&artifact, 0..3_000_000), Arc::new(Count::default()));
        let reading = tokio_util::task::TaskTracker::new().spawn(read(other));
        let began = Instant::now();
        write(&mut wire, vec![body]).await.unwrap();
        // As long as it takes until that much has come in again.
        assert!(began.elapsed() > Duration::from_secs(1));
        assert!(reading.await.unwrap() == content);
    }
}
