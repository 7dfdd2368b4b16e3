//! The server of this package, published to by hand, on a port that it can leave and come back to.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use code_server::http::{Downloads, Site};
use code_server::listen::{self, Limits};
use code_server::metrics::Metrics;
use code_server::publication::Publication;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::artifact::Artifact;
use crate::follower::wait_until;

/// A server in a thread of its own until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    publication: Publication,
    shutdown: CancellationToken,
    serving: Option<thread::JoinHandle<()>>,
    pub(crate) seen: Arc<Seen>,
}

/// What was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often, by path.
    asked: Mutex<BTreeMap<String, usize>>,
    /// Requests for the descriptor that are being answered or held.
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// Counts one request less when it is over, however it ends.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Seen {
    pub(crate) fn of(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.get(path).copied().unwrap_or_default()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn most_waiting(&self) -> usize {
        self.most_open.load(Ordering::SeqCst)
    }

    fn note(self: &Arc<Self>, path: &str) -> Option<Open> {
        *self.asked.lock().unwrap().entry(path.into()).or_default() += 1;
        if path != "/code.json" {
            return None;
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        Some(Open(Arc::clone(self)))
    }
}

impl Server {
    /// On a port of its own, with nothing to serve yet.
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn serving(artifact: &Artifact) -> Self {
        let server = Self::start();
        server.publish(artifact);
        server
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let listener = {
            let _inside = runtime.enter();
            listen::bind(address).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let (publication, shutdown) = (Publication::new(), CancellationToken::new());
        let seen = Arc::<Seen>::default();
        let (published, stop, noted) = (publication.clone(), shutdown.clone(), Arc::clone(&seen));
        let serving = thread::spawn(move || {
            let metrics = Metrics::new("1.2.3");
            let downloads = Downloads {
                moving: 4,
                waiting: 4,
            };
            let site = Site::open(published, metrics.clone(), downloads, stop.clone());
            let router = site
                .router()
                .layer(from_fn(move |request: Request, next: Next| {
                    let open = noted.note(request.uri().path());
                    async move {
                        let response = next.run(request).await;
                        drop(open);
                        response
                    }
                }));
            let limits = Limits {
                header_timeout: Duration::from_mins(1),
                stall_timeout: Duration::from_mins(1),
                max_connections: 64,
                drain_timeout: Duration::from_millis(200),
                quota: None,
            };
            runtime.block_on(listen::serve(listener, router, limits, metrics, stop));
        });
        Self {
            address,
            publication,
            shutdown,
            serving: Some(serving),
            seen,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until a follower has fetched what is served, has learnt its tag, and waits for something else.
    pub(crate) fn wait_until_it_is_followed(&self) {
        let seen = &self.seen;
        wait_until("it is followed", || {
            seen.of("/code.json") >= 3 && seen.waiting() == 1
        });
    }

    pub(crate) fn publish(&self, made: &Artifact) {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let artifact = code_server::artifact::Artifact::new(
            made.descriptor.clone(),
            file(&made.archive),
            file(b""),
            SystemTime::now(),
        );
        self.publication.publish(Arc::new(artifact.unwrap()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            drop(serving.join());
        }
    }
}
