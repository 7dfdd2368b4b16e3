//! The command line of `code-server`.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

use super::healthcheck::{HealthcheckArgs, HealthcheckConfig};
use super::ingest::{IngestArgs, IngestConfig};
use super::pack::{PackArgs, PackConfig};
use super::serve::{ServeArgs, ServeConfig};
use super::{ConfigError, parse, unknown_variables, with_plain_help};

/// Serves a directory of code over HTTP as one content-hashed archive.
#[derive(Debug, Parser)]
#[command(name = "code-server", version, arg_required_else_help = true)]
#[command(
    after_help = "Every flag has a twin in the environment: --listen is also CODE_SERVER_LISTEN."
)]
struct CodeServerArgs {
    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Serve an archive of ROOT, in step with what changes there, until SIGTERM
    Serve(Box<ServeArgs>),
    /// Write an archive of ROOT once
    Pack(Box<PackArgs>),
    /// Replace ROOT by the archive on standard input, all or nothing
    Ingest(Box<IngestArgs>),
    /// Ask a server whether it is ready, for images without a shell
    Healthcheck(HealthcheckArgs),
}

/// The command line as its help shows it, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    with_plain_help(CodeServerArgs::command())
}

/// What `code-server` shall do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Serve.
    Serve(Box<ServeConfig>),
    /// Pack.
    Pack(PackConfig),
    /// Replace.
    Ingest(IngestConfig),
    /// Ask a server.
    Healthcheck(HealthcheckConfig),
}

impl Command {
    /// Decides by the arguments, program name first, and the environment.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Ok(match parse::<CodeServerArgs>(arguments)?.command {
            CommandArgs::Serve(arguments) => Self::Serve(Box::new(arguments.decide()?)),
            CommandArgs::Pack(arguments) => Self::Pack(arguments.decide()?),
            CommandArgs::Ingest(arguments) => Self::Ingest(arguments.decide()?),
            CommandArgs::Healthcheck(arguments) => Self::Healthcheck(arguments.decide()?),
        })
    }

    /// The variables of the environment that look like a flag's twin and are none.
    #[must_use]
    pub fn unknown_variables() -> Vec<String> {
        let names = std::env::vars_os().map(|(name, _)| name);
        unknown_variables::<CodeServerArgs>("CODE_SERVER_", names)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::pack::Product;
    use crate::config::retention::RetentionConfig;
    use crate::exit::Exit;

    fn command(line: &str) -> Result<Command, ConfigError> {
        let words = ["code-server"].into_iter().chain(line.split_whitespace());
        Command::parse(words.map(OsString::from))
    }

    #[test]
    fn the_flags_are_consistent() {
        CodeServerArgs::command().debug_assert();
    }

    #[test]
    fn each_flag_has_its_twin() {
        for subcommand in CodeServerArgs::command().get_subcommands() {
            for argument in subcommand.get_arguments() {
                let Some(long) = argument.get_long().filter(|&long| long != "help") else {
                    continue;
                };
                let twin = argument
                    .get_env()
                    .unwrap_or_else(|| panic!("--{long} has no twin"));
                let plain = format!("CODE_SERVER_{}", long.to_uppercase().replace('-', "_"));
                let own = format!(
                    "CODE_SERVER_{}_{}",
                    subcommand.get_name().to_uppercase(),
                    long.to_uppercase()
                );
                assert!(twin == &*plain || twin == &*own, "--{long}");
            }
        }
    }

    #[test]
    fn a_misspelt_flag_is_named() {
        for line in ["serve . --lsiten :80", "pack . --lsiten", "--lsiten"] {
            let error = command(line).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains("--lsiten"), "{error}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_flag() {
        let lines = [
            "--listen 80",
            "--level 0",
            "--header-timeout 10",
            "--watch sometimes",
            "--settle 300",
            "--hold-file a/b",
            "--modes odd",
            "--max-connections 0",
            "--mtime x",
            "--workers 0",
            "--workers 100000",
            "--keep 0",
            "--keep-for 30",
            "--state-size 2GB",
        ];
        for flag in lines {
            let error = command(&format!("serve . {flag}")).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let name = flag.split(' ').next().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_variable_set_to_nothing_names_no_file() {
        for flag in ["--read-token-file", "--tls-cert"] {
            let line = ["code-server", "serve", ".", flag, ""];
            let error = Command::parse(line.map(OsString::from)).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn code_and_probes_have_a_port_each() {
        let error = command("serve . --listen :80 --metrics-listen [::]:80").unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("[::]:80"), "{error}");
        assert!(command("serve . --listen :0 --metrics-listen :0").is_ok());
    }

    #[test]
    fn archives_are_kept_for_a_month_within_bounds() {
        let retention = |line: &str| match command(line) {
            Ok(Command::Serve(config)) => config.retention,
            other => panic!("{other:?}"),
        };
        let default = RetentionConfig {
            keep: 3,
            keep_for: Duration::from_hours(720),
            state_size: 2 << 30,
        };
        assert_eq!(retention("serve ."), default);
        let told = RetentionConfig {
            keep: 1,
            keep_for: Duration::ZERO,
            state_size: 64 << 20,
        };
        let line = "serve . --keep 1 --keep-for 0 --state-size 64Mi";
        assert_eq!(retention(line), told);
    }

    #[test]
    fn what_pack_gives_is_decided_by_its_flags() {
        let product = |line: &str| match command(line) {
            Ok(Command::Pack(config)) => Some(config.product),
            _ => None,
        };
        let file = |descriptor| Product::File {
            path: "x".into(),
            descriptor,
        };
        assert_eq!(product("pack ."), Some(Product::Stream));
        assert_eq!(product("pack . -o -"), Some(Product::Stream));
        assert_eq!(product("pack . -o x"), Some(file(false)));
        assert_eq!(product("pack . -o x --json"), Some(file(true)));
        assert_eq!(product("pack . --json"), Some(Product::Descriptor));
        assert_eq!(product("pack . --list"), Some(Product::Listing));
        assert_eq!(product("pack . --list-excluded"), Some(Product::Excluded));
        for line in [
            "pack . -o - --json",
            "pack . --list --json",
            "pack . --list -o x",
            "pack",
        ] {
            assert_eq!(product(line), None, "{line}");
        }
    }
}
