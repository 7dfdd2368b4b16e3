//! Archives on web servers that know nothing of this package: they are fetched whole and as they should be, or not at all.
//!
//! The program itself is run, against servers in this process and against those of others. A test whose server or tar is not
//! installed says so and is skipped, or fails under `CODE_SERVER_TEST_REQUIRE=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archives;
mod flux;
mod others;
mod place;
mod redirects;
mod refusals;
mod resuming;
mod secure;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../real/tools.rs"]
mod tools;
