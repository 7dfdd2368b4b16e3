use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::digest::Digest;
use crate::exit::Exit;

const PLENTY: Limits = Limits {
    entries: 10_000,
    bytes: 1 << 30,
};

/// An entry as a test writes it into an archive: whatever it says, the tar's headers say.
fn append(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644 | if kind.is_dir() { 0o111 } else { 0 });
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    gnu.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn file(tar: &mut Builder<Vec<u8>>, name: &str) {
    append(tar, EntryType::Regular, name.as_bytes(), b"", b"content");
}

fn directory(tar: &mut Builder<Vec<u8>>, name: &str) {
    append(tar, EntryType::Directory, name.as_bytes(), b"", b"");
}

fn link(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    append(tar, kind, name.as_bytes(), target.as_bytes(), b"");
}

fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    build(&mut tar);
    tar.into_inner().unwrap()
}

/// A directory with an `outside` in it, which nobody may touch, and a `stage`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.stage()).unwrap();
        fs::create_dir(place.0.path().join("outside")).unwrap();
        fs::write(place.0.path().join("outside/secret"), "secret").unwrap();
        place
    }

    fn stage(&self) -> std::path::PathBuf {
        self.0.path().join("stage")
    }

    fn unpack(&self, tar: &[u8], limits: Limits) -> Result<(Unpacked, Vec<u8>), UnpackError> {
        let root = Arc::new(Root::open(&self.stage()).unwrap());
        let workers = NonZeroUsize::new(2).unwrap();
        let mut listing = Vec::new();
        let unpacked = unpack(tar, &root, limits, workers, &mut listing)?;
        Ok((unpacked, listing))
    }

    fn assert_untouched(&self) {
        let names = |path: &Path| -> Vec<_> {
            let entries = fs::read_dir(path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.0.path()), ["outside", "stage"]);
        assert_eq!(names(&self.0.path().join("outside")), ["secret"]);
        let secret = fs::read(self.0.path().join("outside/secret")).unwrap();
        assert_eq!(secret, b"secret");
    }
}

/// A hostile archive is refused as bad data, and nothing outside is touched.
#[track_caller]
fn refused(tar: &[u8]) -> UnpackError {
    let place = Place::new();
    let error = place.unpack(tar, PLENTY).unwrap_err();
    assert_eq!(error.exit(), Exit::Data, "{error:?}");
    place.assert_untouched();
    error
}

#[track_caller]
fn refused_name(name: &str) {
    let error = refused(&archive(|tar| file(tar, name)));
    assert!(matches!(error, UnpackError::Name { .. }), "{error:?}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../x",
        "./../x",
        "/abs",
        "//abs",
        ".//abs",
        "a/../../x",
        "a/..",
        "..",
        "a//b",
        "a/./b",
        "././a",
        "a/",
        "./",
        ".",
    ] {
        refused_name(name);
    }
    refused(&archive(|tar| directory(tar, "../outside")));
    refused(&archive(|tar| directory(tar, "/")));
    refused(&archive(|tar| file(tar, "")));
}

#[test]
fn a_long_name_with_a_nul_in_it_is_refused() {
    let error = refused(&archive(|tar| {
        append(
            tar,
            EntryType::GNULongName,
            b"././@LongLink",
            b"",
            b"a\0b\0",
        );
        file(tar, "a");
    }));
    assert!(matches!(error, UnpackError::Name { .. }), "{error:?}");
}

#[test]
fn a_name_that_would_fill_the_memory_is_refused() {
    let error = refused(&archive(|tar| {
        let name = vec![b'a'; 1 << 20];
        append(tar, EntryType::GNULongName, b"././@LongLink", b"", &name);
        file(tar, "a");
    }));
    assert!(
        matches!(error, UnpackError::HeaderTooLarge { .. }),
        "{error:?}"
    );
    let error = refused(&archive(|tar| {
        append(
            tar,
            EntryType::GNULongName,
            b"././@LongLink",
            b"",
            &[b'a'; 5000],
        );
        file(tar, "a");
    }));
    assert!(matches!(error, UnpackError::Name { .. }), "{error:?}");
    let error = refused(&archive(|tar| {
        let name = [&b"a/".repeat(2048)[..], b"b"].concat();
        append(tar, EntryType::GNULongName, b"././@LongLink", b"", &name);
        file(tar, "a");
    }));
    assert!(matches!(error, UnpackError::Name { .. }), "{error:?}");
}

#[test]
fn nothing_is_written_through_a_link() {
    let through = |error| matches!(error, UnpackError::Through { .. });
    assert!(through(refused(&archive(|tar| {
        link(tar, EntryType::Symlink, "link", "../outside");
        file(tar, "link/x");
    }))));
    assert!(through(refused(&archive(|tar| {
        link(tar, EntryType::Symlink, "link", "../outside");
        directory(tar, "link/deep/er");
    }))));
    assert!(through(refused(&archive(|tar| {
        file(tar, "file");
        file(tar, "file/x");
    }))));
}

#[test]
fn a_name_given_twice_is_refused() {
    let twice = |build: fn(&mut Builder<Vec<u8>>)| {
        let error = refused(&archive(build));
        assert!(matches!(error, UnpackError::Twice { .. }), "{error:?}");
    };
    twice(|tar| {
        file(tar, "a");
        file(tar, "./a");
    });
    twice(|tar| {
        link(tar, EntryType::Symlink, "a", "../outside");
        directory(tar, "a/");
    });
    twice(|tar| {
        directory(tar, "a");
        link(tar, EntryType::Symlink, "a", "../outside");
    });
    twice(|tar| {
        link(tar, EntryType::Symlink, "a", "../outside/secret");
        file(tar, "a");
    });
    twice(|tar| {
        file(tar, "a/b");
        file(tar, "a");
    });
}

#[test]
fn hard_links_lead_to_files_before_them_and_nowhere_else() {
    for target in [
        "../outside/secret",
        "/etc/passwd",
        "later",
        "link",
        "directory",
        "",
    ] {
        let error = refused(&archive(|tar| {
            link(tar, EntryType::Symlink, "link", "../outside/secret");
            directory(tar, "directory");
            link(tar, EntryType::Link, "hard", target);
            file(tar, "later");
        }));
        assert!(matches!(error, UnpackError::HardLink { .. }), "{error:?}");
    }
}

#[test]
fn other_kinds_are_refused() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::new(b'V'),
    ] {
        let error = refused(&archive(|tar| append(tar, kind, b"x", b"", b"")));
        assert!(matches!(error, UnpackError::Kind { .. }), "{error:?}");
    }
}

#[test]
fn a_sparse_file_in_pax_form_is_refused() {
    let error = refused(&archive(|tar| {
        let attribute = b"22 GNU.sparse.major=1\n";
        append(tar, EntryType::XHeader, b"x", b"", attribute);
        file(tar, "sparse");
    }));
    assert!(matches!(error, UnpackError::Kind { .. }), "{error:?}");
}

#[test]
fn pax_attributes_that_name_an_entry_twice_are_refused() {
    for attributes in [
        &b"9 path=b\n9 path=c\n"[..],
        b"14 size=000007\n10 size=9\n",
        b"13 linkpath=b\n13 linkpath=c\n",
    ] {
        let error = refused(&archive(|tar| {
            append(tar, EntryType::XHeader, b"x", b"", attributes);
            file(tar, "a");
        }));
        assert!(matches!(error, UnpackError::Malformed(_)), "{error:?}");
    }
    let error = refused(&archive(|tar| {
        append(tar, EntryType::GNULongName, b"x", b"", b"long\0");
        append(tar, EntryType::XHeader, b"x", b"", b"9 path=b\n");
        file(tar, "a");
    }));
    assert!(matches!(error, UnpackError::Malformed(_)), "{error:?}");
}

#[test]
fn a_pax_attribute_that_says_the_same_twice_is_taken() {
    let place = Place::new();
    let tar = archive(|tar| {
        append(tar, EntryType::XHeader, b"x", b"", b"9 path=b\n9 path=b\n");
        file(tar, "a");
    });
    place.unpack(&tar, PLENTY).unwrap();
    assert!(place.stage().join("b").exists() && !place.stage().join("a").exists());
}

#[test]
fn pax_attributes_that_cannot_be_read_are_refused() {
    for attribute in [
        &b"11 size=-1\n"[..],
        b"12 size=abc\n",
        b"999 path=a\n",
        b"0 path=a\n",
        b"path\n",
    ] {
        let error = refused(&archive(|tar| {
            append(tar, EntryType::XHeader, b"x", b"", attribute);
            file(tar, "a");
        }));
        assert!(matches!(error, UnpackError::Malformed(_)), "{error:?}");
    }
}

#[test]
fn links_without_a_target_and_links_with_content_are_refused() {
    refused(&archive(|tar| link(tar, EntryType::Symlink, "a", "")));
    refused(&archive(|tar| {
        append(tar, EntryType::Symlink, b"a", b"target", b"content");
    }));
}

#[test]
fn an_archive_cut_at_any_block_is_refused() {
    let whole = archive(|tar| {
        directory(tar, "./a/");
        file(tar, "./a/b");
        append(
            tar,
            EntryType::Regular,
            b"./a/large",
            b"",
            &vec![7; 300_000],
        );
        link(tar, EntryType::Symlink, "./a/link", "b");
        file(tar, "./c");
    });
    assert!(Place::new().unpack(&whole, PLENTY).is_ok());
    let end = whole.len() - 512;
    let blocks = (0..end)
        .step_by(512)
        .filter(|at| at % 8192 == 0 || *at < 4096 || end - at < 4096);
    for length in blocks.flat_map(|at| [at, at + 1, at + 511]) {
        let error = refused(&whole[..length]);
        assert!(
            matches!(error, UnpackError::Truncated),
            "{length}: {error:?}"
        );
    }
}

#[test]
fn limits_are_kept() {
    let tar = archive(|tar| {
        file(tar, "a/b/c");
        file(tar, "d");
    });
    let check = |entries, bytes| Place::new().unpack(&tar, Limits { entries, bytes });
    assert!(check(4, 14).is_ok());
    let error = check(3, 14).unwrap_err();
    assert!(
        matches!(error, UnpackError::TooManyEntries { limit: 3 }),
        "{error:?}"
    );
    let error = check(4, 13).unwrap_err();
    assert!(
        matches!(error, UnpackError::TooManyBytes { limit: 13, .. }),
        "{error:?}"
    );
}

#[test]
fn modes_times_and_links_arrive() {
    let place = Place::new();
    let tar = archive(|tar| {
        directory(tar, "./");
        append(
            tar,
            EntryType::XGlobalHeader,
            b"pax_global_header",
            b"",
            b"18 comment=abcdef\n",
        );
        directory(tar, "locked/");
        let mut header = Header::new_gnu();
        header.set_mode(0o6751);
        header.set_mtime(7);
        header.set_size(3);
        tar.append_data(&mut header, "locked/program", &b"abc"[..])
            .unwrap();
        link(tar, EntryType::Link, "locked/same", "./locked/program");
        link(tar, EntryType::Symlink, "locked/link", "/nowhere/at/all");
        // Named again, the directory has another mode.
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o555);
        header.set_mtime(8);
        header.set_size(0);
        tar.append_data(&mut header, "locked", &b""[..]).unwrap();
    });
    let (unpacked, listing) = place.unpack(&tar, PLENTY).unwrap();
    let abc = Digest::of(b"abc").hex();
    let target = Digest::of(b"/nowhere/at/all").hex();
    let expected = format!(
        "d 0555 -  locked\nl 0777 {target}  locked/link\nf 0751 {abc}  locked/program\nf 0644 {abc}  locked/same\n"
    );
    assert_eq!(String::from_utf8(listing).unwrap(), expected);
    assert_eq!(unpacked.revision.digest(), Digest::of(expected.as_bytes()));
    assert_eq!(
        (unpacked.entries, unpacked.files, unpacked.bytes),
        (4, 2, 6)
    );

    let metadata = |name: &str| fs::symlink_metadata(place.stage().join(name)).unwrap();
    let mode = |name: &str| metadata(name).permissions().mode() & 0o7777;
    assert_eq!(mode("locked"), 0o555);
    assert_eq!(mode("locked/program") & 0o7700, 0o700);
    assert_eq!(metadata("locked").mtime(), 8);
    assert_eq!(metadata("locked/program").mtime(), 7);
    assert_eq!(metadata("locked/link").mtime(), 1_000_000_000);
    assert_eq!(fs::read(place.stage().join("locked/same")).unwrap(), b"abc");
    assert_eq!(metadata("locked/same").nlink(), 1);
    place.assert_untouched();
}

#[test]
fn what_the_file_system_gives_a_directory_it_keeps() {
    let place = Place::new();
    fs::set_permissions(place.stage(), fs::Permissions::from_mode(0o2755)).unwrap();
    let tar = archive(|tar| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o700);
        header.set_size(0);
        tar.append_data(&mut header, "private", &b""[..]).unwrap();
    });
    place.unpack(&tar, PLENTY).unwrap();
    let mode = fs::metadata(place.stage().join("private")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o2700);
}

#[test]
fn what_stands_behind_the_end_is_left() {
    let mut tar = archive(|tar| file(tar, "a"));
    let end = tar.len();
    tar.extend([7; 100]);
    let place = Place::new();
    let root = Arc::new(Root::open(&place.stage()).unwrap());
    let mut rest = &tar[..];
    let workers = NonZeroUsize::MIN;
    unpack(&mut rest, &root, PLENTY, workers, io::sink()).unwrap();
    assert_eq!(rest, &tar[end..]);
}

/// What a generated tree has under one name.
#[derive(Clone, Debug)]
enum Thing {
    Directory,
    File(Vec<u8>, bool),
    Link(String),
}

fn things() -> impl Strategy<Value = Vec<(String, Thing)>> {
    let name = "[a-c.\\-é\n]{1,3}/?[a-c]{0,2}";
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        (0..400_000_usize).prop_map(|length| vec![42; length]),
    ];
    let thing = prop_oneof![
        Just(Thing::Directory),
        (content, any::<bool>()).prop_map(|(content, program)| Thing::File(content, program)),
        "/?[a-z]{1,9}(/[a-z]{1,9}){0,14}".prop_map(Thing::Link),
    ];
    proptest::collection::vec((name, thing), 0..40)
}

/// Makes what can be made of the things, and leaves the rest.
fn make(root: &Path, things: &[(String, Thing)]) {
    for (name, thing) in things {
        let Some(path) = EntryPath::new(name.as_bytes()) else {
            continue;
        };
        let path = root.join(std::str::from_utf8(path.as_bytes()).unwrap());
        let parent = path.parent().unwrap();
        let is_plain =
            parent == root || fs::symlink_metadata(parent).is_ok_and(|found| found.is_dir());
        if !is_plain || path.symlink_metadata().is_ok() {
            continue;
        }
        match thing {
            Thing::Directory => fs::create_dir(path).unwrap(),
            Thing::Link(target) => symlink(target, path).unwrap(),
            Thing::File(content, program) => {
                fs::write(&path, content).unwrap();
                let mode = if *program { 0o755 } else { 0o644 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// Everything beneath a directory, in words.
fn describe(root: &Path, beneath: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(beneath)).unwrap() {
        let name = beneath.join(entry.unwrap().file_name());
        let path = root.join(&name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_dir() {
            describe(root, &name, found);
            "directory".into()
        } else {
            Digest::of(&fs::read(&path).unwrap()).hex()
        };
        found.push(format!(
            "{name:?} {:o} {} {what}",
            metadata.mode(),
            metadata.mtime()
        ));
    }
    found.sort();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn writing_a_tree_and_unpacking_it_is_identity(things in things()) {
        let source = tempfile::tempdir().unwrap();
        make(source.path(), &things);
        let mut tar = Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", source.path()).unwrap();
        let place = Place::new();
        let (unpacked, listing) = place.unpack(&tar.into_inner().unwrap(), PLENTY).unwrap();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        describe(source.path(), Path::new(""), &mut expected);
        describe(&place.stage(), Path::new(""), &mut found);
        prop_assert_eq!(expected, found);
        prop_assert_eq!(unpacked.revision.digest(), Digest::of(&listing));
    }
}
