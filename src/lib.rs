//! Takes a directory of code and serves it over HTTP as one content-hashed archive; fetches, verifies and installs it.
//!
//! The library behind two programs: `code-server`, the one pod that mounts a volume, and `fetch-init`, the init container
//! of every pod that runs the code. Data goes one way, and so do the modules:
//!
//! ```text
//!   upload ──ingest
//!     ▼
//! tree ──scan──▶ snapshot ──seal──▶ archive ──keep──▶ store ──publish──▶ http
//!                                                                         ║
//!                target ◀──install── staging ◀──unpack── download ◀══ network
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`exit`], [`telemetry`], [`metrics`], [`shutdown`] | exit codes, logs, what is counted, the signals that a program takes |
//! | [`config`] | arguments as typed, and the configuration decided from them |
//! | [`machine`] | how much memory and processor time, and how many descriptors this process may have |
//! | [`digest`], [`entry`], [`ordered`] | checked values; work by several threads, taken back in order |
//! | [`reread`] | small files, read again when they change |
//! | [`root`] | one handle on a directory, and every access beneath it |
//! | [`tree`] | the live directory as found, what of it belongs, and that it may have changed |
//! | [`snapshot`], [`listing`] | what it holds: contents read untorn, their digests, the revision |
//! | [`archive`], [`descriptor`] | the format: segments, and what is said of them to the other side |
//! | [`artifact`], [`store`] | a sealed archive; where it and its predecessors lie on disk, and for how long |
//! | [`publication`] | the artifact that is served now, and the builds that make the next one |
//! | [`ingest`] | an uploaded archive becomes the tree, all or nothing |
//! | [`listen`], [`http`], [`server`] | connections, routes, and the whole with its end of life |
//! | [`pack`] | one archive to a file, without a server |
//! | [`unpack`] | an archive's entries beneath a handle, hostile input assumed |
//! | [`fetch`] | the transaction: ask, download, verify, unpack, install |
//! | [`confirm`] | whether the server of a tree serves what was just put there |
//!
//! What each may use of the others is a table in `tests/architecture.rs`, and a test holds it. What the modules together
//! guarantee:
//!
//! - What is published is complete, and never changes. A build that fails leaves what is published as it was, and a crash
//!   at any point what was published last.
//! - An archive is a function of the tree and of its format: the same bytes on any machine.
//! - Every file in an archive is one that the file system really held at one moment.
//! - A target is the old tree or the new one: an install that was interrupted is completed by the next run.
//! - A tree that is served is replaced as a whole or not at all, whenever the one who does it is killed; a file system that
//!   cannot exchange directories leaves a gap, which the next one closes.
//! - Nothing is installed whose revision was not computed anew: from the bytes as they were written, and for a file that is
//!   kept, from what was computed when it was, as long as nothing shows that it was touched since.
//! - Nothing an archive names is written outside of the staging directory; nothing outside of the root is read into one.
//! - Memory does not grow with the size of a file or an archive, only with the number of entries and connections.
//! - Every wait ends.

pub mod archive;
pub mod artifact;
pub mod config;
pub mod confirm;
pub mod descriptor;
pub mod digest;
pub mod entry;
pub mod exit;
pub mod fetch;
pub mod http;
pub mod ingest;
pub mod listen;
pub mod listing;
pub mod machine;
pub mod metrics;
pub mod ordered;
pub mod pack;
pub mod publication;
pub mod reread;
pub mod root;
pub mod server;
pub mod shutdown;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod tree;
pub mod unpack;
