//! The rendered manifests as pods of podman: what they promise about privileges, limits and code holds for real containers.
//!
//! It wants an image, named by `CODE_SERVER_TEST_IMAGE`, and one of the fetcher, named by `CODE_SERVER_TEST_FETCH_IMAGE`,
//! or else `localhost/fetch-init:ci`. Without, each test says so and is skipped. Where podman wants a configuration of its
//! own, the variable `CONTAINERS_CONF` of the environment names it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ancestor;
mod code;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../manifests/kubernetes.rs"]
mod kubernetes;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../manifests/object.rs"]
mod object;
mod play;
mod pod;
mod podman;
mod privileges;
mod process;
mod rendered;
mod site;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../real/tools.rs"]
mod tools;
mod tree;
