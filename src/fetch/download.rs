//! One archive, in as many attempts as it takes.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tokio_util::task::TaskTracker;

use super::attempt::{AttemptError, HEADER, TRAILER};
use super::client::{Client, Response};
use super::install::Target;
use super::progress::{Phase, Progress};
use super::retry::retry_after;
use super::session::{Content, Session};
use super::stream::{ArchiveStream, request_headers};
use crate::config::fetch::FetchConfig;
use crate::descriptor::{
    ARCHIVE, ARCHIVE_TRAILER, CODE_REVISION, DESCRIPTOR, Descriptor, LARGEST_DESCRIPTOR, REVISIONS,
};
use crate::digest::Revision;
use crate::unpack::{Limits, Unpacked};

/// A tree that is staged and is what its descriptor says.
#[derive(Debug)]
pub(super) struct Verified(pub(super) Unpacked);

/// What several attempts have in common.
pub(super) struct Download<'a> {
    config: &'a FetchConfig,
    clients: &'a [Client],
    /// Who of them is asked now.
    turn: usize,
    target: &'a Arc<Target>,
    progress: &'a Progress,
    tasks: &'a TaskTracker,
    session: Option<Session>,
    /// The server may have another archive by now.
    outdated: bool,
    received: u64,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        config: &'a FetchConfig,
        clients: &'a [Client],
        target: &'a Arc<Target>,
        progress: &'a Progress,
        tasks: &'a TaskTracker,
    ) -> Self {
        Self {
            config,
            clients,
            turn: 0,
            target,
            progress,
            tasks,
            session: None,
            outdated: false,
            received: 0,
        }
    }

    fn client(&self) -> &'a Client {
        &self.clients[self.turn]
    }

    /// Bytes of archives that came from the network.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// How many segments of the archive are done with: it grows while there is progress.
    pub(super) fn segments_done(&self) -> usize {
        let Some(session) = &self.session else {
            return 0;
        };
        match session.next_segment() {
            Some((index, _)) => index,
            None => session.descriptor().segments.len(),
        }
    }

    /// How far it is, if this is the end.
    pub(super) fn unfinished(&self) -> AttemptError {
        AttemptError::Unfinished {
            url: self.client().url().clone(),
            came: self.session.as_ref().map(|session| {
                let descriptor = session.descriptor();
                let came = match session.next_segment() {
                    Some((_, segment)) => segment.offset,
                    None => descriptor.size,
                };
                (came, descriptor.size)
            }),
        }
    }

    /// Goes on where the last attempt ended.
    ///
    /// Dropping the future loses the bytes of one segment at most.
    pub(super) async fn attempt(&mut self) -> Result<Verified, AttemptError> {
        if self.session.is_none() || self.outdated {
            let descriptor = self.descriptor().await?;
            self.begin(descriptor).await?;
        }
        let trailer = match self.segments().await {
            Err(AttemptError::Replaced) => {
                self.outdated = true;
                return Err(AttemptError::Replaced);
            }
            other => other?,
        };
        let session = self.session.take().expect("begun above");
        let (descriptor, content) = session.finish().await?;
        verify(&descriptor, content, &trailer)
    }

    /// Asks what there is to download.
    async fn descriptor(&self) -> Result<Descriptor, AttemptError> {
        let resource = match &self.config.revision {
            Some(revision) => format!("{REVISIONS}/{revision}/{DESCRIPTOR}"),
            None => DESCRIPTOR.into(),
        };
        let response = self.client().get(&resource, self.waiting_headers()).await?;
        if response.status != StatusCode::OK {
            return Err(self.refusal(&response, resource));
        }
        let descriptor = Descriptor::parse(&response.collect(LARGEST_DESCRIPTOR).await?)?;
        match self.config.revision {
            Some(wanted) if wanted != descriptor.revision => Err(AttemptError::WrongRevision {
                wanted,
                found: descriptor.revision,
            }),
            _ => Ok(descriptor),
        }
    }

    /// Asks a server that has nothing yet to answer as soon as it has, in time before the wait counts as a stall.
    fn waiting_headers(&self) -> HeaderMap {
        let seconds = (self.config.stall_timeout / 2).as_secs().min(55);
        let mut headers = HeaderMap::new();
        if seconds > 0 {
            let wait = HeaderValue::try_from(format!("wait={seconds}"));
            headers.insert(
                HeaderName::from_static("prefer"),
                wait.expect("digits are visible"),
            );
        }
        headers
    }

    fn refusal(&self, response: &Response, resource: String) -> AttemptError {
        let retry_after = response
            .header(RETRY_AFTER)
            .and_then(|wish| retry_after(wish, SystemTime::now()));
        let served: Option<Revision> = response
            .header(CODE_REVISION)
            .and_then(|text| text.parse().ok());
        let status = response.status;
        match self.config.revision {
            Some(wanted) if status == StatusCode::NOT_FOUND || served.is_some() => {
                AttemptError::NotServed {
                    wanted,
                    served,
                    retry_after,
                }
            }
            _ => AttemptError::Status {
                url: self.client().url().clone(),
                resource,
                status,
                retry_after,
            },
        }
    }

    /// Prepares for an archive, unless it is the one that is being downloaded.
    async fn begin(&mut self, descriptor: Descriptor) -> Result<(), AttemptError> {
        self.outdated = false;
        if let Some(session) = self.session.take() {
            if session.descriptor().digest == descriptor.digest {
                self.session = Some(session);
                return Ok(());
            }
            session.abandon().await;
        }
        let limits = self.limits(&descriptor)?;
        let target = Arc::clone(self.target);
        let staging = self.tasks.spawn_blocking(move || target.stage());
        let staging = staging
            .await
            .expect("staging neither panics nor is it aborted")?;
        self.progress.enter(Phase::Download {
            revision: descriptor.revision,
            bytes: descriptor.size,
        });
        self.session = Some(Session::start(
            descriptor,
            staging,
            limits,
            self.config.workers,
            self.tasks,
        ));
        Ok(())
    }

    /// The archive may bring what its descriptor promises, if that is allowed at all.
    fn limits(&self, descriptor: &Descriptor) -> Result<Limits, AttemptError> {
        let FetchConfig {
            max_size,
            max_entries,
            ..
        } = self.config;
        for (what, found, limit) in [
            ("bytes", descriptor.uncompressed_size, *max_size),
            ("entries", descriptor.entries, *max_entries),
        ] {
            if let Some(limit) = limit.filter(|&limit| found > limit) {
                return Err(AttemptError::TooLarge { what, found, limit });
            }
        }
        Ok(Limits {
            entries: descriptor.entries,
            bytes: descriptor.uncompressed_size,
        })
    }

    /// Hands over the segments that are missing, and returns the archive's trailer.
    async fn segments(&mut self) -> Result<Trailer, AttemptError> {
        let client = self.client();
        let session = self.session.as_mut().expect("an attempt begins one");
        let descriptor = session.descriptor();
        let end = descriptor.size - ARCHIVE_TRAILER;
        let offset = match session.next_segment() {
            Some((0, _)) => 0,
            Some((_, segment)) => segment.offset,
            None => end,
        };
        let resource = format!("{REVISIONS}/{}/{ARCHIVE}", descriptor.revision);
        let headers = request_headers(descriptor.digest, offset);
        let response = client.get(&resource, headers).await?;
        match response.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND => {
                return Err(AttemptError::Replaced);
            }
            _ => return Err(self.refusal(&response, resource)),
        }
        let url = client.url().clone();
        let mut stream = ArchiveStream::new(response, url, descriptor, offset)?;
        if offset == 0 {
            check_header(stream.bytes_at(0).await?)?;
        }
        while let Some((index, segment)) = session.next_segment() {
            let bytes = stream.segment(index, &segment).await;
            self.received += stream.take_received();
            session.give(bytes?).await?;
            self.progress.downloaded(segment.offset + segment.length);
        }
        let trailer = stream.bytes_at(end).await;
        self.received += stream.take_received();
        Ok(Trailer(trailer?))
    }
}

/// The bytes behind the segments.
struct Trailer([u8; 10]);

const _: () = assert!(size_of::<Trailer>() as u64 == ARCHIVE_TRAILER);

/// Whether a member begins as an archive does: no name, no time, and no other field. How hard its maker tried, which the
/// ninth byte tells, does not matter.
fn check_header(header: [u8; 10]) -> Result<(), AttemptError> {
    match header {
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0 | 2 | 4, 255] => Ok(()),
        _ => Err(AttemptError::Frame { part: HEADER }),
    }
}

/// Compares what was promised with what was computed from the bytes as written.
fn verify(
    promised: &Descriptor,
    content: Content,
    trailer: &Trailer,
) -> Result<Verified, AttemptError> {
    // The length modulo 2³², as gzip has it.
    let length = &promised.uncompressed_size.to_le_bytes()[..4];
    if trailer.0[..] != [&[3, 0][..], &content.crc.to_le_bytes(), length].concat() {
        return Err(AttemptError::Frame { part: TRAILER });
    }
    let found = content.unpacked;
    compare("revision", &promised.revision, &found.revision)?;
    compare("a number of entries of", &promised.entries, &found.entries)?;
    compare("a number of files of", &promised.files, &found.files)?;
    Ok(Verified(found))
}

fn compare<T: PartialEq + ToString>(
    what: &'static str,
    promised: &T,
    found: &T,
) -> Result<(), AttemptError> {
    if promised == found {
        return Ok(());
    }
    Err(AttemptError::Content {
        what,
        promised: promised.to_string(),
        found: found.to_string(),
    })
}
