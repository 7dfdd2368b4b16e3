//! SHA-256: the identity of bytes ([`Digest`]) and of content ([`Revision`]).
//!
//! Both are written `sha256:<64 hex digits>` and are only ever made by hashing or by reading what was written down, so a
//! value in hand is well-formed. Every hash of this crate is computed here: by the `sha2` crate where the processor has instructions
//! for it, and by `ring`, 1.8 times as fast, where it has none.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The SHA-256 of bytes as they are served or stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes bytes that are all there.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 hexadecimal digits, lower case.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The standard Base64 form, as structured HTTP fields carry it.
    #[must_use]
    pub fn base64(&self) -> String {
        BASE64.encode(&self.0)
    }

    /// The first four bytes as a number, most significant first.
    #[must_use]
    pub fn first_32_bits(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest that was written down as its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses 64 hexadecimal digits without a prefix.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(hex.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected sha256: followed by 64 lower-case hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or(ParseDigestError)
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The identity of a tree's content: the SHA-256 of its listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Digest);

impl Revision {
    /// The revision whose listing hashes to this digest.
    #[must_use]
    pub fn of_listing(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest of the listing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Revision {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Computes a [`Digest`] over bytes that come in pieces.
#[derive(Clone)]
pub struct Hasher(Backend);

#[derive(Clone)]
enum Backend {
    Sha2(sha2::Sha256),
    Ring(ring::digest::Context),
}

impl Hasher {
    /// Starts over no bytes.
    #[must_use]
    pub fn new() -> Self {
        if processor_hashes() {
            Self(Backend::Sha2(sha2::Sha256::new()))
        } else {
            Self(Backend::Ring(ring::digest::Context::new(
                &ring::digest::SHA256,
            )))
        }
    }

    /// Goes on over these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Backend::Sha2(state) => state.update(bytes),
            Backend::Ring(state) => state.update(bytes),
        }
    }

    /// The digest of all that was given.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Backend::Sha2(state) => Digest(state.finalize().into()),
            Backend::Ring(state) => {
                let digest = state.finish();
                Digest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
            }
        }
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

#[cfg(target_arch = "x86_64")]
fn processor_hashes() -> bool {
    std::arch::is_x86_feature_detected!("sha")
}

#[cfg(target_arch = "aarch64")]
fn processor_hashes() -> bool {
    std::arch::is_aarch64_feature_detected!("sha2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_hashes() -> bool {
    true
}

/// Hashes and counts what passes on its way to another writer.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Counts from here.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            count: 0,
        }
    }

    /// Bytes passed so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The writer below, the digest of what passed, and its length in bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_digest_of_abc_is_the_one_in_fips_180() {
        assert_eq!(Digest::of(b"abc").hex(), ABC);
    }

    #[test]
    fn both_backends_agree() {
        let mut sha2 = Hasher(Backend::Sha2(sha2::Sha256::new()));
        let mut ring = Hasher(Backend::Ring(ring::digest::Context::new(
            &ring::digest::SHA256,
        )));
        for piece in [&b"a"[..], b"", b"bc"] {
            sha2.update(piece);
            ring.update(piece);
        }
        assert_eq!(sha2.finish(), ring.finish());
    }

    #[test]
    fn a_written_digest_parses_back() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn other_forms_are_refused() {
        let upper = format!("sha256:{}", ABC.to_uppercase());
        let long = format!("sha256:{ABC}0");
        for text in ["", ABC, "sha256:", "sha512:00", &upper, &long] {
            assert_eq!(text.parse::<Digest>(), Err(ParseDigestError), "{text}");
        }
    }

    #[test]
    fn a_hashing_writer_sees_what_passes() {
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        assert_eq!(writer.finish(), (b"abc".to_vec(), Digest::of(b"abc"), 3));
    }
}
