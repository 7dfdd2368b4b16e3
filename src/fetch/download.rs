//! One archive, in as many attempts as it takes.

use std::ops::Range;
use std::sync::Arc;

use hyper::StatusCode;
use tokio_util::task::TaskTracker;

use super::attempt::{AttemptError, HEADER, TRAILER};
use super::attempts::Task;
use super::client::{Client, Response};
use super::inquiry;
use super::install::Target;
use super::install::held::Held;
use super::install::space::{Need, is_full};
use super::plain::Fetching;
use super::plan::Plan;
use super::progress::{Phase, Progress};
use super::session::{Content, Order, Session};
use super::stream::{ArchiveStream, request_headers};
use crate::config::fetch::FetchConfig;
use crate::config::url::Source;
use crate::descriptor::{ARCHIVE, ARCHIVE_TRAILER, Descriptor, REVISIONS};
use crate::digest::Revision;
use crate::unpack::{Limits, Unpacked};

/// A tree that is what its descriptor says.
#[derive(Debug)]
pub(super) enum Verified {
    /// It is staged.
    Staged(Unpacked),
    /// It is in its place already.
    InPlace {
        revision: Revision,
        entries: u64,
        files: u64,
    },
}

/// What several attempts have in common.
pub(super) struct Download<'a> {
    config: &'a FetchConfig,
    clients: &'a [Client],
    /// Who of them is asked now.
    turn: usize,
    /// There is no other one left to ask.
    alone: bool,
    target: &'a Arc<Target>,
    progress: &'a Progress,
    tasks: &'a TaskTracker,
    /// For those that are no code-servers.
    plain: Fetching<'a>,
    session: Option<Session>,
    /// The server may have another archive by now.
    outdated: bool,
    /// The length of an archive that has come and is being written.
    finishing: Option<u64>,
    /// What the target holds is of no use.
    distrusts_target: bool,
    received: u64,
    /// Bytes of the archive in all; none as long as nothing is known of it.
    size: u64,
    /// Bytes of the archive that need not come.
    reused: u64,
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
            alone: true,
            target,
            progress,
            tasks,
            plain: Fetching::new(config, target, progress, tasks),
            session: None,
            outdated: false,
            finishing: None,
            distrusts_target: false,
            received: 0,
            size: 0,
            reused: 0,
        }
    }

    fn client(&self) -> &'a Client {
        &self.clients[self.turn]
    }

    fn source(&self) -> &'a Source {
        &self.config.sources[self.turn]
    }

    /// Bytes of archives that came from the network.
    pub(super) fn received(&self) -> u64 {
        self.received + self.plain.received()
    }

    /// Bytes of the archive in all.
    pub(super) fn size(&self) -> u64 {
        match self.source() {
            Source::Archive(_) => self.plain.size(),
            Source::Server(_) => self.size,
        }
    }

    /// Bytes of the archive that did not have to come, since the target has what is in them.
    pub(super) fn reused(&self) -> u64 {
        self.reused
    }

    /// Goes on where the last attempt ended.
    ///
    /// Dropping the future loses the bytes of one segment at most.
    async fn attempt(&mut self) -> Result<Verified, AttemptError> {
        // Both unpack into one staging directory.
        if let Source::Archive(url) = self.source() {
            if let Some(session) = self.session.take() {
                session.abandon().await;
            }
            self.reused = 0;
            return self.plain.attempt(self.client(), url).await;
        }
        self.plain.forget().await;
        if self.session.is_none() || self.outdated {
            let descriptor = self.descriptor().await?;
            if let Some(in_place) = self.begin(descriptor).await? {
                return Ok(in_place);
            }
        }
        let trailer = match self.segments().await {
            Err(AttemptError::Replaced) => {
                self.outdated = true;
                return Err(AttemptError::Replaced);
            }
            Err(error) => return Err(self.judge(error)),
            Ok(trailer) => trailer,
        };
        let session = self.session.as_ref().expect("begun above");
        let is_whole = session.plan().is_whole();
        let verified = self.finish(trailer).await;
        verified.map_err(|error| self.doubt(error, is_whole))
    }

    async fn finish(&mut self, trailer: Option<Trailer>) -> Result<Verified, AttemptError> {
        self.finishing = Some(self.size);
        let session = self.session.take().expect("an attempt begins one");
        let descriptor = session.descriptor().clone();
        let content = session.finish().await?;
        verify(&descriptor, content, trailer.as_ref())
    }

    /// What an error in the midst of a download is. Where unpacking failed, its thread is at its end.
    fn judge(&mut self, error: AttemptError) -> AttemptError {
        match self
            .session
            .take_if(|_| matches!(error, AttemptError::Unpack(_)))
        {
            Some(session) => self.doubt(error, session.plan().is_whole()),
            None => error,
        }
    }

    /// Where a part of the tree was taken from the target, that may be what is wrong, if not the disk is full: the next
    /// attempt takes nothing.
    fn doubt(&mut self, error: AttemptError, is_whole: bool) -> AttemptError {
        if is_whole || is_full(&error) {
            return error;
        }
        self.distrusts_target = true;
        AttemptError::Patchwork(Box::new(error))
    }

    /// Asks what there is to download.
    async fn descriptor(&self) -> Result<Descriptor, AttemptError> {
        let resource = inquiry::resource(self.config.revision);
        let hold = inquiry::hold(self.config, self.alone);
        let headers = inquiry::held(hold, None);
        let response = self.client().get(&resource, headers).await?;
        if response.status != StatusCode::OK {
            return Err(self.refusal(&response, resource));
        }
        inquiry::read(response, self.config.revision).await
    }

    fn refusal(&self, response: &Response, resource: String) -> AttemptError {
        inquiry::refusal(
            self.client().url(),
            self.config.revision,
            resource,
            response,
        )
    }

    /// Prepares for an archive, unless it is the one that is being downloaded, or even in its place.
    async fn begin(&mut self, descriptor: Descriptor) -> Result<Option<Verified>, AttemptError> {
        (self.outdated, self.finishing) = (false, None);
        if let Some(session) = self.session.take() {
            if session.descriptor().digest == descriptor.digest {
                self.session = Some(session);
                return Ok(None);
            }
            session.abandon().await;
        }
        self.size = descriptor.size;
        let held = self.held().await;
        if let Some(held) = held.as_ref().filter(|held| held.holds(descriptor.revision)) {
            self.reused = descriptor.size;
            return Ok(Some(Verified::InPlace {
                revision: held.revision,
                entries: held.entries,
                files: held.files,
            }));
        }
        let limits = self.limits(&descriptor)?;
        let segments = held.as_ref().map_or(&[][..], |held| &held.segments);
        let plan = Plan::new(&descriptor.segments, segments);
        let bytes = plan.download_size(&descriptor);
        self.reused = descriptor.size - bytes;
        let target = Arc::clone(self.target);
        let need = Need::of(&descriptor, &plan, segments);
        let staging = self
            .tasks
            .spawn_blocking(move || target.require_room(need).and_then(|()| target.stage()));
        let staging = staging
            .await
            .expect("staging neither panics nor is it aborted")?;
        self.progress.enter(Phase::Download {
            revision: descriptor.revision,
            bytes,
        });
        let order = Order {
            held: held.filter(|_| !plan.is_whole()),
            descriptor,
            plan,
            staging,
            limits,
            workers: self.config.workers,
        };
        self.session = Some(Session::start(order, self.tasks));
        Ok(None)
    }

    async fn held(&self) -> Option<Held> {
        if self.distrusts_target {
            return None;
        }
        let (target, workers) = (Arc::clone(self.target), self.config.workers);
        let held = self.tasks.spawn_blocking(move || target.held(workers));
        held.await
            .expect("looking neither panics nor is it aborted")
    }

    /// The archive may bring what its descriptor promises, if that is allowed at all.
    fn limits(&self, descriptor: &Descriptor) -> Result<Limits, AttemptError> {
        let FetchConfig {
            max_size,
            max_entries,
            ..
        } = self.config;
        for (what, flag, found, limit) in [
            (
                "bytes of tar",
                "--max-size",
                descriptor.uncompressed_size,
                *max_size,
            ),
            ("entries", "--max-entries", descriptor.entries, *max_entries),
        ] {
            if let Some(limit) = limit.filter(|&limit| found > limit) {
                return Err(AttemptError::TooLarge {
                    what,
                    flag,
                    found,
                    limit,
                });
            }
        }
        Ok(Limits {
            entries: descriptor.entries,
            bytes: descriptor.uncompressed_size,
        })
    }

    /// Hands over the segments that are missing, and returns the archive's trailer if all of it is downloaded.
    async fn segments(&mut self) -> Result<Option<Trailer>, AttemptError> {
        let mut stream: Option<ArchiveStream> = None;
        while let Some(segments) = self.session().next_segments() {
            let part = self.session().part(&segments);
            let mut bringing = match stream.take().filter(|stream| stream.brings(&part)) {
                Some(stream) => stream,
                None => self.ask_for(&part).await?,
            };
            let given = self.give(segments, &mut bringing).await;
            self.received += bringing.take_received();
            given?;
            stream = Some(bringing);
        }
        if !self.session().plan().is_whole() {
            return Ok(None);
        }
        let descriptor = self.session().descriptor();
        let end = descriptor.size - ARCHIVE_TRAILER..descriptor.size;
        let mut stream = match stream.filter(|stream| stream.brings(&end)) {
            Some(stream) => stream,
            None => self.ask_for(&end).await?,
        };
        let trailer = stream.bytes_at(end.start).await;
        self.received += stream.take_received();
        Ok(Some(Trailer(trailer?)))
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("an attempt begins one")
    }

    async fn ask_for(&self, part: &Range<u64>) -> Result<ArchiveStream, AttemptError> {
        let descriptor = self.session().descriptor();
        let resource = format!("{REVISIONS}/{}/{ARCHIVE}", descriptor.revision);
        let headers = request_headers(descriptor, part);
        let response = self.client().get(&resource, headers).await?;
        match response.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND => {
                return Err(AttemptError::Replaced);
            }
            _ => return Err(self.refusal(&response, resource)),
        }
        let url = self.client().url().clone();
        ArchiveStream::new(response, url, descriptor, part)
    }

    async fn give(
        &mut self,
        segments: Range<usize>,
        stream: &mut ArchiveStream,
    ) -> Result<(), AttemptError> {
        let session = self.session.as_mut().expect("an attempt begins one");
        if segments.start == 0 && session.plan().is_whole() {
            check_header(stream.bytes_at(0).await?)?;
        }
        for index in segments {
            let segment = session.descriptor().segments[index];
            let bytes = stream.segment(index, &segment).await?;
            session.give(index, bytes).await?;
            self.progress.downloaded(segment.length);
        }
        Ok(())
    }
}

impl Task for Download<'_> {
    type Done = Verified;

    /// What was verified stays of use if the server has the same archive, so it is asked for the descriptor first.
    fn turn_to(&mut self, turn: usize, alone: bool) {
        self.outdated |= turn != self.turn;
        (self.turn, self.alone) = (turn, alone);
    }

    async fn attempt(&mut self) -> Result<Verified, AttemptError> {
        Download::attempt(self).await
    }

    /// How many segments of the archive are done with, or bytes of one that has none.
    fn progress(&self) -> usize {
        match self.source() {
            Source::Archive(_) => usize::try_from(self.plain.kept()).unwrap_or(usize::MAX),
            Source::Server(_) => self.session.as_ref().map_or(0, Session::done),
        }
    }

    fn unfinished(&self) -> AttemptError {
        if let Source::Archive(url) = self.source() {
            return self.plain.unfinished(url);
        }
        AttemptError::Unfinished {
            url: self.client().url().clone(),
            came: match &self.session {
                Some(session) => Some(came(session)),
                None => self.finishing.map(|size| (size, size)),
            },
        }
    }
}

/// How far an archive has come, and how long it is.
fn came(session: &Session) -> (u64, u64) {
    let descriptor = session.descriptor();
    let next = session.next_segments();
    let came = next.map_or(descriptor.size, |next| {
        descriptor.segments[next.start].offset
    });
    (came, descriptor.size)
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
    trailer: Option<&Trailer>,
) -> Result<Verified, AttemptError> {
    if let Some(trailer) = trailer {
        // The length modulo 2³², as gzip has it.
        let length = &promised.uncompressed_size.to_le_bytes()[..4];
        if trailer.0[..] != [&[3, 0][..], &content.crc.to_le_bytes(), length].concat() {
            return Err(AttemptError::Frame { part: TRAILER });
        }
    }
    let found = content.unpacked;
    compare("revision", &promised.revision, &found.revision)?;
    compare("a number of entries of", &promised.entries, &found.entries)?;
    compare("a number of files of", &promised.files, &found.files)?;
    Ok(Verified::Staged(found))
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
