//! An artifact: a sealed archive with its listing and its descriptor, ready to be served.
//!
//! Nothing of an artifact ever changes, and its files stay readable when their names are removed: what a download has begun
//! with, it ends with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::digest::Digest;

/// A sealed archive and what is known of it.
#[derive(Debug)]
pub struct Artifact {
    descriptor: Descriptor,
    archive: Representation,
    listing: Representation,
    json: Representation,
}

impl Artifact {
    /// Joins a descriptor to the files that it describes; an archive of another length is refused.
    pub fn new(descriptor: Descriptor, archive: File, listing: File) -> io::Result<Self> {
        let found = archive.metadata()?.len();
        if found != descriptor.size {
            let expected = descriptor.size;
            let reason = format!("the archive has {found} bytes instead of {expected}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let modified = descriptor.created_at;
        let listing_length = listing.metadata()?.len();
        let json = Bytes::from(descriptor.to_json());
        Ok(Self {
            archive: Representation {
                length: descriptor.size,
                digest: descriptor.digest,
                modified,
                content: Content::File(Arc::new(archive)),
            },
            listing: Representation {
                length: listing_length,
                digest: descriptor.revision.digest(),
                modified,
                content: Content::File(Arc::new(listing)),
            },
            json: Representation {
                length: json.len() as u64,
                digest: Digest::of(&json),
                modified,
                content: Content::Memory(json),
            },
            descriptor,
        })
    }

    /// What `/code.json` says.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The archive's bytes.
    #[must_use]
    pub fn archive(&self) -> &Representation {
        &self.archive
    }

    /// The listing's bytes.
    #[must_use]
    pub fn listing(&self) -> &Representation {
        &self.listing
    }

    /// The descriptor's bytes.
    #[must_use]
    pub fn json(&self) -> &Representation {
        &self.json
    }
}

/// Bytes that can be served, and their validators.
#[derive(Clone, Debug)]
pub struct Representation {
    length: u64,
    digest: Digest,
    modified: SystemTime,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Arc<File>),
    Memory(Bytes),
}

impl Representation {
    /// The complete length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the bytes: the strong validator.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// When these bytes were made.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Reads exactly this many bytes at an offset. Waits for the disk: not for an asynchronous task.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::File(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.into())
            }
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.checked_add(length).filter(|&end| end <= bytes.len());
                let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
                Ok(bytes.slice(start..end))
            }
        }
    }
}
