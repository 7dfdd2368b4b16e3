//! One archive to a file or to standard output, without a server.
//!
//! An archive is written beside its final name, or without any name, and shown only when it is complete: a build that fails
//! or is cancelled leaves nothing and changes nothing.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::archive::Sealed;
use crate::config::pack::{PackConfig, Product};
use crate::config::tree::TreeConfig;
use crate::exit::Exit;
use crate::publication::build::{self, BuildError, Source};
use crate::tree::{LeftOut, RuleError};

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// An `--exclude` pattern cannot be understood.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The tree could not be read or archived.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no place for the archive.
    #[error("cannot create {}", .path.display())]
    Create {
        /// The file or directory.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// What was asked for cannot be written to standard output, or to the device that is named.
    #[error("cannot write out what was packed")]
    Output(#[source] io::Error),
}

impl PackError {
    /// How the program ends for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Rule(_) => Exit::Usage,
            Self::Build(error) => error.exit(),
            Self::Create { .. } => Exit::CannotCreate,
            Self::Output(_) => Exit::Io,
        }
    }
}

/// Gives what was asked for; `out` is standard output. Waits for disks and compressors.
pub fn pack(
    config: &PackConfig,
    out: impl Write,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), PackError> {
    let tree = &config.tree;
    match &config.product {
        Product::Stream => stream(tree, out, cancelled).map(drop),
        Product::File { path, descriptor } => {
            let sealed = to_path(tree, path, cancelled)?;
            if *descriptor {
                describe(tree, sealed, out)
            } else {
                Ok(())
            }
        }
        Product::Descriptor => {
            let source = Source::new(tree, Vec::new())?;
            let mut outputs = || Ok((io::sink(), io::sink()));
            let sealed = build::build(&source, &mut outputs, cancelled)?;
            describe(tree, sealed, out)
        }
        Product::Listing => list(tree, out, cancelled),
        Product::Excluded => list_excluded(tree, out, cancelled),
    }
}

/// Builds into a file without a name, and copies it out when it is whole.
fn stream(
    config: &TreeConfig,
    mut out: impl Write,
    cancelled: &dyn Fn() -> bool,
) -> Result<Sealed, PackError> {
    let no_place = |source| no_place(&std::env::temp_dir(), source);
    let mut file = tempfile::tempfile().map_err(no_place)?;
    let source = Source::new(config, Vec::new())?;
    let mut outputs = || {
        start_over(&file)?;
        Ok((file.try_clone()?, io::sink()))
    };
    let sealed = build::build(&source, &mut outputs, cancelled)?;
    file.rewind().map_err(PackError::Output)?;
    io::copy(&mut file, &mut out).map_err(PackError::Output)?;
    out.flush().map_err(PackError::Output)?;
    Ok(sealed)
}

/// Takes the place of a file, also of one that a link leads to; a device or a pipe is written to and stays what it is.
fn to_path(
    config: &TreeConfig,
    path: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<Sealed, PackError> {
    let no_place = |source| no_place(path, source);
    match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_file() => {
            let path = fs::canonicalize(path).map_err(no_place)?;
            to_file(config, &path, cancelled)
        }
        Ok(kind) if !kind.is_dir() => {
            let device = fs::File::options().write(true).open(path);
            stream(config, device.map_err(no_place)?, cancelled)
        }
        _ => to_file(config, path, cancelled),
    }
}

/// Builds into a file beside the one that is named, and renames it when it is whole.
fn to_file(
    config: &TreeConfig,
    path: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<Sealed, PackError> {
    let no_place = |source| no_place(path, source);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".code-pack-")
        .permissions(Permissions::from_mode(0o666));
    // The error would tell the name of a file that is there no longer.
    let staged = builder.tempfile_in(directory);
    let staged = staged.map_err(|error| no_place(error.kind().into()))?;

    // Both may lie in the tree that is packed.
    let own = [staged.path(), path];
    let own = own.into_iter().filter_map(|path| fs::metadata(path).ok());
    let own = own
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect();
    let source = Source::new(config, own)?;
    let mut outputs = || {
        start_over(staged.as_file())?;
        Ok((staged.as_file().try_clone()?, io::sink()))
    };
    let sealed = build::build(&source, &mut outputs, cancelled)?;
    staged
        .persist(path)
        .map_err(|error| no_place(error.error))?;
    Ok(sealed)
}

fn no_place(path: &Path, source: io::Error) -> PackError {
    PackError::Create {
        path: path.into(),
        source,
    }
}

fn start_over(mut file: &fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0)).map(drop)
}

fn describe(config: &TreeConfig, sealed: Sealed, mut out: impl Write) -> Result<(), PackError> {
    let options = Source::new(config, Vec::new())?.options;
    let descriptor = sealed.describe(&options, SystemTime::now());
    out.write_all(&descriptor.to_json())
        .map_err(PackError::Output)
}

fn list(
    config: &TreeConfig,
    mut out: impl Write,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), PackError> {
    let source = Source::new(config, Vec::new())?;
    let listing = build::list(&source, cancelled)?;
    out.write_all(&listing).map_err(PackError::Output)
}

/// One path a line, a tab, and the rule.
fn list_excluded(
    config: &TreeConfig,
    out: impl Write,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), PackError> {
    let source = Source::new(config, Vec::new())?;
    let mut out = BufWriter::new(out);
    for LeftOut { path, rule, .. } in build::left_out(&source, cancelled)? {
        writeln!(out, "{path}\t{rule}").map_err(PackError::Output)?;
    }
    out.flush().map_err(PackError::Output)
}
