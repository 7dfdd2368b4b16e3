//! What becomes of a tree, by the library.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use code_server::exit::Exit;
use code_server::ingest::{End, IngestError, Order, ingest};
use code_server::unpack::Limits;
use tar::EntryType;

use crate::site::{Site, archive_of, file, gzip, link, new_version, raw, tar};

#[test]
fn an_archive_takes_the_place_of_the_tree() {
    for archive in [new_version(), gzip(&new_version())] {
        let site = Site::with_tree();
        let before = site.contents();
        let ingested = site.ingest(&archive).unwrap();
        let after = site.contents();
        let names: Vec<_> = after.keys().map(|name| name.to_str().unwrap()).collect();
        let expected = [
            "",
            "app",
            "app/deep",
            "app/deep/same",
            "app/main.py",
            "current",
            "more",
        ];
        assert_eq!(names, expected);
        let at = |name: &str| Path::new(name).to_owned();
        assert_eq!(after[&at("app/main.py")].0, "print('new')\n");
        assert_eq!(after[&at("app/main.py")].1, 1_700_000_000);
        for kept in ["", "app", "app/deep", "app/deep/same", "current"] {
            assert_eq!(after[&at(kept)], before[&at(kept)], "{kept}");
        }
        assert!(ingested.changed);
        assert_eq!((ingested.files, ingested.kept), (3, 1));
        assert_eq!(ingested.bytes, 13 + 16 + 3000);
        assert_eq!(ingested.revision, site.revision());
    }
}

#[test]
fn a_root_that_is_not_there_is_made() {
    let site = Site::new();
    let ingested = site.ingest(&new_version()).unwrap();
    assert_eq!(site.contents().len(), 7);
    assert_eq!(ingested.revision, site.revision());
    assert!(ingested.changed && ingested.kept == 0);
}

#[test]
fn the_same_tree_again_changes_nothing_at_all() {
    let site = Site::with_tree();
    let archive = gzip(&archive_of(&site.root()));
    let before = site.contents();
    let inode =
        |site: &Site| std::os::unix::fs::MetadataExt::ino(&fs::metadata(site.root()).unwrap());
    let identity = inode(&site);
    let ingested = site.ingest(&archive).unwrap();
    assert!(!ingested.changed);
    assert_eq!((ingested.files, ingested.kept), (4, 4));
    assert_eq!(site.contents(), before);
    assert_eq!(inode(&site), identity);
    assert_eq!(ingested.revision, site.revision());
}

#[test]
fn what_is_not_served_is_replaced_too() {
    let site = Site::with_tree();
    let before = site.revision();
    fs::remove_file(site.root().join(".env")).unwrap();
    let archive = archive_of(&site.root());
    fs::write(site.root().join(".env"), "SECRET=1").unwrap();
    let ingested = site.ingest(&archive).unwrap();
    assert!(ingested.changed);
    assert_eq!(ingested.revision, before);
    assert!(!site.root().join(".env").exists());
}

/// An archive is refused as bad data, and nothing is left or changed by it.
#[track_caller]
fn refused(order: impl FnOnce(&mut Order), archive: &[u8]) -> IngestError {
    let site = Site::with_tree();
    let before = site.contents();
    let mut changed = site.order();
    order(&mut changed);
    let error = ingest(&changed, archive, || Ok(())).unwrap_err();
    assert_eq!(error.exit(), Exit::Data, "{error:?}");
    assert!(error.is_about_the_archive(), "{error:?}");
    assert_eq!(site.contents(), before);
    error
}

#[test]
fn an_archive_that_is_cut_anywhere_changes_nothing() {
    for archive in [new_version(), gzip(&new_version())] {
        let offsets = (0..60).map(|step| step * (archive.len() - 1) / 59);
        for length in offsets {
            refused(|_| {}, &archive[..length]);
        }
    }
}

#[test]
fn hostile_archives_change_nothing() {
    for (kind, name, target, reason) in [
        (EntryType::Regular, "../escaped", "", "cannot lie beneath"),
        (EntryType::Regular, "/tmp/escaped", "", "cannot lie beneath"),
        (
            EntryType::Regular,
            "a/../../escaped",
            "",
            "cannot lie beneath",
        ),
        (EntryType::Char, "device", "", "is a device"),
        (EntryType::Fifo, "pipe", "", "is a pipe"),
        (EntryType::Link, "hard", "/etc/passwd", "is a hard link"),
    ] {
        let error = refused(|_| {}, &tar(|tar| raw(tar, kind, name, target)));
        assert!(error.to_string().contains(reason), "{error}");
    }
    let through = tar(|tar| {
        link(tar, "out", "..");
        file(tar, "out/escaped", b"x");
    });
    let error = refused(|_| {}, &through);
    assert!(
        error.to_string().contains("which is not a directory"),
        "{error}"
    );
    let twice = tar(|tar| {
        file(tar, "a", b"1");
        file(tar, "a", b"2");
    });
    let error = refused(|_| {}, &twice);
    assert!(error.to_string().contains("twice"), "{error}");
    let error = refused(
        |_| {},
        &tar(|tar| raw(tar, EntryType::Fifo, "a\x1b[2J", "")),
    );
    assert!(!error.to_string().contains('\x1b'), "{error}");
}

#[test]
fn what_is_no_archive_is_named() {
    for (input, what) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\x28\xb5\x2f\xfd and so on", "zstd"),
        (b"PK\x03\x04 and so on", "a zip file"),
    ] {
        let error = refused(|_| {}, input);
        assert!(error.to_string().contains(what), "{error}");
    }
    refused(|_| {}, &[b'x'; 2000]);
    refused(|_| {}, &gzip(b"some text"));
}

#[test]
fn limits_are_kept() {
    let limited =
        |entries, bytes| move |order: &mut Order| order.limits = Limits { entries, bytes };
    let archive = gzip(&new_version());
    let error = refused(limited(3, 1 << 20), &archive);
    assert!(error.to_string().contains("more than 3 entries"), "{error}");
    let error = refused(limited(100, 3000), &archive);
    assert!(
        error.to_string().contains("more than 3000 bytes"),
        "{error}"
    );
    // Headers that belong to no entry go on for ever.
    let headers = tar(|tar| {
        for _ in 0..40 {
            raw(tar, EntryType::XGlobalHeader, "x", "");
        }
        file(tar, "a", b"a");
    });
    let error = refused(limited(1, 100), &headers);
    assert!(matches!(error, IngestError::TooLong { .. }), "{error:?}");
}

#[test]
fn what_there_is_no_room_for_is_refused_at_once() {
    let site = Site::with_tree();
    let before = site.contents();
    let order = Order {
        expected_size: Some(u64::MAX),
        ..site.order()
    };
    let error = ingest(&order, &b"nobody reads this"[..], || Ok(())).unwrap_err();
    assert_eq!(error.exit(), Exit::Io);
    assert!(error.is_about_space());
    let figure = u64::MAX.to_string();
    assert!(error.to_string().contains(&figure), "{error}");
    assert_eq!(site.contents(), before);
}

#[test]
fn a_tree_of_which_nothing_would_be_served_is_refused() {
    for archive in [tar(|_| {}), tar(|tar| file(tar, ".env", b"SECRET=1"))] {
        let error = refused(|_| {}, &archive);
        assert!(matches!(error, IngestError::Nothing), "{error:?}");
        let site = Site::with_tree();
        let mut order = site.order();
        order.tree.allow_empty = true;
        assert!(ingest(&order, &*archive, || Ok(())).unwrap().changed);
        assert!(!site.root().join("app").exists());
    }
    let rules = tar(|tar| file(tar, ".codeignore", b"{a"));
    let error = {
        let site = Site::with_tree();
        let before = site.contents();
        let error = site.ingest(&rules).unwrap_err();
        assert_eq!(site.contents(), before);
        error
    };
    assert!(error.is_about_the_archive());
    assert_eq!(error.exit(), Exit::Config);
}

#[test]
fn one_works_at_a_time() {
    let site = Site::with_tree();
    let before = site.contents();
    let mut meanwhile = None;
    let check = || {
        meanwhile = Some(site.ingest(&new_version()).unwrap_err());
        Err(IngestError::Precondition)
    };
    let error = ingest(&site.order(), &b""[..], check).unwrap_err();
    assert!(matches!(error, IngestError::Precondition), "{error:?}");
    let meanwhile = meanwhile.unwrap();
    assert!(
        matches!(meanwhile, IngestError::Busy { .. }),
        "{meanwhile:?}"
    );
    assert_eq!(meanwhile.exit(), Exit::Busy);
    assert_eq!(site.contents(), before);
    site.ingest(&new_version()).unwrap();
}

#[test]
fn a_root_that_cannot_change_places_is_refused() {
    let site = Site::new();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), site.root()).unwrap();
    let error = site.ingest(&new_version()).unwrap_err();
    assert_eq!(error.exit(), Exit::CannotCreate);
    let advice = "mount the volume one level higher: ";
    assert!(error.to_string().contains(advice), "{error}");
    assert!(fs::symlink_metadata(site.root()).unwrap().is_symlink());
    fs::remove_file(site.root()).unwrap();
    fs::write(site.root(), "a file").unwrap();
    let error = site.ingest(&new_version()).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    let mut order = site.order();
    order.tree.root = site.path().join("nope/tree");
    let error = ingest(&order, &*new_version(), || Ok(())).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    assert!(error.to_string().contains("nope"), "{error}");
}

#[test]
fn what_is_held_open_behind_the_archive_is_not_waited_for() {
    let members = [gzip(&new_version()[..1000]), gzip(&new_version()[1000..])].concat();
    for archive in [new_version(), gzip(&new_version()), members] {
        let site = Site::with_tree();
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        sender.write_all(&archive).unwrap();
        ingest(&site.order(), receiver, || Ok(())).unwrap();
        assert_eq!(site.contents().len(), 7);
        drop(sender);
    }
}

#[test]
fn where_the_input_has_to_end_what_is_cut_behind_the_archive_is_cut() {
    struct Broken<'a>(&'a [u8]);
    impl std::io::Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(std::io::ErrorKind::ConnectionAborted.into()),
                length => Ok(length),
            }
        }
    }
    for archive in [new_version(), gzip(&new_version())] {
        let site = Site::with_tree();
        let before = site.contents();
        let order = Order {
            end: End::OfInput,
            ..site.order()
        };
        ingest(&order, Broken(&archive), || Ok(())).unwrap_err();
        assert_eq!(site.contents(), before);
        ingest(&order, &*archive, || Ok(())).unwrap();
    }
}

#[test]
fn what_a_killed_ingest_left_is_removed_though_it_is_locked() {
    let site = Site::with_tree();
    let left = site.path().join(".code-ingest-tree/new/locked");
    fs::create_dir_all(left.join("deep")).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o000)).unwrap();
    site.ingest(&new_version()).unwrap();
    assert_eq!(site.contents().len(), 7);
}

#[test]
fn modes_are_the_archives_and_links_are_taken_as_they_are() {
    let site = Site::new();
    let archive = tar(|tar| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_mtime(0);
        header.set_size(0);
        tar.append_data(&mut header, "run", &[][..]).unwrap();
        link(tar, "out", "/etc/passwd");
    });
    site.ingest(&archive).unwrap();
    let run = fs::metadata(site.root().join("run")).unwrap();
    assert_eq!(run.permissions().mode() & 0o7111, 0o111);
    let target = fs::read_link(site.root().join("out")).unwrap();
    assert_eq!(target, Path::new("/etc/passwd"));
}
