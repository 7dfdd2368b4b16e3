//! The store as a whole, on real directories.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::descriptor::{ARCHIVE_HEADER, ARCHIVE_TRAILER, Descriptor, Segment};
use crate::entry::Modes;

const RECIPE: &[u8] = b"recipe";

/// The descriptor of an archive and a listing, with one segment if there is room for it.
pub(super) fn descriptor(archive: &[u8], listing: &[u8]) -> Descriptor {
    let size = archive.len() as u64;
    let length = size.saturating_sub(ARCHIVE_HEADER + ARCHIVE_TRAILER);
    let segment = Segment {
        offset: ARCHIVE_HEADER,
        length,
        raw_length: 512,
        digest: Digest::of(b"segment"),
    };
    let segments = if length > 0 {
        vec![segment]
    } else {
        Vec::new()
    };
    Descriptor {
        format: "1".into(),
        revision: Revision::of_listing(Digest::of(listing)),
        digest: Digest::of(archive),
        size,
        uncompressed_size: 512 * segments.len() as u64,
        entries: 2,
        files: 1,
        created_at: SystemTime::UNIX_EPOCH,
        segments,
        left_out: BTreeMap::new(),
    }
}

/// An archive of 30 bytes that differs by its name from others.
fn archive(name: &str) -> Vec<u8> {
    format!("{name:>30}").into_bytes()
}

fn digest(name: &str) -> Digest {
    Digest::of(&archive(name))
}

fn revision(name: &str) -> Revision {
    Revision::of_listing(Digest::of(name.as_bytes()))
}

/// A state directory that can be left and entered again.
struct Place {
    directory: TempDir,
    store: Option<Store>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::try_open(directory.path()).unwrap();
        Self { directory, store }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// As after the end of this process, whatever way it ended.
    fn reopen(&mut self) -> &Store {
        self.store = None;
        self.store = Store::try_open(self.directory.path()).unwrap();
        self.store()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn part(&self, name: &str, part: Part) -> PathBuf {
        Layout::new(self.directory.path()).part(&digest(name), part)
    }

    fn stage(&self, name: &str) -> Staged {
        let mut staged = self.store().stage().unwrap();
        staged.archive.write_all(&archive(name)).unwrap();
        staged.listing.write_all(name.as_bytes()).unwrap();
        staged
    }

    fn try_keep(&self, name: &str) -> Result<Kept, StoreError> {
        let descriptor = descriptor(&archive(name), name.as_bytes());
        self.store().keep(self.stage(name), descriptor, RECIPE)
    }

    fn keep(&self, name: &str) -> Arc<Artifact> {
        self.try_keep(name).unwrap().artifact
    }

    fn publish(&self, name: &str) -> Arc<Artifact> {
        let artifact = self.keep(name);
        self.store().make_current(&digest(name)).unwrap();
        artifact
    }

    /// The names of what is served and retained, of those that these tests use.
    fn check(&self, current: Option<&str>, retained: &[&str]) {
        let found = self.store().current().map(|stored| {
            assert_eq!(stored.recipe, RECIPE);
            stored.artifact.descriptor().digest
        });
        assert_eq!(found, current.map(digest));
        let found: Vec<_> = self
            .store()
            .retained()
            .iter()
            .map(|kept| kept.digest)
            .collect();
        let expected: Vec<_> = retained.iter().map(|name| digest(name)).collect();
        assert_eq!(found, expected);
        for name in retained {
            let artifact = self.store().find(&revision(name)).unwrap();
            assert_eq!(*artifact.archive().read_at(0, 30).unwrap(), archive(name));
        }
        assert_eq!(names(&self.path("artifacts")).len(), 4 * retained.len());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn retention(keep: usize) -> Retention {
    Retention {
        keep,
        keep_for: Duration::ZERO,
        state_size: u64::MAX,
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_hours(1)
}

#[test]
fn only_one_process_has_a_state_directory() {
    let mut place = Place::new();
    let path = place.directory.path().to_owned();
    assert!(Store::try_open(&path).unwrap().is_none());
    place.store = None;
    assert!(Store::try_open(&path).unwrap().is_some());
}

#[test]
fn what_somebody_else_keeps_under_our_names_is_not_removed() {
    for name in ["staging", "artifacts"] {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(name)).unwrap();
        let result = Store::try_open(directory.path());
        assert!(matches!(result, Err(StoreError::Occupied { .. })));
        assert_eq!(names(directory.path()), [name]);
    }
}

#[test]
fn a_build_that_failed_leaves_nothing_and_is_followed_by_another() {
    let place = Place::new();
    drop(place.stage("failed"));
    let staging = place.path("staging");
    let before = fs::metadata(&staging).unwrap().ino();
    place.store().discard_staged();
    assert_eq!(fs::metadata(&staging).unwrap().ino(), before);
    assert_eq!(names(&staging).len(), 0);
    place.publish("next");
}

#[test]
fn an_artifact_is_served_before_it_is_on_disk_and_after_a_restart_once_it_is() {
    let mut place = Place::new();
    place.check(None, &[]);
    let artifact = place.keep("a");
    assert_eq!(*artifact.archive().read_at(0, 30).unwrap(), archive("a"));
    assert!(!place.part("a", Part::Descriptor).exists());
    place.store().make_current(&digest("a")).unwrap();
    place.check(Some("a"), &["a"]);
    let staged = names(&place.path("staging"));
    assert_eq!(staged, ["scan-cache"]);
    place.reopen();
    place.check(Some("a"), &["a"]);
    assert_eq!(names(&place.path("staging")).len(), 0);
}

#[test]
fn what_is_current_is_on_disk_and_its_predecessors_are_retained() {
    let mut place = Place::new();
    for name in ["a", "b", "c"] {
        place.publish(name);
    }
    place.check(Some("c"), &["c", "b", "a"]);
    place.reopen();
    place.check(Some("c"), &["c", "b", "a"]);
    assert!(place.store().has(&revision("a")));
    assert!(!place.store().has(&revision("unknown")));
    assert!(place.store().find(&revision("unknown")).is_none());
}

#[test]
fn a_retained_artifact_is_shared_and_survives_its_files() {
    let mut place = Place::new();
    place.publish("a");
    place.publish("b");
    let store = place.reopen();
    let first = store.find(&revision("a")).unwrap();
    let second = store.find(&revision("a")).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    store.withdraw(&digest("a"));
    assert!(store.find(&revision("a")).is_none());
    assert_eq!(*first.archive().read_at(0, 30).unwrap(), archive("a"));
    place.check(Some("b"), &["b"]);
}

#[test]
fn code_that_comes_back_is_the_artifact_that_was_published_anew() {
    let mut place = Place::new();
    let first = place.publish("a");
    let between = place.publish("b");
    let inode = fs::metadata(place.part("a", Part::Archive)).unwrap().ino();
    let again = place.publish("a");
    assert_eq!(
        fs::metadata(place.part("a", Part::Archive)).unwrap().ino(),
        inode
    );
    assert_eq!(names(&place.path("staging")), ["scan-cache"]);
    assert!(first.published() < between.published() && between.published() < again.published());
    assert_eq!(again.listing().modified(), again.published());
    let shared = place.store().find(&revision("a")).unwrap();
    assert!(Arc::ptr_eq(&shared, &again));
    drop((first, shared, again));
    place.reopen();
    place.check(Some("a"), &["a", "b"]);
    let kept = place.store().retained();
    assert!(kept[0].published_at > kept[1].published_at);
    assert_eq!(kept[0].created_at, SystemTime::UNIX_EPOCH);
}

#[test]
fn code_that_comes_back_whose_files_are_gone_is_kept_as_built() {
    for part in Part::ALL {
        let mut place = Place::new();
        let first = place.publish("a");
        place.publish("b");
        fs::remove_file(place.part("a", part)).unwrap();
        place.publish("a");
        drop(first);
        place.check(Some("a"), &["a", "b"]);
        place.reopen();
        place.check(Some("a"), &["a", "b"]);
    }
}

#[test]
fn the_newest_of_two_archives_with_one_content_is_found() {
    let mut place = Place::new();
    place.publish("a");
    let staged = place.stage("repacked");
    let repacked = descriptor(&archive("repacked"), b"a");
    drop(place.store().keep(staged, repacked, RECIPE).unwrap());
    // Nobody has it open, and its descriptor was never written: the other one it is.
    let found = |store: &Store| {
        store
            .find(&revision("a"))
            .map(|found| found.descriptor().digest)
    };
    assert_eq!(found(place.store()), Some(digest("a")));
    assert_eq!(place.store().retained().len(), 1);
    let staged = place.stage("repacked");
    let repacked = descriptor(&archive("repacked"), b"a");
    let _kept = place.store().keep(staged, repacked, RECIPE).unwrap();
    assert_eq!(found(place.store()), Some(digest("repacked")));
    place.store().make_current(&digest("repacked")).unwrap();
    assert_eq!(found(place.reopen()), Some(digest("repacked")));
}

/// Each name that is given on the way to a new current artifact, one after the other, and then the end.
#[test]
fn a_crash_between_any_two_names_leaves_the_old_one_or_the_new_one() {
    let after = Place::new();
    after.publish("old");
    let old = fs::read(after.path("current")).unwrap();
    after.publish("new");
    for steps in 0..=Part::ALL.len() + 1 {
        let mut place = Place::new();
        place.publish("old");
        drop(place.stage("new"));
        for part in Part::ALL.into_iter().take(steps) {
            fs::copy(after.part("new", part), place.part("new", part)).unwrap();
        }
        if steps > Part::ALL.len() {
            fs::copy(after.path("current"), place.path("current")).unwrap();
        } else {
            assert_eq!(fs::read(place.path("current")).unwrap(), old);
        }
        place.reopen();
        let expected: &[_] = match steps {
            0..4 => &["old"],
            _ => &["new", "old"],
        };
        place.check(Some(if steps > 4 { "new" } else { "old" }), expected);
        assert_eq!(names(&place.path("staging")).len(), 0);
        place.publish("new");
        place.check(Some("new"), &["new", "old"]);
    }
}

#[test]
fn a_crash_between_any_two_removals_leaves_no_half_of_an_artifact() {
    let order = Part::ALL.into_iter().rev().chain([Part::Descriptor]);
    for removed in 1..Part::ALL.len() {
        let mut place = Place::new();
        place.publish("old");
        place.publish("new");
        // The mark goes first; the order of the others is of no matter.
        for part in order.clone().take(removed) {
            fs::remove_file(place.part("old", part)).unwrap();
        }
        place.reopen();
        place.check(Some("new"), &["new"]);
    }
}

#[test]
fn a_damaged_part_takes_its_artifact_with_it_and_no_other() {
    type Damage = fn(&Path);
    let damages: [(&str, Part, Damage); 9] = [
        ("no archive", Part::Archive, |path| {
            fs::remove_file(path).unwrap();
        }),
        ("no listing", Part::Listing, |path| {
            fs::remove_file(path).unwrap();
        }),
        ("no recipe", Part::Recipe, |path| {
            fs::remove_file(path).unwrap();
        }),
        ("short archive", Part::Archive, |path| {
            fs::write(path, "").unwrap();
        }),
        ("empty mark", Part::Descriptor, |path| {
            fs::write(path, "").unwrap();
        }),
        ("torn mark", Part::Descriptor, |path| {
            fs::write(path, "{\"format\":\"1\"").unwrap();
        }),
        ("another's mark", Part::Descriptor, |path| {
            fs::write(path, descriptor(&archive("z"), b"z").to_json()).unwrap();
        }),
        ("link", Part::Archive, |path| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            symlink(path.with_extension("moved"), path).unwrap();
        }),
        ("directory", Part::Listing, |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir_all(path.join("deep")).unwrap();
        }),
    ];
    for (what, part, damage) in damages {
        for name in ["a", "b", "c"] {
            let mut place = Place::new();
            for name in ["a", "b", "c"] {
                place.publish(name);
            }
            damage(&place.part(name, part));
            let (what, store) = ((what, name), place.reopen());
            assert_eq!(store.retained().len(), 2, "{what:?}");
            assert!(store.find(&revision(name)).is_none(), "{what:?}");
            let left: Vec<_> = ["c", "b", "a"]
                .into_iter()
                .filter(|left| *left != name)
                .collect();
            place.check((name != "c").then_some("c"), &left);
        }
    }
}

#[test]
fn a_foreign_file_among_the_artifacts_is_removed_and_a_link_not_followed() {
    let mut place = Place::new();
    place.publish("a");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "untouched").unwrap();
    fs::write(place.path("artifacts/notes.txt"), "").unwrap();
    fs::create_dir_all(place.path("artifacts/a/b")).unwrap();
    symlink(outside.path(), place.path("artifacts/link")).unwrap();
    symlink(outside.path(), place.path("staging/link")).unwrap();
    place.reopen();
    place.check(Some("a"), &["a"]);
    assert_eq!(names(outside.path()), ["file"]);
}

#[test]
fn directories_that_are_links_are_made_anew() {
    for name in ["artifacts", "staging"] {
        let mut place = Place::new();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "untouched").unwrap();
        fs::remove_dir_all(place.path(name)).unwrap();
        symlink(outside.path(), place.path(name)).unwrap();
        place.reopen();
        place.publish("a");
        place.check(Some("a"), &["a"]);
        assert_eq!(names(outside.path()), ["file"]);
    }
}

#[test]
fn a_damaged_pointer_leaves_all_retained() {
    let other = format!("{}\n", digest("other"));
    for text in ["", "x", "sha256:", &other, &"9".repeat(1000)] {
        let mut place = Place::new();
        place.publish("a");
        fs::write(place.path("current"), text).unwrap();
        place.reopen();
        place.check(None, &["a"]);
        assert!(!place.path("current").exists());
        place.publish("b");
        place.check(Some("b"), &["b", "a"]);
    }
}

#[test]
fn files_that_go_while_the_server_runs_take_their_artifact_with_them() {
    let mut place = Place::new();
    place.publish("a");
    place.publish("b");
    place.reopen();
    fs::remove_file(place.part("a", Part::Listing)).unwrap();
    assert!(place.store().find(&revision("a")).is_none());
    place.check(Some("b"), &["b"]);
    fs::remove_file(place.part("b", Part::Recipe)).unwrap();
    place.check(None, &[]);
    assert!(!place.path("current").exists());
}

#[test]
fn an_artifact_that_is_withdrawn_is_not_served_by_the_next_start() {
    let mut place = Place::new();
    place.publish("a");
    place.publish("b");
    place.store().withdraw(&digest("b"));
    place.store().withdraw(&digest("unknown"));
    place.check(None, &["a"]);
    assert!(place.store().make_current(&digest("b")).is_err());
    place.reopen();
    place.check(None, &["a"]);
}

/// Makes each step fail by a directory where its file is to be named, as it would for a full disk.
#[test]
fn a_step_that_fails_leaves_no_name_and_can_be_done_again() {
    let block = |path: &Path| {
        drop(fs::remove_file(path));
        fs::create_dir_all(path.join("full")).unwrap();
    };
    for part in Part::CONTENT {
        let mut place = Place::new();
        place.publish("old");
        block(&place.part("new", part));
        assert!(place.try_keep("new").is_err(), "{part:?}");
        place.store().discard_staged();
        assert_eq!(names(&place.path("staging")).len(), 0);
        fs::remove_dir_all(place.part("new", part)).unwrap();
        place.check(Some("old"), &["old"]);
        place.publish("new");
        place.reopen();
        place.check(Some("new"), &["new", "old"]);
    }
    for part in [Some(Part::Descriptor), None] {
        let mut place = Place::new();
        place.publish("old");
        let old = fs::read_to_string(place.path("current")).unwrap();
        let kept = place.keep("new");
        let path = part.map_or(place.path("current"), |part| place.part("new", part));
        block(&path);
        assert!(place.store().make_current(&digest("new")).is_err());
        assert_eq!(place.store().current().unwrap().recipe, RECIPE);
        let served = place.store().find(&revision("new")).unwrap();
        assert!(Arc::ptr_eq(&served, &kept));
        fs::remove_dir_all(&path).unwrap();
        if part.is_some() {
            assert_eq!(fs::read_to_string(place.path("current")).unwrap(), old);
        }
        place.store().make_current(&digest("new")).unwrap();
        place.check(Some("new"), &["new", "old"]);
        drop((kept, served));
        place.reopen();
        place.check(Some("new"), &["new", "old"]);
    }
}

#[test]
fn an_archive_of_another_length_than_described_gets_no_name() {
    let place = Place::new();
    let staged = place.stage("a");
    let other = descriptor(b"longer than that, and by a good deal", b"a");
    assert!(place.store().keep(staged, other, RECIPE).is_err());
    place.check(None, &[]);
}

#[test]
fn what_is_not_kept_any_longer_is_removed() {
    let mut place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.publish(name);
    }
    place.store().retire(&retention(2), later());
    place.check(Some("d"), &["d", "c"]);
    place.reopen();
    place.check(Some("d"), &["d", "c"]);
}

#[test]
fn what_is_served_or_being_downloaded_is_not_removed() {
    let mut place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.publish(name);
    }
    let store = place.reopen();
    let reading = store.find(&revision("a")).unwrap().archive().clone();
    // Opened again while it is read: one claim must not hide the other.
    drop(store.find(&revision("a")).unwrap());
    let nothing = Retention {
        state_size: 0,
        ..retention(1)
    };
    store.retire(&nothing, later());
    place.check(Some("d"), &["d", "a"]);
    drop(reading);
    place.store().retire(&nothing, later());
    place.check(Some("d"), &["d"]);
}

#[test]
fn what_the_next_start_serves_stays_while_a_newer_one_is_not_on_disk() {
    let place = Place::new();
    drop(place.publish("a"));
    let newest = place.keep("b");
    let files = || names(&place.path("artifacts")).len();
    place.store().retire(&retention(1), later());
    assert_eq!(place.store().retained().len(), 2);
    drop(newest);
    // Nobody can open it any more, but its maker may have it published in a moment.
    place.store().retire(&retention(1), later());
    assert_eq!(files(), 7);
    place.publish("c");
    place.store().retire(&retention(9), later());
    place.check(Some("c"), &["c", "a"]);
}

#[test]
fn what_was_asked_for_lately_stays_also_after_a_restart() {
    let mut place = Place::new();
    for name in ["a", "b", "c"] {
        place.publish(name);
    }
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    for name in ["a", "b"] {
        for part in [Part::Archive, Part::Descriptor] {
            record::set_time(&place.part(name, part), long_ago).unwrap();
        }
    }
    let day = Retention {
        keep_for: Duration::from_hours(24),
        ..retention(1)
    };
    let asked = fs::metadata(place.part("a", Part::Archive))
        .unwrap()
        .modified()
        .unwrap();
    assert!(place.reopen().find(&revision("a")).is_some());
    let noted = fs::metadata(place.part("a", Part::Archive))
        .unwrap()
        .modified()
        .unwrap();
    assert!(noted > asked);
    place.reopen().retire(&day, SystemTime::now());
    place.check(Some("c"), &["c", "a"]);
}

#[test]
fn what_was_current_until_now_was_asked_for_until_now() {
    let mut place = Place::new();
    place.publish("a");
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    record::set_time(&place.part("a", Part::Archive), long_ago).unwrap();
    place.reopen();
    place.publish("b");
    let noted = fs::metadata(place.part("a", Part::Archive))
        .unwrap()
        .modified()
        .unwrap();
    assert!(noted > long_ago);
}

#[test]
fn whoever_asks_while_artifacts_come_and_go_gets_what_was_asked_for() {
    let place = Place::new();
    let all: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    place.publish(&all[0]);
    let (done, found) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for name in &all {
                        let Some(artifact) = place.store().find(&revision(name)) else {
                            continue;
                        };
                        let bytes = artifact.archive().read_at(0, 30).unwrap();
                        assert_eq!(*bytes, archive(name));
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for name in all.iter().chain(all.iter().rev()) {
            place.publish(name);
            place.store().retire(&retention(3), later());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(found.into_inner() > 0);
    place.store().retire(&retention(3), later());
    place.check(Some("0"), &["0", "1", "2"]);
}

#[test]
fn times_that_cannot_be_written_are_taken_for_some_that_can() {
    let mut place = Place::new();
    for name in ["early", "late"] {
        place.publish(name);
    }
    let hour = Duration::from_hours(1);
    let early = SystemTime::UNIX_EPOCH - hour;
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_001);
    // Some file systems have no room for such times, and set others.
    for (name, time) in [("early", early), ("late", late)] {
        for part in [Part::Archive, Part::Descriptor] {
            record::set_time(&place.part(name, part), time).unwrap();
        }
    }
    place.reopen();
    place.publish("next");
    for retained in place.store().retained() {
        let text = humantime::format_rfc3339(retained.published_at).to_string();
        assert!(!text.is_empty());
    }
    assert_eq!(place.store().retained()[0].digest, digest("next"));
    place.check(Some("next"), &["next", "late", "early"]);
}

#[test]
fn the_scan_cache_outlives_its_build_and_its_process() {
    let mut place = Place::new();
    assert!(place.store().scan_cache().is_none());
    for text in ["first", "second"] {
        let mut staged = place.stage("a");
        staged.cache.write_all(text.as_bytes()).unwrap();
        place.store().keep_scan_cache(staged.cache).unwrap();
        place.store().discard_staged();
        let mut found = String::new();
        let mut cache = place.reopen().scan_cache().unwrap();
        cache.read_to_string(&mut found).unwrap();
        assert_eq!(found, text);
    }
}

#[test]
fn who_serves_is_told_until_the_end() {
    let mut place = Place::new();
    let path = place.directory.path().to_owned();
    let read = || ServerRecord::read(&path).unwrap();
    assert_eq!(read(), None);
    let mut record = ServerRecord {
        address: "[::1]:8080".parse().unwrap(),
        access: ServerAccess {
            certificate: Some("/tls/tls.crt".into()),
            token_file: None,
        },
        pid: 1,
        rules: ServerRules {
            excludes: vec!["*.log".into()],
            default_excludes: true,
            skip_unreadable: false,
            allow_empty: false,
            modes: Modes::Keep,
        },
        last_build: None,
    };
    place.store().announce(&record).unwrap();
    assert_eq!(read().as_ref(), Some(&record));
    record.last_build = Some(LastBuild {
        began: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        result: LastResult::Failed,
        revision: None,
        error: Some("the disk is full".into()),
    });
    place.store().announce(&record).unwrap();
    assert_eq!(read().as_ref(), Some(&record));
    let stale = fs::read(place.path("server")).unwrap();
    place.store = None;
    assert_eq!(read(), None);
    fs::write(place.path("server"), stale).unwrap();
    place.reopen();
    assert_eq!(read(), None);
    fs::write(place.path("server"), "{").unwrap();
    assert!(ServerRecord::read(&path).is_err());
}
