//! A hand-made artifact, and a server that hands it out well or badly.

#![allow(
    unreachable_pub,
    reason = "what a test file shares is as public as it can be"
)]

pub mod artifact;
pub mod server;
