//! A server over a tree of several segments, and a directory from which clients are run.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::slice::SliceIndex;
use std::time::SystemTime;

use code_server::digest::Digest;

use crate::server::{Server, Setup, found, unpacked, wait_until};
use crate::tools;

/// How long a client may take, in seconds: all it does is done in one on an idle machine.
const TIME_LIMIT: &str = "120";
/// Files of noise, which no compression makes small, and the length of each.
const FILES: u64 = 9;
const FILE_LENGTH: usize = 600_000;
const TOKEN: &str = "may-upload";

/// A server, what it has now, and a place to put it.
pub(crate) struct Site {
    setup: Setup,
    server: Server,
    here: PathBuf,
    archive: Vec<u8>,
}

impl Site {
    /// A server for these clients, if all of them are installed.
    pub(crate) fn for_clients(clients: &[&str]) -> Option<Self> {
        if !tools::installed(clients) {
            return None;
        }
        let mut setup = Setup::new(&["--settle", "10ms"]);
        let token = setup.parent().join("token");
        fs::write(&token, TOKEN).unwrap();
        setup
            .flags
            .extend(["--write-token-file".into(), token.into()]);
        for seed in 0..FILES {
            setup.write(&format!("lib/{seed}"), noise(seed));
        }
        setup.write("main.py", "print('hello')\n");
        symlink("../main.py", setup.path("lib/main")).unwrap();
        let here = setup.parent().join("here");
        fs::create_dir(&here).unwrap();
        let server = setup.serve();
        let archive = server.archive().0.body;
        Some(Self {
            setup,
            server,
            here,
            archive,
        })
    }

    /// Runs a line of bash, or some.
    pub(crate) fn run(&self, script: &str) -> Ended {
        self.start(script).end()
    }

    /// The same, while something else is done.
    pub(crate) fn start(&self, script: &str) -> Running {
        let url = self.url();
        let mut bash = Command::new("timeout");
        bash.args([TIME_LIMIT, "bash", "-euo", "pipefail", "-c", script])
            .env_clear()
            // Whoever runs the tests may have a proxy, a language, and files that configure these clients.
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", &self.here)
            .env("LC_ALL", "C.UTF-8")
            .env("ARCHIVE", format!("{url}/code.tar.gz"))
            .env("URL", url)
            .env("DIGEST", self.digest())
            .env("HALF", self.half().to_string())
            .env("TOKEN", TOKEN)
            .current_dir(&self.here)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running {
            script: script.to_owned(),
            process: bash.spawn().unwrap(),
        }
    }

    /// Puts noise of the same length in the place of a file, so that archives can hardly be told apart by their lengths.
    /// It does so in one step: what is served next is what is served from then on.
    pub(crate) fn change(&mut self) {
        let tag = self.server.tag();
        let new = self.setup.parent().join("new");
        fs::write(&new, noise(FILES)).unwrap();
        fs::rename(&new, self.setup.path("lib/4")).unwrap();
        wait_until("the change is served", || self.server.tag() != tag);
        self.archive = self.server.archive().0.body;
    }

    /// Ends the server; what asks it from now on is refused.
    pub(crate) fn end_server(&mut self) {
        self.server.child.kill().unwrap();
        self.server.child.wait().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The archive, as it was read by none of the clients.
    pub(crate) fn archive(&self) -> &[u8] {
        &self.archive
    }

    /// Half of the archive's length.
    pub(crate) fn half(&self) -> usize {
        self.archive.len() / 2
    }

    pub(crate) fn digest(&self) -> String {
        Digest::of(&self.archive).hex()
    }

    /// Where a client puts a file of this name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.here.join(name)
    }

    /// Asserts that a file is a part of the archive.
    #[track_caller]
    pub(crate) fn assert_part(&self, name: &str, range: impl SliceIndex<[u8], Output = [u8]>) {
        let expected = &self.archive[range];
        let found = fs::read(self.path(name)).unwrap();
        assert_eq!(found.len(), expected.len(), "the length of {name}");
        assert!(found == expected, "{name} has other bytes");
    }

    /// Asserts that a file is the archive.
    #[track_caller]
    pub(crate) fn assert_whole(&self, name: &str) {
        self.assert_part(name, ..);
    }

    /// Asserts that a directory holds what the server's does.
    #[track_caller]
    pub(crate) fn assert_unpacked(&self, name: &str) {
        let (found, expected) = (found(&self.path(name)), found(&self.setup.root));
        assert!(
            found == expected,
            "{:?} is there, {:?} is served",
            found.keys(),
            expected.keys()
        );
    }

    /// Asserts that the server has what a directory holds.
    #[track_caller]
    pub(crate) fn assert_served(&self, name: &str) {
        let served = unpacked(&self.server.archive().0.body);
        assert!(served == found(&self.path(name)), "{:?}", served.keys());
    }

    /// When a file was written last.
    pub(crate) fn modified(&self, name: &str) -> SystemTime {
        fs::metadata(self.path(name)).unwrap().modified().unwrap()
    }

    /// Makes a file of the archive's first half, as it is left where a download broke off.
    pub(crate) fn leave_half(&self, name: &str) {
        fs::write(self.path(name), &self.archive[..self.half()]).unwrap();
    }
}

/// A client at work. It ends by itself, at the time limit if not before.
pub(crate) struct Running {
    script: String,
    process: Child,
}

impl Running {
    /// Waits for its end.
    pub(crate) fn end(self) -> Ended {
        let Output {
            status,
            stdout,
            stderr,
        } = self.process.wait_with_output().unwrap();
        Ended {
            script: self.script,
            status: status.code(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

/// How a client ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    script: String,
    /// `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// What it wrote to standard output, without the space around it; it must have succeeded.
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        self.ends_with(0).out.trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn ends_with(self, status: i32) -> Self {
        let Self {
            script, out, err, ..
        } = &self;
        assert_eq!(self.status, Some(status), "{script}\n{out}\n{err}");
        self
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut noise = vec![0; FILE_LENGTH];
    fastrand::Rng::with_seed(seed).fill(&mut noise);
    noise
}
