//! What `fetch-init` is told.
