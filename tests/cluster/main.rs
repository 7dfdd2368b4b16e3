//! A real cluster of several nodes, whichever it is: what the manifests promise, row by row.
//!
//! ```text
//! KUBECONFIG=~/.kube/config CODE_SERVER_TEST_IMAGE=registry.example/code-server:0.1.0 cargo test --test cluster
//! ```
//!
//! | variable | what it is |
//! |---|---|
//! | `KUBECONFIG` | the cluster; the user may create namespaces, and cordon and drain nodes |
//! | `CODE_SERVER_TEST_IMAGE` | the image `code-server`, as the nodes know it |
//! | `CODE_SERVER_TEST_FETCH_IMAGE` | the image `fetch-init`; without it, the program in the other image is taken |
//! | `CODE_SERVER_TEST_APP_IMAGE` | an image with busybox, for the application; otherwise `busybox:1.36` |
//! | `CODE_SERVER_TEST_STORAGE_CLASS` | where volumes come from, if not from the default class |
//! | `CODE_SERVER_TEST_LOSE_NODE`, `…_RETURN_NODE` | commands that take a node's name, power it off, and power it on again |
//! | `KUBECTL` | another kubectl than the one on the path |
//!
//! Each test has a namespace of its own, which is removed at its end whatever that is. Nodes are cordoned and drained, of
//! pods in that namespace alone, and are as they were afterwards. What cannot be tried is said and skipped: a cluster is
//! nothing that can be demanded of a machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod application;
mod code;
mod crashing;
mod destroying;
mod installation;
mod kubectl;
mod namespace;
mod node;
mod nodes;
mod overlay;
mod placing;
mod rendered;
mod rolling;
mod scaling;
mod settings;
mod watch;

#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../manifests/kubernetes.rs"]
mod kubernetes;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../manifests/object.rs"]
mod object;
#[allow(dead_code, reason = "another test needs more of it")]
#[path = "../real/tools.rs"]
mod tools;
