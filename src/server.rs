//! The server as a whole: owns the tasks, and ends them.
//!
//! [`Server::new`] finds what is wrong with a configuration before anything is bound or built. [`Server::run`] answers from
//! its first moment on; what it answers depends on what is published. It returns when `shutdown` was cancelled and the
//! downloads then under way have ended or their time has.

use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::serve::ServeConfig;
use crate::exit::{Exit, sentence};
use crate::http::{self, Confirm, Confirmation, TokenFile, Uploads};
use crate::ingest::{End, Order};
use crate::listen::{self, Limits};
use crate::publication::Publication;
use crate::publication::build::{BuildError, Source};
use crate::publication::publisher::publish;
use crate::store::{self, Store, StoreError};
use crate::tree::RuleError;
use crate::unpack;

/// How often a state directory is asked for that another server has.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long an upload waits until it is served.
const CONFIRM_TIMEOUT: Duration = Duration::from_mins(2);
/// More threads write no faster, and each of them takes memory.
const MOST_WRITERS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An `--exclude` pattern cannot be understood.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The root is not there, or not ours to read.
    #[error(transparent)]
    Root(#[from] BuildError),
    /// Archives would be written into the tree that they hold.
    #[error(
        "the state directory is {} itself, which holds the code: name another one with --state-dir",
        .path.display()
    )]
    StateIsRoot {
        /// As it was named.
        path: PathBuf,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServerError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Rule(_) => Exit::Usage,
            Self::Root(error) => error.exit(),
            Self::StateIsRoot { .. } | Self::Store(StoreError::Occupied { .. }) => Exit::Config,
            Self::Store(_) => Exit::CannotCreate,
        }
    }
}

/// A server that is about to run.
#[derive(Debug)]
pub struct Server {
    source: Arc<Source>,
    limits: Limits,
    /// `None` where nobody may upload.
    uploads: Option<(Arc<TokenFile>, Order)>,
    state_dir: PathBuf,
    /// `None` while another server has the state directory.
    store: Option<Store>,
}

impl Server {
    /// Checks a configuration against the machine, and takes the state directory.
    pub fn new(config: &ServeConfig) -> Result<Self, ServerError> {
        let root = &config.tree.root;
        Source::new(&config.tree, Vec::new())?.check()?;
        let state_dir = match &config.state_dir {
            Some(path) => path.clone(),
            None => store::default_directory(root)?,
        };
        store::create(&state_dir)?;
        let own = identity(&state_dir).map_err(|source| StoreError::Io {
            path: state_dir.clone(),
            source,
        })?;
        if identity(root).is_ok_and(|root| root == own) {
            return Err(ServerError::StateIsRoot { path: root.clone() });
        }
        Ok(Self {
            source: Arc::new(Source::new(&config.tree, vec![own])?),
            limits: Limits {
                header_timeout: config.header_timeout,
                stall_timeout: config.stall_timeout,
                max_connections: config.max_connections,
                drain_timeout: config.drain_timeout,
            },
            uploads: uploads(config),
            store: Store::try_open(&state_dir)?,
            state_dir,
        })
    }

    /// Serves on a listener until `shutdown` is cancelled.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        if store::is_in_memory(&self.state_dir) {
            warn!(
                state_dir = %self.state_dir.display(),
                "the state directory is on a memory-backed file system: archives count against the memory limit"
            );
        }
        let publication = Publication::new();
        let tasks = TaskTracker::new();
        let (confirm, uploaded) = confirmations();
        let stall_timeout = self.limits.stall_timeout;
        let uploads = self.uploads.map(|(token, order)| Uploads {
            token,
            order: Order {
                cancel: shutdown.clone(),
                ..order
            },
            stall_timeout,
            confirm,
            tasks: tasks.clone(),
        });
        let router = http::router_with(publication.clone(), uploads);
        tasks.spawn(keep_current(
            self.source,
            self.store,
            self.state_dir,
            publication,
            (uploaded, shutdown.clone()),
        ));
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
        listen::serve(listener, router, self.limits, shutdown).await;
        tasks.close();
        tasks.wait().await;
        info!("ended");
    }
}

async fn keep_current(
    source: Arc<Source>,
    store: Option<Store>,
    state_dir: PathBuf,
    publication: Publication,
    (mut uploaded, shutdown): (mpsc::Receiver<Asked>, CancellationToken),
) {
    let store = match store {
        Some(store) => Some(store),
        None => {
            shutdown
                .run_until_cancelled(wait_for_store(&state_dir))
                .await
        }
    };
    if let Some(store) = store {
        let store = Arc::new(store);
        let publish = || {
            publish(
                Arc::clone(&source),
                Arc::clone(&store),
                publication.clone(),
                shutdown.clone(),
            )
        };
        publish().await;
        // The store's lock keeps others from emptying it while what lies there is served.
        while let Some(Some(asked)) = shutdown.run_until_cancelled(uploaded.recv()).await {
            let revision = || Some(publication.current()?.descriptor().revision);
            let before = revision();
            publish().await;
            let Some(now) = revision().filter(|_| !shutdown.is_cancelled()) else {
                break;
            };
            // Whoever asked may have gone.
            drop(asked.send(if before == Some(now) {
                Confirmation::Unchanged(now)
            } else {
                Confirmation::Served(now)
            }));
        }
        shutdown.cancelled().await;
    }
}

/// One who waits until an upload is served.
type Asked = oneshot::Sender<Confirmation>;

/// A way to ask for a build, and to be told what came of it.
fn confirmations() -> (Confirm, mpsc::Receiver<Asked>) {
    let (sender, receiver) = mpsc::channel::<Asked>(1);
    let confirm: Confirm = Arc::new(move |_| {
        let sender = sender.clone();
        Box::pin(async move {
            let asking = async {
                let (asked, answer) = oneshot::channel();
                sender.send(asked).await.ok()?;
                answer.await.ok()
            };
            let answer = timeout(CONFIRM_TIMEOUT, asking).await.ok().flatten();
            answer.unwrap_or(Confirmation::TimedOut)
        })
    });
    (confirm, receiver)
}

/// What an upload may do.
fn uploads(config: &ServeConfig) -> Option<(Arc<TokenFile>, Order)> {
    let token = TokenFile::new(config.upload.token_file.as_ref()?);
    let order = Order {
        tree: config.tree.clone(),
        limits: unpack::Limits {
            entries: config.upload.max_entries,
            bytes: config.upload.max_size,
        },
        workers: config.tree.workers.min(MOST_WRITERS),
        expected_size: None,
        end: End::OfInput,
        cancel: CancellationToken::new(),
    };
    Some((Arc::new(token), order))
}

/// Asks for a state directory until the server that has it ends.
async fn wait_for_store(state_dir: &Path) -> Store {
    warn!(
        state_dir = %state_dir.display(),
        "another server uses the state directory: waiting until it ends"
    );
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        match Store::try_open(state_dir) {
            Ok(Some(store)) => return store,
            Ok(None) => {}
            Err(error) => warn!(error = %sentence(&error), "cannot take over the state directory"),
        }
    }
}

/// Device and inode of a directory.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
