//! The server as a whole: owns the tasks, and ends them.
//!
//! [`Server::new`] finds what is wrong with a configuration before anything is bound or built. [`Server::run`] answers from
//! its first moment on; what it answers depends on what is published. It returns when `shutdown` was cancelled and the
//! downloads then under way have ended or their time has.

mod doors;
mod state;
mod uploads;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::doors::Doors;
use self::state::{announce, identity, rules, take};
use self::uploads::{Upload, confirm_by};

use crate::config::serve::ServeConfig;
use crate::config::watch::WatchConfig;
use crate::exit::{Exit, sentence};
use crate::http::{Downloads, Site, Uploads};
use crate::listen::tls::TlsError;
use crate::listen::{self, Limits, Listener};
use crate::machine;
use crate::metrics::Metrics;
use crate::publication::Publication;
use crate::publication::build::{BuildError, Source};
use crate::publication::places::Places;
use crate::publication::publisher::{Parts, Publisher};
use crate::publication::rebuilds::Rebuilds;
use crate::shutdown::hangups;
use crate::store::retention::Retention;
use crate::store::{self, ServerRecord, ServerRules, Store, StoreError};
use crate::tree::RuleError;

/// What a connection is taken to need: a waiting request has less than half of it, and the tree's builds have to run, too.
const MEMORY_OF_CONNECTION: u64 = 32 << 10;
const FEWEST_CONNECTIONS: u64 = 256;
const MOST_CONNECTIONS: u64 = 10_000;
/// Connections to the port for probes and metrics, which come on top: a few machines ask there, one after the other.
const MOST_OBSERVERS: usize = 64;
/// Descriptors for all but connections to the code: artifacts, the tree that is read, events; and for who observes.
const OTHER_DESCRIPTORS: u64 = 64 + MOST_OBSERVERS as u64;

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
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ServerError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Rule(_) => Exit::Usage,
            Self::Root(error) => error.exit(),
            Self::StateIsRoot { .. } | Self::Store(StoreError::Occupied { .. }) | Self::Tls(_) => {
                Exit::Config
            }
            Self::Store(_) => Exit::CannotCreate,
        }
    }
}

/// A server that is about to run.
#[derive(Debug)]
pub struct Server {
    source: Arc<Source>,
    limits: Limits,
    downloads: Downloads,
    retention: Retention,
    rules: ServerRules,
    watch: WatchConfig,
    listen: SocketAddr,
    doors: Doors,
    /// `None` where nobody may upload.
    upload: Option<Upload>,
    state_dir: PathBuf,
    /// `None` while another server has the state directory.
    store: Option<Store>,
}

impl Server {
    /// Answers probes and metrics on this listener, and not where the code is served.
    #[must_use]
    pub fn observed_on(mut self, listener: TcpListener) -> Self {
        self.doors.observation = Some(listener);
        self
    }

    /// Checks a configuration against the machine, and takes the state directory.
    pub fn new(config: &ServeConfig) -> Result<Self, ServerError> {
        let root = &config.tree.root;
        match Source::new(&config.tree, Vec::new())?.check() {
            // A volume may be mounted late, and the first upload makes the directory.
            Err(error) if error.is_missing_root() => {
                warn!(error = %sentence(&error), "waiting for the root");
            }
            checked => checked?,
        }
        let doors = Doors::new(&config.access)?;
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
        let max_connections = connections(
            config.max_connections,
            machine::memory_limit(),
            machine::raise_descriptor_limit(),
        );
        Ok(Self {
            source: Arc::new(Source::new(&config.tree, vec![own])?),
            downloads: Downloads {
                moving: config.max_downloads,
                // The others are for those who want little: a probe, a descriptor, a segment.
                waiting: max_connections / 2,
            },
            limits: Limits {
                header_timeout: config.header_timeout,
                stall_timeout: config.stall_timeout,
                max_connections,
                drain_timeout: config.drain_timeout,
                quota: machine::processor_quota(),
            },
            retention: Retention {
                keep: config.retention.keep,
                keep_for: config.retention.keep_for,
                state_size: config.retention.state_size,
            },
            rules: rules(&config.tree),
            watch: config.watch.clone(),
            listen: config.listen,
            doors,
            upload: Upload::new(config),
            store: Store::try_open(&state_dir)?,
            state_dir,
        })
    }

    /// Serves on a listener until `shutdown` is cancelled.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        warn_of_memory(&self.state_dir);
        let (publication, rebuilds) = (Publication::new(), Rebuilds::new());
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let tasks = TaskTracker::new();
        let write = self.upload.as_ref().map(|upload| Arc::clone(&upload.token));
        let access = self.doors.access(write);
        let uploads = self.upload.map(|upload| Uploads {
            token: upload.token,
            order: upload.order.cancelled_by(shutdown.clone()),
            stall_timeout: self.limits.stall_timeout,
            confirm: confirm_by(
                rebuilds.clone(),
                Places::new(&self.source.root, &self.state_dir),
            ),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        let site = Site {
            publication: publication.clone(),
            metrics: metrics.clone(),
            downloads: self.downloads,
            access,
            uploads,
            stop: shutdown.clone(),
        };
        let address = listener.local_addr().ok();
        if let Some(address) = address {
            info!(%address, tls = self.doors.tls.is_some(), "listening");
        }
        let (tls, probes) = (self.doors.tls, self.doors.observation);
        let stop = shutdown.clone();
        let limits = self.limits.clone();
        let told = metrics.clone();
        tasks.spawn(rebuild_on_hangup(rebuilds.clone(), shutdown.clone()));
        tasks.spawn(async move {
            let taking = take(self.store, &self.state_dir);
            let Some(store) = stop.run_until_cancelled(taking).await else {
                return;
            };
            let store = Arc::new(store);
            publication.keep_in(Arc::clone(&store));
            let record = ServerRecord {
                address: address.unwrap_or(self.listen),
                access: self.doors.told,
                pid: std::process::id(),
                rules: self.rules,
                last_build: None,
            };
            announce(&store, &record).await;
            let publisher = Publisher::new(Parts {
                source: self.source,
                store: Arc::clone(&store),
                publication,
                rebuilds,
                watch: self.watch,
                retention: self.retention,
                metrics: told,
                record,
            });
            publisher.run(stop).await;
            store.retract();
        });
        let listener = Listener::new(listener, tls);
        let serving = listen::serve(
            listener,
            site.router(),
            limits.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        let limits = of_observers(&limits);
        let observed = observe(probes, site.observation(), limits, metrics, shutdown);
        tokio::join!(serving, observed);
        tasks.close();
        tasks.wait().await;
        info!("ended");
    }
}

/// How many connections there may be, if nobody has said: as memory allows, and in any case no more than descriptors.
fn connections(wanted: Option<usize>, memory: Option<u64>, descriptors: u64) -> usize {
    let affordable = memory.map_or(MOST_CONNECTIONS, |memory| {
        (memory / MEMORY_OF_CONNECTION).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)
    });
    let wanted = wanted.map_or(affordable, |wanted| wanted as u64);
    let possible = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1);
    if wanted > possible {
        warn!(
            max_connections = possible,
            wanted,
            descriptors,
            "fewer connections than wanted: raise the limit on open files (ulimit -n), or lower --max-connections"
        );
    }
    usize::try_from(wanted.min(possible)).unwrap_or(usize::MAX)
}

fn warn_of_memory(state_dir: &Path) {
    if store::is_in_memory(state_dir) {
        warn!(
            state_dir = %state_dir.display(),
            "the state directory is on a memory-backed file system: archives count against the memory limit"
        );
    }
}

/// Answers probes and metrics on a listener of their own, if there is one.
async fn observe(
    listener: Option<TcpListener>,
    router: Router,
    limits: Limits,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let Some(listener) = listener else {
        return;
    };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "listening for probes and metrics");
    }
    listen::serve(listener, router, limits, metrics, shutdown).await;
}

/// What holds where nothing but probes and metrics is asked for.
fn of_observers(limits: &Limits) -> Limits {
    Limits {
        max_connections: limits.max_connections.min(MOST_OBSERVERS),
        ..limits.clone()
    }
}

/// Has the tree looked at whenever SIGHUP comes.
async fn rebuild_on_hangup(rebuilds: Rebuilds, shutdown: CancellationToken) {
    let mut hangups = match hangups() {
        Ok(hangups) => hangups,
        Err(error) => return warn!(%error, "SIGHUP cannot be handled"),
    };
    while shutdown.run_until_cancelled(hangups.next()).await.is_some() {
        info!("SIGHUP came: looking at the tree");
        rebuilds.hurry();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn memory_and_descriptors_bound_the_connections() {
        const PLENTY: u64 = 1 << 20;
        let check = |wanted, memory, descriptors, expected| {
            assert_eq!(connections(wanted, memory, descriptors), expected);
        };
        check(None, None, PLENTY, 10_000);
        check(None, Some(64 << 20), PLENTY, 2048);
        check(None, Some(1 << 40), PLENTY, 10_000);
        check(None, Some(1), PLENTY, 256);
        check(None, Some(64 << 20), 1024, 896);
        check(Some(5), Some(64 << 20), PLENTY, 5);
        check(Some(20_000), Some(64 << 20), PLENTY, 20_000);
        check(Some(20_000), None, 1024, 896);
        check(Some(5), None, 3, 1);
    }

    #[test]
    fn who_observes_has_a_few_connections_and_takes_none_from_the_others() {
        for (most, expected) in [(10_000, 64), (64, 64), (5, 5)] {
            let limits = of_observers(&Limits {
                header_timeout: Duration::ZERO,
                stall_timeout: Duration::ZERO,
                max_connections: most,
                drain_timeout: Duration::ZERO,
                quota: None,
            });
            assert_eq!(limits.max_connections, expected);
            let together = u64::try_from(limits.max_connections).unwrap();
            assert!(together < OTHER_DESCRIPTORS);
        }
    }
}
