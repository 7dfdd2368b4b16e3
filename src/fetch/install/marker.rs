//! The note that there is no way back: which tree is to be finished, and until when that can be trusted.

use crate::digest::Revision;
use crate::root::boot_id;

/// What says that a staged tree is complete.
pub(super) struct Marker {
    pub(super) revision: Revision,
    pub(super) boot: String,
    /// Of the staged directory, where it is moved as a whole.
    pub(super) inode: Option<u64>,
}

impl Marker {
    /// The marker of a tree that is staged in this boot.
    pub(super) fn of(revision: Revision, inode: Option<u64>) -> Self {
        Self {
            revision,
            boot: boot_id(),
            inode,
        }
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        Some(Self {
            revision: lines.next()?.parse().ok()?,
            boot: lines.next()?.into(),
            inode: match lines.next() {
                Some(inode) => Some(inode.parse().ok()?),
                None => None,
            },
        })
    }

    pub(super) fn to_text(&self) -> String {
        let inode = self.inode.map(|inode| format!("{inode}\n"));
        format!(
            "{}\n{}\n{}",
            self.revision,
            self.boot,
            inode.unwrap_or_default()
        )
    }

    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot == boot_id()
    }
}
