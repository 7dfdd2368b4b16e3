//! Takes a directory of code and serves it over HTTP as one content-hashed archive; fetches, verifies and installs it.
//!
//! (The map of the modules comes with the last of them.)

pub mod archive;
pub mod artifact;
pub mod config;
pub mod descriptor;
pub mod digest;
pub mod entry;
pub mod exit;
pub mod fetch;
pub mod http;
pub mod listen;
pub mod listing;
pub mod ordered;
pub mod pack;
pub mod publication;
pub mod root;
pub mod server;
pub mod shutdown;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod tree;
pub mod unpack;
