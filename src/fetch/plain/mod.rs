//! An archive of a plain web server, of which nothing is known but what the configuration tells.
//!
//! It is unpacked as it comes, and hashed as it passes. Nothing is installed whose SHA-256 or revision is another than the
//! configuration's; where that has neither, and it was allowed to take any, what is installed is at least one whole archive,
//! as the server had it at one time: what is cut, damaged or followed by something is refused.
//!
//! A download that broke off is gone on with only where a server can tell archives apart, and where it would be found out if
//! it could not. Otherwise it begins anew. The rest of one archive is never knowingly put behind the beginning of another.

mod error;
mod intake;
mod packed;
mod resume;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Buf;
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio_util::task::TaskTracker;
use tracing::warn;

pub use error::{Flaw, PlainError};

use super::attempt::AttemptError;
use super::client::{Client, ClientError, Response};
use super::download::Verified;
use super::install::Target;
use super::progress::{Phase, Progress};
use super::retry::retry_after;
use crate::config::fetch::FetchConfig;
use crate::config::url::{ArchiveUrl, ResourceUrl};
use crate::digest::Digest;
use crate::unpack::{Limits, Unpacked};
use intake::Intake;
use resume::{Identity, Rest, number};

/// The largest tar that is taken, in bytes, where nothing else is configured: more than most disks of a pod hold.
const MAX_SIZE: u64 = 8 << 30;
/// The most entries that are taken where nothing else is configured: as many as take a few hundred megabytes to remember.
const MAX_ENTRIES: u64 = 1_000_000;

/// What several attempts have in common.
pub(super) struct Fetching<'a> {
    config: &'a FetchConfig,
    target: &'a Arc<Target>,
    progress: &'a Progress,
    tasks: &'a TaskTracker,
    begun: Option<Begun>,
    /// A server answered for the rest of an archive with something else, or what came in pieces was not the archive.
    mistrusts: bool,
    received: u64,
    size: u64,
}

/// An archive of which a part has come.
struct Begun {
    url: ArchiveUrl,
    /// Where it can be told from others.
    identity: Option<Identity>,
    size: Option<u64>,
    intake: Intake,
    /// It came in more than one piece.
    resumed: bool,
}

impl<'a> Fetching<'a> {
    pub(super) fn new(
        config: &'a FetchConfig,
        target: &'a Arc<Target>,
        progress: &'a Progress,
        tasks: &'a TaskTracker,
    ) -> Self {
        Self {
            config,
            target,
            progress,
            tasks,
            begun: None,
            mistrusts: false,
            received: 0,
            size: 0,
        }
    }

    /// Bytes of archives that came from the network.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the archive in all; as far as it has come.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes need not come again: it grows while there is progress.
    pub(super) fn kept(&self) -> u64 {
        match &self.begun {
            Some(begun) if self.can_resume(begun) => begun.intake.came(),
            _ => 0,
        }
    }

    /// How far it is, if this is the end.
    pub(super) fn unfinished(&self, url: &ArchiveUrl) -> AttemptError {
        let begun = self.begun.as_ref().filter(|begun| begun.url == *url);
        let unfinished = PlainError::Unfinished {
            url: Box::new(url.resource().clone()),
            came: begun.map_or(0, |begun| begun.intake.came()),
            size: begun.and_then(|begun| begun.size),
        };
        unfinished.into()
    }

    /// Downloads the archive, or goes on where the last attempt ended. The client is that of the archive's server.
    ///
    /// Dropping the future leaves what came until then.
    pub(super) async fn attempt(
        &mut self,
        client: &Client,
        url: &ArchiveUrl,
    ) -> Result<Verified, AttemptError> {
        let mut response = self.ask(client, url).await?;
        let doubled = match self.rest(&response) {
            Some(Rest::Onward { doubled }) => doubled,
            rest => {
                self.forget().await;
                if rest == Some(Rest::Useless) {
                    self.mistrusts = true;
                    response = self.ask(client, url).await?;
                }
                self.begin(url, &response).await?;
                0
            }
        };
        let at = response.url().clone();
        match self.pass_on(response, doubled).await {
            Err(Stopped::Client(error)) => Err(error.into()),
            // Who takes no more has ended, and tells why.
            Ok(()) | Err(Stopped::Gone) => self.finish(at).await,
        }
    }

    /// Asks for what is missing, or for all where nothing can be kept.
    async fn ask(&mut self, client: &Client, url: &ArchiveUrl) -> Result<Response, AttemptError> {
        let is_kept = |begun: &Begun| begun.url == *url && self.can_resume(begun);
        if !self.begun.as_ref().is_some_and(is_kept) {
            self.forget().await;
        }
        let mut headers = match &self.begun {
            Some(Begun {
                identity: Some(identity),
                intake,
                ..
            }) => identity.request(intake.came()),
            _ => HeaderMap::new(),
        };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = client.get_at(url.resource(), headers).await?;
        if response.status == StatusCode::OK || self.rest(&response).is_some() {
            return Ok(response);
        }
        let wish = response.header(RETRY_AFTER);
        let refusal = PlainError::Status {
            url: Box::new(response.url().clone()),
            status: response.status,
            retry_after: wish.and_then(|wish| retry_after(wish, SystemTime::now())),
        };
        Err(refusal.into())
    }

    /// What an answer is to what is there; `None` where nothing is, or nothing is said about it.
    fn rest(&self, response: &Response) -> Option<Rest> {
        let begun = self.begun.as_ref()?;
        let identity = begun.identity.as_ref()?;
        identity.judge(response.status, &response.headers, begun.intake.came())
    }

    /// A mixture must not be possible, and if a server makes it so all the same, it must be found.
    fn can_resume(&self, begun: &Begun) -> bool {
        let is_checked = self.config.sha256.is_some() || self.config.revision.is_some();
        is_checked && !self.mistrusts && begun.identity.is_some() && begun.intake.came() > 0
    }

    /// Gives up what has come; the staging directory is free then.
    pub(super) async fn forget(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.intake.abandon().await;
        }
    }

    /// Prepares for an archive from its first byte on.
    async fn begin(&mut self, url: &ArchiveUrl, response: &Response) -> Result<(), AttemptError> {
        let size = number(&response.headers);
        let limits = self.limits();
        if size.is_some_and(|size| size > limits.bytes) {
            let limit = limits.bytes;
            return Err(flawed(response.url(), Flaw::TooLong { limit }));
        }
        let target = Arc::clone(self.target);
        let staging = self.tasks.spawn_blocking(move || target.stage());
        let staging = staging
            .await
            .expect("staging neither panics nor is it aborted")?;
        self.progress.enter(Phase::Archive { bytes: size });
        self.begun = Some(Begun {
            url: url.clone(),
            identity: Identity::of(&response.headers),
            size,
            intake: Intake::start(staging, limits, self.config.workers, self.tasks),
            resumed: false,
        });
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            entries: self.config.max_entries.unwrap_or(MAX_ENTRIES),
            bytes: self.config.max_size.unwrap_or(MAX_SIZE),
        }
    }

    /// Hands the body over, but for the bytes at its beginning that are there already.
    async fn pass_on(&mut self, mut response: Response, mut doubled: u64) -> Result<(), Stopped> {
        let begun = self.begun.as_mut().expect("an attempt begins one");
        begun.resumed |= begun.intake.came() > 0;
        while let Some(mut piece) = response.piece().await.map_err(Stopped::Client)? {
            self.received += piece.len() as u64;
            let skipped =
                usize::try_from(doubled).map_or(piece.len(), |most| most.min(piece.len()));
            piece.advance(skipped);
            doubled -= skipped as u64;
            let length = piece.len() as u64;
            begun.intake.give(piece).await.map_err(|_| Stopped::Gone)?;
            self.progress.downloaded(length);
        }
        let came = begun.intake.came();
        match begun.size {
            Some(size) if size != came => Err(Stopped::Client(ClientError::Short {
                url: response.url().base().clone(),
            })),
            _ => Ok(()),
        }
    }

    /// Waits until all is written, and compares it with what it has to be.
    async fn finish(&mut self, at: ResourceUrl) -> Result<Verified, AttemptError> {
        let begun = self.begun.take().expect("an attempt begins one");
        let resumed = begun.resumed;
        self.size = begun.intake.came();
        let finished = begun.intake.finish().await;
        let verified = finished
            .map_err(|flaw| flawed(&at, flaw))
            .and_then(|(unpacked, digest)| self.verify(at, unpacked, digest));
        // Perhaps it was two archives.
        self.mistrusts |= resumed && verified.is_err();
        verified
    }

    fn verify(
        &self,
        url: ResourceUrl,
        unpacked: Unpacked,
        computed: Digest,
    ) -> Result<Verified, AttemptError> {
        let url = Box::new(url);
        if let Some(expected) = self.config.sha256.filter(|&expected| expected != computed) {
            return Err(PlainError::Digest {
                url,
                expected,
                computed,
            }
            .into());
        }
        let revision = unpacked.revision;
        if let Some(expected) = self.config.revision.filter(|&wanted| wanted != revision) {
            return Err(PlainError::Revision {
                url,
                expected,
                computed: revision,
            }
            .into());
        }
        if self.config.sha256.is_none() && self.config.revision.is_none() {
            self.progress
                .log(|| warn!(sha256 = %computed.hex(), "nothing told what the archive has to be"));
        }
        Ok(Verified::Staged(unpacked))
    }
}

/// Why a body was not handed over to its end.
enum Stopped {
    Client(ClientError),
    /// Unpacking has ended before it.
    Gone,
}

fn flawed(url: &ResourceUrl, source: Flaw) -> AttemptError {
    let url = Box::new(url.clone());
    PlainError::Flawed { url, source }.into()
}
