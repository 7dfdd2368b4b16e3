//! A server made of a function from request to answer. It can do what no good server does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use code_server::config::url::BaseUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::artifact::Artifact;

/// A request as it came: the path, and the headers with names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn is_for_archive(&self) -> bool {
        self.path.ends_with("/code.tar.gz")
    }
}

/// An answer, and what becomes of the connection.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body.
    pub cut: Option<usize>,
    /// Then keep silent instead of closing the connection.
    pub stall: bool,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            stall: false,
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// Answers as a good server does that has this artifact alone.
pub fn answer(artifact: &Artifact, request: &Request) -> Answer {
    let revision = artifact.descriptor.revision;
    let beneath = format!("/revisions/{revision}");
    let resource = request.path.strip_prefix(&beneath).unwrap_or(&request.path);
    match resource {
        "/code.json" => Answer::status(200).body(artifact.descriptor.to_json()),
        "/code.tar.gz" => archive(artifact, request),
        _ => Answer::status(404).with("Code-Revision", revision.to_string()),
    }
}

fn archive(artifact: &Artifact, request: &Request) -> Answer {
    let tag = format!("\"{}\"", artifact.descriptor.digest.hex());
    if request
        .header("if-match")
        .is_some_and(|wanted| wanted != tag)
    {
        return Answer::status(412);
    }
    let size = artifact.archive.len();
    let range = request.header("range").filter(|_| {
        request
            .header("if-range")
            .is_none_or(|wanted| wanted == tag)
    });
    let Some(range) = range else {
        return Answer::status(200)
            .with("ETag", tag)
            .body(artifact.archive.clone());
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(size, |last: usize| last + 1);
    Answer::status(206)
        .with("ETag", tag)
        .with("Content-Range", format!("bytes {first}-{}/{size}", end - 1))
        .body(artifact.archive[first..end].to_vec())
}

/// A server on a port of this machine until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Answers each request by a function of it and of how many came before it.
    pub async fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let mut server = Self::refusing();
        let listener = TcpListener::bind(server.address).await.unwrap();
        server.answer(listener, answer);
        server
    }

    /// Serves an artifact as it should be served.
    pub async fn of(artifact: Artifact) -> Self {
        Self::start(move |request, _| answer(&artifact, request)).await
    }

    /// A server that does not listen: whoever connects is refused.
    pub fn refusing() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            requests: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Begins to listen.
    pub async fn listen(&mut self, artifact: Artifact) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.answer(listener, move |request, _| answer(&artifact, request));
    }

    fn answer(
        &mut self,
        listener: TcpListener,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) {
        let requests = Arc::clone(&self.requests);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let answer = Arc::new(answer);
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                connections.spawn(async move {
                    // A client that goes away is none of a test's business.
                    drop(converse(stream, &requests, &*answer).await);
                });
            }
        });
    }

    pub fn url(&self) -> BaseUrl {
        BaseUrl::parse(&format!("http://{}", self.address)).unwrap()
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request, usize) -> Answer + Sync),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let request = parse(&String::from_utf8(head).unwrap());
    let answer = {
        let mut requests = requests.lock().unwrap();
        let answer = answer(&request, requests.len());
        requests.push(request);
        answer
    };
    let mut head = vec![format!(
        "HTTP/1.1 {} x\r\nConnection: close\r\n",
        answer.status
    )];
    let headers = answer.headers.iter();
    head.extend(headers.map(|(name, value)| format!("{name}: {value}\r\n")));
    if !answer
        .headers
        .iter()
        .any(|(name, _)| *name == "Content-Length")
    {
        head.push(format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push("\r\n".into());
    stream.write_all(head.concat().as_bytes()).await?;
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len())];
    stream.write_all(body).await?;
    if answer.stall {
        // Nothing more comes; the client goes away first.
        stream.read_u8().await?;
    }
    stream.shutdown().await
}

fn parse(head: &str) -> Request {
    let mut lines = head.split("\r\n");
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().into();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    Request { path, headers }
}
