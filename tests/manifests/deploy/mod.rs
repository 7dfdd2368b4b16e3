//! `manifests/bin/deploy`: what it does to a cluster, and what it says.

mod cluster;
mod destroying;
mod replacing;
mod status;
