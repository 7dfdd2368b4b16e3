//! The moment at which the new tree takes the old one's place.

use std::io;

use rustix::io::Errno;

use super::place::Place;
use super::{IngestError, Machine};
use crate::entry::EntryPath;
use crate::root::{Existing, Root};

/// Lets the staged tree and the root change places, or moves it where there is no root. From then on, at the latest, it is
/// there for everybody, and what was there before lies hidden.
///
/// In one step, wherever the file system can. Where it cannot, the root's name is free between two steps, and whoever looks
/// then finds nothing. A failure leaves the old tree in its place.
pub(super) fn exchange(
    place: &Place,
    has_live: bool,
    machine: &Machine<'_>,
) -> Result<(), IngestError> {
    let new = place.own("new");
    let failed = |error| failed(place, error);
    if !has_live {
        return move_to_free(&place.parent, &new, &place.name).map_err(failed);
    }
    match (machine.exchange)(&place.parent, &new, &place.name) {
        Err(error) if is_lacking(&error) => in_two_steps(place, &new, machine),
        result => result.map_err(failed),
    }
}

fn in_two_steps(place: &Place, new: &EntryPath, machine: &Machine<'_>) -> Result<(), IngestError> {
    let (parent, root) = (&place.parent, &place.name);
    let (old, gone) = (place.own("old"), place.own("gone"));
    let failed = |error| failed(place, error);
    move_to_free(parent, root, &old).map_err(failed)?;
    (machine.step)("between the two");
    if let Err(error) = move_to_free(parent, new, root) {
        // If that fails too, the next ingest does it.
        drop(move_to_free(parent, &old, root));
        return Err(failed(error));
    }
    (machine.step)("behind the two");
    // By this name nobody takes it for one that has to be put back.
    move_to_free(parent, &old, &gone).map_err(failed)
}

/// Moves to a name that is free, and stays so while the lock is held.
fn move_to_free(parent: &Root, from: &EntryPath, to: &EntryPath) -> io::Result<()> {
    match parent.rename(from, parent, to, Existing::Keep) {
        // The file system cannot see to that by itself. At worst an empty directory is replaced.
        Err(error) if is_lacking(&error) => parent.rename(from, parent, to, Existing::Replace),
        result => result,
    }
}

/// Whether the file system or the kernel does not know how.
fn is_lacking(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
    )
}

fn failed(place: &Place, source: io::Error) -> IngestError {
    let root = place.root_path();
    match Errno::from_io_error(&source) {
        Some(Errno::BUSY) => IngestError::Fixed {
            root,
            what: "a mount point",
        },
        Some(Errno::XDEV) => IngestError::Fixed {
            root,
            what: "on another file system than the directory that holds it, or part of an image",
        },
        _ => IngestError::Exchange { root, source },
    }
}
