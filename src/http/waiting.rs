//! Requests that are held until there is a better answer than the one at hand, or until nobody wants to wait any longer.
//!
//! | asked for | held while | without `Prefer: wait` |
//! |---|---|---|
//! | the current artifact | there is none | for five seconds |
//! | the same, with `If-None-Match` | that would be answered with 304 | not at all |
//! | a revision | it is neither current nor retained | not at all |
//!
//! A stopping server holds nobody: each is told at once what there is. Whoever is held costs the request's conditions, a
//! place among those whom a publication wakes, and a timer that fires once.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::{
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::method::Method;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::conditional::{self, Outcome};
use super::resource::Resource;
use super::trace::own;
use crate::artifact::Artifact;
use crate::digest::Revision;
use crate::publication::Publication;

/// What a client is told that its preference was heard with (RFC 7240 §3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// How long a client that says nothing waits for the first artifact. One that comes a little too early is spared the way
/// back, and none takes the server for hung.
const UNASKED: Duration = Duration::from_secs(5);
/// What an answer depends on. A request that is held keeps no other header.
const CONDITIONS: [HeaderName; 6] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
];

/// Where to wait, and until when at the latest. Clones are the same place.
#[derive(Clone)]
pub(super) struct Waiting {
    publication: Publication,
    /// Says that nobody is to be held any longer.
    stop: CancellationToken,
}

impl Waiting {
    /// Waits for what is published there, but not beyond the call to stop.
    pub(super) fn new(publication: Publication, stop: CancellationToken) -> Self {
        Self { publication, stop }
    }

    /// What is published.
    pub(super) fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Whether the server is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The current artifact: one that the client does not have, if it waits and such a one comes; `None` before the first.
    ///
    /// A request that was held has lost all headers that no answer depends on.
    pub(super) async fn current(
        &self,
        resource: Resource,
        (method, headers): (&Method, &mut HeaderMap),
        wait: Option<Duration>,
    ) -> Option<Arc<Artifact>> {
        let current = self.publication.current();
        let held = match (&current, wait) {
            (None, wait) => wait.unwrap_or(UNASKED),
            (Some(artifact), Some(wait)) if is_known(resource, artifact, method, headers) => wait,
            (Some(_), _) => Duration::ZERO,
        };
        if held.is_zero() {
            return current;
        }
        reduce(headers);
        let headers = &*headers;
        let news = |artifact: &Artifact| !is_known(resource, artifact, method, headers);
        let news = pin!(self.publication.wait_for(news));
        let news = self.hold(held, news).await;
        news.or_else(|| self.publication.current())
    }

    /// The artifact of a revision, if it can be served before the client has waited long enough.
    ///
    /// A request that was held has lost all headers that no answer depends on.
    pub(super) async fn revision(
        &self,
        revision: &Revision,
        headers: &mut HeaderMap,
        wait: Option<Duration>,
    ) -> Option<Arc<Artifact>> {
        let found = self.publication.find(revision).await;
        let held = wait.unwrap_or_default();
        if found.is_some() || held.is_zero() {
            return found;
        }
        reduce(headers);
        let news = pin!(self.publication.wait_for_revision(revision));
        self.hold(held, news).await
    }

    /// By reference, for a future that is passed on by value is kept twice.
    async fn hold<T>(&self, held: Duration, news: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            news = news => Some(news),
            () = sleep(held) => None,
        }
    }
}

/// Whether the client has it already, and says so by its tag.
fn is_known(resource: Resource, artifact: &Artifact, method: &Method, headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH)
        && conditional::evaluate(method, headers, &resource.validators(artifact))
            == Outcome::NotModified
}

/// Lets go of the memory that a connection reads into, parts of which all headers are: it would be held for as long as the
/// request, and the connection would take as much again.
fn reduce(headers: &mut HeaderMap) {
    let mut kept = HeaderMap::new();
    for name in CONDITIONS {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), own(value));
        }
    }
    *headers = kept;
}

/// Tells the client for how long it would have been held.
pub(super) fn applied(mut response: Response, wait: Option<Duration>) -> Response {
    if let Some(wait) = wait {
        let value = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
        let value = value.expect("digits are visible");
        response.headers_mut().insert(PREFERENCE_APPLIED, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::Write;
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::*;
    use crate::descriptor::Descriptor;
    use crate::digest::Digest;

    fn artifact(text: &'static str) -> Arc<Artifact> {
        let file = || -> File {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let descriptor = Descriptor {
            format: "1".into(),
            revision: Revision::of_listing(Digest::of(text.as_bytes())),
            digest: Digest::of(text.as_bytes()),
            size: text.len() as u64,
            uncompressed_size: 0,
            entries: 0,
            files: 0,
            created_at: SystemTime::UNIX_EPOCH,
            segments: Vec::new(),
            left_out: BTreeMap::new(),
        };
        let published = SystemTime::UNIX_EPOCH;
        Arc::new(Artifact::new(descriptor, file(), file(), published).unwrap())
    }

    fn request(headers: &[(HeaderName, String)]) -> HeaderMap {
        let headers = headers.iter().cloned();
        headers
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    fn tag(artifact: &Artifact) -> (HeaderName, String) {
        (IF_NONE_MATCH, Resource::Archive.validators(artifact).etag)
    }

    fn place() -> Waiting {
        Waiting::new(Publication::new(), CancellationToken::new())
    }

    /// Asks for the archive, and tells for how many seconds that was held, if nothing happened.
    async fn held(waiting: &Waiting, headers: &[(HeaderName, String)], wait: Option<u64>) -> u64 {
        let began = Instant::now();
        let wait = wait.map(Duration::from_secs);
        let mut request = request(headers);
        let before = waiting.publication.current();
        let after = waiting
            .current(Resource::Archive, (&Method::GET, &mut request), wait)
            .await;
        let digest = |artifact: Arc<Artifact>| artifact.descriptor().digest;
        assert_eq!(before.map(digest), after.map(digest));
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_artifact_everybody_is_held() {
        let waiting = place();
        assert_eq!(held(&waiting, &[], None).await, 5);
        assert_eq!(held(&waiting, &[], Some(0)).await, 0);
        assert_eq!(held(&waiting, &[], Some(55)).await, 55);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_current_one_is_held_if_it_asks_for_that() {
        let waiting = place();
        let current = artifact("current");
        waiting.publication.publish(Arc::clone(&current));
        let known = tag(&current);
        assert_eq!(
            held(&waiting, std::slice::from_ref(&known), Some(9)).await,
            9
        );
        assert_eq!(
            held(&waiting, std::slice::from_ref(&known), Some(0)).await,
            0
        );
        assert_eq!(held(&waiting, std::slice::from_ref(&known), None).await, 0);
        let other = tag(&artifact("other"));
        assert_eq!(held(&waiting, &[other], Some(9)).await, 0);
        assert_eq!(held(&waiting, &[], Some(9)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_would_not_end_in_a_304_by_its_tag_is_not_waited_for() {
        let waiting = place();
        let current = artifact("current");
        waiting.publication.publish(Arc::clone(&current));
        let since = (
            IF_MODIFIED_SINCE,
            "Thu, 01 Jan 1970 00:00:00 GMT".to_owned(),
        );
        assert_eq!(held(&waiting, &[since], Some(9)).await, 0);
        let meant = (IF_MATCH, "\"other\"".to_owned());
        assert_eq!(held(&waiting, &[meant, tag(&current)], Some(9)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_is_waited_for_if_the_client_asks_for_that() {
        let waiting = place();
        let revision = artifact("wanted").descriptor().revision;
        for (wait, held) in [(None, 0), (Some(0), 0), (Some(9), 9)] {
            let began = Instant::now();
            let wait = wait.map(Duration::from_secs);
            let found = waiting.revision(&revision, &mut request(&[]), wait).await;
            assert!(found.is_none());
            assert_eq!(began.elapsed().as_secs(), held);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_held_once_the_server_stops() {
        let waiting = place();
        waiting.stop.cancel();
        assert_eq!(held(&waiting, &[], None).await, 0);
        assert_eq!(held(&waiting, &[], Some(55)).await, 0);
        let current = artifact("current");
        waiting.publication.publish(Arc::clone(&current));
        assert_eq!(held(&waiting, &[tag(&current)], Some(55)).await, 0);
    }

    #[test]
    fn a_request_that_is_held_keeps_its_conditions_alone() {
        let tags = (IF_NONE_MATCH, "\"a\"".to_owned());
        let more = (IF_NONE_MATCH, HeaderValue::from_static("\"b\""));
        let range = (RANGE, "bytes=0-".to_owned());
        let other = (PREFERENCE_APPLIED, "x".to_owned());
        let mut whole = request(&[tags.clone(), other, range.clone()]);
        whole.append(more.0.clone(), more.1.clone());
        reduce(&mut whole);
        let mut expected = request(&[tags, range]);
        expected.append(more.0, more.1);
        assert_eq!(whole, expected);
    }
}
