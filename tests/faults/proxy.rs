//! A proxy that does what its seed says, in front of servers that do what they should.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fault::{Asked, End, Fault, Place, Reply, Tag, pick};
use crate::origin::Origin;
use crate::trees::Trees;

/// How often, of a hundred times, one of the first connections is spoilt.
const SPOILT: u8 = 80;
/// What no head of an answer comes near.
const ENDLESS: usize = 64 << 20;

/// The servers of both new trees, in their order.
pub(crate) struct Origins<'a> {
    pub(crate) trees: &'a Trees,
    pub(crate) servers: [Origin; 2],
}

/// What the seed says about a proxy as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temper {
    pub(crate) seed: u64,
    /// Which of the new trees is served at first.
    pub(crate) current: usize,
    /// How often, of a hundred times, another one is served from a connection on.
    pub(crate) swapping: u8,
    /// How many connections may be spoilt. Later ones are not.
    pub(crate) spoilt: u64,
}

/// A proxy until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    record: Arc<Mutex<Record>>,
    _tasks: JoinSet<()>,
}

/// What a proxy did so far.
#[derive(Default)]
struct Record {
    connections: u64,
    current: usize,
    faults: Vec<(Asked, usize, Fault)>,
}

impl Proxy {
    pub(crate) async fn start(origins: &Origins<'_>, temper: Temper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Mutex::new(Record {
            current: temper.current,
            ..Record::default()
        }));
        let way = Arc::new(Way {
            temper,
            record: Arc::clone(&record),
            origins: [0, 1].map(|one| origins.servers[one].address),
            borders: [0, 1].map(|one| borders(origins.trees, one)),
            stale: origins.trees.old.artifact.descriptor().to_json(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let way = Arc::clone(&way);
                connections.spawn(async move {
                    // A client that goes away is what this is about.
                    drop(way.converse(stream).await);
                });
            }
        });
        Self {
            address,
            record,
            _tasks: tasks,
        }
    }

    /// What was asked for, of which tree, and what became of it.
    pub(crate) fn faults(&self) -> Vec<(Asked, usize, Fault)> {
        self.record.lock().unwrap().faults.clone()
    }
}

/// Where the segments of an archive end.
fn borders(trees: &Trees, one: usize) -> Vec<usize> {
    let segments = &trees.new[one].artifact.descriptor().segments;
    let end = |segment: &code_server::descriptor::Segment| segment.offset + segment.length;
    segments
        .iter()
        .map(|segment| usize::try_from(end(segment)).unwrap())
        .collect()
}

/// What every connection knows.
struct Way {
    temper: Temper,
    record: Arc<Mutex<Record>>,
    origins: [SocketAddr; 2],
    borders: [Vec<usize>; 2],
    stale: Vec<u8>,
}

impl Way {
    /// Decides what becomes of a connection, from how many came before it.
    fn decide(&self, asked: Asked) -> (usize, Fault, Rng) {
        let mut record = self.record.lock().unwrap();
        let mut random = Rng::with_seed(self.temper.seed << 20 | record.connections);
        if random.u8(..100) < self.temper.swapping {
            record.current = 1 - record.current;
        }
        let is_spoilt = record.connections < self.temper.spoilt && random.u8(..100) < SPOILT;
        let fault = if is_spoilt {
            pick(asked, &mut random)
        } else {
            Fault::Nothing
        };
        let current = record.current;
        record.connections += 1;
        record.faults.push((asked, current, fault));
        (current, fault, random)
    }

    async fn converse(&self, mut client: TcpStream) -> io::Result<()> {
        let request = head(&mut client).await?;
        let asked = if request.head[0].contains("/code.tar.gz") {
            Asked::Archive
        } else {
            Asked::Descriptor
        };
        let (current, fault, mut random) = self.decide(asked);
        let mut reply = match fault {
            Fault::Close(end) => return close(client, end).await,
            Fault::Garbage => {
                let mut noise = vec![0; 4000];
                random.fill(&mut noise);
                client.write_all(&noise).await?;
                return close(client, End::Fin).await;
            }
            Fault::EndlessHead => return endless(client).await,
            Fault::Status(status, retry_after) => Reply::status(status, retry_after),
            Fault::StaleDescriptor => {
                let mut reply = Reply::status(200, None);
                reply.body.clone_from(&self.stale);
                reply.set("Content-Length", self.stale.len());
                reply
            }
            _ => self.ask(current, fault, request).await?,
        };
        reply.spoil(fault, &mut random);
        self.send(client, &reply, (current, fault), random).await
    }

    /// The answer of a server that does what it should, though perhaps not to what was asked.
    async fn ask(&self, current: usize, fault: Fault, mut request: Reply) -> io::Result<Reply> {
        let wanted = request.header("If-Match").map(String::from);
        let mut origin = current;
        match fault {
            Fault::Whole(_) => request.remove("Range"),
            Fault::OtherArchive(_) | Fault::OtherDescriptor => {
                origin = 1 - current;
                for name in ["If-Match", "If-Range"] {
                    request.remove(name);
                }
                let resource = match fault {
                    Fault::OtherDescriptor => "code.json",
                    _ => "code.tar.gz",
                };
                request.head[0] = format!("GET /{resource} HTTP/1.1");
            }
            _ => {}
        }
        request.set("Connection", "close");
        let mut upstream = TcpStream::connect(self.origins[origin]).await?;
        upstream.write_all(&request.head_bytes()).await?;
        let mut bytes = Vec::new();
        upstream.read_to_end(&mut bytes).await?;
        let mut reply = Reply::parse(&bytes);
        match (fault, wanted) {
            (Fault::OtherArchive(Tag::Wanted), Some(wanted)) => reply.set("ETag", wanted),
            (Fault::OtherArchive(Tag::None | Tag::Wanted), _) => {
                for name in ["ETag", "Code-Revision", "Repr-Digest"] {
                    reply.remove(name);
                }
            }
            _ => {}
        }
        Ok(reply)
    }

    async fn send(
        &self,
        mut client: TcpStream,
        reply: &Reply,
        (current, fault): (usize, Fault),
        mut random: Rng,
    ) -> io::Result<()> {
        let head = reply.head_bytes();
        let bytes = [&head[..], &reply.body].concat();
        let mut at = |place| match place {
            Place::Head => random.usize(1..head.len()),
            Place::BeforeBody => head.len(),
            Place::Body => random.usize(head.len()..=bytes.len()),
            Place::LastByte => bytes.len() - 1,
            Place::Border => {
                let first = reply.first();
                let inside = self.borders[current]
                    .iter()
                    .filter_map(|&border| border.checked_sub(first))
                    .filter(|&border| border < reply.body.len());
                let inside: Vec<usize> = inside.collect();
                head.len() + random.choice(inside).unwrap_or(reply.body.len() / 2)
            }
        };
        match fault {
            Fault::Cut(place, end) => {
                let at = at(place);
                client.write_all(&bytes[..at]).await?;
                close(client, end).await
            }
            Fault::Stall(place) => {
                let at = at(place);
                client.write_all(&bytes[..at]).await?;
                // The client goes away first.
                while client.read(&mut [0; 64]).await? > 0 {}
                Ok(())
            }
            Fault::Trickle => {
                let mut rest = &bytes[..];
                for _ in 0..random.usize(5..50) {
                    let (piece, behind) = rest.split_at(random.usize(1..2000).min(rest.len()));
                    client.write_all(piece).await?;
                    sleep(Duration::from_millis(random.u64(..3))).await;
                    rest = behind;
                }
                client.write_all(rest).await?;
                close(client, End::Fin).await
            }
            _ => {
                client.write_all(&bytes).await?;
                close(client, End::Fin).await
            }
        }
    }
}

/// A request's head; it has no body.
async fn head(client: &mut TcpStream) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match client.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend(&buffer[..length]),
        }
    }
    Ok(Reply::parse(&bytes))
}

async fn close(mut client: TcpStream, end: End) -> io::Result<()> {
    match end {
        End::Reset => client.set_zero_linger(),
        End::Fin => {
            client.shutdown().await?;
            // Unread bytes would make a reset of it, and that would take what is still on the way.
            while client.read(&mut [0; 64]).await? > 0 {}
            Ok(())
        }
    }
}

async fn endless(mut client: TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\n").await?;
    let line = [&b"X-More: "[..], &[b'x'; 8000], b"\r\n"].concat();
    for _ in 0..ENDLESS / line.len() {
        client.write_all(&line).await?;
    }
    Ok(())
}
