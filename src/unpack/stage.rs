//! What an archive has brought so far: who has which name, and what is left to do when all is there.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::member::Head;
use super::write::Writer;
use super::{Directory, Limits, UnpackError, Unpacked};
use crate::digest::Digest;
use crate::entry::{EntryKind, EntryPath, Mode, Modes, Timestamp};
use crate::listing::{Line, ListingWriter};
use crate::root::Root;

/// Parents that the archive does not name.
const IMPLIED_MODE: u32 = 0o755;

/// A directory that is being filled.
pub(super) struct Stage {
    into: Arc<Root>,
    limits: Limits,
    nodes: BTreeMap<EntryPath, Node>,
    /// The directory that was looked up last: most entries have their predecessor's.
    last_parent: Option<EntryPath>,
    writer: Writer,
    files: u64,
    bytes: u64,
}

/// What has a name.
enum Node {
    Directory {
        mode: Mode,
        mtime: Option<Timestamp>,
    },
    /// With the number and the size of its content.
    File {
        mode: Mode,
        content: usize,
        size: u64,
    },
    Symlink {
        target: Box<[u8]>,
        mtime: Timestamp,
    },
}

impl Stage {
    pub(super) fn new(
        into: Arc<Root>,
        limits: Limits,
        workers: NonZeroUsize,
    ) -> Result<Self, UnpackError> {
        let writer = Writer::new(Arc::clone(&into), workers).map_err(UnpackError::Threads)?;
        Ok(Self {
            into,
            limits,
            nodes: BTreeMap::new(),
            last_parent: None,
            writer,
            files: 0,
            bytes: 0,
        })
    }

    /// A directory; the last of several entries for it has the say.
    pub(super) fn directory(&mut self, head: Head) -> Result<(), UnpackError> {
        let node = Node::Directory {
            mode: head.mode,
            mtime: Some(head.mtime),
        };
        if let Some(known @ Node::Directory { .. }) = self.nodes.get_mut(&head.path) {
            *known = node;
            return Ok(());
        }
        self.require_place(&head.path)?;
        self.create_dir(head.path, node)
    }

    pub(super) fn file(
        &mut self,
        head: Head,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        self.require_place(&head.path)?;
        self.count_bytes(size, &head.path)?;
        let (path, mode) = (head.path.clone(), head.mode);
        let content = self.writer.file(head, size, content)?;
        self.add_file(path, mode, content, size);
        Ok(())
    }

    /// A hard link: a copy of a file that is already here.
    pub(super) fn copy(&mut self, head: Head, from: &EntryPath) -> Result<(), UnpackError> {
        let Some(&Node::File { content, size, .. }) = self.nodes.get(from) else {
            return Err(UnpackError::HardLink {
                path: head.path,
                target: from.as_bytes().into(),
            });
        };
        self.require_place(&head.path)?;
        self.count_bytes(size, &head.path)?;
        self.writer.copy(from, &head)?;
        self.add_file(head.path, head.mode, content, size);
        Ok(())
    }

    /// A symbolic link; made at the end.
    pub(super) fn symlink(&mut self, head: Head, target: Box<[u8]>) -> Result<(), UnpackError> {
        self.require_place(&head.path)?;
        let mtime = head.mtime;
        self.nodes
            .insert(head.path, Node::Symlink { target, mtime });
        Ok(())
    }

    /// Waits for the files, makes the links, gives directories their modes and times, and writes the listing.
    pub(super) fn finish(self, listing: impl Write) -> Result<Unpacked, UnpackError> {
        let digests = self.writer.finish()?;
        make_links(&self.into, &self.nodes)?;
        let directories = close_directories(&self.into, &self.nodes)?;
        let mut lines = ListingWriter::new(listing);
        for (path, node) in &self.nodes {
            lines
                .add(&node.line(path, &digests))
                .map_err(UnpackError::Listing)?;
        }
        let (revision, _, mut listing) = lines.finish();
        listing.flush().map_err(UnpackError::Listing)?;
        Ok(Unpacked {
            revision,
            entries: self.nodes.len() as u64,
            files: self.files,
            bytes: self.bytes,
            directories,
        })
    }

    fn add_file(&mut self, path: EntryPath, mode: Mode, content: usize, size: u64) {
        self.files += 1;
        let node = Node::File {
            mode,
            content,
            size,
        };
        self.nodes.insert(path, node);
    }

    /// Fails unless an entry may be made here: its parent is a directory, its name is free, and none is too many.
    fn require_place(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        self.require_parent(path)?;
        self.require_free(path)
    }

    /// Makes the parents that the archive left out.
    fn require_parent(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        let parent = path.parent();
        if parent.is_none() || parent == self.last_parent {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut next = parent.clone();
        while let Some(ancestor) = next {
            match self.nodes.get(&ancestor) {
                Some(Node::Directory { .. }) => break,
                Some(_) => {
                    return Err(UnpackError::Through {
                        path: path.clone(),
                        parent: ancestor,
                    });
                }
                None => {
                    next = ancestor.parent();
                    missing.push(ancestor);
                }
            }
        }
        for ancestor in missing.into_iter().rev() {
            self.require_free(&ancestor)?;
            let mode = Mode::new(EntryKind::Directory, IMPLIED_MODE, Modes::Keep);
            self.create_dir(ancestor, Node::Directory { mode, mtime: None })?;
        }
        self.last_parent = parent;
        Ok(())
    }

    /// Fails where the name is taken, or no entry more is allowed.
    fn require_free(&self, path: &EntryPath) -> Result<(), UnpackError> {
        if self.nodes.len() as u64 >= self.limits.entries {
            return Err(UnpackError::TooManyEntries {
                limit: self.limits.entries,
            });
        }
        if self.nodes.contains_key(path) {
            return Err(UnpackError::Twice { path: path.clone() });
        }
        Ok(())
    }

    fn count_bytes(&mut self, size: u64, path: &EntryPath) -> Result<(), UnpackError> {
        let limit = self.limits.bytes;
        let bytes = self.bytes.checked_add(size).filter(|&sum| sum <= limit);
        self.bytes = bytes.ok_or_else(|| UnpackError::TooManyBytes {
            limit,
            path: path.clone(),
        })?;
        Ok(())
    }

    /// Makes a directory as open as the umask allows: that shows what the umask is, and lets the entries in.
    fn create_dir(&mut self, path: EntryPath, node: Node) -> Result<(), UnpackError> {
        self.into
            .create_dir(&path, 0o777)
            .map_err(|error| UnpackError::write(&path, error))?;
        self.nodes.insert(path, node);
        Ok(())
    }
}

impl Node {
    fn line<'a>(&self, path: &'a EntryPath, digests: &[Digest]) -> Line<'a> {
        let (kind, mode, digest) = match self {
            Self::Directory { mode, .. } => (EntryKind::Directory, *mode, None),
            Self::File { mode, content, .. } => (EntryKind::File, *mode, Some(digests[*content])),
            Self::Symlink { target, .. } => {
                let mode = Mode::new(EntryKind::Symlink, 0, Modes::Keep);
                (EntryKind::Symlink, mode, Some(Digest::of(target)))
            }
        };
        Line {
            kind,
            mode,
            digest,
            path,
        }
    }
}

fn make_links(into: &Root, nodes: &BTreeMap<EntryPath, Node>) -> Result<(), UnpackError> {
    for (path, node) in nodes {
        if let Node::Symlink { target, mtime } = node {
            into.create_symlink(path, target)
                .and_then(|()| into.set_mtime(path, *mtime))
                .map_err(|error| UnpackError::write(path, error))?;
        }
    }
    Ok(())
}

/// Gives directories their modes and times, the deepest first: a later step would change what lies above it.
fn close_directories(
    into: &Root,
    nodes: &BTreeMap<EntryPath, Node>,
) -> Result<Vec<Directory>, UnpackError> {
    let mut directories = Vec::new();
    for (path, node) in nodes.iter().rev() {
        if let Node::Directory { mode, mtime } = node {
            let directory = close_directory(into, path, *mode, *mtime)
                .map_err(|error| UnpackError::write(path, error))?;
            directories.push(directory);
        }
    }
    directories.reverse();
    Ok(directories)
}

fn close_directory(
    into: &Root,
    path: &EntryPath,
    mode: Mode,
    mtime: Option<Timestamp>,
) -> io::Result<Directory> {
    let found = into.status(Some(path))?.mode;
    if let Some(mtime) = mtime {
        into.set_mtime(path, mtime)?;
    }
    // A directory made with all permissions shows what the umask took. The set-group-id bit, which a file system hands
    // down from the parent, stays.
    let masked = found & mode.bits();
    if masked != found & 0o777 {
        into.set_dir_mode(path, found & 0o7000 | masked)?;
    }
    Ok(Directory {
        path: path.clone(),
        mode: masked,
        mtime,
    })
}
