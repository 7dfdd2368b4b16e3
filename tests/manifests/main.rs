//! What a team applies: rendered by the tools that they use, and checked object by object.
//!
//! A test whose tool is not installed says so and is skipped, or fails under `CODE_SERVER_TEST_REQUIRE=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerts;
mod base;
mod chart;
mod components;
mod custom;
mod dashboard;
mod deploy;
mod drop_in;
mod examples;
mod exposed;
mod fake;
mod kubernetes;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../live/server.rs"]
mod live;
mod minicluster;
mod object;
mod overlay;
mod pod;
mod pools;
mod schema;
mod scripts;
#[path = "../real/server.rs"]
mod server;
mod shipped;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../real/tools.rs"]
mod tools;
