//! Against the kernel: what is done to real directories, and what is told of it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::LazyLock;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::tree::{Rules, ScanError, Scope, Unreadable, scan_with};

/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(10);

static SCOPE: LazyLock<Scope> = LazyLock::new(|| Scope {
    rules: Rules::new(&["*.log"], true).unwrap(),
    unreadable: Unreadable::Fail,
    own: Vec::new(),
});

/// A watched root in a directory of its own.
struct Watched {
    base: TempDir,
    name: &'static str,
    watch: Watch,
    changes: Changes,
}

impl Watched {
    /// Fills the directory, watches what lies in it under this name, and walks it.
    fn new(name: &'static str, fill: impl FnOnce(&Path)) -> Self {
        let base = tempfile::tempdir().unwrap();
        fill(base.path());
        let root = base.path().join(name);
        let (watch, changes) = Watch::new(&root, WatchMode::Inotify, Some(".code-hold".as_ref()));
        let mut watched = Self {
            base,
            name,
            watch,
            changes,
        };
        watched.walk();
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn walk(&mut self) -> Tree {
        self.walk_with(|_| ()).unwrap()
    }

    /// Walks; `before` is called before each directory is watched.
    fn walk_with(&mut self, mut before: impl FnMut(Option<&EntryPath>)) -> Result<Tree, ScanError> {
        let root = Root::open(&self.path(self.name)).unwrap();
        self.watch.begin_walk(&root);
        let watch = &mut self.watch;
        let tree = scan_with(&root, &SCOPE, &|| false, &mut |path, identity| {
            before(path);
            watch.entering(path, identity);
        })?;
        self.watch.end_walk(&tree);
        Ok(tree)
    }

    /// Lets everything that was done so far be told: what is told of the hold file comes after it.
    async fn settle(&mut self) -> u64 {
        let holds = self.changes.holds();
        append(&self.path(self.name).join(".code-hold"));
        // Written to and closed.
        self.until(|changes| changes.holds() >= holds + 2).await;
        self.changes.count()
    }

    /// Walks until nothing has changed since the last walk began, as a publisher does: a watch that was lost by then has
    /// made itself heard.
    async fn walk_until_quiet(&mut self) {
        for _ in 0..10 {
            let (count, holds) = (self.changes.count(), self.changes.holds());
            self.walk();
            append(&self.path(self.name).join(".code-hold"));
            self.until(|changes| changes.count() > count || changes.holds() >= holds + 2)
                .await;
            if self.changes.count() == count {
                return;
            }
        }
        panic!("it is never quiet: {:?}", self.changes);
    }

    async fn until(&mut self, condition: impl Fn(&Changes) -> bool) {
        let waiting = async {
            while !condition(&self.changes) {
                assert!(self.changes.changed().await);
            }
        };
        let waited = tokio::time::timeout(SOON, waiting).await;
        waited.unwrap_or_else(|_| panic!("nothing came: {:?}", self.changes));
    }

    /// Does something that must be told of.
    async fn counts(&mut self, done: impl FnOnce(&Path)) {
        let count = self.settle().await;
        done(self.base.path());
        self.until(|changes| changes.count() > count).await;
    }

    /// Does something that must not be told of.
    async fn does_not_count(&mut self, done: impl FnOnce(&Path)) {
        let count = self.settle().await;
        done(self.base.path());
        assert_eq!(self.settle().await, count);
    }
}

/// A root with a file, a file in a directory, and one that is left out. A walk has seen the hold file as well, so that
/// it counts for itself alone.
fn plain() -> Watched {
    Watched::new("code", |base| fill(&base.join("code")))
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("lib")).unwrap();
    fs::write(root.join("main.py"), "print()").unwrap();
    fs::write(root.join("lib/a.py"), "pass").unwrap();
    fs::write(root.join("app.log"), "line\n").unwrap();
    fs::write(root.join(".code-hold"), "").unwrap();
}

fn append(path: &Path) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b"more\n").unwrap();
}

#[tokio::test]
async fn our_own_reading_is_no_change() {
    let mut watched = plain();
    watched
        .does_not_count(|base| {
            fs::read(base.join("code/main.py")).unwrap();
            fs::read(base.join("code/lib/a.py")).unwrap();
            assert_eq!(fs::read_dir(base.join("code/lib")).unwrap().count(), 1);
        })
        .await;
    let count = watched.settle().await;
    watched.walk();
    watched.walk();
    assert_eq!(watched.settle().await, count);
}

#[tokio::test]
async fn every_kind_of_change_counts() {
    let mut watched = plain();
    watched
        .counts(|base| append(&base.join("code/lib/a.py")))
        .await;
    let executable = Permissions::from_mode(0o755);
    watched
        .counts(|base| fs::set_permissions(base.join("code/main.py"), executable).unwrap())
        .await;
    watched
        .counts(|base| fs::write(base.join("code/lib/new"), "").unwrap())
        .await;
    watched
        .counts(|base| fs::rename(base.join("code/lib/new"), base.join("code/lib/newer")).unwrap())
        .await;
    watched
        .counts(|base| fs::remove_file(base.join("code/lib/newer")).unwrap())
        .await;
    watched
        .counts(|base| symlink("x", base.join("code/link")).unwrap())
        .await;
    watched
        .counts(|base| fs::create_dir(base.join("code/dir")).unwrap())
        .await;
    watched
        .counts(|base| fs::remove_dir(base.join("code/dir")).unwrap())
        .await;
    assert_eq!(watched.changes.overflows(), 0);
    assert!(!watched.watch.is_polling());
}

#[tokio::test]
async fn a_burst_has_its_times() {
    let mut watched = plain();
    let count = watched.settle().await;
    assert_eq!(watched.changes.since(count), None);
    let before = Instant::now();
    watched
        .counts(|base| append(&base.join("code/main.py")))
        .await;
    let burst = watched.changes.since(count).unwrap();
    assert!(before <= burst.first && burst.first <= burst.last && burst.last <= Instant::now());
}

#[tokio::test]
async fn nothing_that_is_made_in_a_new_directory_is_lost() {
    let mut watched = plain();
    watched
        .counts(|base| {
            fs::create_dir_all(base.join("code/a/b/c")).unwrap();
            fs::write(base.join("code/a/b/c/file"), "").unwrap();
        })
        .await;
    watched.settle().await;
    let root = watched.path("code");
    let tree = watched
        .walk_with(|path| {
            // At the last moment before it is watched: the walk itself must see it.
            let directory = root.join(path.map_or_else(String::new, ToString::to_string));
            fs::write(directory.join("late"), "").unwrap();
        })
        .unwrap();
    let names: Vec<_> = tree
        .entries
        .iter()
        .map(|entry| entry.path.to_string())
        .collect();
    for name in ["a/b/c/file", "a/b/c/late", "a/late", "late", "lib/late"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    watched
        .counts(|base| append(&base.join("code/a/b/c/file")))
        .await;
}

#[tokio::test]
async fn a_renamed_directory_stays_watched_with_all_that_it_holds() {
    let mut watched = plain();
    fs::create_dir_all(watched.path("code/lib/deep/er")).unwrap();
    watched.walk();
    for (old, new) in [("lib", "lob"), ("lob", "deep-lib"), ("deep-lib", "lib")] {
        let (old, new) = (
            watched.path("code").join(old),
            watched.path("code").join(new),
        );
        watched.counts(|_| fs::rename(&old, &new).unwrap()).await;
        watched.counts(|_| append(&new.join("a.py"))).await;
        // Events of the rename are still to be read while the walk sets the watches.
        fs::rename(&new, &old).unwrap();
        fs::rename(&old, &new).unwrap();
        watched.walk_until_quiet().await;
        watched.counts(|_| append(&new.join("a.py"))).await;
        watched
            .counts(|_| fs::write(new.join("deep/er/x"), "").unwrap())
            .await;
        // The old name is anybody's now, and its end does no harm to the new one.
        fs::create_dir_all(old.join("deep")).unwrap();
        watched.walk();
        fs::remove_dir_all(&old).unwrap();
        watched.settle().await;
        watched.counts(|_| append(&new.join("a.py"))).await;
        watched.walk();
        watched
            .counts(|_| fs::write(new.join("deep/er/x"), "more").unwrap())
            .await;
    }
}

#[tokio::test]
async fn a_directory_that_is_made_again_is_watched_after_each_walk() {
    let mut watched = plain();
    for _ in 0..50 {
        let lib = watched.path("code/lib");
        fs::remove_dir_all(&lib).unwrap();
        fs::create_dir(&lib).unwrap();
        fs::write(lib.join("a.py"), "again").unwrap();
        watched.walk_until_quiet().await;
        watched
            .counts(|base| append(&base.join("code/lib/a.py")))
            .await;
    }
}

#[tokio::test]
async fn directories_that_change_names_with_each_other_are_both_watched() {
    let mut watched = plain();
    fs::create_dir(watched.path("code/other")).unwrap();
    watched.walk();
    let [lib, other, aside] = ["lib", "other", "aside"].map(|name| watched.path("code").join(name));
    fs::rename(&lib, &aside).unwrap();
    fs::rename(&other, &lib).unwrap();
    fs::rename(&aside, &other).unwrap();
    watched.walk_until_quiet().await;
    watched
        .counts(|_| fs::write(lib.join("x"), "").unwrap())
        .await;
    watched
        .counts(|_| fs::write(other.join("x"), "").unwrap())
        .await;
}

#[tokio::test]
async fn what_leaves_the_tree_is_watched_no_more() {
    let mut watched = plain();
    let [lib, outside] = ["code/lib", "outside"].map(|name| watched.path(name));
    watched
        .counts(|_| fs::rename(&lib, &outside).unwrap())
        .await;
    watched.walk();
    watched
        .does_not_count(|_| append(&outside.join("a.py")))
        .await;
}

#[tokio::test]
async fn names_that_rules_leave_out_are_ignored_until_the_rules_change() {
    let mut watched = plain();
    let (log, moved) = (watched.path("code/app.log"), watched.path("code/app.log~"));
    fs::write(&moved, "").unwrap();
    watched.walk();
    watched.does_not_count(|_| append(&log)).await;
    watched
        .does_not_count(|_| fs::remove_file(&log).unwrap())
        .await;
    watched
        .does_not_count(|_| fs::write(&log, "again").unwrap())
        .await;
    // One that was not there at the walk is unknown, and so is the kind of what comes now.
    watched
        .counts(|base| fs::write(base.join("code/b.log"), "").unwrap())
        .await;
    fs::remove_file(&log).unwrap();
    watched.counts(|_| fs::create_dir(&log).unwrap()).await;
    fs::remove_dir(&log).unwrap();
    watched.counts(|_| fs::rename(&moved, &log).unwrap()).await;
    watched.walk();
    watched.does_not_count(|_| append(&log)).await;
    let rules = watched.path("code/.codeignore");
    watched
        .counts(|_| fs::write(&rules, "lib/\n").unwrap())
        .await;
    watched.walk();
    watched
        .does_not_count(|base| append(&base.join("code/lib/a.py")))
        .await;
    watched.counts(|_| fs::write(&rules, "").unwrap()).await;
    watched.walk();
    watched
        .counts(|base| append(&base.join("code/lib/a.py")))
        .await;
}

#[tokio::test]
async fn a_name_that_the_walk_takes_back_in_counts_from_its_beginning() {
    let mut watched = plain();
    fs::write(watched.path("code/kept.txt"), "").unwrap();
    fs::write(watched.path("code/.codeignore"), "kept.txt\n").unwrap();
    watched.walk();
    let count = watched.settle().await;
    watched
        .does_not_count(|base| append(&base.join("code/kept.txt")))
        .await;
    fs::write(watched.path("code/.codeignore"), "").unwrap();
    let began = watched.settle().await;
    assert!(began > count);
    let file = watched.path("code/kept.txt");
    let hold = watched.path("code/.code-hold");
    let changes = watched.changes.clone();
    let holds = changes.holds();
    watched
        .walk_with(|path| {
            if path.is_some() {
                append(&file);
                append(&hold);
                let deadline = Instant::now() + SOON;
                while changes.holds() == holds {
                    assert!(Instant::now() < deadline);
                    std::thread::yield_now();
                }
            }
        })
        .unwrap();
    assert!(changes.since(began).is_some());
}

#[tokio::test]
async fn a_hold_file_is_told_of_by_a_count_of_its_own() {
    let mut watched = plain();
    watched.settle().await;
    let (holds, count) = (watched.changes.holds(), watched.changes.count());
    let hold = watched.path("code/.code-hold");
    fs::write(&hold, "").unwrap();
    watched.until(|changes| changes.holds() > holds).await;
    watched.settle().await;
    let holds = watched.changes.holds();
    fs::write(watched.path("code/.x.swp"), "").unwrap();
    fs::rename(watched.path("code/.x.swp"), &hold).unwrap();
    watched.until(|changes| changes.holds() > holds).await;
    fs::create_dir(watched.path("code/lib/.code-hold")).unwrap();
    watched.until(|changes| changes.count() > count).await;
}

#[tokio::test]
async fn an_overflow_is_one_change_and_the_walk_after_it_watches_everything() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u32 = limit.trim().parse().unwrap();
    let mut watched = plain();
    watched.settle().await;
    let filter = Arc::clone(&watched.watch.filter);
    let nobody_reads = lock(&filter);
    let lib = watched.path("code/lib");
    // Equal events are kept once, if they follow each other.
    for round in 0..limit + 1_000 {
        let mode = Permissions::from_mode(0o600 | (round & 0o44));
        let name = ["a.py", "../main.py"][(round % 2) as usize];
        fs::set_permissions(lib.join(name), mode).unwrap();
    }
    fs::write(lib.join("past the end"), "").unwrap();
    // The watches end, and nobody is told.
    fs::rename(&lib, watched.path("code/lob")).unwrap();
    fs::create_dir(&lib).unwrap();
    drop(nobody_reads);
    watched.until(|changes| changes.overflows() == 1).await;
    watched.walk();
    watched
        .counts(|base| fs::write(base.join("code/lob/x"), "").unwrap())
        .await;
    watched
        .counts(|base| fs::write(base.join("code/lib/x"), "").unwrap())
        .await;
    watched
        .counts(|base| append(&base.join("code/main.py")))
        .await;
}

#[tokio::test]
async fn a_root_that_is_a_link_may_be_swapped() {
    let mut watched = Watched::new("current", |base| {
        fill(&base.join(".worktrees/1"));
        fill(&base.join(".worktrees/2"));
        symlink(".worktrees/1", base.join("current")).unwrap();
    });
    for next in ["2", "1", "2"] {
        let swap = |base: &Path| {
            symlink(format!(".worktrees/{next}"), base.join("tmp")).unwrap();
            fs::rename(base.join("tmp"), base.join("current")).unwrap();
        };
        assert!(!watched.watch.root_changed());
        watched.counts(swap).await;
        assert!(watched.watch.root_changed());
        watched.walk();
        watched
            .counts(|base| append(&base.join("current/lib/a.py")))
            .await;
        let old = if next == "1" { "2" } else { "1" };
        let old = watched.path(".worktrees").join(old);
        watched
            .does_not_count(|_| append(&old.join("lib/a.py")))
            .await;
        watched
            .does_not_count(|base| fs::write(base.join("beside"), "").unwrap())
            .await;
    }
}

#[tokio::test]
async fn a_link_in_the_middle_of_the_way_may_be_swapped() {
    let mut watched = Watched::new("code", |base| {
        fill(&base.join("..1/code"));
        fill(&base.join("..2/code"));
        symlink("..1", base.join("..data")).unwrap();
        symlink("..data/code", base.join("code")).unwrap();
    });
    watched
        .counts(|base| {
            symlink("..2", base.join("..data_tmp")).unwrap();
            fs::rename(base.join("..data_tmp"), base.join("..data")).unwrap();
            fs::remove_dir_all(base.join("..1")).unwrap();
        })
        .await;
    watched.walk();
    watched
        .counts(|base| append(&base.join("..2/code/main.py")))
        .await;
    watched
        .counts(|base| fs::remove_file(base.join("code")).unwrap())
        .await;
    assert!(watched.watch.root_changed());
}

#[tokio::test]
async fn a_root_that_is_removed_and_made_again_is_watched_again() {
    let mut watched = plain();
    for _ in 0..10 {
        let count = watched.settle().await;
        let root = watched.path("code");
        fs::remove_dir_all(&root).unwrap();
        watched.until(|changes| changes.count() > count).await;
        let count = watched.changes.count();
        fill(&root);
        watched.until(|changes| changes.count() > count).await;
        watched.walk_until_quiet().await;
        watched
            .counts(|base| append(&base.join("code/lib/a.py")))
            .await;
    }
}

#[tokio::test]
async fn a_root_that_is_swapped_as_a_directory_is_watched() {
    let mut watched = plain();
    fill(&watched.path("staged"));
    watched
        .counts(|base| {
            fs::rename(base.join("code"), base.join("old")).unwrap();
            fs::rename(base.join("staged"), base.join("code")).unwrap();
        })
        .await;
    assert!(watched.watch.root_changed());
    watched.walk_until_quiet().await;
    watched
        .does_not_count(|base| append(&base.join("old/main.py")))
        .await;
    watched
        .counts(|base| append(&base.join("code/lib/a.py")))
        .await;
}

#[test]
fn a_root_that_is_not_there_yet_is_noticed_when_it_is() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("late/code");
    let (mut watch, changes) = Watch::new(&root, WatchMode::Auto, None);
    assert!(!watch.root_changed());
    fill(&root);
    assert!(watch.root_changed());
    watch.begin_walk(&Root::open(&root).unwrap());
    assert!(!watch.root_changed());
    assert_eq!(changes.count(), 0);
    fs::rename(base.path().join("late"), base.path().join("gone")).unwrap();
    assert!(watch.root_changed());
    // One that was looked for in vain is news no more, until it is back.
    watch.opening();
    assert!(!watch.root_changed());
    fill(&root);
    assert!(watch.root_changed());
}

#[test]
fn a_root_that_is_swapped_while_a_walk_begins_is_a_change() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("code");
    fill(&root);
    let opened = Root::open(&root).unwrap();
    let (mut watch, changes) = Watch::new(&root, WatchMode::Inotify, None);
    fs::rename(&root, base.path().join("old")).unwrap();
    watch.begin_walk(&opened);
    assert_eq!(changes.count(), 1);
    fill(&root);
    watch.begin_walk(&opened);
    assert!(changes.count() > 1);
    assert!(!watch.is_polling());
}

#[tokio::test]
async fn a_directory_that_could_not_be_watched_is_when_it_is_entered_again() {
    let mut watched = plain();
    let deep = EntryPath::new(b"late/deep").unwrap();
    let identity = (0, 1);
    watched.watch.entering(Some(&deep), identity);
    watched
        .counts(|base| fs::create_dir_all(base.join("code/late/deep")).unwrap())
        .await;
    watched.watch.entering(Some(&deep), identity);
    watched
        .counts(|base| fs::write(base.join("code/late/deep/file"), "x").unwrap())
        .await;
}

#[tokio::test]
async fn the_way_to_the_root_is_watched_anew_when_events_were_lost() {
    let mut watched = Watched::new("link", |base| {
        fill(&base.join("code"));
        symlink("code", base.join("link")).unwrap();
    });
    let way = detour(&fs::canonicalize(watched.base.path()).unwrap());
    let inotify = watched.watch.inotify.as_mut().unwrap();
    inotify.unwatch(&way).unwrap();
    let swap = |base: &Path| {
        symlink("code", base.join("new")).unwrap();
        fs::rename(base.join("new"), base.join("link")).unwrap();
    };
    watched.does_not_count(swap).await;
    let lost = notify::Error::io(std::io::Error::other("lost"));
    let effect = lock(&watched.watch.filter).judge(&Err(lost));
    watched.watch.recorder.record(effect);
    watched.walk();
    watched.counts(swap).await;
}

#[test]
fn who_does_not_watch_tells_nothing() {
    for (mode, is_polling) in [(WatchMode::Poll, true), (WatchMode::Off, false)] {
        let base = tempfile::tempdir().unwrap();
        let (mut watch, changes) = Watch::new(base.path(), mode, None);
        watch.begin_walk(&Root::open(base.path()).unwrap());
        watch.entering(None, (0, 0));
        watch.end_walk(&Tree::default());
        assert_eq!((watch.is_polling(), changes.count()), (is_polling, 0));
        assert!(!watch.root_changed());
    }
}

#[test]
fn the_pause_between_two_walks_grows_with_them() {
    let check = |walk: u64, rescan: u64, expected: u64| {
        let [walk, rescan, expected] = [walk, rescan, expected].map(Duration::from_millis);
        assert_eq!(poll_interval(walk, rescan), expected, "{walk:?}");
    };
    check(0, 60_000, 1_000);
    check(19, 60_000, 1_000);
    check(100, 60_000, 5_000);
    check(10_000, 60_000, 60_000);
    check(10_000, 500, 1_000);
    assert_eq!(poll_interval(Duration::MAX, Duration::MAX), Duration::MAX);
}
