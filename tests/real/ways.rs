//! The ways from a server and from an archive to a tree.

use std::fs::{self, File};
use std::path::Path;

use crate::compare::Times;
use crate::tools;

/// Gives a directory a copy of what a server has.
pub(crate) type Fetch = fn(url: &str, target: &Path);
/// Extracts an archive into a directory.
pub(crate) type Read = fn(archive: &Path, target: &Path);

/// How a tree comes from a server, and whose times it has then.
pub(crate) const WAYS: [(&str, Fetch, Times); 3] = [
    ("curl and tar", by_curl, Times::All),
    ("busybox", by_busybox, Times::OfFiles),
    ("fetch-init", by_fetch_init, Times::All),
];

/// What reads an archive, and whose times it restores.
pub(crate) const READERS: [(&str, Read, Times); 6] = [
    ("GNU tar", by_gnu_tar, Times::All),
    ("busybox tar", by_busybox_tar, Times::OfFiles),
    ("bsdtar", by_bsdtar, Times::All),
    ("tarfile in mode r:gz", by_seeking_python, Times::NotOfLinks),
    (
        "tarfile in mode r|gz",
        by_streaming_python,
        Times::NotOfLinks,
    ),
    ("zlib of Node.js", by_node, Times::All),
];

fn by_curl(url: &str, target: &Path) {
    let mut curl = tools::program("curl");
    curl.args(["--silent", "--show-error", "--fail"])
        .arg(format!("{url}/code.tar.gz"));
    let mut tar = tools::program("tar");
    tar.args(["xz", "-C"]).arg(target);
    tools::pipe(curl, tar);
}

fn by_busybox(url: &str, target: &Path) {
    let mut wget = tools::program("busybox");
    wget.args(["wget", "-q", "-O-"])
        .arg(format!("{url}/code.tar.gz"));
    let mut tar = tools::program("busybox");
    tar.args(["tar", "xz", "-C"]).arg(target);
    tools::pipe(wget, tar);
}

fn by_fetch_init(url: &str, target: &Path) {
    tools::output(tools::program(tools::FETCH_INIT).arg(url).arg(target));
    let note = fs::read_to_string(target.join(".code-revision")).expect("it is installed");
    assert!(note.starts_with("sha256:"), "{note}");
}

fn by_gnu_tar(archive: &Path, target: &Path) {
    extract("tar", &[], archive, target);
}

fn by_busybox_tar(archive: &Path, target: &Path) {
    extract("busybox", &["tar"], archive, target);
}

fn by_bsdtar(archive: &Path, target: &Path) {
    extract("bsdtar", &[], archive, target);
}

fn extract(program: &str, applet: &[&str], archive: &Path, target: &Path) {
    let mut tar = tools::program(program);
    let tar = tar.args(applet).arg("-xzf").arg(archive).arg("-C");
    tools::output(tar.arg(target));
}

fn by_seeking_python(archive: &Path, target: &Path) {
    by_python("r:gz", archive, target);
}

fn by_streaming_python(archive: &Path, target: &Path) {
    by_python("r|gz", archive, target);
}

fn by_python(mode: &str, archive: &Path, target: &Path) {
    // Newer versions ask how far to trust an archive, and lay other modes than it has if one does not say "fully".
    let script = "import sys, tarfile
trust = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}
tarfile.open(sys.argv[2], sys.argv[1]).extractall(sys.argv[3], **trust)";
    let mut python = tools::program("python3");
    tools::output(python.args(["-c", script, mode]).arg(archive).arg(target));
}

fn by_node(archive: &Path, target: &Path) {
    let script = "require('stream').pipeline(process.stdin, require('zlib').createGunzip(), process.stdout, (error) => {
    if (error) throw error
})";
    let mut node = tools::program("node");
    node.args(["-e", script])
        .stdin(File::open(archive).expect("it was packed just now"));
    let mut tar = tools::program("tar");
    tar.args(["x", "-C"]).arg(target);
    tools::pipe(node, tar);
}
