//! What is said of an artifact's resource in each answer alike, made once.
//!
//! A fleet that asks every few seconds whether anything has changed is answered with the same headers each time, and writing
//! digests and dates anew would be a good part of the work.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
};

use super::conditional::Validators;
use super::resource::{CODE_REVISION, Resource, code_revision, value};
use crate::artifact::Artifact;
use crate::descriptor;

/// The header that tells how many bytes an archive's tar has.
const CODE_UNCOMPRESSED_SIZE: HeaderName =
    HeaderName::from_static(descriptor::CODE_UNCOMPRESSED_SIZE);
/// The digest of the whole representation, whichever part of it a response holds (RFC 9530 §3).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// What 200, 206 and 304 say alike, and what preconditions are compared with.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) validators: Validators,
    pub(super) headers: HeaderMap,
}

impl Fixed {
    pub(super) fn of(artifact: &Artifact, resource: Resource) -> Self {
        let validators = resource.validators(artifact);
        let digest = resource.of(artifact).digest().base64();
        let modified = httpdate::fmt_http_date(validators.modified);
        let mut headers = HeaderMap::from_iter([
            (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            // Of a revision's own resources too: a revision names the content, and the same content packed at another
            // level is another archive. Asking again costs a 304.
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (ETAG, value(validators.etag.clone())),
            (LAST_MODIFIED, value(modified)),
            (REPR_DIGEST, value(format!("sha-256=:{digest}:"))),
            (CODE_REVISION, code_revision(artifact)),
        ]);
        if resource == Resource::Archive {
            let size = artifact.descriptor().uncompressed_size;
            headers.insert(CODE_UNCOMPRESSED_SIZE, size.into());
        }
        Self {
            validators,
            headers,
        }
    }
}

/// Keeps what is said of the artifact that was asked for last, as a rule the current one.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    artifact: Weak<Artifact>,
    of: [Option<Arc<Fixed>>; Resource::ALL.len()],
}

impl Shelf {
    /// What is said of it now.
    pub(super) fn get(&self, artifact: &Arc<Artifact>, resource: Resource) -> Arc<Fixed> {
        if artifact.published() > SystemTime::now() {
            // The clock was set back, and what is said of the time does not hold for long.
            return Arc::new(Fixed::of(artifact, resource));
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(kept.artifact.as_ptr(), Arc::as_ptr(artifact)) {
            *kept = Kept {
                artifact: Arc::downgrade(artifact),
                of: Default::default(),
            };
        }
        let fixed = kept.of[resource as usize]
            .get_or_insert_with(|| Arc::new(Fixed::of(artifact, resource)));
        Arc::clone(fixed)
    }
}
