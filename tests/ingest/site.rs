//! A directory in which a root called `tree` is replaced, and archives to do it with.

use std::collections::BTreeMap;
use std::fs::{self, FileTimes};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use code_server::config::tree::TreeConfig;
use code_server::digest::{Digest, Revision};
use code_server::entry::Modes;
use code_server::ingest::{End, IngestError, Ingested, Order, ingest};
use code_server::publication::build::{self, Source};
use code_server::unpack::Limits;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use tokio_util::sync::CancellationToken;

pub(crate) struct Site(tempfile::TempDir);

/// What a name holds, and when it was changed last.
pub(crate) type Contents = BTreeMap<PathBuf, (String, i64, i64)>;

impl Site {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One whose tree has files of every sort, of which some are left out, with times that nobody else has.
    pub(crate) fn with_tree() -> Self {
        let site = Self::new();
        let root = site.root();
        fs::create_dir_all(root.join("app/deep")).unwrap();
        for (name, content) in [
            ("app/main.py", "print('old')\n"),
            ("app/deep/same", "the same in both"),
            ("gone", "only in the old one"),
            (".env", "SECRET=1"),
        ] {
            fs::write(root.join(name), content).unwrap();
        }
        symlink("app/main.py", root.join("current")).unwrap();
        let then = UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
        for name in [
            "app/main.py",
            "app/deep/same",
            "gone",
            "app/deep",
            "app",
            "",
        ] {
            let file = fs::File::open(root.join(name)).unwrap();
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        }
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    pub(crate) fn order(&self) -> Order {
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
                entries: 1000,
                bytes: 4 << 20,
            },
            workers: NonZeroUsize::new(2).unwrap(),
            expected_size: None,
            end: End::OfArchive,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) fn ingest(&self, archive: &[u8]) -> Result<Ingested, IngestError> {
        ingest(&self.order(), archive, || Ok(()))
    }

    /// What the tree holds; nothing else is beside it.
    pub(crate) fn contents(&self) -> Contents {
        let names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["tree"]);
        contents(&self.root())
    }

    /// The revision that a server computes.
    pub(crate) fn revision(&self) -> Revision {
        let source = Source::new(&self.order().tree, Vec::new()).unwrap();
        let listing = build::list(&source, &|| false).unwrap();
        Revision::of_listing(Digest::of(&listing))
    }
}

pub(crate) fn contents(root: &Path) -> Contents {
    fn walk(root: &Path, name: &Path, contents: &mut Contents) {
        let path = root.join(name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                walk(root, &name.join(entry.unwrap().file_name()), contents);
            }
            "directory".into()
        } else if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        };
        let what = (what, metadata.mtime(), metadata.mtime_nsec());
        contents.insert(name.into(), what);
    }
    let mut found = Contents::new();
    walk(root, Path::new(""), &mut found);
    found
}

/// Makes a tar.
pub(crate) fn tar(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    build(&mut tar);
    tar.into_inner().unwrap()
}

pub(crate) fn file(tar: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).unwrap();
}

pub(crate) fn link(tar: &mut Builder<Vec<u8>>, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_mode(0o777);
    header.set_mtime(1_700_000_000);
    header.set_size(0);
    tar.append_link(&mut header, name, target).unwrap();
}

/// A file whose name is written as it is, wherever it leads.
pub(crate) fn raw(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
}

/// A new version of [`Site::with_tree`]'s tree.
pub(crate) fn new_version() -> Vec<u8> {
    tar(|tar| {
        file(tar, "./app/main.py", b"print('new')\n");
        file(tar, "./app/deep/same", b"the same in both");
        file(tar, "./more", &[b'x'; 3000]);
        link(tar, "./current", "app/main.py");
    })
}

/// The archive of a tree, as `tar c` makes it.
pub(crate) fn archive_of(root: &Path) -> Vec<u8> {
    tar(|tar| {
        tar.follow_symlinks(false);
        tar.append_dir_all(".", root).unwrap();
    })
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
