//! A server of the test's own: started, asked, stopped, killed and started again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_code-server");

/// How long anything may take: generous, for the programs are not optimised and tests run beside each other.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How often to look whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is served, and where the server keeps its state.
pub(crate) struct Setup {
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) flags: Vec<OsString>,
    _directory: tempfile::TempDir,
}

impl Setup {
    /// An empty root in a directory of its own, with the state beside it.
    pub(crate) fn new(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        Self {
            root,
            state: directory.path().join("state"),
            flags: flags.iter().map(OsString::from).collect(),
            _directory: directory,
        }
    }

    /// The directory that holds the root.
    pub(crate) fn parent(&self) -> &Path {
        self.root.parent().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The program, which logs to a pipe.
    pub(crate) fn command(&self) -> Command {
        self.command_by(Command::new(PROGRAM))
    }

    /// A command that lacks the program's arguments only.
    fn command_by(&self, mut command: Command) -> Command {
        command
            .arg("serve")
            .arg(&self.root)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--state-dir",
            ])
            .arg(&self.state)
            .args(&self.flags)
            .env_clear()
            .env("RUST_LOG", "code_server=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a server; it listens, and need not be ready.
    pub(crate) fn start(&self) -> Server {
        self.start_as(Command::new(PROGRAM))
    }

    /// Starts a server by a command that lacks its arguments only.
    pub(crate) fn start_as(&self, program: Command) -> Server {
        let mut child = self.command_by(program).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log: Arc::default(),
        };
        server.read_log(BufReader::new(stderr));
        let listening = server.wait_for_event("listening");
        server.address = listening["address"].as_str().unwrap().parse().unwrap();
        server
    }

    /// Starts a server that is ready.
    pub(crate) fn serve(&self) -> Server {
        let server = self.start();
        wait_until("the server is ready", || {
            server.get("/readyz").status == 200
        });
        server
    }
}

/// A process that does not outlive the test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What a tree holds: names with contents, directories and links with a word for what they are.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

impl Server {
    /// Reads the log from now on to its end.
    pub(crate) fn read_log(&self, stderr: impl BufRead + Send + 'static) {
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
    }

    pub(crate) fn try_ask(&self, request: &[u8]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        self.try_ask(request.as_bytes()).unwrap()
    }

    /// The archive that is served, and what is in it.
    pub(crate) fn archive(&self) -> (Reply, Files) {
        let reply = self.get("/code.tar.gz");
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        let files = unpacked(&reply.body);
        (reply, files)
    }

    pub(crate) fn files(&self) -> Files {
        self.archive().1
    }

    /// The tag of the archive that is served.
    pub(crate) fn tag(&self) -> String {
        let request = b"HEAD /code.tar.gz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        self.try_ask(request).unwrap().headers["etag"].clone()
    }

    /// The value of a metric, labels included in its name.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// All builds that came to an end.
    pub(crate) fn builds(&self) -> f64 {
        let results = ["published", "unchanged", "torn", "failed"];
        results
            .iter()
            .map(|result| self.metric(&format!("codeserver_builds_total{{result=\"{result}\"}}")))
            .sum()
    }

    /// The first event in the log with this message.
    pub(crate) fn event(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|event| event["message"] == message)
    }

    pub(crate) fn wait_for_event(&self, message: &str) -> Value {
        let mut found = None;
        wait_until(message, || {
            found = self.event(message);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the archive holds exactly this.
    pub(crate) fn wait_for_files(&self, expected: &Files) {
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        let began = Instant::now();
        loop {
            let reply = self.get("/code.tar.gz");
            let found = (reply.status == 200).then(|| unpacked(&reply.body));
            if found.as_ref() == Some(expected) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "expected {:?}, found {:?}",
                names(expected),
                found.as_ref().map(names)
            );
            pause(LOOK_EVERY);
        }
    }

    /// Waits until it has ended by itself, and gives its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the server has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Ends it as a kernel would that is out of memory.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as Kubernetes would.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let log = self.log.lock().unwrap();
            let last = log.len().saturating_sub(30);
            drop(writeln!(io::stderr(), "{}", log[last..].join("\n")));
        }
    }
}

/// An answer, if its head is whole.
pub(crate) fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Some(Reply {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    })
}

/// What is in an archive, which must be whole.
pub(crate) fn unpacked(archive: &[u8]) -> Files {
    let mut tar = tar::Archive::new(GzDecoder::new(archive));
    let mut files = Files::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        let content = match entry.header().entry_type() {
            tar::EntryType::Directory => b"<directory>".to_vec(),
            tar::EntryType::Symlink => [b"-> ", &*entry.link_name_bytes().unwrap()].concat(),
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                content
            }
        };
        files.insert(name, content);
    }
    files
}

/// What a directory holds, as it would be in an archive if nothing were left out.
pub(crate) fn found(root: &Path) -> Files {
    let mut files = Files::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let content = if path.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                [b"-> ", target.as_os_str().as_encoded_bytes()].concat()
            } else if path.is_dir() {
                directories.push(path);
                b"<directory>".to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            files.insert(name, content);
        }
    }
    files
}

/// Tells other threads to stop when a test comes to its end, or fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for something that has to come.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        pause(LOOK_EVERY);
    }
}

/// Between two looks at what no event tells of.
#[expect(clippy::disallowed_methods, reason = "a test's thread may wait")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}
