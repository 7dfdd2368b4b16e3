//! The promise of the archive: the same tree gives the same bytes, and each segment of them stands alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use code_server::config::tree::TreeConfig;
use code_server::descriptor::{Descriptor, Segment};
use code_server::digest::Digest;
use code_server::entry::Modes;
use code_server::publication::build::{BuildError, Source, build};
use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;

/// What `pack` would write of a directory, and its listing.
struct Packed {
    archive: Vec<u8>,
    listing: Vec<u8>,
    descriptor: Descriptor,
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
        level: 6,
        workers: NonZeroUsize::new(2).unwrap(),
    }
}

fn try_pack(config: &TreeConfig) -> Result<Packed, BuildError> {
    let source = Source::new(config, Vec::new()).unwrap();
    let (archive, listing) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let mut outputs = || Ok((archive.try_clone()?, listing.try_clone()?));
    let sealed = build(&source, &mut outputs, &|| false)?;
    let descriptor = sealed.describe(&source.options, SystemTime::UNIX_EPOCH);
    Ok(Packed {
        archive: content(&archive),
        listing: content(&listing),
        descriptor,
    })
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn pack(root: &Path) -> Packed {
    try_pack(&config(root)).unwrap()
}

/// Gives everything beneath a directory the same time, links excepted.
fn set_times(directory: &Path, seconds: u64) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            set_times(&path, seconds);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// A tree with something of each kind.
fn make_sample(root: &Path) {
    for directory in ["a", "a/empty", "b"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("a/b"), "content\n").unwrap();
    fs::write(root.join("a-b"), "").unwrap();
    fs::write(root.join("b/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("b/run"), Permissions::from_mode(0o700)).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"new\nline \xff")), "odd").unwrap();
    fs::write(root.join("long-".repeat(30)), "long").unwrap();
    symlink("../a/b", root.join("b/link")).unwrap();
    symlink("x".repeat(300), root.join("far")).unwrap();
    set_times(root, 1_700_000_000);
}

#[test]
fn the_bytes_of_a_small_archive_are_pinned() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let config = TreeConfig {
        mtime: Some(1_700_000_000),
        ..config(directory.path())
    };
    let descriptor = try_pack(&config).unwrap().descriptor;
    // If this fails, archives change for every user: say so in the format's version.
    assert_eq!(
        descriptor.revision.digest().hex(),
        "cacda3f7750ec0ac874a519ec509de166df215aa99f0a52ecd93d3ca3f3a3d40"
    );
    assert_eq!(
        descriptor.digest.hex(),
        "0f6d0bdec71d15c08c3a59d8a0312263b2433c97a99cc0dcd2076aff2cfb9b68"
    );
}

#[test]
fn the_format_names_the_compressor_that_is_linked() {
    let lock = include_str!("../Cargo.lock");
    let package = lock
        .split("name = \"zlib-rs\"\nversion = \"")
        .nth(1)
        .unwrap();
    let version = package.split('"').next().unwrap();
    let format = Source::new(&config(Path::new(".")), Vec::new())
        .unwrap()
        .options
        .format();
    assert!(
        format.contains(&format!("compressor=zlib-rs-{version};")),
        "{format}"
    );
}

#[test]
fn the_listing_tells_every_entry_in_order() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let packed = pack(directory.path());
    let lines = packed
        .listing
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    let paths: Vec<_> = lines
        .map(|line| {
            let path = line.windows(2).position(|pair| pair == b"  ").unwrap() + 2;
            line[path..].escape_ascii().to_string()
        })
        .collect();
    let (long, odd) = ("long-".repeat(30), r"new\\nline \xff");
    assert_eq!(
        paths,
        [
            "a", "a/b", "a/empty", "a-b", "b", "b/link", "b/run", "far", &long, odd
        ]
    );
    assert_eq!(
        Digest::of(&packed.listing),
        packed.descriptor.revision.digest()
    );
}

#[test]
fn the_descriptor_describes_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let Packed {
        archive,
        descriptor,
        ..
    } = pack(directory.path());
    assert_eq!(
        Descriptor::parse(&descriptor.to_json()).unwrap(),
        descriptor
    );
    assert_eq!(descriptor.digest, Digest::of(&archive));
    assert_eq!(descriptor.size, archive.len() as u64);
    assert_eq!((descriptor.entries, descriptor.files), (10, 5));
}

/// Inflates a segment as if nothing else were there.
fn inflate(archive: &[u8], segment: &Segment) -> Vec<u8> {
    let start = usize::try_from(segment.offset).unwrap();
    let bytes = &archive[start..start + usize::try_from(segment.length).unwrap()];
    assert_eq!(Digest::of(bytes), segment.digest);
    let mut raw = Vec::with_capacity(usize::try_from(segment.raw_length).unwrap() + 1);
    let status = Decompress::new(false).decompress_vec(bytes, &mut raw, FlushDecompress::None);
    assert_eq!(status.unwrap(), Status::Ok);
    raw
}

#[test]
fn each_segment_inflates_alone_and_together_they_are_the_tar() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let noise: Vec<u8> = (0..5_500_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    fs::write(directory.path().join("large"), &noise).unwrap();
    fs::write(directory.path().join("even"), &noise[..2 << 20]).unwrap();
    let Packed {
        archive,
        descriptor,
        ..
    } = pack(directory.path());
    assert!(descriptor.segments.len() > 6);
    let segments = descriptor.segments.iter();
    let joined: Vec<u8> = segments
        .flat_map(|segment| inflate(&archive, segment))
        .collect();
    let mut whole = Vec::new();
    GzDecoder::new(&archive[..])
        .read_to_end(&mut whole)
        .unwrap();
    assert!(joined == whole);
    assert_eq!(descriptor.uncompressed_size, whole.len() as u64);

    let mut tar = tar::Archive::new(&whole[..]);
    let mut entries = tar.entries().unwrap().map(Result::unwrap);
    let mut large = entries
        .find(|entry| &*entry.path_bytes() == b"./large")
        .unwrap();
    let mut back = Vec::new();
    large.read_to_end(&mut back).unwrap();
    assert!(back == noise);
}

#[test]
fn threads_do_not_show_in_the_bytes() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    fs::write(directory.path().join("large"), vec![7; 9 << 20]).unwrap();
    let packed = [1, 2, 5].map(|workers| {
        let workers = NonZeroUsize::new(workers).unwrap();
        try_pack(&TreeConfig {
            workers,
            ..config(directory.path())
        })
        .unwrap()
        .archive
    });
    assert!(packed[0] == packed[1] && packed[1] == packed[2]);
}

#[test]
fn modes_that_a_umask_or_a_volume_changed_do_not_show() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let before = pack(directory.path());
    for (name, mode) in [
        ("a/b", 0o600),
        ("a-b", 0o4664),
        ("b/run", 0o711),
        ("a", 0o2700),
    ] {
        fs::set_permissions(directory.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let after = pack(directory.path());
    assert!(before.archive == after.archive);
    let kept = try_pack(&TreeConfig {
        modes: Modes::Keep,
        ..config(directory.path())
    })
    .unwrap();
    assert_ne!(kept.descriptor.revision, before.descriptor.revision);
}

#[test]
fn times_change_the_archive_and_not_the_revision() {
    let directory = tempfile::tempdir().unwrap();
    make_sample(directory.path());
    let before = pack(directory.path()).descriptor;
    set_times(directory.path(), 1_800_000_000);
    let after = pack(directory.path()).descriptor;
    assert_eq!(before.revision, after.revision);
    assert_ne!(before.digest, after.digest);
}

#[test]
fn times_that_fit_into_no_header_are_clamped() {
    const LATEST: u64 = (1 << 33) - 1;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x"), "").unwrap();
    for (seconds, expected) in [(-5, 0), (7, 7), (1 << 33, LATEST), (i64::MAX, LATEST)] {
        let config = TreeConfig {
            mtime: Some(seconds),
            ..config(directory.path())
        };
        let archive = try_pack(&config).unwrap().archive;
        let mut tar = tar::Archive::new(GzDecoder::new(&archive[..]));
        let entry = tar.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.header().mtime().unwrap(), expected);
    }
}

#[test]
fn an_empty_tree_is_a_valid_archive_where_it_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let Packed {
        archive,
        descriptor,
        listing,
    } = pack(directory.path());
    let mut tar = tar::Archive::new(GzDecoder::new(&archive[..]));
    assert_eq!(tar.entries().unwrap().count(), 0);
    assert_eq!(
        (descriptor.entries, descriptor.segments.len(), listing.len()),
        (0, 1, 0)
    );
    let refused = try_pack(&TreeConfig {
        allow_empty: false,
        ..config(directory.path())
    });
    assert!(matches!(refused, Err(BuildError::Empty { .. })));
}

#[test]
fn hard_links_are_files_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("one"), "shared").unwrap();
    fs::hard_link(directory.path().join("one"), directory.path().join("two")).unwrap();
    let archive = pack(directory.path()).archive;
    let mut tar = tar::Archive::new(GzDecoder::new(&archive[..]));
    for entry in tar.entries().unwrap() {
        let mut text = String::new();
        entry.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "shared");
    }
}

/// A name and what it holds; `None` is a directory.
type Item = (String, Option<Vec<u8>>);

fn items() -> impl Strategy<Value = Vec<Item>> {
    let name = prop::collection::vec("[ab.-]{1,3}", 1..4).prop_map(|parts| parts.join("/"));
    let content = prop::option::of(prop::collection::vec(any::<u8>(), 0..2000));
    prop::collection::vec((name, content), 0..20)
}

/// Makes what can be made of the items, in their order: a name that is taken stays as it is.
fn make(root: &Path, items: &[Item]) {
    for (name, content) in items {
        let path = root.join(name);
        if name
            .split('/')
            .any(|part| part.trim_matches('.').is_empty())
            || path.exists()
        {
            continue;
        }
        if fs::create_dir_all(path.parent().unwrap()).is_err() {
            continue;
        }
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::create_dir(&path).unwrap(),
        }
    }
    set_times(root, 1_700_000_000);
}

/// Copies a tree, the last name first.
fn copy_backwards(from: &Path, to: &Path) {
    let entries = fs::read_dir(from).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().rev() {
        if from.join(name).is_dir() {
            fs::create_dir(to.join(name)).unwrap();
            copy_backwards(&from.join(name), &to.join(name));
        } else {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_order_in_which_a_tree_was_made_does_not_show(items in items()) {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(first.path(), &items);
        copy_backwards(first.path(), second.path());
        set_times(second.path(), 1_700_000_000);
        let (first, second) = (pack(first.path()), pack(second.path()));
        prop_assert!(first.archive == second.archive);
        prop_assert_eq!(first.listing, second.listing);
    }
}
