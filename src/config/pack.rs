//! What `code-server pack` is told.

use std::path::PathBuf;

use clap::Args;

use super::ConfigError;
use super::tree::{TreeArgs, TreeConfig};

/// As typed.
#[derive(Debug, Args)]
pub(super) struct PackArgs {
    #[command(flatten)]
    tree: TreeArgs,

    /// Write the archive to this file, or to standard output if it is `-`
    #[arg(short, long, value_name = "FILE", env = "CODE_SERVER_OUTPUT")]
    output: Option<PathBuf>,

    /// Print the descriptor: revision, digest, sizes, segments
    #[arg(long, env = "CODE_SERVER_JSON", conflicts_with_all = ["list", "list_excluded"])]
    json: bool,

    /// Print the listing, whose SHA-256 is the revision
    #[arg(long, env = "CODE_SERVER_LIST", conflicts_with_all = ["list_excluded", "output"])]
    list: bool,

    /// Print what is left out and the rule that does so, parted by a tab
    #[arg(long, env = "CODE_SERVER_LIST_EXCLUDED", conflicts_with = "output")]
    list_excluded: bool,
}

/// As decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackConfig {
    /// What is packed.
    pub tree: TreeConfig,
    /// What for.
    pub product: Product,
}

/// What is asked of a packing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Product {
    /// The archive, on standard output.
    Stream,
    /// The archive, in a file; the descriptor besides if it is asked for.
    File {
        /// Where.
        path: PathBuf,
        /// Whether the descriptor goes to standard output.
        descriptor: bool,
    },
    /// The descriptor alone.
    Descriptor,
    /// The listing.
    Listing,
    /// What is left out.
    Excluded,
}

impl PackArgs {
    pub(super) fn decide(self) -> Result<PackConfig, ConfigError> {
        let streamed = self
            .output
            .as_ref()
            .is_some_and(|path| path.as_os_str() == "-");
        let product = match (self.output, self.json, self.list, self.list_excluded) {
            (_, _, true, _) => Product::Listing,
            (_, _, _, true) => Product::Excluded,
            (None, true, ..) => Product::Descriptor,
            (Some(_), true, ..) if streamed => return Err(ConfigError::TwoOnStandardOutput),
            (Some(path), descriptor, ..) if !streamed => Product::File { path, descriptor },
            (_, false, ..) | (Some(_), true, ..) => Product::Stream,
        };
        let tree = self
            .tree
            .decide(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())?;
        Ok(PackConfig { tree, product })
    }
}
