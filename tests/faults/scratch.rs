//! Where trees are put that nobody wants to have.

use std::path::Path;

use rustix::fs::{StatVfs, statvfs};
use tempfile::TempDir;

/// What all runs together hold at a time, several times over.
const ROOM: u64 = 1 << 30;

/// A directory for one run. In memory if there is a place for that: a thousand trees take a disk minutes to write, and none
/// of this is about disks.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = |found: StatVfs| found.f_bavail * found.f_frsize >= ROOM;
    if statvfs(memory).is_ok_and(has_room) {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}
