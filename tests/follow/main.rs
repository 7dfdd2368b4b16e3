//! A follower beside servers that change, restart and go away: the real program, with commands and signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/artifact.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what test files share, none of them needs all of"
)]
mod artifact;
mod ending;
mod follower;
mod news;
mod reacting;
mod server;
