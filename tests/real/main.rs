//! Real code, through the built programs and back, by every tool that a person might use.
//!
//! Three trees are served and fetched: S, this repository; M, an installation of Python packages; L, one of Node.js
//! packages. `tests/real/trees.sh target/trees` makes M and L; `CODE_SERVER_TEST_TREES` names another directory. Where a
//! tree or a program is missing, a test says so and passes; with `CODE_SERVER_TEST_REQUIRE=1` it fails, for L only with
//! `CODE_SERVER_TEST_L=1` as well.

mod compare;
mod server;
mod tools;
mod trees;
mod ways;

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use server::Server;
use trees::Tree;
use ways::{READERS, WAYS};

#[test]
fn this_repository_arrives_whole_by_every_way() {
    arrives_whole_by_every_way(&trees::repository());
}

#[test]
fn a_python_tree_arrives_whole_by_every_way_and_works() {
    if let Some(tree) = trees::python() {
        arrives_whole_by_every_way(&tree);
    }
}

#[test]
fn a_node_tree_arrives_whole_by_every_way_and_works() {
    if let Some(tree) = trees::node() {
        arrives_whole_by_every_way(&tree);
    }
}

#[test]
fn an_archive_of_this_repository_is_read_by_every_reader() {
    is_read_by_every_reader(&trees::repository());
}

#[test]
fn an_archive_of_a_python_tree_is_read_by_every_reader() {
    if let Some(tree) = trees::python() {
        is_read_by_every_reader(&tree);
    }
}

#[test]
fn an_archive_of_a_node_tree_is_read_by_every_reader() {
    if let Some(tree) = trees::node() {
        is_read_by_every_reader(&tree);
    }
}

#[test]
fn revision_and_validator_are_what_sha256sum_says() {
    if !tools::installed(&["curl", "sha256sum"]) {
        return;
    }
    let scratch = scratch();
    let server = Server::start(&trees::repository().root, &scratch.path().join("state"));
    let saved = |name: &str| {
        let file = scratch.path().join(name);
        let headers = save(&server.url(), name, &file);
        (tools::sha256(&file), headers, file)
    };

    let (listing, _, _) = saved("code.list");
    let (archive, headers, _) = saved("code.tar.gz");
    let (_, _, descriptor) = saved("code.json");

    let descriptor = fs::read(descriptor).expect("curl has saved it");
    let descriptor: Value = serde_json::from_slice(&descriptor).expect("a descriptor is JSON");
    assert_eq!(descriptor["revision"], format!("sha256:{listing}"));
    assert_eq!(descriptor["digest"], format!("sha256:{archive}"));
    assert_eq!(header(&headers, "etag"), format!("\"{archive}\""));
    assert_eq!(
        header(&headers, "code-revision"),
        format!("sha256:{listing}")
    );
}

#[test]
fn order_owner_umask_and_workers_leave_the_archive_of_our_sources_as_it_is() {
    depends_on_content_alone(&trees::repository().root.join("src"));
}

#[test]
fn order_owner_umask_and_workers_leave_the_archive_of_a_python_tree_as_it_is() {
    if let Some(tree) = trees::python() {
        depends_on_content_alone(&tree.root);
    }
}

#[test]
fn an_ordinary_user_extracts_a_and_a_b_and_what_is_in_a_without_a_word() {
    if !tools::installed(&["tar", "setpriv"]) {
        return;
    }
    // Not in the target directory: the user must be able to reach it.
    let scratch = tempfile::tempdir().expect("there is room for temporary files");
    let root = scratch.path().join("root");
    fs::create_dir_all(root.join("a")).expect("a fresh directory can be written");
    for file in ["a/b", "a-b"] {
        fs::write(root.join(file), file).expect("a fresh directory can be written");
    }
    let times = [
        ("a/b", 1_000_000_000),
        ("a-b", 1_100_000_000),
        ("a", 1_200_000_000),
    ];
    for (path, seconds) in times {
        set_time(&root.join(path), seconds);
    }
    let archive = scratch.path().join("code.tar.gz");
    pack(&root, &archive, &[]);

    let target = scratch.path().join("target");
    fs::create_dir(&target).expect("a fresh directory can be written");
    let mut tar = as_ordinary_user(&[scratch.path(), &target]);
    let input = File::open(&archive).expect("it was packed just now");
    let said = tools::run(tar.args(["tar", "xz"]).current_dir(&target).stdin(input));

    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    assert!(said.status.success() && said.stdout.is_empty());
    for (path, seconds) in times {
        let found = fs::metadata(target.join(path)).expect("it was extracted");
        assert_eq!(found.mtime(), seconds, "{path}");
    }
}

fn arrives_whole_by_every_way(tree: &Tree) {
    if !tools::installed(&["busybox", "curl", "diff", "tar"]) {
        return;
    }
    let scratch = scratch();
    let left_out = trees::left_out(tree);
    let server = Server::start(&tree.root, &scratch.path().join("state"));
    for (way, fetch, times) in WAYS {
        let target = new_directory(scratch.path(), way);
        fetch(&server.url(), &target);
        compare::assert_same(&tree.root, &target, &left_out, times);
        (tree.try_out)(&target);
        fs::remove_dir_all(target).expect("what was extracted can be removed");
    }
}

fn is_read_by_every_reader(tree: &Tree) {
    if !tools::installed(&["bsdtar", "busybox", "diff", "node", "python3", "tar"]) {
        return;
    }
    let scratch = scratch();
    let left_out = trees::left_out(tree);
    let archive = scratch.path().join("code.tar.gz");
    pack(&tree.root, &archive, &[]);
    for (reader, read, times) in READERS {
        let target = new_directory(scratch.path(), reader);
        read(&archive, &target);
        compare::assert_same(&tree.root, &target, &left_out, times);
        fs::remove_dir_all(target).expect("what was extracted can be removed");
    }
}

/// Packs a tree and a copy of it that differs in all that must not matter.
fn depends_on_content_alone(root: &Path) {
    if !tools::installed(&["chmod", "chown", "cmp", "tar"]) {
        return;
    }
    let scratch = scratch();
    let copy = new_directory(scratch.path(), "copy");
    copy_in_another_order(root, &copy, &scratch.path().join("order"));
    if is_root() {
        tools::output(
            tools::program("chown")
                .args(["-hR", "1000:1000"])
                .arg(&copy),
        );
    }
    tools::output(tools::program("chmod").args(["-R", "go-rwx"]).arg(&copy));

    let packed = |name: &str, root: &Path, options: &[&str]| {
        let archive = scratch.path().join(name);
        pack(root, &archive, options);
        archive
    };
    let first = packed("first", root, &[]);
    for other in [
        packed("again", root, &[]),
        packed("one worker", root, &["--workers", "1"]),
        packed("two workers", root, &["--workers", "2"]),
        packed("of the copy", &copy, &[]),
    ] {
        tools::output(tools::program("cmp").arg(&first).arg(other));
    }
}

/// What `cp -a` does, but with the last path first, so that the file system lists them otherwise where it can.
fn copy_in_another_order(root: &Path, copy: &Path, order: &Path) {
    let mut list = Vec::new();
    for path in trees::paths(root).iter().rev() {
        list.extend_from_slice(b"./");
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    fs::write(order, list).expect("a fresh directory can be written");
    let mut writer = tools::program("tar");
    writer
        .args(["c", "--format=posix", "--no-recursion", "-C"])
        .arg(root)
        .arg("--null")
        .arg("-T")
        .arg(order);
    let mut reader = tools::program("tar");
    reader.args(["xp", "-C"]).arg(copy);
    tools::pipe(writer, reader);
}

fn pack(root: &Path, archive: &Path, options: &[&str]) {
    let mut pack = tools::program(tools::CODE_SERVER);
    let pack = pack.arg("pack").arg(root).arg("-o").arg(archive);
    tools::output(pack.args(options));
}

/// Saves a resource of a server, and returns the headers that came with it.
fn save(url: &str, name: &str, file: &Path) -> String {
    let mut curl = tools::program("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--dump-header",
        "-",
        "-o",
    ])
    .arg(file)
    .arg(format!("{url}/{name}"));
    tools::output(&mut curl)
}

/// The value of a header, its name in small letters.
fn header(headers: &str, name: &str) -> String {
    let mut fields = headers.lines().filter_map(|line| line.split_once(": "));
    let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    field.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The beginning of a command that runs as a user without rights, who owns the last of these directories and can reach
/// all of them. An ordinary user is that user already.
fn as_ordinary_user(directories: &[&Path]) -> Command {
    if !is_root() {
        return tools::program("env");
    }
    for directory in directories {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("it is ours");
    }
    let target = directories.last().expect("there is a target");
    chown(target, Some(65534), Some(65534)).expect("root may give directories away");
    let mut command = tools::program("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn set_time(path: &Path, seconds: i64) {
    let seconds = u64::try_from(seconds).expect("the test's times are after 1970");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::open(path).expect("it was made just now");
    file.set_modified(time).expect("it is ours");
}

/// A directory on the disk that the build is on: a tree may be too large for the one of temporary files.
fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}

fn new_directory(parent: &Path, name: &str) -> PathBuf {
    let directory = parent.join(name);
    fs::create_dir(&directory).expect("a fresh directory can be written");
    directory
}
