//! What an event means: whether the tree may have changed by it.
//!
//! Runs on the thread that reads the events, and looks at a file system only if a name that was left out comes back.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use notify::Event;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};

use super::changes::Effect;
use super::directories::Directories;
use super::left_out::LeftOutNames;

/// What has to be known to tell what an event means.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Where the root lies, free of links; `None` before the first walk.
    pub(super) root: Option<PathBuf>,
    /// The name in the root that holds builds back.
    pub(super) hold: Option<OsString>,
    /// What of the tree is watched.
    pub(super) directories: Directories,
    /// What happens to these is no change.
    pub(super) left_out: LeftOutNames,
    /// The names by which the root is found.
    pub(super) way: HashSet<PathBuf>,
    /// The directories that hold those names.
    pub(super) way_directories: HashSet<PathBuf>,
    /// A directory on the way may not be watched any more.
    pub(super) way_doubtful: bool,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    /// It is there now; whether as a directory, if that was told.
    Appeared(Option<bool>),
    /// It is there no more.
    Vanished,
    /// What it stands for was written to, or its attributes changed.
    Changed,
}

impl Filter {
    /// What an event or the failure to read events amounts to.
    pub(super) fn judge(&mut self, event: &notify::Result<Event>) -> Effect {
        let Ok(event) = event else {
            return self.lose();
        };
        if event.need_rescan() {
            return self.lose();
        }
        match (happening(event.kind), event.paths.first()) {
            (Some(happening), Some(path)) => self.judge_name(&plain(path), happening),
            _ => Effect::default(),
        }
    }

    /// Events were lost, and any watch may have ended without a word.
    fn lose(&mut self) -> Effect {
        self.directories.doubt_all();
        self.way_doubtful = true;
        Effect {
            overflow: true,
            ..Effect::CHANGE
        }
    }

    fn judge_name(&mut self, path: &Path, happening: Happening) -> Effect {
        let renamed = happening != Happening::Changed;
        if self.way.contains(path) {
            if renamed {
                self.directories.doubt_all();
            }
            return Effect::CHANGE;
        }
        if renamed && self.way_directories.contains(path) {
            self.way_doubtful = true;
            return Effect::CHANGE;
        }
        let beneath = self.root.as_deref().map(|root| path.strip_prefix(root));
        let Some(Ok(beneath)) = beneath else {
            return Effect::default();
        };
        let name = beneath.as_os_str().as_bytes();
        if renamed {
            self.directories.doubt(name);
        }
        let is_dir: &dyn Fn() -> bool = match happening {
            Happening::Appeared(Some(true)) => &|| true,
            Happening::Appeared(Some(false)) => &|| false,
            _ => &|| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()),
        };
        let appeared = matches!(happening, Happening::Appeared(_)).then_some(is_dir);
        Effect {
            change: !self.left_out.ignore(name, appeared),
            hold: self.hold.as_deref() == Some(beneath.as_os_str()),
            overflow: false,
        }
    }
}

/// `None` for what changes nothing: opening, reading, and the second telling of a rename.
fn happening(kind: EventKind) -> Option<Happening> {
    Some(match kind {
        // Programs that write through a map raise nothing else.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Happening::Changed,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            return None;
        }
        EventKind::Create(CreateKind::Folder) => Happening::Appeared(Some(true)),
        EventKind::Create(CreateKind::File) => Happening::Appeared(Some(false)),
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            Happening::Appeared(None)
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Happening::Vanished,
        EventKind::Modify(_) | EventKind::Any | EventKind::Other => Happening::Changed,
    })
}

/// The name under which a directory is watched: it leads there by a detour.
///
/// The crate that reads the events takes a watch back by itself when it hears that the path it was set for was renamed or
/// removed, with all watches whose paths lie beneath. By then that may be the path of another directory. It hears of a
/// path as the name of its parent's watch and a name in it, and never so of one that ends in `name/../name`.
pub(super) fn detour(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) => path.join("..").join(name),
        None => path.to_owned(),
    }
}

/// The path without the detour. Right only for paths without links.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::io;

    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;

    const FOLDER: EventKind = EventKind::Create(CreateKind::Folder);
    const FILE: EventKind = EventKind::Create(CreateKind::File);
    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const TO: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const FROM: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    const CHANGE: Effect = Effect::CHANGE;
    const NOTHING: Effect = Effect {
        change: false,
        ..CHANGE
    };

    fn filter() -> Filter {
        Filter {
            root: Some("/mnt/code".into()),
            hold: Some(".code-hold".into()),
            way: ["/mnt/code", "/mnt/link"].map(PathBuf::from).into(),
            way_directories: [PathBuf::from("/mnt")].into(),
            ..Filter::default()
        }
    }

    fn judge(filter: &mut Filter, kind: EventKind, path: &str) -> Effect {
        filter.judge(&Ok(Event::new(kind).add_path(path.into())))
    }

    #[test]
    fn reading_is_no_change_and_everything_else_is() {
        let check = |kind, expected| {
            assert_eq!(
                judge(&mut filter(), kind, "/mnt/code/x"),
                expected,
                "{kind:?}"
            );
        };
        check(
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            NOTHING,
        );
        check(EventKind::Access(AccessKind::Read), NOTHING);
        check(
            EventKind::Access(AccessKind::Close(AccessMode::Read)),
            NOTHING,
        );
        check(
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            CHANGE,
        );
        check(WRITE, CHANGE);
        check(
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
            CHANGE,
        );
        check(FILE, CHANGE);
        check(FOLDER, CHANGE);
        check(EventKind::Remove(RemoveKind::File), CHANGE);
        check(FROM, CHANGE);
        check(TO, CHANGE);
        check(
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)),
            NOTHING,
        );
    }

    #[test]
    fn beside_the_root_the_names_on_the_way_count_alone() {
        let check = |kind, path: &str, expected| {
            assert_eq!(judge(&mut filter(), kind, path), expected, "{path}");
        };
        check(TO, "/mnt/link", CHANGE);
        check(FROM, "/mnt/code", CHANGE);
        check(TO, "/mnt/../mnt/link", CHANGE);
        check(FILE, "/mnt/other", NOTHING);
        check(WRITE, "/mnt/code-2", NOTHING);
        check(WRITE, "/mnt", NOTHING);
        check(EventKind::Remove(RemoveKind::Folder), "/mnt", CHANGE);
        check(WRITE, "/mnt/code/../code/a/../a/x", CHANGE);
    }

    #[test]
    fn a_hold_file_is_counted_for_itself() {
        let hold = |path: &str| judge(&mut filter(), FILE, path).hold;
        assert!(hold("/mnt/code/../code/.code-hold"));
        assert!(!hold("/mnt/code/a/.code-hold"));
        assert!(!hold("/mnt/.code-hold"));
    }

    #[test]
    fn lost_events_are_one_change_and_make_every_watch_doubtful() {
        let overflow = Effect {
            overflow: true,
            ..CHANGE
        };
        let rescan = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let error = notify::Error::io(io::Error::other("no"));
        for event in [Ok(rescan), Err(error)] {
            let mut filter = filter();
            filter.directories.enter(b"a", (1, 1));
            let known = filter.directories.enter(b"a", (1, 1));
            assert_eq!(filter.judge(&event), overflow);
            assert_ne!(filter.directories.enter(b"a", (1, 1)), known);
            assert!(filter.way_doubtful);
        }
    }

    #[test]
    fn a_touched_name_makes_its_own_watch_doubtful_alone() {
        let mut filter = filter();
        for (path, inode) in [("a", 1), ("b", 2)] {
            filter.directories.enter(path.as_bytes(), (1, inode));
        }
        let watched = filter.directories.enter(b"b", (1, 2));
        judge(&mut filter, WRITE, "/mnt/code/b");
        judge(&mut filter, FROM, "/mnt/code/a");
        assert_eq!(filter.directories.enter(b"b", (1, 2)), watched);
        assert_ne!(filter.directories.enter(b"a", (1, 1)), watched);
    }

    #[test]
    fn a_detour_leads_back_and_is_no_name_that_an_event_has() {
        for path in ["/a/b", "/a", "/"] {
            let path = Path::new(path);
            assert_eq!(plain(&detour(path)), path);
        }
        assert_ne!(detour(Path::new("/a")).join("b"), detour(Path::new("/a/b")));
        assert!(!detour(Path::new("/a/b")).starts_with(detour(Path::new("/a"))));
    }
}
