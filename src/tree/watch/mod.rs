//! Learns that the tree may have changed, without looking at it.
//!
//! One watch of the kernel for each directory that belongs, set before a walk lists that directory: whatever happens in it
//! is either seen by that walk or told of after it. Every change of a name, a content or an attribute counts, reading never
//! does, and neither does what happens to a name that a rule leaves out whatever it holds.
//!
//! - A watch that ends without our doing (a directory is renamed, removed, or made again under the same name or even the
//!   same inode) ends with an event that counts, and the walk which follows sets it anew.
//! - The root may be a link, or lie behind links: the directories that hold those are watched too, and what happens to
//!   exactly these names counts.
//! - Where events cannot be relied on, [`Watch::is_polling`] says so, and whoever has the watch walks again and again.
//!
//! Memory: for each directory three times its path and some 500 bytes here, about 1 KiB in the kernel; for each name that was
//! left out sixteen bytes; nothing for a file.

mod changes;
mod directories;
mod fallback;
mod filter;
mod left_out;
mod way;

#[cfg(test)]
mod tests;

pub use changes::{Burst, Changes};

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{Config, INotifyWatcher, RecursiveMode, Watcher};
use tracing::{error, warn};

use self::changes::{Effect, Recorder};
use self::directories::{Beneath, Entering, Identity};
use self::fallback::{Fallback, Unwatched};
use self::filter::{Filter, detour};
use self::way::Way;
use super::Tree;
use crate::config::watch::WatchMode;
use crate::entry::EntryPath;
use crate::root::Root;

/// The shortest pause between two walks that look for changes.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// How much longer such a pause is than the walk before it: two parts in a hundred of a core.
const PAUSE_PER_WALK: u32 = 50;
/// How often the way to the root is followed if it changes meanwhile.
const TRIES: u32 = 3;

/// Watches one root. See the [module](self) for what it guarantees.
///
/// The walks go `begin_walk`, `entering` for each directory before it is listed, `end_walk` if the walk succeeded. All of
/// these block, for some microseconds a directory.
#[derive(Debug)]
pub struct Watch {
    /// Absolute, as it was named.
    path: PathBuf,
    mode: WatchMode,
    inotify: Option<INotifyWatcher>,
    is_polling: bool,
    filter: Arc<Mutex<Filter>>,
    recorder: Recorder,
    /// What the path led to at the last walk.
    root: Option<Identity>,
    /// Where that lies, free of links.
    end: Option<PathBuf>,
    /// The directories on the way that are watched.
    way: Vec<(PathBuf, Identity)>,
    /// The file systems that are known to raise events.
    devices: Vec<u64>,
}

/// How long to wait before the next walk where changes are found by walking: fifty times what the last one took, at least a
/// second, and else at most `rescan`.
#[must_use]
pub fn poll_interval(last_walk: Duration, rescan: Duration) -> Duration {
    last_walk
        .saturating_mul(PAUSE_PER_WALK)
        .min(rescan)
        .max(SHORTEST_POLL)
}

impl Watch {
    /// A watch of what lies at this path, which need not be there yet; nothing is watched before the first walk. `hold` is
    /// the name in the root that [`Changes::holds`] counts.
    ///
    /// Where the kernel has no place for it, that is logged once and it polls.
    #[must_use]
    pub fn new(root: &Path, mode: WatchMode, hold: Option<&OsStr>) -> (Self, Changes) {
        let (recorder, changes) = Recorder::new();
        let filter = Filter {
            hold: hold.map(OsStr::to_owned),
            ..Filter::default()
        };
        let mut watch = Self {
            path: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
            mode,
            inotify: None,
            is_polling: mode == WatchMode::Poll,
            filter: Arc::new(Mutex::new(filter)),
            recorder,
            root: None,
            end: None,
            way: Vec::new(),
            devices: Vec::new(),
        };
        if matches!(mode, WatchMode::Auto | WatchMode::Inotify) {
            watch.start();
        }
        (watch, changes)
    }

    fn start(&mut self) {
        let (filter, recorder) = (Arc::clone(&self.filter), self.recorder.clone());
        let handler = move |event| {
            let effect = lock(&filter).judge(&event);
            recorder.record(effect);
        };
        match INotifyWatcher::new(handler, Config::default().with_follow_symlinks(false)) {
            Ok(inotify) => self.inotify = Some(inotify),
            Err(error) => self.unwatched(error),
        }
    }

    /// Whether changes have to be found by walking.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.is_polling
    }

    /// Whether events were to tell of changes, and do so no more.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.is_polling && self.mode != WatchMode::Poll
    }

    /// Whether the path leads to another directory than at the last walk, or to none. Costs one `stat`. Events may not tell
    /// that: a mount raises none.
    #[must_use]
    pub fn root_changed(&self) -> bool {
        identity(&self.path) != self.root
    }

    /// The path is about to be opened for a walk. If that fails, [`root_changed`](Self::root_changed) tells whether it leads
    /// elsewhere than now.
    pub fn opening(&mut self) {
        self.root = identity(&self.path);
    }

    /// A walk is about to begin beneath this handle, which was opened by the path that is watched. Follows that path anew.
    ///
    /// Read [`Changes::count`] before: if the path leads elsewhere by now, that is a change.
    pub fn begin_walk(&mut self, root: &Root) {
        let status = root.status(None).ok();
        self.root = status.map(|status| (status.device, status.stamp.inode));
        for tries_left in (0..TRIES).rev() {
            if self.inotify.is_none() {
                return;
            }
            let way = way::follow(&self.path);
            let end = way.end.as_deref().and_then(identity);
            self.go(way);
            let there = identity(&self.path);
            if there.is_none() || there != self.root {
                self.recorder.record(Effect::CHANGE);
                break;
            }
            if end == there {
                break;
            }
            if tries_left == 0 {
                self.fall_back(&Fallback::Way);
            }
        }
        let mut filter = lock(&self.filter);
        filter.directories.begin_walk();
        filter.left_out.begin_walk();
    }

    /// A walk is about to list this directory (`None`: the root): it is watched from here on.
    pub fn entering(&mut self, directory: Option<&EntryPath>, identity: (u64, u64)) {
        let Some(root) = self.end.clone().filter(|_| self.inotify.is_some()) else {
            return;
        };
        let beneath = directory.map_or(&b""[..], EntryPath::as_bytes);
        let path = join(&root, beneath);
        if self.mode == WatchMode::Auto && !self.devices.contains(&identity.0) {
            if let Some(name) = fallback::silent_file_system(&path) {
                return self.fall_back(&Fallback::FileSystem(name));
            }
            self.devices.push(identity.0);
        }
        // It is in the table first: what the event thread hears meanwhile must find it there.
        let entering = lock(&self.filter).directories.enter(beneath, identity);
        if let Entering::Watch { unwatch } = entering {
            self.unwatch(&root, &unwatch);
            if !self.watch(&path) {
                lock(&self.filter).directories.forget(beneath);
            }
        }
    }

    /// The walk has come to its end, and this is what it found: watches of other directories are taken back.
    pub fn end_walk(&mut self, tree: &Tree) {
        let mut filter = lock(&self.filter);
        let gone = filter.directories.end_walk();
        let changed = filter.left_out.end_walk(tree);
        drop(filter);
        if let Some(root) = self.end.clone() {
            self.unwatch(&root, &gone);
        }
        if changed && self.inotify.is_some() {
            self.recorder.record(Effect::CHANGE);
        }
    }

    /// Watches the way to the root, and nothing beneath a root that is no longer at its end.
    fn go(&mut self, way: Way) {
        let mut filter = lock(&self.filter);
        let mut gone = Vec::new();
        if self.end != way.end {
            gone = filter.directories.clear();
            filter.root.clone_from(&way.end);
        }
        let names = way.names.iter();
        filter.way = names
            .map(|(directory, name)| directory.join(name))
            .collect();
        let doubtful = std::mem::take(&mut filter.way_doubtful);
        drop(filter);
        if let Some(old) = std::mem::replace(&mut self.end, way.end.clone()) {
            self.unwatch(&old, &gone);
        }
        self.watch_way(way, doubtful);
    }

    fn watch_way(&mut self, way: Way, doubtful: bool) {
        let mut directories: Vec<_> = way
            .names
            .into_iter()
            // What lies in the tree is watched with it.
            .filter(|(directory, _)| {
                !way.end
                    .as_ref()
                    .is_some_and(|end| directory.starts_with(end))
            })
            .filter_map(|(directory, _)| Some((identity(&directory)?, directory)))
            .map(|(identity, directory)| (directory, identity))
            .collect();
        directories.sort();
        directories.dedup();
        if directories == self.way && !doubtful {
            return;
        }
        let paths: HashSet<_> = directories.iter().map(|(path, _)| path.clone()).collect();
        lock(&self.filter).way_directories = paths;
        for (path, _) in std::mem::replace(&mut self.way, directories.clone()) {
            self.unwatch(&path, &[Beneath::default()]);
        }
        for (path, _) in directories {
            self.watch(&path);
        }
    }

    /// Whether the directory is watched now.
    fn watch(&mut self, directory: &Path) -> bool {
        let Some(inotify) = &mut self.inotify else {
            return false;
        };
        let watched = inotify.watch(&detour(directory), RecursiveMode::NonRecursive);
        watched.map_err(|error| self.unwatched(error)).is_ok()
    }

    fn unwatch(&mut self, root: &Path, directories: &[Beneath]) {
        let Some(inotify) = &mut self.inotify else {
            return;
        };
        for directory in directories {
            // It fails if the watch has ended by itself, which is as well.
            drop(inotify.unwatch(&detour(&join(root, directory))));
        }
    }

    fn unwatched(&mut self, error: notify::Error) {
        match fallback::meaning(error) {
            Unwatched::Gone => {}
            Unwatched::Fallback(why) => self.fall_back(&why),
        }
    }

    /// Gives all watches back and polls from here on.
    fn fall_back(&mut self, why: &Fallback) {
        let root = self.path.display();
        let cause = std::error::Error::source(why);
        if self.mode == WatchMode::Auto {
            warn!(%root, cause, "{why}");
        } else {
            error!(%root, cause, "{why}");
        }
        self.inotify = None;
        self.is_polling = true;
        self.way.clear();
        lock(&self.filter).directories.clear();
    }
}

fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    // Nothing in it is ever left half done.
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where something beneath a root lies; nothing is appended for the root itself, not even a slash.
fn join(root: &Path, beneath: &[u8]) -> PathBuf {
    match beneath {
        b"" => root.to_owned(),
        beneath => root.join(OsStr::from_bytes(beneath)),
    }
}

/// Device and inode of what a path leads to.
fn identity(path: &Path) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
