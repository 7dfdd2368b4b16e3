//! Whatever happens on the way, and whenever it is killed: a target holds one whole tree, the old one or a new one.
//!
//! Trees of several segments are sealed by the code that does so in production and served by this package's own server.
//! What goes wrong is decided by a seed. A run that fails names its seed, and
//!
//! ```text
//! FAULTS_SEED=17 cargo test --test faults -- --nocapture     # makes that run alone, and tells what was done to it
//! FAULTS_RUNS=9000 cargo test --test faults                  # makes so many runs behind the proxy
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "how often each end came about is what these tests tell"
)]

mod client;
mod fault;
mod flips;
mod killed;

mod origin;
mod proxied;
mod proxy;
mod scratch;
mod target;
mod trees;

use std::sync::{Mutex, MutexGuard, PoisonError};

use code_server::config::fetch::Layout;

/// The layouts for which all of this holds.
const LAYOUTS: &[Layout] = &[Layout::Direct, Layout::Versioned];

/// Lets one test run at a time: a process that one of them starts holds, for a moment, the locks that another one has taken.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
