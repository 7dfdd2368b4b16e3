//! The one who fetches, in this process.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use code_server::config::credentials::{Credentials, Trust};
use code_server::config::fetch::{Action, FetchConfig, Layout, ProgressMode};
use code_server::config::url::Source;
use code_server::fetch::progress::Progress;
use code_server::fetch::{FetchError, Summary, run};
use code_server::telemetry::LogFormat;
use tokio_util::sync::CancellationToken;

/// How many revisions a versioned target keeps.
pub(crate) const KEEP: usize = 2;

/// Fetches from these, in this order, into a target.
pub(crate) fn config(sources: &[SocketAddr], target: &Path, layout: Layout) -> FetchConfig {
    let source = |address| Source::parse(&format!("http://{address}")).unwrap();
    FetchConfig {
        action: Action::Install,
        sources: sources.iter().map(source).collect(),
        credentials: Credentials {
            trust: Trust::default(),
            token_file: None,
        },
        target: target.into(),
        revision: None,
        sha256: None,
        layout,
        keep: NonZeroUsize::new(KEEP).unwrap(),
        umask: None,
        deadline: Some(Duration::from_mins(1)),
        connect_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        max_size: None,
        max_entries: None,
        workers: NonZeroUsize::new(2).unwrap(),
        progress: ProgressMode::Off,
        termination_log: target.with_extension("termination-log"),
        log_format: LogFormat::Text,
    }
}

pub(crate) async fn fetch(config: &FetchConfig) -> Result<Summary, FetchError> {
    run(config, &Progress::Off, CancellationToken::new()).await
}
