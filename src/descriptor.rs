//! What server and client say to each other: the descriptor of an artifact, and the names of resources and headers.
//!
//! A [`Descriptor`] in hand is consistent: [`Descriptor::parse`] refuses offsets that do not join, lengths that do not add
//! up, and segments larger than a reader must be prepared to hold. Whether the archive keeps what its descriptor says is
//! for the reader of the archive to check.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, Revision};

/// The archive's resource, beneath a server's base.
pub const ARCHIVE: &str = "code.tar.gz";
/// The descriptor's resource.
pub const DESCRIPTOR: &str = "code.json";
/// The listing's resource.
pub const LISTING: &str = "code.list";
/// Beneath it each revision has the three resources of its own: `revisions/sha256:<hex>/code.tar.gz`.
pub const REVISIONS: &str = "revisions";

/// The header that tells the revision: `Code-Revision: sha256:<hex>`.
pub const CODE_REVISION: &str = "code-revision";
/// The header that tells how many bytes an archive's tar has.
pub const CODE_UNCOMPRESSED_SIZE: &str = "code-uncompressed-size";

/// The largest descriptor that is read, in bytes.
pub const LARGEST_DESCRIPTOR: u64 = 16 << 20;
/// The largest segment that is read, in bytes of tar.
pub const LARGEST_RAW_SEGMENT: u64 = 8 << 20;
/// The largest segment that is read, in compressed bytes.
pub const LARGEST_SEGMENT: u64 = 9 << 20;
/// The version of the format that this program writes, and the only one it reads.
pub const MAJOR_VERSION: &str = "1";

/// Bytes before the first segment: a gzip header without optional fields.
pub const ARCHIVE_HEADER: u64 = 10;
/// Bytes behind the last segment: the empty final block, the CRC and the length of a gzip member.
pub const ARCHIVE_TRAILER: u64 = 10;

/// What an archive is and how it can be read in parts: `/code.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// All that decides about the archive's bytes besides the tree: version, coding, compressor, options. Opaque but for
    /// the version, which stands before the first `;`.
    pub format: String,
    /// The identity of the content.
    pub revision: Revision,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Length of the archive in bytes.
    pub size: u64,
    /// Length of the tar in bytes.
    pub uncompressed_size: u64,
    /// Directories, files and links.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// When the archive was made.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub created_at: SystemTime,
    /// The runs of the deflate stream that inflate alone, one after the other.
    pub segments: Vec<Segment>,
    /// How many names each rule left out.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
}

/// A run of an archive that inflates alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Where it begins in the archive.
    pub offset: u64,
    /// Its compressed length in bytes.
    pub length: u64,
    /// Its length in bytes of tar.
    pub raw_length: u64,
    /// SHA-256 of its compressed bytes.
    pub digest: Digest,
}

/// Why a descriptor was refused.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// It is not JSON, or a field is missing or malformed.
    #[error("the descriptor cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// It was written by a program that is too new or too old.
    #[error(
        "the archive has format version {found:?}, and this program reads version {MAJOR_VERSION}"
    )]
    Version {
        /// What stands where the version should.
        found: String,
    },
    /// A segment is empty, or larger than a reader holds.
    #[error(
        "segment {index} of the descriptor is empty or too large: {raw_length} bytes in {length}"
    )]
    SegmentSize {
        /// Counted from zero.
        index: usize,
        /// As the descriptor has it.
        length: u64,
        /// As the descriptor has it.
        raw_length: u64,
    },
    /// A segment does not begin where the one before ends.
    #[error("segment {index} of the descriptor begins at {found} instead of {expected}")]
    SegmentOffset {
        /// Counted from zero.
        index: usize,
        /// Where it should begin.
        expected: u64,
        /// As the descriptor has it.
        found: u64,
    },
    /// The parts are not the whole.
    #[error(
        "the segments of the descriptor add up to {found} bytes of {what} instead of {expected}"
    )]
    Sum {
        /// Archive or tar.
        what: &'static str,
        /// What the descriptor has as the whole.
        expected: u64,
        /// What its parts add up to.
        found: u64,
    },
}

impl Descriptor {
    /// Reads a descriptor that came from outside. Fields that it does not know are ignored.
    pub fn parse(json: &[u8]) -> Result<Self, DescriptorError> {
        check_version(json)?;
        let descriptor: Self = serde_json::from_slice(json)?;
        descriptor.check_segments()?;
        Ok(descriptor)
    }

    /// The text that is served, one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec(self).expect("no field of a descriptor can fail to be written");
        json.push(b'\n');
        json
    }

    fn check_segments(&self) -> Result<(), DescriptorError> {
        let mut end = ARCHIVE_HEADER;
        let mut raw_end: u64 = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let &Segment {
                offset,
                length,
                raw_length,
                ..
            } = segment;
            let sizes = (1..=LARGEST_SEGMENT).contains(&length)
                && (1..=LARGEST_RAW_SEGMENT).contains(&raw_length);
            if !sizes {
                return Err(DescriptorError::SegmentSize {
                    index,
                    length,
                    raw_length,
                });
            }
            if offset != end {
                return Err(DescriptorError::SegmentOffset {
                    index,
                    expected: end,
                    found: offset,
                });
            }
            // Neither can overflow: no descriptor that is read holds 2⁴⁰ segments.
            end += length;
            raw_end += raw_length;
        }
        let found = end + ARCHIVE_TRAILER;
        if found != self.size {
            return Err(DescriptorError::Sum {
                what: "archive",
                expected: self.size,
                found,
            });
        }
        if raw_end != self.uncompressed_size {
            return Err(DescriptorError::Sum {
                what: "tar",
                expected: self.uncompressed_size,
                found: raw_end,
            });
        }
        Ok(())
    }
}

/// Looks at the version before anything else: another one may have other fields.
fn check_version(json: &[u8]) -> Result<(), DescriptorError> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let Head { format } = serde_json::from_slice(json)?;
    let found = format.split(';').next().unwrap_or_default();
    if found == MAJOR_VERSION {
        return Ok(());
    }
    Err(DescriptorError::Version {
        found: found.chars().take(32).collect(),
    })
}

fn write_time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Descriptor {
        let digest = Digest::of(b"");
        Descriptor {
            format: "1;coding=gzip".into(),
            revision: Revision::of_listing(digest),
            digest,
            size: 120,
            uncompressed_size: 3072,
            entries: 2,
            files: 1,
            created_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            segments: vec![
                Segment {
                    offset: 10,
                    length: 60,
                    raw_length: 1024,
                    digest,
                },
                Segment {
                    offset: 70,
                    length: 40,
                    raw_length: 2048,
                    digest,
                },
            ],
            left_out: BTreeMap::from([(".git".into(), 1)]),
        }
    }

    /// Parses the sample with one value put in another's place.
    fn parse_with(pointer: &str, value: Value) -> Result<Descriptor, DescriptorError> {
        let mut json: Value = serde_json::from_slice(&sample().to_json()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        Descriptor::parse(json.to_string().as_bytes())
    }

    #[test]
    fn a_written_descriptor_parses_back() {
        assert_eq!(Descriptor::parse(&sample().to_json()).unwrap(), sample());
    }

    #[test]
    fn times_are_written_after_rfc_3339() {
        let json: Value = serde_json::from_slice(&sample().to_json()).unwrap();
        assert_eq!(json["created_at"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        let mut json: Value = serde_json::from_slice(&sample().to_json()).unwrap();
        json["signature"] = json!({"by": "somebody"});
        assert_eq!(
            Descriptor::parse(json.to_string().as_bytes()).unwrap(),
            sample()
        );
    }

    #[test]
    fn another_major_version_is_refused_by_name() {
        for format in ["2;coding=gzip", "", "1.5", "x"] {
            let error = parse_with("/format", json!(format)).unwrap_err();
            assert!(matches!(error, DescriptorError::Version { .. }), "{error}");
        }
    }

    #[test]
    fn segments_that_do_not_join_are_refused() {
        let check = |pointer: &str, value: u64| parse_with(pointer, json!(value)).unwrap_err();
        assert!(matches!(
            check("/segments/0/offset", 9),
            DescriptorError::SegmentOffset { .. }
        ));
        assert!(matches!(
            check("/segments/1/offset", 71),
            DescriptorError::SegmentOffset { .. }
        ));
        assert!(matches!(
            check("/segments/1/length", 41),
            DescriptorError::Sum { .. }
        ));
        assert!(matches!(
            check("/segments/1/raw_length", 1),
            DescriptorError::Sum { .. }
        ));
        assert!(matches!(
            check("/size", u64::MAX),
            DescriptorError::Sum { .. }
        ));
    }

    #[test]
    fn segments_that_no_reader_could_hold_are_refused() {
        let check = |pointer: &str, value: u64| parse_with(pointer, json!(value)).unwrap_err();
        for length in [0, LARGEST_SEGMENT + 1, u64::MAX] {
            assert!(matches!(
                check("/segments/0/length", length),
                DescriptorError::SegmentSize { .. }
            ));
        }
        for length in [0, LARGEST_RAW_SEGMENT + 1, u64::MAX] {
            assert!(matches!(
                check("/segments/0/raw_length", length),
                DescriptorError::SegmentSize { .. }
            ));
        }
    }

    #[test]
    fn what_is_not_a_descriptor_is_refused() {
        for json in ["", "{}", "[]", "<html>", r#"{"format":"1"}"#] {
            assert!(matches!(
                Descriptor::parse(json.as_bytes()),
                Err(DescriptorError::Malformed(_))
            ));
        }
    }
}
