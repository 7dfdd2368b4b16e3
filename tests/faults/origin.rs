//! This package's own server, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use code_server::artifact::Artifact;
use code_server::http::{Downloads, Site};
use code_server::listen::{self, Limits};
use code_server::metrics::Metrics;
use code_server::publication::Publication;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A server with threads of its own until it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    publication: Publication,
    _runtime: Runtime,
}

impl Origin {
    pub(crate) fn of(artifact: &Arc<Artifact>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (publication, stop) = (Publication::new(), CancellationToken::new());
        let metrics = Metrics::new("1.2.3");
        let downloads = Downloads {
            moving: 64,
            waiting: 1024,
        };
        let site = Site::open(
            publication.clone(),
            metrics.clone(),
            downloads,
            stop.clone(),
        );
        let limits = Limits {
            header_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_mins(1),
            max_connections: 1024,
            drain_timeout: Duration::ZERO,
            quota: None,
        };
        drop(entered);
        runtime.handle().spawn(listen::serve(
            listener,
            site.router(),
            limits,
            metrics,
            stop,
        ));
        let origin = Self {
            address,
            publication,
            _runtime: runtime,
        };
        origin.publish(artifact);
        origin
    }

    pub(crate) fn publish(&self, artifact: &Arc<Artifact>) {
        self.publication.publish(Arc::clone(artifact));
    }
}
