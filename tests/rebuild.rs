//! The promise of an incremental build: the bytes of a fresh one, for the price of what changed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use code_server::archive::{Previous, Recipe, Sealed};
use code_server::config::tree::TreeConfig;
use code_server::descriptor::Descriptor;
use code_server::digest::Digest;
use code_server::entry::Modes;
use code_server::publication::build::{BuildError, Source, build, list, walk};
use code_server::publication::rebuild::{Base, Rebuilt, Stage, Work, rebuild};
use proptest::prelude::*;

/// A tree that is built again and again, each time from what the last time left.
struct Kept {
    root: tempfile::TempDir,
    source: Source,
    base: Base,
    staged: Option<(File, File)>,
}

/// What a build gave.
struct Built {
    descriptor: Descriptor,
    archive: Vec<u8>,
    listing: Vec<u8>,
    reused: u64,
}

impl Kept {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            source: Source::new(&config(root.path()), Vec::new()).unwrap(),
            base: Base::default(),
            staged: None,
            root,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn try_rebuild(&mut self) -> Result<Rebuilt, BuildError> {
        let mut cache = None;
        let staged = &mut self.staged;
        let mut stage = || {
            let (archive, listing) = (tempfile::tempfile()?, tempfile::tempfile()?);
            *staged = Some((archive.try_clone()?, listing.try_clone()?));
            let learnt = tempfile::tempfile()?;
            cache = Some(learnt.try_clone()?);
            Ok(Stage {
                archive,
                listing,
                cache: learnt,
            })
        };
        let rebuilt = rebuild(&mut Work {
            source: &self.source,
            base: &self.base,
            walk: &mut |source| walk(source, &|| false),
            stage: &mut stage,
            cancelled: &|| false,
        })?;
        if rebuilt.has_learnt() {
            self.base.known = cache;
        }
        Ok(rebuilt)
    }

    /// Builds and publishes; `None` where the content is what is published.
    fn rebuild(&mut self) -> Option<Built> {
        let Rebuilt::Sealed { sealed, .. } = self.try_rebuild().unwrap() else {
            return None;
        };
        let descriptor = sealed.describe(&self.source.options, SystemTime::UNIX_EPOCH);
        let (archive, listing) = self.staged.take().unwrap();
        let built = Built {
            archive: content(&archive),
            listing: content(&listing),
            reused: sealed.reused,
            descriptor,
        };
        self.publish(*sealed, archive, &built.descriptor);
        built.check();
        Some(built)
    }

    fn publish(&mut self, sealed: Sealed, archive: File, descriptor: &Descriptor) {
        self.base.published = Some((descriptor.revision, descriptor.format.clone()));
        self.base.previous = Some(Previous::new(archive, descriptor, sealed.seams));
    }

    /// The bytes of a build that knows nothing.
    fn fresh(&self) -> Vec<u8> {
        let (archive, listing) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut outputs = || Ok((archive.try_clone()?, listing.try_clone()?));
        build(&self.source, &mut outputs, &|| false).unwrap();
        content(&archive)
    }
}

impl Built {
    /// Holds the digests, which may come from the archive before, against the bytes.
    fn check(&self) {
        assert_eq!(self.descriptor.digest, Digest::of(&self.archive));
        for segment in &self.descriptor.segments {
            let [start, end] = [segment.offset, segment.offset + segment.length];
            let [start, end] = [start, end].map(|at| usize::try_from(at).unwrap());
            assert_eq!(segment.digest, Digest::of(&self.archive[start..end]));
        }
    }
}

fn config(root: &Path) -> TreeConfig {
    TreeConfig {
        root: root.into(),
        excludes: Vec::new(),
        default_excludes: true,
        skip_unreadable: false,
        allow_empty: true,
        modes: Modes::Normal,
        mtime: None,
        level: 1,
        workers: NonZeroUsize::new(2).unwrap(),
    }
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes of which no two runs are alike.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = u32::try_from(seed).unwrap();
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(step).collect()
}

/// Forty files of 100,000 bytes, and one of 5 MB.
fn make_tree(kept: &Kept) {
    for index in 0..40 {
        kept.write(&format!("file-{index:02}"), &noise(index, 100_000));
    }
    kept.write("large", &noise(99, 5_000_000));
}

#[test]
fn a_changed_file_costs_its_segment() {
    let mut kept = Kept::new();
    make_tree(&kept);
    let first = kept.rebuild().unwrap();
    assert_eq!(first.reused, 0);
    kept.write("file-20", &noise(7, 100_000));
    let second = kept.rebuild().unwrap();
    let segments = second.descriptor.segments.len() as u64;
    assert!(segments > 6);
    assert_eq!(second.reused, segments - 1);
    assert!(second.archive == kept.fresh());
    assert_ne!(first.descriptor.revision, second.descriptor.revision);
}

/// What is taken over from the middle of the archive before begins another one.
#[test]
fn a_segment_that_is_gone_leaves_those_behind_it() {
    let mut kept = Kept::new();
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        // With its header it is a segment.
        kept.write(name, &noise(seed, (1 << 20) - 512));
    }
    let before = kept.rebuild().unwrap().descriptor.segments;
    fs::remove_file(kept.path("a")).unwrap();
    let after = kept.rebuild().unwrap();
    assert_eq!(after.reused, after.descriptor.segments.len() as u64);
    assert_eq!(after.descriptor.segments[0].digest, before[1].digest);
    assert!(after.archive == kept.fresh());
}

#[test]
fn a_change_within_a_large_file_keeps_what_else_there_is() {
    let mut kept = Kept::new();
    make_tree(&kept);
    let before = kept.rebuild().unwrap();
    kept.write("small-behind-the-large-one", b"x");
    let after = kept.rebuild().unwrap();
    // The end of the large file is read again, since it shares its segment with the new one; the rest of it is not.
    assert!(after.reused + 2 >= before.descriptor.segments.len() as u64);
    assert!(after.archive == kept.fresh());
}

#[test]
fn a_touch_publishes_nothing_and_is_not_looked_at_twice() {
    let mut kept = Kept::new();
    make_tree(&kept);
    kept.rebuild().unwrap();
    let file = File::options().write(true).open(kept.path("file-07"));
    let yesterday = SystemTime::now() - Duration::from_hours(24);
    file.unwrap().set_modified(yesterday).unwrap();
    let rebuilt = kept.try_rebuild().unwrap();
    assert!(matches!(rebuilt, Rebuilt::Unchanged { learnt: true, .. }));
    let rebuilt = kept.try_rebuild().unwrap();
    assert!(matches!(rebuilt, Rebuilt::Unchanged { learnt: false, .. }));
}

/// Much that is unknown is not read for a look first: the archive that was made of it is found to be of no use.
#[test]
fn a_touch_of_much_publishes_nothing_either() {
    let mut kept = Kept::new();
    let large = File::create(kept.path("large")).unwrap();
    large.set_len(40 << 20).unwrap();
    kept.write("small", b"x");
    kept.rebuild().unwrap();
    large.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let rebuilt = kept.try_rebuild().unwrap();
    assert!(matches!(rebuilt, Rebuilt::Unchanged { learnt: true, .. }));
    let rebuilt = kept.try_rebuild().unwrap();
    assert!(matches!(rebuilt, Rebuilt::Unchanged { learnt: false, .. }));
}

/// A previous archive of zeros shows through where it was relied on.
#[test]
fn what_is_known_is_neither_read_nor_compressed() {
    let mut kept = Kept::new();
    make_tree(&kept);
    let Rebuilt::Sealed { sealed, .. } = kept.try_rebuild().unwrap() else {
        panic!("there was nothing before");
    };
    let descriptor = sealed.describe(&kept.source.options, SystemTime::UNIX_EPOCH);
    let zeros = tempfile::tempfile().unwrap();
    zeros.set_len(descriptor.size).unwrap();
    kept.publish(*sealed, zeros, &descriptor);
    kept.write("file-20", &noise(7, 100_000));
    assert!(matches!(kept.try_rebuild(), Ok(Rebuilt::Sealed { .. })));
    let archive = content(&kept.staged.take().unwrap().0);
    let (zeros, others): (Vec<_>, Vec<_>) = archive
        .chunks(4096)
        .partition(|block| block.iter().all(|&byte| byte == 0));
    assert!(others.len() < zeros.len() / 3);
}

#[test]
fn another_format_takes_nothing_over() {
    let mut kept = Kept::new();
    make_tree(&kept);
    let before = kept.rebuild().unwrap();
    kept.source.options.level = 2;
    let after = kept.rebuild().unwrap();
    assert_eq!(after.reused, 0);
    assert_eq!(before.descriptor.revision, after.descriptor.revision);
    assert!(after.archive == kept.fresh());
}

#[test]
fn an_archive_that_was_kept_on_disk_is_verified_and_then_of_use() {
    let mut kept = Kept::new();
    make_tree(&kept);
    let Rebuilt::Sealed { sealed, .. } = kept.try_rebuild().unwrap() else {
        panic!("there was nothing before");
    };
    let descriptor = sealed.describe(&kept.source.options, SystemTime::UNIX_EPOCH);
    let archive = kept.staged.take().unwrap().0;
    let recipe = Recipe::parse(sealed.seams.recipe.to_text().as_bytes()).unwrap();
    let verify = |archive: &File, recipe: &Recipe| {
        let archive = archive.try_clone().unwrap();
        Previous::verify(archive, &descriptor, recipe.clone()).unwrap()
    };
    kept.base.published = Some((descriptor.revision, descriptor.format.clone()));
    kept.base.previous = Some(verify(&archive, &recipe).unwrap());
    kept.write("file-20", &noise(7, 100_000));
    let after = kept.rebuild().unwrap();
    assert_eq!(after.reused, after.descriptor.segments.len() as u64 - 1);
    assert!(after.archive == kept.fresh());

    assert!(verify(&archive, &Recipe::default()).is_none());
    for offset in [0, 10, 1_000_000, descriptor.size - 1] {
        let mut damaged = content(&archive);
        damaged[usize::try_from(offset).unwrap()] ^= 1;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&damaged).unwrap();
        assert!(verify(&file, &recipe).is_none(), "{offset}");
    }
}

/// Something that happens to a tree.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, usize),
    Grow(usize),
    Touch(usize),
    Remove(usize),
    Rename(usize, usize),
    Execute(usize),
    Link(usize),
    Directory(usize),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let name = 0_usize..12;
        prop_oneof![
            (name.clone(), 0_usize..1_500_000).prop_map(|(name, size)| Self::Write(name, size)),
            name.clone().prop_map(Self::Grow),
            name.clone().prop_map(Self::Touch),
            name.clone().prop_map(Self::Remove),
            (name.clone(), name.clone()).prop_map(|(from, to)| Self::Rename(from, to)),
            name.clone().prop_map(Self::Execute),
            name.clone().prop_map(Self::Link),
            name.prop_map(Self::Directory),
        ]
    }

    /// What cannot happen does not.
    fn happen(&self, kept: &Kept) {
        let path = |name: usize| kept.path(&format!("{}/{name}", ["a", "b", "c"][name % 3]));
        for directory in ["a", "b", "c"] {
            fs::create_dir_all(kept.path(directory)).unwrap();
        }
        match *self {
            Self::Write(name, size) => drop(fs::write(path(name), noise(size, size))),
            Self::Grow(name) => {
                let file = File::options().append(true).open(path(name));
                drop(file.and_then(|mut file| file.write_all(b"more")));
            }
            Self::Touch(name) => {
                let file = File::options().append(true).open(path(name));
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(name as u64);
                drop(file.and_then(|file| file.set_modified(time)));
            }
            Self::Remove(name) => {
                drop(fs::remove_file(path(name)));
                drop(fs::remove_dir_all(path(name)));
            }
            Self::Rename(from, to) => drop(fs::rename(path(from), path(to))),
            Self::Execute(name) => {
                let mode = fs::Permissions::from_mode(0o755);
                drop(fs::set_permissions(path(name), mode));
            }
            Self::Link(name) => drop(symlink("../a/1", path(name))),
            Self::Directory(name) => drop(fs::create_dir(path(name))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_was_built_before_the_bytes_are_those_of_a_fresh_build(
        steps in proptest::collection::vec(proptest::collection::vec(Change::any(), 1..6), 1..6),
    ) {
        let mut kept = Kept::new();
        let mut published = None;
        for changes in steps {
            for change in &changes {
                change.happen(&kept);
            }
            let Some(Built { descriptor, archive, listing, .. }) = kept.rebuild() else {
                let listing = list(&kept.source, &|| false).unwrap();
                prop_assert!(published == Some(listing));
                continue;
            };
            prop_assert!(archive == kept.fresh());
            prop_assert_eq!(descriptor.revision.digest(), Digest::of(&listing));
            // What is said of it is consistent.
            prop_assert!(Descriptor::parse(&descriptor.to_json()).is_ok());
            published = Some(listing);
        }
    }
}
