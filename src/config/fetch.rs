//! What `fetch-init` is told.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Command, CommandFactory, Parser, ValueEnum};

use super::credentials::Credentials;
use super::follow::{CommandLine, ProcessSignal, Reaction, command_line, process_signal};
use super::url::Source;
use super::{
    ConfigError, LogFormatArg, duration, parse_by, size, unknown_variables, with_plain_help,
};
use crate::digest::{Digest, Revision};
use crate::telemetry::LogFormat;

/// Where Kubernetes looks for the reason of a failure.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// May be there and say nothing: a pod gets its value from an annotation, and an annotation that is missing is empty then.
const REVISION_VARIABLE: &str = "FETCH_INIT_REVISION";
/// More threads write no faster, and each of them takes memory.
const MOST_WORKERS: usize = 4;

/// Fetches a tree of code from a code-server into a directory, verified and all at once.
#[derive(Debug, Parser)]
#[command(name = "fetch-init", version)]
#[command(
    after_help = "Everything has a twin in the environment: --deadline is also FETCH_INIT_DEADLINE."
)]
struct FetchArgs {
    /// Where the code-server is, such as `http://code:8080`, or a .tar.gz, .tgz or .tar on any web server; https:// as well
    #[arg(env = "FETCH_INIT_URL")]
    url: String,

    /// The directory that is to hold the tree; it is made if its parent is there. Left out with --print-revision
    #[arg(env = "FETCH_INIT_TARGET", required_unless_present = "print_revision")]
    target: Option<PathBuf>,

    /// Another URL to try when the first does not answer as it should; may be given several times
    #[arg(
        long,
        value_name = "URL",
        env = "FETCH_INIT_FALLBACK",
        value_delimiter = ' '
    )]
    fallback: Vec<String>,

    /// The token that the server asks for, if it does, is in this file
    #[arg(long, value_name = "FILE", env = "FETCH_INIT_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// The authorities that may vouch for an `https://` server (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "FETCH_INIT_CA_CERT")]
    ca_cert: Option<PathBuf>,

    /// Wait for exactly this revision and take no other
    #[arg(long, value_name = "sha256:HEX", env = REVISION_VARIABLE)]
    revision: Option<Revision>,

    /// Ask only: write the revision that is served to standard output
    #[arg(
        long,
        env = "FETCH_INIT_PRINT_REVISION",
        conflicts_with_all = ["follow", "target"]
    )]
    print_revision: bool,

    /// The SHA-256 of an archive on a plain web server, as 64 hexadecimal digits
    #[arg(long, value_name = "HEX", env = "FETCH_INIT_SHA256", value_parser = sha256)]
    sha256: Option<Digest>,

    /// Take an archive from a plain web server as it comes, whatever it holds
    #[arg(long, env = "FETCH_INIT_ALLOW_UNVERIFIED", conflicts_with = "sha256")]
    allow_unverified: bool,

    /// How the tree lies in the target
    #[arg(long, value_enum, default_value_t, env = "FETCH_INIT_LAYOUT")]
    layout: Layout,

    /// How many revisions stay with --layout=versioned, the current one included
    #[arg(long, value_name = "N", default_value = "2", env = "FETCH_INIT_KEEP")]
    keep: NonZeroUsize,

    /// Stay, and install each new revision as it appears
    #[arg(long, env = "FETCH_INIT_FOLLOW", conflicts_with = "revision")]
    follow: bool,

    /// With --follow, a command to run after each new revision; its words are split as a shell does, and no shell runs it
    #[arg(
        long,
        value_name = "COMMAND",
        env = "FETCH_INIT_ON_CHANGE",
        requires = "follow",
        value_parser = command_line
    )]
    on_change: Option<CommandLine>,

    /// How long that command may run
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "FETCH_INIT_ON_CHANGE_TIMEOUT", value_parser = positive)]
    on_change_timeout: Duration,

    /// With --follow, a signal for a process of this pod after each new revision, such as HUP=nginx
    #[arg(
        long,
        value_name = "SIGNAL=PROCESS",
        env = "FETCH_INIT_SIGNAL",
        requires = "follow",
        value_parser = process_signal
    )]
    signal: Option<ProcessSignal>,

    /// How long to try; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "FETCH_INIT_DEADLINE", value_parser = duration)]
    deadline: Duration,

    /// How long to wait for a connection
    #[arg(long, value_name = "DURATION", default_value = "2s", env = "FETCH_INIT_CONNECT_TIMEOUT", value_parser = positive)]
    connect_timeout: Duration,

    /// How long to wait for the next bytes of an answer
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "FETCH_INIT_STALL_TIMEOUT", value_parser = positive)]
    stall_timeout: Duration,

    /// The largest tar that is taken, such as 2Gi [default: 8Gi from a plain web server, else no limit]
    #[arg(long, value_name = "SIZE", env = "FETCH_INIT_MAX_SIZE", value_parser = size)]
    max_size: Option<u64>,

    /// The most directories, files and links that are taken [default: 1000000 from a plain web server, else no limit]
    #[arg(long, value_name = "N", env = "FETCH_INIT_MAX_ENTRIES")]
    max_entries: Option<u64>,

    /// Permission bits to take from what is written, such as 027; the owner keeps all [default: the process's]
    #[arg(long, value_name = "OCTAL", env = "FETCH_INIT_UMASK", value_parser = umask)]
    umask: Option<u32>,

    /// Threads that inflate, and as many that write [default: one a processor, 4 at most]
    #[arg(long, value_name = "N", env = "FETCH_INIT_WORKERS")]
    workers: Option<NonZeroUsize>,

    /// Whether to show how far it is; errors, warnings and the summary at the end come in any case
    #[arg(long, value_enum, default_value_t, env = "FETCH_INIT_PROGRESS")]
    progress: ProgressMode,

    /// A file that is told the reason of a failure, if it is there
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG, env = "FETCH_INIT_TERMINATION_LOG")]
    termination_log: PathBuf,

    /// The form of log lines
    #[arg(
        long,
        value_enum,
        default_value = "text",
        env = "FETCH_INIT_LOG_FORMAT"
    )]
    log_format: LogFormatArg,
}

/// Under which heading each flag stands in the help, in this order. Those of no heading are rarely asked for first.
const HEADINGS: &[(&str, &[&str])] = &[
    (
        "What to fetch",
        &[
            "revision",
            "print_revision",
            "token_file",
            "ca_cert",
            "max_size",
            "max_entries",
        ],
    ),
    ("Plain web servers", &["sha256", "allow_unverified"]),
    (
        "Trying again",
        &["deadline", "connect_timeout", "stall_timeout", "fallback"],
    ),
    ("The target", &["layout", "keep", "umask", "workers"]),
    (
        "Following",
        &["follow", "on_change", "on_change_timeout", "signal"],
    ),
    ("Output", &["progress", "log_format", "termination_log"]),
];

/// The command line as its help shows it, for completions and manual pages.
#[must_use]
pub fn command() -> Command {
    with_plain_help(arranged())
}

fn arranged() -> Command {
    let grouped = HEADINGS.iter().flat_map(|(heading, flags)| {
        let flags = flags.iter();
        flags.map(move |flag| (*heading, *flag))
    });
    let arranged = grouped.enumerate();
    arranged.fold(FetchArgs::command(), |command, (place, (heading, flag))| {
        command.mut_arg(flag, |argument| {
            argument.help_heading(heading).display_order(place)
        })
    })
}

/// What to fetch, where to, and within which bounds.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// What is done with it.
    pub action: Action,
    /// Who is asked, in this order; never empty.
    pub sources: Vec<Source>,
    /// With what it is asked.
    pub credentials: Credentials,
    /// The directory that is to hold the tree.
    pub target: PathBuf,
    /// Wait for this revision and take no other.
    pub revision: Option<Revision>,
    /// What an archive of a plain web server has to be, byte for byte. Where neither this nor a revision is told, it was
    /// allowed to take any.
    pub sha256: Option<Digest>,
    /// How the tree lies in the target.
    pub layout: Layout,
    /// How many revisions stay in a versioned target, the current one included.
    pub keep: NonZeroUsize,
    /// Permission bits that are taken from what is written; `None`: those of the process.
    pub umask: Option<u32>,
    /// For everything until the tree is staged; `None`: as long as it takes.
    pub deadline: Option<Duration>,
    /// For a connection to one address.
    pub connect_timeout: Duration,
    /// For an answer to begin, and for each piece of it.
    pub stall_timeout: Duration,
    /// The largest tar that is taken, in bytes.
    pub max_size: Option<u64>,
    /// The most entries that are taken.
    pub max_entries: Option<u64>,
    /// Threads that inflate, and as many that write.
    pub workers: NonZeroUsize,
    /// Where progress is shown.
    pub progress: ProgressMode,
    /// Is told the reason of a failure, if it is there.
    pub termination_log: PathBuf,
    /// The form of log lines.
    pub log_format: LogFormat,
}

/// What a fetch is for.
#[derive(Clone, Debug)]
pub enum Action {
    /// The tree is installed, and that is all.
    Install,
    /// So is each later one as it appears.
    Follow(Reaction),
    /// The revision is asked for, and nothing is installed. There is no target.
    Print,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, and a line for each phase elsewhere
    #[default]
    Auto,
    /// Nowhere
    Off,
}

/// How a tree lies in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Merged into the target itself
    #[default]
    Direct,
    /// In a directory of its own beneath `revisions`, which the link `current` names
    Versioned,
}

impl FetchConfig {
    /// Decides by the arguments, program name first, and the environment.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let mut command = arranged();
        if std::env::var_os(REVISION_VARIABLE).is_some_and(|value| value.is_empty()) {
            command = command.mut_arg("revision", |argument| argument.env(None));
        }
        parse_by::<FetchArgs>(command, arguments)?.decide()
    }

    /// The variables of the environment that look like a flag's twin and are none.
    #[must_use]
    pub fn unknown_variables() -> Vec<String> {
        let names = std::env::vars_os().map(|(name, _)| name);
        unknown_variables::<FetchArgs>("FETCH_INIT_", names)
    }
}

impl FetchArgs {
    fn decide(self) -> Result<FetchConfig, ConfigError> {
        // URLs have no value parser: its error would show what was typed, a password too.
        let sources = std::iter::once(&self.url).chain(&self.fallback);
        let sources = sources
            .map(|url| Source::parse(url))
            .collect::<Result<Vec<_>, _>>()?;
        self.require_a_way_to_verify(&sources)?;
        let action = if self.print_revision {
            Action::Print
        } else if self.follow {
            Action::Follow(Reaction {
                on_change: self.on_change,
                on_change_timeout: self.on_change_timeout,
                signal: self.signal,
            })
        } else {
            Action::Install
        };
        Ok(FetchConfig {
            action,
            sources,
            credentials: Credentials {
                trust: self.ca_cert.into(),
                token_file: self.token_file,
            },
            target: self.target.unwrap_or_default(),
            revision: self.revision,
            sha256: self.sha256,
            layout: self.layout,
            keep: self.keep,
            umask: self.umask,
            deadline: Some(self.deadline).filter(|deadline| !deadline.is_zero()),
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            max_size: self.max_size,
            max_entries: self.max_entries,
            workers: self.workers.unwrap_or_else(default_workers),
            progress: self.progress,
            termination_log: self.termination_log,
            log_format: self.log_format.into(),
        })
    }
}

impl FetchArgs {
    /// A code-server tells what its archive has to be; another web server does not.
    fn require_a_way_to_verify(&self, sources: &[Source]) -> Result<(), ConfigError> {
        let archive = sources.iter().find_map(|source| match source {
            Source::Archive(url) => Some(url),
            Source::Server(_) => None,
        });
        let flag = if self.sha256.is_some() {
            Some("--sha256")
        } else {
            self.allow_unverified.then_some("--allow-unverified")
        };
        match (archive, flag) {
            (None, Some(flag)) => Err(ConfigError::NoArchive { flag }),
            (Some(url), None) if self.revision.is_none() && !self.print_revision => {
                Err(ConfigError::Unverified(url.to_string()))
            }
            (Some(url), _) if self.print_revision || self.follow => Err(ConfigError::Unfollowed {
                url: url.to_string(),
                flag: if self.follow {
                    "--follow"
                } else {
                    "--print-revision"
                },
            }),
            _ => Ok(()),
        }
    }
}

/// A SHA-256 as tools print it.
fn sha256(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(&digits.to_ascii_lowercase())
        .ok_or_else(|| format!("{text:?} is not 64 hexadecimal digits, as sha256sum prints them"))
}

fn default_workers() -> NonZeroUsize {
    let most = NonZeroUsize::new(MOST_WORKERS).expect("a positive constant");
    std::thread::available_parallelism()
        .map_or(NonZeroUsize::MIN, |processors| processors.min(most))
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a wait of no time would always be too long".into()),
        duration => Ok(duration),
    }
}

/// Permission bits in octal.
fn umask(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|&bits| bits <= 0o077)
        .ok_or_else(|| {
            format!("{text:?} is not a umask such as 022 or 027; the owner keeps all bits")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn config(line: &str) -> Result<FetchConfig, ConfigError> {
        let words = ["fetch-init"].into_iter().chain(line.split_whitespace());
        FetchConfig::parse(words.map(OsString::from))
    }

    #[test]
    fn the_flags_are_consistent() {
        FetchArgs::command().debug_assert();
    }

    #[test]
    fn everything_has_its_twin() {
        for argument in FetchArgs::command().get_arguments() {
            let id = argument.get_id().as_str();
            if matches!(id, "help" | "version") {
                continue;
            }
            let twin = format!("FETCH_INIT_{}", id.to_uppercase());
            assert_eq!(argument.get_env(), Some(twin.as_ref()), "{id}");
        }
    }

    #[test]
    fn each_flag_has_one_place_in_the_help() {
        let places: Vec<_> = HEADINGS.iter().flat_map(|(_, flags)| *flags).collect();
        let command = arranged();
        let flags = command.get_arguments().filter(|flag| !flag.is_positional());
        for id in flags.map(|flag| flag.get_id().as_str()) {
            let found = places.iter().filter(|place| ***place == id).count();
            assert_eq!(found, 1, "{id}");
        }
    }

    #[test]
    fn a_umask_leaves_the_owner_alone() {
        for (text, bits) in [("0", 0), ("022", 0o022), ("0027", 0o027), ("77", 0o077)] {
            let config = config(&format!("http://code /app --umask {text}")).unwrap();
            assert_eq!(config.umask, Some(bits), "{text}");
        }
        for text in ["700", "8", "-1", "u=rwx", "1022"] {
            let error = config(&format!("http://code /app --umask={text}")).unwrap_err();
            assert!(error.to_string().contains("--umask"), "{error}");
        }
    }

    #[test]
    fn a_url_and_a_target_are_enough() {
        let config = config("http://code /app").unwrap();
        assert_eq!(config.deadline, Some(Duration::from_mins(5)));
        assert_eq!(config.connect_timeout, Duration::from_secs(2));
        assert_eq!(config.stall_timeout, Duration::from_secs(30));
        assert!((1..=MOST_WORKERS).contains(&config.workers.get()));
    }

    #[test]
    fn no_deadline_is_written_as_zero() {
        assert_eq!(
            config("http://code /app --deadline=0").unwrap().deadline,
            None
        );
    }

    #[test]
    fn what_is_to_be_done_is_one_thing() {
        let action = |line| config(line).unwrap().action;
        assert!(matches!(action("http://code /app"), Action::Install));
        assert!(matches!(
            action("http://code --print-revision"),
            Action::Print
        ));
        let followed = action("http://code /app --follow --on-change reload --signal HUP=nginx");
        let Action::Follow(reaction) = followed else {
            panic!("{followed:?}");
        };
        assert_eq!(reaction.on_change_timeout, Duration::from_secs(30));
        assert!(reaction.on_change.is_some() && reaction.signal.is_some());
        let revision = format!("--revision=sha256:{}", "0".repeat(64));
        for line in [
            "http://code",
            "http://code /app --print-revision",
            "http://code /app --on-change reload",
            "http://code /app --signal HUP=nginx",
            "http://code /app --follow --on-change=",
            "http://code /app --follow --on-change='",
            &format!("http://code /app --follow {revision}"),
        ] {
            assert_eq!(config(line).unwrap_err().exit(), Exit::Usage, "{line}");
        }
    }

    #[test]
    fn an_error_names_the_flag() {
        for (flag, value) in [
            ("--deadline", "soon"),
            ("--stall-timeout", "0"),
            ("--revision", "abc"),
            ("--workers", "0"),
            ("--max-size", "2GB"),
            ("--sha256", "abc"),
            ("--progress", "on"),
            ("--colour", "red"),
        ] {
            let error = config(&format!("http://code /app {flag} {value}")).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_named_without_its_password() {
        for (url, shown) in [
            ("ftp://code:8443", "\"ftp://code:8443\""),
            ("code:8080", "\"code:8080\""),
            ("http://me:hunter2@code", "\"http://***@code\""),
        ] {
            let error = config(&format!("{url} /app")).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains(shown), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_archive_of_a_plain_server_needs_something_to_verify_it_by() {
        let digest = "0f".repeat(32);
        for way in [
            format!("--sha256 {digest}"),
            format!("--sha256 sha256:{}", digest.to_uppercase()),
            format!("--revision sha256:{digest}"),
            "--allow-unverified".into(),
        ] {
            let config = config(&format!("http://host/code.tgz /app {way}")).unwrap();
            assert!(matches!(config.sources[..], [Source::Archive(_)]), "{way}");
        }
        for line in [
            "http://host/code.tar.gz?key=s3cret /app",
            "http://code --fallback http://host/code.tar.gz?key=s3cret /app",
        ] {
            let error = config(line).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let text = error.to_string();
            for word in ["--sha256", "--allow-unverified", "http://code:8080", "?…"] {
                assert!(text.contains(word), "{text}");
            }
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn what_is_for_archives_needs_one_and_what_is_for_servers_too() {
        let digest = "0f".repeat(32);
        for (line, flag) in [
            (format!("http://code /app --sha256 {digest}"), "--sha256"),
            (
                "http://code /app --allow-unverified".into(),
                "--allow-unverified",
            ),
            (
                format!("http://host/a.tar /app --follow --sha256 {digest}"),
                "--follow",
            ),
            (
                "http://host/a.tar --print-revision".into(),
                "--print-revision",
            ),
        ] {
            let error = config(&line).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains(flag), "{error}");
        }
        let both = format!("http://code /app --fallback http://host/code.tar --sha256 {digest}");
        let sources = config(&both).unwrap().sources;
        assert!(matches!(
            sources[..],
            [Source::Server(_), Source::Archive(_)]
        ));
    }
}
