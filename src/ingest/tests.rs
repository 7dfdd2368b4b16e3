use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::*;
use crate::entry::Modes;
use crate::exit::Exit;

/// A directory in which a root called `tree` is replaced.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One that has a tree already.
    fn with_tree() -> Self {
        let site = Self::new();
        fs::create_dir(site.root()).unwrap();
        fs::write(site.root().join("which"), "old").unwrap();
        fs::write(site.root().join("only-old"), "").unwrap();
        site
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn order(&self) -> Order {
        Order {
            tree: TreeConfig {
                root: self.root(),
                excludes: Vec::new(),
                default_excludes: true,
                skip_unreadable: false,
                allow_empty: false,
                modes: Modes::Normal,
                mtime: None,
                level: 6,
                workers: NonZeroUsize::MIN,
            },
            limits: Limits {
                entries: 100,
                bytes: 1 << 20,
            },
            workers: NonZeroUsize::MIN,
            expected_size: None,
            end: End::OfArchive,
            cancel: CancellationToken::new(),
        }
    }

    fn ingest(&self, machine: &Machine<'_>) -> Result<Ingested, IngestError> {
        ingest_with(&self.order(), &*new_tree(), || Ok(()), machine)
    }

    /// What the tree says it is; `None` where there is none.
    fn which(&self) -> Option<String> {
        let which = fs::read_to_string(self.root().join("which")).ok()?;
        assert_eq!(self.root().join("only-old").exists(), which == "old");
        Some(which)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn new_tree() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(3);
    tar.append_data(&mut header, "which", &b"new"[..]).unwrap();
    tar.into_inner().unwrap()
}

fn lacking(_: &Root, _: &EntryPath, _: &EntryPath) -> io::Result<()> {
    Err(Errno::INVAL.into())
}

type Exchange = dyn Fn(&Root, &EntryPath, &EntryPath) -> io::Result<()>;

/// The points at which an ingest can be killed, in order.
fn steps(exchange: &Exchange) -> Vec<&'static str> {
    let steps = RefCell::new(Vec::new());
    let machine = Machine {
        exchange,
        step: &|step| steps.borrow_mut().push(step),
    };
    let site = Site::with_tree();
    site.ingest(&machine).unwrap();
    assert_eq!(site.which().as_deref(), Some("new"));
    assert_eq!(site.names(), ["tree"]);
    steps.into_inner()
}

/// Kills an ingest at each of its points, and sees what the next one makes of it.
fn kill_everywhere(exchange: &Exchange) {
    let steps = steps(exchange);
    let moment = steps.iter().position(|&step| step == "between the two");
    let done = steps.iter().position(|step| step.starts_with("behind"));
    for (index, at) in steps.iter().enumerate() {
        let site = Site::with_tree();
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let machine = Machine {
                exchange,
                step: &|step| assert_ne!(step, *at, "killed"),
            };
            site.ingest(&machine)
        }));
        assert!(killed.is_err(), "{at}");
        let expected = match Some(index) {
            gap if gap == moment => None,
            index if index >= done => Some("new"),
            _ => Some("old"),
        };
        assert_eq!(site.which().as_deref(), expected, "{at}");
        // The next one fails, and mends what the other one has left.
        let error = ingest(&site.order(), &b"no archive"[..], || Ok(())).unwrap_err();
        assert_eq!(error.exit(), Exit::Data);
        assert_eq!(site.which().as_deref(), expected.or(Some("old")), "{at}");
        assert_eq!(site.names(), ["tree"], "{at}");
    }
}

#[test]
fn one_that_is_killed_has_replaced_the_tree_or_has_not() {
    kill_everywhere(&Root::exchange);
}

#[test]
fn without_an_exchange_in_one_step_the_next_ingest_puts_the_old_tree_back() {
    assert!(steps(&lacking).contains(&"between the two"));
    kill_everywhere(&lacking);
}

#[test]
fn a_second_step_that_fails_is_taken_back() {
    let site = Site::with_tree();
    let staged = site.0.path().join(".code-ingest-tree/new");
    let machine = Machine {
        exchange: &lacking,
        step: &|step| {
            if step == "between the two" {
                fs::remove_dir_all(&staged).unwrap();
            }
        },
    };
    let error = site.ingest(&machine).unwrap_err();
    assert!(matches!(error, IngestError::Exchange { .. }), "{error:?}");
    assert_eq!(site.which().as_deref(), Some("old"));
    assert_eq!(site.names(), ["tree"]);
}

#[test]
fn a_root_that_the_kernel_holds_fast_is_a_mount_point() {
    for (errno, word) in [(Errno::BUSY, "mount point"), (Errno::XDEV, "image")] {
        let site = Site::with_tree();
        let machine = Machine {
            exchange: &|_, _, _| Err(errno.into()),
            step: &|_| {},
        };
        let error = site.ingest(&machine).unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(site.which().as_deref(), Some("old"));
        assert_eq!(site.names(), ["tree"]);
    }
}

#[test]
fn whoever_cancels_before_the_exchange_keeps_the_old_tree() {
    for at in ["staging", "unpacked", "before the sync"] {
        let site = Site::with_tree();
        let order = site.order();
        let machine = Machine {
            exchange: &Root::exchange,
            step: &|step| {
                if step == at {
                    order.cancel.cancel();
                }
            },
        };
        let error = ingest_with(&order, &*new_tree(), || Ok(()), &machine).unwrap_err();
        assert!(matches!(error, IngestError::Cancelled), "{at}: {error:?}");
        assert_eq!(site.which().as_deref(), Some("old"), "{at}");
        assert_eq!(site.names(), ["tree"], "{at}");
    }
}

#[test]
fn the_root_keeps_its_mode_and_hands_its_group_down() {
    let site = Site::with_tree();
    // Only root may give it to a group that the test is not in.
    drop(std::os::unix::fs::chown(site.root(), None, Some(12_345)));
    fs::set_permissions(site.root(), fs::Permissions::from_mode(0o2770)).unwrap();
    let group = fs::metadata(site.root()).unwrap().gid();
    ingest(&site.order(), &*new_tree(), || Ok(())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&site.root()), 0o2770);
    let which = fs::metadata(site.root().join("which")).unwrap();
    assert_eq!(which.gid(), group);
}
