//! A server over a tree that changes: what it serves follows, and is never a mixture; it survives being killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crashing;
mod draining;
mod following;
mod hidden;
mod holding;
mod ingesting;
mod keeping;
mod logging;
mod nonsense;
mod roots;
mod server;
mod tearing;
mod tls;
