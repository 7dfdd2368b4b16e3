//! Artifacts made without the code that makes them in production.

use std::collections::BTreeMap;
use std::time::SystemTime;

use code_server::descriptor::{ARCHIVE_TRAILER, Descriptor, Segment};
use code_server::digest::{Digest, Revision};
use flate2::{Compress, Compression, Crc, FlushCompress};
use tar::{Builder, EntryType, Header};

/// A sealed archive and its descriptor.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub archive: Vec<u8>,
    pub descriptor: Descriptor,
}

/// What a tree has under a name.
#[derive(Clone, Debug)]
pub enum Thing {
    Directory,
    File(Vec<u8>),
    Link(&'static str),
}

/// A tree of things in the order of their names.
pub type Tree = Vec<(&'static str, Thing)>;

/// A tree of every kind of thing, large enough for several segments. Trees of different flavours differ.
pub fn sample(flavour: u8) -> Tree {
    let noise = |seed: u32, length: usize| -> Vec<u8> {
        let mut state = seed;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(step).collect()
    };
    vec![
        ("app", Thing::Directory),
        ("app/empty", Thing::File(Vec::new())),
        ("app/flavour", Thing::File(vec![flavour; 10])),
        ("app/large", Thing::File(noise(u32::from(flavour), 400_000))),
        ("app/small", Thing::File(noise(7, 3_000))),
        ("current", Thing::Link("app/flavour")),
        ("zeros", Thing::File(vec![0; 200_000])),
    ]
}

/// The artifact of a tree, cut without regard to its entries.
pub fn artifact(tree: &Tree) -> Artifact {
    cut(tree, seal)
}

/// The artifact of a tree, cut behind each file of these names and at each 64 KiB of a file.
pub fn neat(tree: &Tree, behind: impl Fn(&str) -> bool) -> Artifact {
    const PIECE: u64 = 64 << 10;
    cut(tree, |tar| {
        let mut cuts = Vec::new();
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let entry = entry.unwrap();
            let start = entry.raw_file_position();
            let pieces = (1..entry.size().div_ceil(PIECE)).map(|piece| start + piece * PIECE);
            cuts.extend(pieces);
            if behind(entry.path().unwrap().to_str().unwrap()) {
                cuts.push(start + entry.size().next_multiple_of(512));
            }
        }
        let ends = cuts.iter().map(|&cut| usize::try_from(cut).unwrap());
        let ends: Vec<_> = ends.chain([tar.len()]).collect();
        let starts = std::iter::once(&0).chain(&ends);
        seal_runs(starts.zip(&ends).map(|(&start, &end)| &tar[start..end]))
    })
}

fn cut(tree: &Tree, seal: impl FnOnce(&[u8]) -> Artifact) -> Artifact {
    let mut tar = Builder::new(Vec::new());
    let mut lines = Vec::new();
    for (name, thing) in tree {
        let (kind, mode, content) = match thing {
            Thing::Directory => (EntryType::Directory, 0o755, &[][..]),
            Thing::File(content) => (EntryType::Regular, 0o644, &content[..]),
            Thing::Link(_) => (EntryType::Symlink, 0o777, &[][..]),
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if let Thing::Link(target) = thing {
            header.set_link_name_literal(target).unwrap();
        }
        tar.append_data(&mut header, format!("./{name}"), content)
            .unwrap();
        lines.push(match thing {
            Thing::Directory => format!("d 0755 -  {name}\n"),
            Thing::File(content) => format!("f 0644 {}  {name}\n", Digest::of(content).hex()),
            Thing::Link(target) => {
                format!("l 0777 {}  {name}\n", Digest::of(target.as_bytes()).hex())
            }
        });
    }
    let mut artifact = seal(&tar.into_inner().unwrap());
    let files = tree
        .iter()
        .filter(|(_, thing)| matches!(thing, Thing::File(_)));
    artifact.descriptor.revision = Revision::of_listing(Digest::of(lines.concat().as_bytes()));
    artifact.descriptor.entries = tree.len() as u64;
    artifact.descriptor.files = files.count() as u64;
    artifact
}

/// Any bytes as an archive, in segments of 64 KiB; its descriptor allows many entries and has a revision of nothing.
pub fn seal(tar: &[u8]) -> Artifact {
    seal_runs(tar.chunks(64 << 10))
}

fn seal_runs<'a>(runs: impl Iterator<Item = &'a [u8]>) -> Artifact {
    let mut crc = Crc::new();
    let mut archive = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut segments = Vec::new();
    for raw in runs {
        crc.update(raw);
        let mut compressed = Vec::with_capacity(raw.len() * 2 + 1024);
        Compress::new(Compression::default(), false)
            .compress_vec(raw, &mut compressed, FlushCompress::Full)
            .unwrap();
        segments.push(Segment {
            offset: archive.len() as u64,
            length: compressed.len() as u64,
            raw_length: raw.len() as u64,
            digest: Digest::of(&compressed),
        });
        archive.extend(compressed);
    }
    archive.extend([3, 0]);
    archive.extend(crc.sum().to_le_bytes());
    archive.extend(crc.amount().to_le_bytes());
    let end = segments.last().map_or(10, |last| last.offset + last.length);
    assert_eq!(archive.len() as u64, end + ARCHIVE_TRAILER);
    let descriptor = Descriptor {
        format: "1;coding=gzip".into(),
        revision: Revision::of_listing(Digest::of(b"")),
        digest: Digest::of(&archive),
        size: archive.len() as u64,
        uncompressed_size: segments.iter().map(|one: &Segment| one.raw_length).sum(),
        entries: 1000,
        files: 1000,
        created_at: SystemTime::UNIX_EPOCH,
        segments,
        left_out: BTreeMap::new(),
    };
    Artifact {
        archive,
        descriptor,
    }
}
