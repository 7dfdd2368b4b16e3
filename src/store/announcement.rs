//! What a server tells of itself in its state directory, for commands that run beside it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::layout::{self, Layout};
use crate::digest::Revision;
use crate::entry::Modes;

/// The longest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Who serves, by which rules, and what came of the last build: the file `server`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is asked there.
    #[serde(default)]
    pub access: ServerAccess,
    /// Its process, as it sees itself: in another container the number may mean another one.
    pub pid: u32,
    /// What belongs to the code.
    pub rules: ServerRules,
    /// `None` before the first has ended.
    pub last_build: Option<LastBuild>,
}

/// What somebody on the same machine has to know to be answered. The paths are whole, and text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAccess {
    /// Of the certificate that it has; `None`: it speaks plain HTTP.
    pub certificate: Option<PathBuf>,
    /// Of the token that it wants; `None`: it wants none.
    pub token_file: Option<PathBuf>,
}

/// The part of a server's configuration that decides the revision of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBuild {
    /// When it began, to the nanosecond: a change of the tree before that is in it.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub began: SystemTime,
    /// How it ended.
    pub result: LastResult,
    /// The revision that the tree has by it; `None` if it failed.
    pub revision: Option<Revision>,
    /// Why it failed, in a sentence.
    pub error: Option<String>,
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastResult {
    /// With an artifact that is now the current one.
    Published,
    /// With what was current already.
    Unchanged,
    /// With nothing.
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Modes", rename_all = "lowercase")]
enum ModesText {
    Normal,
    Keep,
}

impl ServerRecord {
    /// What the server of a state directory tells; `None` where no server is.
    ///
    /// A server that was killed cannot take its record back: it stays until the next one begins, so an address in it need
    /// not answer.
    pub fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let path = Layout::new(state_dir).server();
        match layout::read(&path, LONGEST) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("no field of a record can fail to be written")
    }
}

fn write_time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}
