//! An artifact: a sealed archive with its listing and its descriptor, ready to be served.
//!
//! Nothing of an artifact ever changes, and its files stay readable when their names are removed: what a download has begun
//! with, it ends with. A [`Lease`] tells whether anybody still reads.

mod mapping;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use mapping::Mapping;
pub use mapping::Slice;

/// A sealed archive and what is known of it.
#[derive(Debug)]
pub struct Artifact {
    descriptor: Descriptor,
    archive: Representation,
    listing: Representation,
    json: Representation,
}

impl Artifact {
    /// Joins a descriptor to the files that it describes; an archive of another length is refused as invalid data.
    ///
    /// `published` is when its representations came to be what is served, which for a revert is long after they were made.
    pub fn new(
        descriptor: Descriptor,
        archive: File,
        listing: File,
        published: SystemTime,
    ) -> io::Result<Self> {
        let found = archive.metadata()?.len();
        if found != descriptor.size {
            let expected = descriptor.size;
            let reason = format!("the archive has {found} bytes instead of {expected}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let lease = Lease::default();
        let listing_length = listing.metadata()?.len();
        let json = Bytes::from(descriptor.to_json());
        Ok(Self {
            archive: Representation {
                length: descriptor.size,
                digest: descriptor.digest,
                modified: published,
                lease: lease.clone(),
                content: Content::File(Arc::new(Mapping::new(archive)?)),
            },
            listing: Representation {
                length: listing_length,
                digest: descriptor.revision.digest(),
                modified: published,
                lease: lease.clone(),
                content: Content::File(Arc::new(Mapping::new(listing)?)),
            },
            json: Representation {
                length: json.len() as u64,
                digest: Digest::of(&json),
                modified: published,
                lease,
                content: Content::Memory(json),
            },
            descriptor,
        })
    }

    /// The same artifact, published again at another time. It shares files and lease with this one.
    #[must_use]
    pub fn republished(&self, published: SystemTime) -> Self {
        self.with_each(|part| part.modified = published)
    }

    /// The same artifact under a lease that others know of.
    #[must_use]
    pub fn under(&self, lease: &Lease) -> Self {
        self.with_each(|part| part.lease = lease.clone())
    }

    fn with_each(&self, change: impl Fn(&mut Representation)) -> Self {
        let with = |part: &Representation| {
            let mut part = part.clone();
            change(&mut part);
            part
        };
        Self {
            descriptor: self.descriptor.clone(),
            archive: with(&self.archive),
            listing: with(&self.listing),
            json: with(&self.json),
        }
    }

    /// When it was published last.
    #[must_use]
    pub fn published(&self) -> SystemTime {
        self.archive.modified
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

/// A claim on an artifact: each representation that is being read holds one, and so does the artifact itself.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<()>);

impl Lease {
    /// Whether anybody but the one who asks has a claim.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Bytes that can be served, and their validators.
#[derive(Clone, Debug)]
pub struct Representation {
    length: u64,
    digest: Digest,
    modified: SystemTime,
    /// Counts by being there.
    lease: Lease,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Arc<Mapping>),
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

    /// When these bytes became what is served.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        self.modified
    }

    /// Another handle on the file that holds the bytes; an error for those in memory.
    pub fn try_clone_file(&self) -> io::Result<File> {
        match &self.content {
            Content::File(mapping) => mapping.file.try_clone(),
            Content::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Bytes of it, ready to be sent.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the length.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Part {
        assert!(range.start <= range.end && range.end <= self.length);
        let index = |offset| usize::try_from(offset).expect("it was mapped, or is in memory");
        let range = index(range.start)..index(range.end);
        match &self.content {
            Content::File(mapping) => Part::Mapped(Slice {
                mapping: Arc::clone(mapping),
                range,
                _lease: self.lease.clone(),
            }),
            Content::Memory(bytes) => Part::Memory(bytes.slice(range)),
        }
    }

    /// Reads exactly this many bytes at an offset. Waits for the disk: not for an asynchronous task.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::File(mapping) => {
                let mut bytes = vec![0; length];
                mapping.file.read_exact_at(&mut bytes, offset)?;
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

/// Bytes of a representation.
#[derive(Clone, Debug)]
pub enum Part {
    /// In a file.
    Mapped(Slice),
    /// In memory.
    Memory(Bytes),
}
