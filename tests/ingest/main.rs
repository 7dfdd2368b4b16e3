//! Uploads: what becomes of the tree by the library, by the command, and over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod site;
mod tree;
mod upload;
