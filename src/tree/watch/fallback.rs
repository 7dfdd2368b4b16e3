//! When events cannot be relied on: which file systems raise none for what others write, and which limits run out.

use std::io;
use std::path::Path;

use notify::{Error, ErrorKind};
use rustix::io::Errno;

/// Why the tree is walked again and again instead of being watched. The text says what it means and what helps.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fallback {
    /// Another machine's writes raise no events here.
    #[error(
        "{0} tells nothing of what other machines write, so the tree is walked again and again instead"
    )]
    FileSystem(&'static str),
    /// The user has no watch left.
    #[error(
        "no inotify watch is left for this user, and each directory takes one, so the tree is walked again and again \
         instead: raise the sysctl fs.inotify.max_user_watches on the node and restart, or leave directories out"
    )]
    Watches,
    /// The user has no instance left, or the process no file.
    #[error(
        "no inotify instance is left for this user, so the tree is walked again and again instead: raise the sysctl \
         fs.inotify.max_user_instances on the node (or the limit on open files) and restart"
    )]
    Instances,
    /// Where a path leads cannot be found out step by step.
    #[error(
        "the links on the way to the root cannot be followed, so the tree is walked again and again instead"
    )]
    Way,
    /// Something else is in the way.
    #[error("the tree cannot be watched, so it is walked again and again instead")]
    Other(#[source] io::Error),
}

/// What it means that a watch could not be set.
#[derive(Debug)]
pub(super) enum Unwatched {
    /// The directory is gone or may not be read, which the walk finds out by itself.
    Gone,
    /// Others will fail as well.
    Fallback(Fallback),
}

/// Tells what a shortage is from what concerns one directory alone.
pub(super) fn meaning(error: Error) -> Unwatched {
    let error = match error.kind {
        ErrorKind::PathNotFound => return Unwatched::Gone,
        ErrorKind::MaxFilesWatch => return Unwatched::Fallback(Fallback::Watches),
        ErrorKind::Io(error) => error,
        other => io::Error::other(Error::new(other)),
    };
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::STALE) => {
            Unwatched::Gone
        }
        Some(Errno::NOSPC) => Unwatched::Fallback(Fallback::Watches),
        Some(Errno::MFILE | Errno::NFILE) => Unwatched::Fallback(Fallback::Instances),
        _ => Unwatched::Fallback(Fallback::Other(error)),
    }
}

/// The name of the file system on which this lies, if it raises no events for what is written elsewhere.
pub(super) fn silent_file_system(path: &Path) -> Option<&'static str> {
    let system = rustix::fs::statfs(path).ok()?;
    silent(u32::try_from(system.f_type & 0xffff_ffff).ok()?)
}

/// By the number that `statfs` gives a type, as far as its lower 32 bits go.
fn silent(number: u32) -> Option<&'static str> {
    Some(match number {
        0x0000_6969 => "NFS",
        0x0000_517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0000_564c => "NCP",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0xaad7_aaea => "PanFS",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0x6163_6673 => "ACFS",
        0xbeef_dead => "StorNext",
        0x786f_4256 => "vboxsf",
        0xbacb_acbc => "vmhgfs",
        0x7c7c_6673 => "prl_fs",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_silent() {
        for (number, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            (0x6573_5546, Some("FUSE")),
            (0x0102_1994, None), // tmpfs
            (0xef53, None),      // ext4
            (0x5846_5342, None), // XFS
            (0x794c_7630, None), // overlayfs
        ] {
            assert_eq!(silent(number), name, "{number:x}");
        }
        assert_eq!(silent_file_system(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_shortage_names_the_limit_that_is_to_be_raised() {
        let text = |error| match meaning(error) {
            Unwatched::Gone => "gone".to_owned(),
            Unwatched::Fallback(fallback) => fallback.to_string(),
        };
        let io = |errno: Errno| text(Error::io(errno.into()));
        let check = |text: String, expected| assert!(text.contains(expected), "{text}");
        check(
            text(Error::new(ErrorKind::MaxFilesWatch)),
            "max_user_watches",
        );
        check(io(Errno::NOSPC), "max_user_watches");
        check(io(Errno::MFILE), "max_user_instances");
        check(io(Errno::NFILE), "max_user_instances");
        check(io(Errno::NOMEM), "cannot be watched");
        check(io(Errno::NAMETOOLONG), "cannot be watched");
        for errno in [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::LOOP] {
            assert_eq!(io(errno), "gone");
        }
        assert_eq!(text(Error::path_not_found()), "gone");
    }

    #[test]
    fn a_cause_is_told_once() {
        let Unwatched::Fallback(fallback) = meaning(Error::io(Errno::NOMEM.into())) else {
            panic!("memory is not one directory's concern");
        };
        let cause = std::error::Error::source(&fallback).unwrap();
        assert!(!fallback.to_string().contains(&cause.to_string()));
    }
}
