//! The state directory of a server that is about to run.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::warn;

use crate::config::tree::TreeConfig;
use crate::exit::sentence;
use crate::store::{ServerRecord, ServerRules, Store};

/// How often a state directory is asked for that another server has.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The state directory, once no other server has it.
pub(super) async fn take(store: Option<Store>, state_dir: &Path) -> Store {
    match store {
        Some(store) => store,
        None => wait_for(state_dir).await,
    }
}

/// Asks for a state directory until the server that has it ends.
async fn wait_for(state_dir: &Path) -> Store {
    warn!(
        state_dir = %state_dir.display(),
        "another server uses the state directory: waiting until it ends"
    );
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        let path = state_dir.to_owned();
        let opening = spawn_blocking(move || Store::try_open(&path));
        // A panic was told of when it came, and the next look may go well.
        match opening.await.unwrap_or(Ok(None)) {
            Ok(Some(store)) => return store,
            Ok(None) => {}
            Err(error) => warn!(error = %sentence(&error), "cannot take over the state directory"),
        }
    }
}

/// Tells commands that run beside the server where it is.
pub(super) async fn announce(store: &Arc<Store>, record: &ServerRecord) {
    let (store, record) = (Arc::clone(store), record.clone());
    if let Ok(Err(error)) = spawn_blocking(move || store.announce(&record)).await {
        warn!(error = %sentence(&error), "cannot tell in the state directory who serves");
    }
}

/// What of a configuration decides the revision of a tree.
pub(super) fn rules(config: &TreeConfig) -> ServerRules {
    ServerRules {
        excludes: config.excludes.clone(),
        default_excludes: config.default_excludes,
        skip_unreadable: config.skip_unreadable,
        allow_empty: config.allow_empty,
        modes: config.modes,
    }
}

/// Device and inode of a directory.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
