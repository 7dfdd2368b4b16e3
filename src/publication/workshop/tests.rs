//! What happens while a build is under way: it asks between two entries whether it shall end early, and there it happens.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::tree::TreeConfig;
use crate::config::watch::WatchMode;
use crate::entry::Modes;
use crate::metrics::Metrics;
use crate::publication::Publication;
use crate::publication::rebuilds::Rebuilds;
use crate::store::retention::Retention;
use crate::store::{ServerAccess, ServerRecord, ServerRules};

const HOLD: &str = ".code-hold";
/// How often to look for an event that has to come.
const LOOKS: u32 = 10_000;

/// A workshop whose root has a file, and is walked once.
struct Shop {
    workshop: Workshop,
    directory: tempfile::TempDir,
}

impl Shop {
    fn new(mode: WatchMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        let mut shop = Self {
            workshop: Workshop::new(&parts(directory.path(), mode)),
            directory,
        };
        fs::write(shop.path("file"), "content").unwrap();
        assert!(shop.workshop.look().unwrap());
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    /// Builds; `happen` happens once the root was walked.
    fn build(&mut self, proof: bool, patient: bool, happen: impl Fn(&Path, &Changes)) -> Tried {
        let (root, changes) = (self.path(""), self.workshop.changes());
        let happened = Cell::new(0);
        self.workshop.build(&Asked {
            proof,
            patient,
            cancelled: &|| {
                happened.set(happened.get() + 1);
                // The first time it is asked, the root has just been listed.
                if happened.get() == 2 {
                    happen(&root, &changes);
                }
                false
            },
        })
    }

    /// The files of builds that lie about.
    fn staged(&self) -> usize {
        let staging = self.directory.path().join("state/staging");
        fs::read_dir(staging).unwrap().count()
    }
}

fn parts(directory: &Path, mode: WatchMode) -> Parts {
    let config = TreeConfig {
        root: directory.join("root"),
        excludes: Vec::new(),
        default_excludes: true,
        skip_unreadable: false,
        allow_empty: false,
        modes: Modes::Normal,
        mtime: None,
        level: 1,
        workers: NonZeroUsize::MIN,
    };
    Parts {
        source: Arc::new(Source::new(&config, Vec::new()).unwrap()),
        store: Arc::new(Store::try_open(&directory.join("state")).unwrap().unwrap()),
        publication: Publication::new(),
        rebuilds: Rebuilds::new(),
        watch: WatchConfig {
            mode,
            settle: Duration::ZERO,
            settle_max: Duration::ZERO,
            rescan: None,
            hold_file: Some(HOLD.into()),
            hold_max: Duration::from_mins(10),
        },
        retention: Retention {
            keep: 1,
            keep_for: Duration::ZERO,
            state_size: u64::MAX,
        },
        metrics: Metrics::new("test"),
        record: ServerRecord {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access: ServerAccess::default(),
            pid: 0,
            rules: ServerRules {
                excludes: Vec::new(),
                default_excludes: true,
                skip_unreadable: false,
                allow_empty: false,
                modes: Modes::Normal,
            },
            last_build: None,
        },
    }
}

fn write(root: &Path, name: &str) {
    fs::write(root.join(name), "more").unwrap();
}

/// Waits for an event, which the kernel has and another thread has to tell.
#[expect(clippy::disallowed_methods, reason = "a test's thread may wait")]
fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("waited in vain");
}

#[test]
fn a_build_under_which_the_hold_file_came_is_not_published() {
    let mut shop = Shop::new(WatchMode::Off);
    let tried = shop.build(false, true, |root, _| write(root, HOLD));
    assert!(matches!(tried.result, Ok(Attempt::Held)));
    assert_eq!(shop.staged(), 0);
    let tried = shop.build(false, true, |_, _| panic!("nothing is walked"));
    assert!(matches!(tried.result, Ok(Attempt::Held)));
}

#[test]
fn a_build_under_which_the_hold_file_came_and_went_is_not_published() {
    let mut shop = Shop::new(WatchMode::Inotify);
    let tried = shop.build(false, true, |root, changes| {
        write(root, HOLD);
        fs::remove_file(root.join(HOLD)).unwrap();
        until(|| changes.holds() > 0);
    });
    assert!(matches!(tried.result, Ok(Attempt::Held)));
    let tried = shop.build(false, true, |_, _| ());
    assert!(matches!(tried.result, Ok(Attempt::Ready(_))));
}

#[test]
fn where_no_event_tells_it_a_tree_that_changed_under_a_build_is_found_out_unless_nobody_waits() {
    for (mode, patient, restless) in [
        (WatchMode::Poll, true, true),
        (WatchMode::Poll, false, false),
        (WatchMode::Off, true, false),
    ] {
        let mut shop = Shop::new(mode);
        let tried = shop.build(false, patient, |root, _| write(root, "another"));
        match tried.result {
            Ok(Attempt::Restless) => assert!(restless, "{mode:?} {patient}"),
            Ok(Attempt::Ready(_)) => assert!(!restless, "{mode:?} {patient}"),
            _ => panic!("{mode:?} {patient}"),
        }
        // What was built is kept until it is published, and else it is gone.
        assert_eq!(shop.staged() > 0, !restless, "{mode:?} {patient}");
    }
}

#[test]
fn a_build_that_wants_proof_is_made_once_the_tree_was_seen_twice() {
    let mut shop = Shop::new(WatchMode::Off);
    write(&shop.path(""), "another");
    let tried = shop.build(true, true, |_, _| panic!("nothing is built"));
    assert!(matches!(tried.result, Ok(Attempt::Restless)));
    let tried = shop.build(true, true, |_, _| ());
    assert!(matches!(tried.result, Ok(Attempt::Ready(_))));
}

#[test]
fn what_changes_under_a_build_counts_as_not_built() {
    let mut shop = Shop::new(WatchMode::Inotify);
    let changes = shop.workshop.changes();
    let tried = shop.build(false, true, |root, changes| {
        write(root, "another");
        until(|| changes.count() > 0);
    });
    assert!(changes.since(tried.mark).is_some());
    let tried = shop.build(false, true, |_, _| ());
    assert_eq!(changes.since(tried.mark), None);
}

#[test]
fn a_root_that_is_missed_is_looked_for_until_it_is_back() {
    let mut shop = Shop::new(WatchMode::Inotify);
    assert!(shop.build(false, true, |_, _| ()).result.is_ok());
    fs::remove_dir_all(shop.path("")).unwrap();
    assert!(!shop.workshop.has_new_root());
    assert!(shop.build(false, true, |_, _| ()).result.is_err());
    assert!(!shop.workshop.has_new_root());
    fs::create_dir(shop.path("")).unwrap();
    assert!(shop.workshop.has_new_root());
}
