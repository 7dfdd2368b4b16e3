//! What an upload may do, and how it is told that its code is served.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::serve::ServeConfig;
use crate::http::{Confirm, Confirmation, TokenFile};
use crate::ingest::{End, Order};
use crate::publication::places::Places;
use crate::publication::rebuilds::Rebuilds;
use crate::store::{LastBuild, LastResult};
use crate::unpack;

/// How long an upload waits until it is served.
const CONFIRM_TIMEOUT: Duration = Duration::from_mins(2);
/// More threads write no faster, and each of them takes memory.
const MOST_WRITERS: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");

/// Who may upload, and what.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) token: Arc<TokenFile>,
    pub(super) order: Order,
}

impl Upload {
    /// `None` where nobody may.
    pub(super) fn new(config: &ServeConfig) -> Option<Self> {
        let token = TokenFile::to_write(config.upload.token_file.as_ref()?);
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
        Some(Self {
            token: Arc::new(token),
            order,
        })
    }
}

/// Has the publisher build what was uploaded, and tells what became of it.
pub(super) fn confirm_by(rebuilds: Rebuilds, places: Places) -> Confirm {
    Arc::new(move |since| {
        let rebuilds = rebuilds.clone();
        let places = places.clone();
        Box::pin(async move {
            match rebuilds.build_since(since, CONFIRM_TIMEOUT).await {
                Some(ended) => told(ended.build, &places),
                None => Confirmation::TimedOut,
            }
        })
    })
}

fn told(build: LastBuild, places: &Places) -> Confirmation {
    match (build.result, build.revision) {
        (LastResult::Published, Some(revision)) => Confirmation::Served(revision),
        (LastResult::Unchanged, Some(revision)) => Confirmation::Unchanged(revision),
        _ => Confirmation::Failed(places.hidden(&build.error.unwrap_or_default())),
    }
}
