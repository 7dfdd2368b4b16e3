//! Which directory is the state directory, and whether it may be.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::digest::Digest;

/// The state directory for a root where none is named: private to the user, beneath the directory for temporary files.
pub fn default_directory(root: &Path) -> Result<PathBuf, StoreError> {
    let uid = rustix::process::geteuid().as_raw();
    let ours = std::env::temp_dir().join(format!("code-server-{uid}"));
    create_private(&ours)?;
    Ok(ours.join(name_for(root)))
}

/// The same for every way to write the path of a root, and, since links are not followed, whatever it leads to: one that is
/// swapped, or is not there yet, keeps its state.
fn name_for(root: &Path) -> String {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let spelled_out: PathBuf = root.components().collect();
    let mut name = Digest::of(spelled_out.as_os_str().as_encoded_bytes()).hex();
    name.truncate(16);
    name
}

/// Makes a directory that is ours alone, or sees that it is.
fn create_private(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => {
            return result.map_err(|source| StoreError::Create {
                path: path.into(),
                source,
            });
        }
    }
    let metadata = fs::symlink_metadata(path).map_err(|source| StoreError::Create {
        path: path.into(),
        source,
    })?;
    let uid = rustix::process::geteuid().as_raw();
    let others_may = metadata.mode().trailing_zeros() < 6;
    let ours = metadata.is_dir() && metadata.uid() == uid && !others_may;
    if ours {
        Ok(())
    } else {
        Err(StoreError::Foreign { path: path.into() })
    }
}

/// Makes a state directory with its parents, readable by nobody else, if there is none.
pub fn create(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(directory)
        .map_err(|source| StoreError::Create {
            path: directory.into(),
            source,
        })
}

/// Whether what is written there takes memory and not disk.
#[must_use]
pub fn is_in_memory(directory: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(directory).is_ok_and(|system| matches!(system.f_type, TMPFS | RAMFS))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_root_has_one_state_directory_however_it_is_written() {
        let here = std::env::current_dir().unwrap();
        let expected = name_for(&here.join("code"));
        for path in ["code", "./code", "code/", "code/."] {
            assert_eq!(name_for(Path::new(path)), expected, "{path}");
        }
        assert_ne!(name_for(Path::new("other")), expected);
    }

    #[test]
    fn a_private_directory_is_no_link_and_no_one_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        create_private(&path("ours")).unwrap();
        create_private(&path("ours")).unwrap();
        symlink(path("ours"), path("link")).unwrap();
        assert!(matches!(
            create_private(&path("link")),
            Err(StoreError::Foreign { .. })
        ));
        fs::set_permissions(path("ours"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            create_private(&path("ours")),
            Err(StoreError::Foreign { .. })
        ));
    }
}
