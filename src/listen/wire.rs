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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::outgoing::{Outbox, Outgoing};
use crate::artifact::Slice;

/// How much is sent at once, and looked for in memory before: large beside the cost of a system call.
const PIECE: usize = 256 << 10;

/// How much is copied at once where it has to be: a record of TLS.
const COPY: usize = 16 << 10;

/// After how many bytes taken without a pause another connection has its turn: less than a tenth of a millisecond.
const FAIR: usize = 1 << 20;

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
}

/// Pages on their way into memory, and the addresses that stand for them.
struct Paging {
    addresses: Range<usize>,
    work: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl Wire {
    pub(super) fn new(transport: Transport, outbox: Outbox) -> Self {
        Self {
            transport,
            outbox,
            copies: false,
            warm: 0..0,
            paging: None,
            unbroken: 0,
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
        match (&mut self.transport, buffers) {
            // The head of a response leaves with the first bytes of its body.
            (Transport::Plain(stream), [head]) if more => poll_io(stream, context, |stream| {
                send(stream, head, SendFlags::MORE)
            }),
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
        let length = addresses.len().min(PIECE);
        let length =
            ready!(self.poll_in_memory(context, (&outgoing.slice, offset), &addresses[..length]))?;
        let sent = ready!(self.poll_send(context, (&outgoing.slice, offset), length))?;
        self.unbroken += sent;
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
                ready!(paging.work.as_mut().poll(context))?;
                self.warm = paging.addresses.clone();
                self.paging = None;
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
            match ready!(poll_io(stream, context, from_file)) {
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
}

async fn page_in(slice: Slice, bytes: Range<u64>) -> io::Result<()> {
    match timeout(READ_TIMEOUT, spawn_blocking(move || slice.page_in(&bytes))).await {
        Ok(Ok(result)) => result,
        Ok(Err(stopped)) => Err(io::Error::other(stopped)),
        Err(elapsed) => Err(elapsed.into()),
    }
}

/// Tries a system call until it does something, waiting until the socket takes more in between.
fn poll_io(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let done = stream.try_io(Interest::WRITABLE, || Ok(call(stream)?));
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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
