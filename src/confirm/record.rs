//! What a server tells of itself in its state directory.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer};

use crate::digest::Revision;
use crate::entry::Modes;

/// The longest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Who serves, by which rules, and what came of the last build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerRecord {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// What belongs to the code.
    pub rules: ServerRules,
    /// `None` before the first has ended.
    pub last_build: Option<LastBuild>,
}

/// The part of a server's configuration that decides the revision of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerRules {
    /// Patterns of what to leave out.
    pub excludes: Vec<String>,
    /// Whether the built-in patterns hold.
    pub default_excludes: bool,
    /// Whether an entry that may not be read is left out, or an error.
    pub skip_unreadable: bool,
    /// Whether a tree without entries is one.
    pub allow_empty: bool,
    /// How permission bits travel.
    #[serde(with = "ModesText")]
    pub modes: Modes,
}

/// What came of a build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LastBuild {
    /// When it began.
    #[serde(deserialize_with = "read_time")]
    pub began: SystemTime,
    /// How it ended.
    pub result: LastResult,
    /// `None` if it failed.
    pub revision: Option<Revision>,
    /// Why it failed, in a sentence.
    pub error: Option<String>,
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastResult {
    /// With an artifact that is now the current one.
    Published,
    /// With what was current already.
    Unchanged,
    /// With nothing.
    Failed,
}

#[derive(Deserialize)]
#[serde(remote = "Modes", rename_all = "lowercase")]
enum ModesText {
    Normal,
    Keep,
}

impl ServerRecord {
    /// What the server of a state directory tells; `None` where no server is.
    pub fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let mut json = Vec::new();
        let file = match File::open(state_dir.join("server")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.take(LONGEST).read_to_end(&mut json)?;
        Ok(Some(serde_json::from_slice(&json)?))
    }
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}
