//! Clients that were not written for this server get from it what it has: whole, in parts, again, and after a change.
//!
//! Each test is a command as a person would type it, in an empty directory, with these variables:
//!
//! | variable | |
//! |---|---|
//! | `$URL` | the server, without a slash at the end |
//! | `$ARCHIVE` | the archive's address |
//! | `$DIGEST` | its SHA-256, in hex |
//! | `$HALF` | half of its length |
//! | `$TOKEN` | allows to upload |
//!
//! A test whose client is not installed says so and is skipped, or fails under `CODE_SERVER_TEST_REQUIRE=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aria2;
mod busybox;
mod curl;
mod nginx;
mod node;
mod python;
mod redbot;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../live/server.rs"]
mod server;
mod site;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../real/tools.rs"]
mod tools;
mod wget;
