use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::*;
use crate::exit::Exit;
use crate::unpack::{Limits, unpack};

/// Something that a test puts under a name.
#[derive(Clone, Copy)]
enum Thing {
    Directory(u32),
    File(&'static str),
    Link(&'static str),
}

use Thing::{Directory, File, Link};

type Things = &'static [(&'static str, Thing)];

fn make(root: &Path, things: Things) {
    for (name, thing) in things {
        let path = root.join(name);
        match thing {
            Directory(_) => fs::create_dir(&path).unwrap(),
            File(content) => fs::write(&path, content).unwrap(),
            Link(target) => symlink(target, &path).unwrap(),
        }
    }
    // A fixed time, so that a tree can be told from one that was moved; the deepest names come last.
    for (name, thing) in things.iter().rev() {
        if let Directory(mode) = thing {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        let time = crate::entry::Timestamp {
            seconds: 1_000_000,
            nanoseconds: 0,
        };
        let root = Root::open(root).unwrap();
        root.set_mtime(&own(name), time).unwrap();
    }
}

/// All that a directory holds but for what is ours, in words.
fn describe(root: &Path) -> Vec<String> {
    fn walk(root: &Path, beneath: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(root.join(beneath)).unwrap() {
            let name = beneath.join(entry.unwrap().file_name());
            let path = root.join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let what = if metadata.is_symlink() {
                format!("→ {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                if name == Path::new(HIDDEN) {
                    continue;
                }
                walk(root, &name, found);
                format!("{:o} at {}", metadata.mode(), metadata.mtime())
            } else {
                fs::read_to_string(&path).unwrap()
            };
            found.push(format!("{} {what}", name.display()));
        }
    }
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found);
    found.sort();
    found
}

fn open(path: &Path) -> Result<Target, InstallError> {
    Target::open(path, Layout::Direct, NonZeroUsize::MIN)
}

fn make_ready(target: &Target, unpacked: &Unpacked) -> Marker {
    target.write_directories(unpacked).unwrap();
    let marker = Marker::of(unpacked.revision, None);
    target.make_ready(&marker).unwrap();
    marker
}

/// A thread that keeps to the modes of files, as it would without the privileges of root, until this is dropped.
struct Unprivileged(CapabilitySets);

impl Unprivileged {
    fn new() -> Self {
        let all = capabilities(None).unwrap();
        let none = CapabilitySet::empty();
        let without = CapabilitySets {
            effective: none,
            ..all
        };
        set_capabilities(None, without).unwrap();
        Self(all)
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        set_capabilities(None, self.0).unwrap();
    }
}

/// Where a test installs. What closed directories hold can be removed once the privileges are back.
struct Place {
    _unprivileged: Unprivileged,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            _unprivileged: Unprivileged::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("target")
    }

    fn open(&self) -> Target {
        open(&self.path()).unwrap()
    }

    fn stage(&self, target: &Target, things: Things) -> Unpacked {
        let source = tempfile::tempdir_in(self.directory.path()).unwrap();
        make(source.path(), things);
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", source.path()).unwrap();
        let tar = tar.into_inner().unwrap();
        let staging = target.stage().unwrap();
        let limits = Limits {
            entries: 1000,
            bytes: 1 << 20,
        };
        let workers = NonZeroUsize::MIN;
        unpack(&*tar, &staging.tree, limits, workers, &staging.listing).unwrap()
    }

    fn install(&self, things: Things) -> Result<(), InstallError> {
        let target = self.open();
        let unpacked = self.stage(&target, things);
        let installed = target.install(&unpacked);
        target.clear().unwrap();
        installed
    }

    fn names(&self) -> Vec<String> {
        describe(&self.path())
    }

    fn leftovers(&self) -> Vec<String> {
        let hidden = fs::read_dir(self.path().join(HIDDEN)).unwrap();
        let names = hidden.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// Installs trees one after the other and compares with the last of them.
#[track_caller]
fn check(trees: &[Things], expected: &[&str]) {
    let place = Place::new();
    for tree in trees {
        place.install(tree).unwrap();
    }
    let mut found = place.names();
    found.retain(|name| !name.starts_with(REVISION));
    assert_eq!(found, expected);
    assert_eq!(place.leftovers(), ["installed", "segments"]);
}

const OLD: Things = &[
    ("a", Directory(0o755)),
    ("a/same", File("old")),
    ("a/gone", File("gone")),
    ("empty", Directory(0o755)),
    ("kind", Directory(0o755)),
    ("kind/inside", File("")),
    ("link", Link("a")),
    ("other", File("")),
];

const NEW: Things = &[
    ("a", Directory(0o555)),
    ("a/deep", Directory(0o500)),
    ("a/deep/file", File("deep")),
    ("a/same", File("new")),
    ("kind", File("a file now")),
    ("link", Directory(0o755)),
    ("link/file", File("in it")),
    ("other", Link("/nowhere")),
];

const NEW_AS_INSTALLED: &[&str] = &[
    "a 40555 at 1000000",
    "a/deep 40500 at 1000000",
    "a/deep/file deep",
    "a/same new",
    "kind a file now",
    "link 40755 at 1000000",
    "link/file in it",
    "other → /nowhere",
];

#[test]
fn a_fresh_target_gets_the_tree() {
    check(&[NEW], NEW_AS_INSTALLED);
}

#[test]
fn a_later_tree_takes_the_place_of_an_earlier_one() {
    check(&[OLD, NEW], NEW_AS_INSTALLED);
    check(&[OLD, NEW, OLD, NEW, NEW], NEW_AS_INSTALLED);
}

#[test]
fn the_revision_is_told() {
    let place = Place::new();
    let target = place.open();
    let unpacked = place.stage(&target, NEW);
    target.install(&unpacked).unwrap();
    let text = fs::read_to_string(place.path().join(REVISION)).unwrap();
    assert_eq!(text, format!("{}\n", unpacked.revision));
}

#[test]
fn what_applications_made_stays() {
    let place = Place::new();
    place.install(OLD).unwrap();
    let target = place.path();
    fs::write(target.join("a/log"), "log").unwrap();
    fs::write(target.join("empty/cache"), "cache").unwrap();
    fs::create_dir(target.join("own")).unwrap();
    place.install(NEW).unwrap();
    for kept in ["a/log log", "empty/cache cache"] {
        assert!(place.names().contains(&kept.to_owned()), "{kept}");
    }
    assert!(target.join("own").is_dir());
}

#[test]
fn an_unrecorded_file_or_link_is_replaced_and_never_followed() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    let outside = place.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("same"), "outside").unwrap();
    symlink(&outside, place.path().join("a")).unwrap();
    symlink(outside.join("same"), place.path().join("kind")).unwrap();
    fs::write(place.path().join("other"), "mine").unwrap();
    place.install(NEW).unwrap();
    let mut found = place.names();
    found.retain(|name| !name.starts_with(REVISION));
    assert_eq!(found, NEW_AS_INSTALLED);
    assert_eq!(describe(&outside), ["same outside"]);
}

#[test]
fn nothing_that_was_not_fetched_is_lost_to_a_file() {
    let place = Place::new();
    place.install(OLD).unwrap();
    fs::write(place.path().join("kind/precious"), "").unwrap();
    let before = place.names();
    let error = place.install(NEW).unwrap_err();
    assert_eq!(error.exit(), Exit::CannotCreate);
    assert!(error.to_string().contains("kind/precious"), "{error}");
    assert_eq!(place.names(), before);
    assert_eq!(place.leftovers(), ["installed", "segments"]);
}

#[test]
fn a_tree_with_our_own_names_is_refused() {
    for things in [
        &[(".code-fetch", File(""))] as Things,
        &[(".code-revision", Directory(0o755))],
    ] {
        let place = Place::new();
        let error = place.install(things).unwrap_err();
        assert_eq!(error.exit(), Exit::Data);
        assert!(place.names().is_empty());
    }
}

#[test]
fn an_installation_that_is_interrupted_anywhere_is_finished_by_the_next_run() {
    let mut steps = 0;
    loop {
        let place = Place::new();
        place.install(OLD).unwrap();
        let target = place.open();
        let unpacked = place.stage(&target, NEW);
        target.place(&mut || Ok(())).unwrap().check().unwrap();
        let marker = make_ready(&target, &unpacked);
        let mut left = steps;
        let interrupted = target.roll_forward(&marker, &mut || {
            if left == 0 {
                return Err(InstallError::Reserved { name: "killed" });
            }
            left -= 1;
            Ok(())
        });
        let told = fs::read_to_string(place.path().join(REVISION)).unwrap_or_default();
        let is_new = told == format!("{}\n", unpacked.revision);
        assert!(steps == 0 || is_new || told.is_empty(), "{steps} {told}");
        // As after a failure: what is ready is kept.
        target.clear().unwrap();
        drop(target);
        let target = place.open();
        let mut found = place.names();
        let revision = format!("{REVISION} {}\n", unpacked.revision);
        assert!(found.contains(&revision), "after {steps} steps: {found:?}");
        found.retain(|name| *name != revision);
        assert_eq!(found, NEW_AS_INSTALLED, "after {steps} steps");
        assert_eq!(
            place.leftovers(),
            ["installed", "segments"],
            "after {steps} steps"
        );
        drop(target);
        if interrupted.is_ok() {
            assert!(steps > 15, "only {steps} steps");
            return;
        }
        steps += 1;
    }
}

#[test]
fn what_was_staged_and_not_ready_is_discarded() {
    let place = Place::new();
    place.install(OLD).unwrap();
    let before = place.names();
    let target = place.open();
    place.stage(&target, NEW);
    drop(target);
    drop(place.open());
    assert_eq!(place.names(), before);
    assert_eq!(place.leftovers(), ["installed", "segments"]);
}

#[test]
fn what_was_ready_in_another_boot_is_not_trusted() {
    let place = Place::new();
    place.install(OLD).unwrap();
    let target = place.open();
    let unpacked = place.stage(&target, NEW);
    make_ready(&target, &unpacked);
    target.remove(READY).unwrap();
    let marker = Marker {
        revision: unpacked.revision,
        boot: "another".into(),
        inode: None,
    };
    target.write(READY, &marker.to_text()).unwrap();
    drop(target);
    drop(place.open());
    assert!(!place.path().join(REVISION).exists());
    assert!(place.path().join("a/gone").exists());
    assert_eq!(place.leftovers(), ["installed", "segments"]);
}

#[test]
fn what_another_boot_left_half_installed_is_removed_by_a_later_tree() {
    let place = Place::new();
    place.install(OLD).unwrap();
    let target = place.open();
    let unpacked = place.stage(&target, NEW);
    let marker = make_ready(&target, &unpacked);
    let mut left = 12;
    let interrupted = target.roll_forward(&marker, &mut || {
        left -= 1;
        match left {
            0 => Err(InstallError::Reserved { name: "killed" }),
            _ => Ok(()),
        }
    });
    assert!(interrupted.is_err() && place.path().join("a/deep/file").exists());
    target.remove(READY).unwrap();
    let marker = Marker {
        revision: unpacked.revision,
        boot: "another".into(),
        inode: None,
    };
    target.write(READY, &marker.to_text()).unwrap();
    drop(target);
    place.install(&[("kind", File("alone"))]).unwrap();
    let mut found = place.names();
    found.retain(|name| !name.starts_with(REVISION));
    assert_eq!(found, ["kind alone"]);
}

#[test]
fn a_directory_where_the_revision_belongs_is_no_reason_to_begin() {
    let place = Place::new();
    fs::create_dir_all(place.path().join(REVISION)).unwrap();
    let error = place.install(NEW).unwrap_err();
    assert!(error.to_string().contains(REVISION), "{error}");
    assert_eq!(
        place.names(),
        [format!(
            "{REVISION} 40755 at {}",
            fs::metadata(place.path().join(REVISION)).unwrap().mtime()
        )]
    );
    assert!(!place.path().join(HIDDEN).exists());
}

#[test]
fn a_directory_that_vanishes_at_the_end_does_not_hold_up_the_installation() {
    let place = Place::new();
    let target = place.open();
    let unpacked = place.stage(&target, NEW);
    let marker = make_ready(&target, &unpacked);
    let link = place.path().join("link");
    target
        .roll_forward(&marker, &mut || {
            drop(fs::remove_dir_all(&link));
            Ok(())
        })
        .unwrap();
    assert!(place.path().join("a/same").exists());
}

#[test]
fn a_hidden_directory_that_is_none_of_ours_is_named() {
    type Plant = fn(&Path);
    let plants: [Plant; 3] = [
        |path| symlink("/tmp", path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        },
    ];
    for plant in plants {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        plant(&place.path().join(HIDDEN));
        let error = open(&place.path()).unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(error.to_string().contains(HIDDEN), "{error}");
    }
}

#[test]
fn only_one_process_installs_at_a_time() {
    let place = Place::new();
    let _first = place.open();
    let error = open(&place.path()).unwrap_err();
    assert_eq!(error.exit(), Exit::Busy);
}

#[test]
fn what_cannot_be_a_target_is_named() {
    let place = Place::new();
    let missing = place.directory.path().join("missing/target");
    let file = place.directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [missing, file] {
        let error = open(&path).unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_target_without_a_tree_is_left_as_it_was() {
    let place = Place::new();
    let target = place.open();
    place.stage(&target, NEW);
    target.clear().unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

/// What somebody sees who follows the link.
fn current(place: &Place) -> Vec<String> {
    describe(&place.path().join("current"))
}

#[test]
fn a_change_of_revisions_that_is_interrupted_anywhere_is_finished_by_the_next_run() {
    let open =
        |place: &Place| Target::open(&place.path(), Layout::Versioned, NonZeroUsize::MIN).unwrap();
    let mut steps = 0;
    loop {
        let place = Place::new();
        let target = open(&place);
        let unpacked = place.stage(&target, OLD);
        target.install(&unpacked).unwrap();
        let old = current(&place);
        let unpacked = place.stage(&target, NEW);
        let inode = target.prepare_revision(unpacked.revision).unwrap();
        let marker = Marker::of(unpacked.revision, Some(inode));
        target.make_ready(&marker).unwrap();
        let mut left = steps;
        let interrupted = target.roll_forward(&marker, &mut || {
            if left == 0 {
                return Err(InstallError::Reserved { name: "killed" });
            }
            left -= 1;
            Ok(())
        });
        let meanwhile = current(&place);
        target.clear().unwrap();
        drop(target);
        drop(open(&place));
        let found = current(&place);
        assert!(meanwhile == old || meanwhile == found, "{steps}");
        assert_ne!(found, old, "{steps}");
        let told = fs::read_to_string(place.path().join(REVISION)).unwrap();
        assert_eq!(told, format!("{}\n", unpacked.revision));
        let revisions = fs::read_dir(place.path().join("revisions")).unwrap();
        assert_eq!(revisions.count(), 1, "{steps}");
        let records = ["installed", "revisions", "segments"];
        assert_eq!(place.leftovers(), records, "{steps}");
        if interrupted.is_ok() {
            assert!(steps > 8, "only {steps} steps");
            return;
        }
        steps += 1;
    }
}

#[test]
fn a_layout_is_kept_to_where_another_boot_left_a_first_revision_half_installed() {
    let open = |place: &Place| Target::open(&place.path(), Layout::Versioned, NonZeroUsize::MIN);
    let place = Place::new();
    let target = open(&place).unwrap();
    let unpacked = place.stage(&target, NEW);
    let inode = target.prepare_revision(unpacked.revision).unwrap();
    let marker = Marker {
        boot: "another".into(),
        ..Marker::of(unpacked.revision, Some(inode))
    };
    target.make_ready(&marker).unwrap();
    drop(target);
    // The first run looks after what was left, and the second one finds what it made of it.
    for run in 1..=2 {
        let target = open(&place).unwrap_or_else(|error| panic!("run {run}: {error}"));
        target.clear().unwrap();
    }
}
