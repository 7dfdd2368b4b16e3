//! What an archive has brought so far: who has which name, and what is left to do when all is there.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::member::Head;
use super::write::{Content, Writer};
use super::{Directory, Held, Keeping, Left, Limits, UnpackError, Unpacked};
use crate::digest::Digest;
use crate::entry::{EntryKind, EntryPath, Mode, Modes, Timestamp};
use crate::listing::{Line, ListingWriter};
use crate::root::{Near, Root};

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
    keeping: Keeping,
    in_order: bool,
    files: u64,
    bytes: u64,
}

/// What has a name.
enum Node {
    Directory {
        mode: Mode,
        mtime: Option<Timestamp>,
        /// Its permission bits where it lies already and nothing had to be put into it; else it was made.
        kept: Option<u32>,
    },
    /// With the number and the size of its content.
    File {
        mode: Mode,
        mtime: Timestamp,
        content: usize,
        size: u64,
    },
    Symlink {
        target: Box<[u8]>,
        mtime: Timestamp,
    },
    /// A link that lies there already.
    KeptSymlink {
        digest: Option<Digest>,
    },
}

impl Stage {
    pub(super) fn new(
        into: Arc<Root>,
        limits: Limits,
        workers: NonZeroUsize,
        keeping: Keeping,
    ) -> Result<Self, UnpackError> {
        let writer = Writer::new(Arc::clone(&into), workers);
        Ok(Self {
            into,
            limits,
            nodes: BTreeMap::new(),
            last_parent: None,
            writer: writer.map_err(UnpackError::Threads)?,
            keeping,
            in_order: true,
            files: 0,
            bytes: 0,
        })
    }

    /// A directory; the last of several entries for it has the say.
    pub(super) fn directory(&mut self, head: Head) -> Result<(), UnpackError> {
        let node = Node::Directory {
            mode: head.mode,
            mtime: Some(head.mtime),
            kept: None,
        };
        if let Some(Node::Directory { .. }) = self.nodes.get(&head.path) {
            self.in_order = false;
            self.make(&head.path)?;
            self.nodes.insert(head.path, node);
            return Ok(());
        }
        self.require_place(&head.path)?;
        self.create_dir(head.path, node)
    }

    /// A file; one with this content and this name may lie there already.
    pub(super) fn file(
        &mut self,
        head: Head,
        size: u64,
        found: Option<Digest>,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        self.require_place(&head.path)?;
        self.count_bytes(size, &head.path)?;
        let (path, mode, mtime) = (head.path.clone(), head.mode, head.mtime);
        let content = self.writer.file(head, size, found, content)?;
        self.add_file(path, (mode, mtime), content, size);
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
        let content = self.writer.copy(from, &head, content)?;
        self.add_file(head.path, (head.mode, head.mtime), content, size);
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

    /// An entry that lies where the tree is to be, or that gets a second name here.
    pub(super) fn keep(&mut self, path: EntryPath, held: Held) -> Result<(), UnpackError> {
        self.require_parent(&path)?;
        self.require_free(&path)?;
        let Held {
            kind,
            mode,
            digest,
            size,
            mtime,
            masked,
        } = held;
        let is_linked = matches!(self.keeping, Keeping::Linked(_));
        match kind {
            EntryKind::Directory => {
                let kept = Some(masked).filter(|_| !is_linked);
                let node = Node::Directory { mode, mtime, kept };
                if is_linked {
                    return self.create_dir(path, node);
                }
                self.nodes.insert(path, node);
            }
            EntryKind::File => {
                self.count_bytes(size, &path)?;
                let content = self.writer.kept(digest);
                self.add_file(path, (mode, mtime.unwrap_or_default()), content, size);
            }
            EntryKind::Symlink => {
                self.nodes.insert(path, Node::KeptSymlink { digest });
            }
        }
        Ok(())
    }

    /// Waits for the files, makes the links, gives directories their modes and times, and writes the listing.
    pub(super) fn finish(
        self,
        listing: impl Write,
        mut left: impl FnMut(&EntryPath, Left) -> io::Result<()>,
    ) -> Result<Unpacked, UnpackError> {
        let contents = self.writer.finish()?;
        make_links(&self.into, &self.nodes)?;
        link_kept(&self.keeping, &self.into, &self.nodes, &contents)?;
        let directories = close_directories(&self.into, &self.nodes)?;
        let mut lines = ListingWriter::new(listing);
        let mut closed = directories.iter();
        for (path, node) in &self.nodes {
            lines
                .add(&node.line(path, &contents))
                .and_then(|()| left(path, node.left(&contents, &mut closed)))
                .map_err(UnpackError::Listing)?;
        }
        let (revision, _, mut listing) = lines.finish();
        listing.flush().map_err(UnpackError::Listing)?;
        Ok(Unpacked {
            revision,
            entries: self.nodes.len() as u64,
            files: self.files,
            bytes: self.bytes,
            in_order: self.in_order,
            directories,
        })
    }

    fn add_file(
        &mut self,
        path: EntryPath,
        (mode, mtime): (Mode, Timestamp),
        content: usize,
        size: u64,
    ) {
        self.files += 1;
        let node = Node::File {
            mode,
            mtime,
            content,
            size,
        };
        self.nodes.insert(path, node);
    }

    /// Fails unless an entry may be made here: its parent is a directory, its name is free, and none is too many. The
    /// parent is made if it is not.
    fn require_place(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        self.require_parent(path)?;
        if let Some(parent) = path.parent() {
            self.make(&parent)?;
        }
        self.require_free(path)
    }

    /// Makes a directory of the tree, and those above it, where they were only kept so far.
    fn make(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        let Some(Node::Directory { kept, .. }) = self.nodes.get_mut(path) else {
            return Ok(());
        };
        if kept.take().is_none() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make(&parent)?;
        }
        self.into
            .create_dir(path, 0o777)
            .map_err(|error| UnpackError::write(path, error))
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
            let node = Node::Directory {
                mode: Mode::new(EntryKind::Directory, IMPLIED_MODE, Modes::Keep),
                mtime: None,
                kept: None,
            };
            self.in_order = false;
            if let Some(parent) = ancestor.parent() {
                self.make(&parent)?;
            }
            self.create_dir(ancestor, node)?;
        }
        self.last_parent = parent;
        Ok(())
    }

    /// Fails where the name is taken, or no entry more is allowed.
    fn require_free(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        if self.nodes.len() as u64 >= self.limits.entries {
            return Err(UnpackError::TooManyEntries {
                limit: self.limits.entries,
            });
        }
        if self.nodes.contains_key(path) {
            return Err(UnpackError::Twice { path: path.clone() });
        }
        self.in_order &= self.nodes.last_key_value().is_none_or(|last| last.0 < path);
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
    fn line<'a>(&self, path: &'a EntryPath, contents: &[Content]) -> Line<'a> {
        let (kind, mode, digest) = match self {
            Self::Directory { mode, .. } => (EntryKind::Directory, *mode, None),
            Self::File { mode, content, .. } => (EntryKind::File, *mode, contents[*content].digest),
            Self::Symlink { target, .. } => {
                let mode = Mode::new(EntryKind::Symlink, 0, Modes::Keep);
                (EntryKind::Symlink, mode, Some(Digest::of(target)))
            }
            Self::KeptSymlink { digest } => {
                let mode = Mode::new(EntryKind::Symlink, 0, Modes::Keep);
                (EntryKind::Symlink, mode, *digest)
            }
        };
        Line {
            kind,
            mode,
            digest,
            path,
        }
    }

    /// How it was left; the next of the directories is this one if it is one.
    fn left<'a>(
        &self,
        contents: &[Content],
        directories: &mut impl Iterator<Item = &'a Directory>,
    ) -> Left {
        match self {
            Self::Directory { .. } => {
                let closed = directories.next().expect("every directory was closed");
                Left::Directory {
                    masked: closed.mode,
                    mtime: closed.mtime,
                }
            }
            Self::File { content, .. } if contents[*content].is_kept => Left::Kept,
            &Self::File { size, mtime, .. } => Left::Written { size, mtime },
            Self::Symlink { target, mtime } => Left::Written {
                size: target.len() as u64,
                mtime: *mtime,
            },
            Self::KeptSymlink { .. } => Left::Kept,
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

/// Gives what is kept its second name. Not before all else is done: it changes the stamps of what is there.
fn link_kept(
    keeping: &Keeping,
    into: &Root,
    nodes: &BTreeMap<EntryPath, Node>,
    contents: &[Content],
) -> Result<(), UnpackError> {
    let Keeping::Linked(from) = keeping else {
        return Ok(());
    };
    let (mut old, mut new) = (Near::default(), Near::default());
    for (path, node) in nodes {
        let is_kept = match node {
            Node::File { content, .. } => contents[*content].is_kept,
            Node::KeptSymlink { .. } => true,
            Node::Directory { .. } | Node::Symlink { .. } => false,
        };
        if is_kept {
            from.link(&mut old, path, (into, &mut new))
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
        match *node {
            Node::Directory {
                mtime,
                kept: Some(mode),
                ..
            } => directories.push(Directory {
                path: path.clone(),
                mode,
                mtime,
                is_kept: true,
            }),
            Node::Directory { mode, mtime, .. } => {
                let directory = close_directory(into, path, mode, mtime)
                    .map_err(|error| UnpackError::write(path, error))?;
                directories.push(directory);
            }
            _ => {}
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
        is_kept: false,
    })
}
