//! How much more a file system takes.

use std::io;

use super::Root;

/// What is left of a file system for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes; `None` where it does not tell, or has no bound.
    pub bytes: Option<u64>,
    /// Files, directories and links; `None` where it makes room for them as they come.
    pub inodes: Option<u64>,
}

impl Root {
    /// What is left of the file system on which the root lies.
    pub fn room(&self) -> io::Result<Room> {
        let system = rustix::fs::fstatvfs(self)?;
        let bytes = system.f_bavail.saturating_mul(system.f_frsize);
        Ok(Room {
            bytes: (system.f_blocks > 0).then_some(bytes),
            inodes: (system.f_files > 0).then_some(system.f_favail),
        })
    }
}
