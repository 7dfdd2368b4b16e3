//! How changes are noticed, and how long they are waited for.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use crate::entry::EntryPath;

/// As typed.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// How to learn that the tree has changed
    #[arg(long, value_enum, default_value_t, env = "CODE_SERVER_WATCH")]
    watch: WatchMode,

    /// How long the tree must hold still before it is built
    #[arg(long, value_name = "DURATION", default_value = "300ms", env = "CODE_SERVER_SETTLE", value_parser = duration)]
    settle: Duration,

    /// How long after the first change it is built although it does not hold still
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "CODE_SERVER_SETTLE_MAX", value_parser = duration)]
    settle_max: Duration,

    /// How long at most until the tree is looked at again, whatever was noticed; 0: never
    #[arg(long, value_name = "DURATION", default_value = "60s", env = "CODE_SERVER_RESCAN", value_parser = duration)]
    rescan: Duration,

    /// The name of a file in ROOT that holds builds back as long as it stands; empty: none
    #[arg(long, value_name = "NAME", default_value = ".code-hold", env = "CODE_SERVER_HOLD_FILE", value_parser = HoldFile::parse)]
    hold_file: HoldFile,

    /// How long at most it holds them back, counted from its last change
    #[arg(long, value_name = "DURATION", default_value = "10m", env = "CODE_SERVER_HOLD_MAX", value_parser = duration)]
    hold_max: Duration,
}

/// How to learn that the tree has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WatchMode {
    /// By events where they can be relied on, and else by walking again and again
    #[default]
    Auto,
    /// By events, on a network file system too
    Inotify,
    /// By walking again and again
    Poll,
    /// Not at all, but for the rescan
    Off,
}

/// As decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// How to learn of changes.
    pub mode: WatchMode,
    /// How long the tree must hold still.
    pub settle: Duration,
    /// How long after the first change it need not hold still any more.
    pub settle_max: Duration,
    /// How long at most until the tree is looked at again; `None`: for ever.
    pub rescan: Option<Duration>,
    /// The name in the root that holds builds back: one component, never empty.
    pub hold_file: Option<OsString>,
    /// For how long at most.
    pub hold_max: Duration,
}

impl WatchArgs {
    pub(super) fn decide(self) -> WatchConfig {
        WatchConfig {
            mode: self.watch,
            settle: self.settle,
            settle_max: self.settle_max,
            rescan: Some(self.rescan).filter(|rescan| !rescan.is_zero()),
            hold_file: self.hold_file.0,
            hold_max: self.hold_max,
        }
    }
}

#[derive(Clone, Debug)]
struct HoldFile(Option<OsString>);

impl HoldFile {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self(None)),
            name if EntryPath::new(name.as_bytes())
                .is_some_and(|path| path.name() == name.as_bytes()) =>
            {
                Ok(Self(Some(name.into())))
            }
            _ => Err(
                "expected the name of a file directly in ROOT, such as .code-hold, and no path"
                    .into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        watch: WatchArgs,
    }

    fn decide(line: &[&str]) -> Option<WatchConfig> {
        let words = ["x"].iter().chain(line);
        Some(Line::try_parse_from(words).ok()?.watch.decide())
    }

    #[test]
    fn a_server_watches_by_default() {
        let expected = WatchConfig {
            mode: WatchMode::Auto,
            settle: Duration::from_millis(300),
            settle_max: Duration::from_secs(10),
            rescan: Some(Duration::from_mins(1)),
            hold_file: Some(".code-hold".into()),
            hold_max: Duration::from_mins(10),
        };
        assert_eq!(decide(&[]), Some(expected));
    }

    #[test]
    fn a_rescan_of_zero_is_none() {
        let config = decide(&["--rescan", "0", "--watch", "off"]).unwrap();
        assert_eq!((config.rescan, config.mode), (None, WatchMode::Off));
    }

    #[test]
    fn a_hold_file_is_one_name_or_none() {
        let hold = |name: &str| decide(&["--hold-file", name]).map(|config| config.hold_file);
        assert_eq!(hold(""), Some(None));
        assert_eq!(hold("HOLD"), Some(Some("HOLD".into())));
        for name in ["a/b", "/a", "a/", ".", "..", "/"] {
            assert_eq!(hold(name), None, "{name}");
        }
    }
}
