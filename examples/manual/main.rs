//! Writes the manual pages and the shells' completions of both programs: `cargo run --example manual -- DIRECTORY`.
//!
//! ```text
//! DIRECTORY/man/man1/NAME.1             fetch-init, code-server, and each of its subcommands
//! DIRECTORY/completions/bash/NAME
//! DIRECTORY/completions/zsh/_NAME
//! DIRECTORY/completions/fish/NAME.fish
//! ```
//!
//! It is an example so that neither program holds what a package wants once. The pages are those of the command line as
//! its help has it, and behind that what [`pages`] adds by hand. Their date is that of `SOURCE_DATE_EPOCH`, today without
//! it: with the variable the same source gives the same bytes.

mod pages;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use code_server::config;
use pages::{PAGES, Page};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        return Err("usage: cargo run --example manual -- DIRECTORY".into());
    };
    let directory = PathBuf::from(directory);
    let date = date()?;
    for program in [config::command::command(), config::fetch::command()] {
        complete(program.clone(), &directory)?;
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let pages = directory.join("man/man1");
        fs::create_dir_all(&pages)?;
        describe(&program, program.get_name(), &date, &pages)?;
        for subcommand in program.get_subcommands() {
            let name = format!("{}-{}", program.get_name(), subcommand.get_name());
            describe(subcommand, &name, &date, &pages)?;
        }
    }
    Ok(())
}

/// The day of the source, or else this one.
fn date() -> Result<String, Box<dyn Error>> {
    let moment = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse()?),
        Err(_) => SystemTime::now(),
    };
    let mut date = humantime::format_rfc3339_seconds(moment).to_string();
    date.truncate("2000-01-01".len());
    Ok(date)
}

fn complete(mut program: Command, directory: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, name.clone()),
        (Shell::Zsh, format!("_{name}")),
        (Shell::Fish, format!("{name}.fish")),
    ] {
        let place = directory.join(format!("completions/{shell}"));
        fs::create_dir_all(&place)?;
        let mut file = File::create(place.join(file))?;
        clap_complete::generate(shell, &mut program, &name, &mut file);
    }
    Ok(())
}

/// Writes one page.
fn describe(command: &Command, name: &str, date: &str, directory: &Path) -> io::Result<()> {
    let page = PAGES.iter().find(|page| page.name == name);
    let page = page.ok_or_else(|| io::Error::other(format!("nothing is written of {name} yet")))?;
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().display_name(name))
        .title(name.to_uppercase())
        .date(date)
        .source(format!("code-server {version}"))
        .manual("User Commands");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(command, name).to_writer(&mut text)?;
    description(command, page).to_writer(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    sections(page).to_writer(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    File::create(directory.join(format!("{name}.1")))?.write_all(mended(&text).as_bytes())
}

/// In ASCII, as every formatter reads it, and without breaks that break nothing.
fn mended(text: &str) -> String {
    let text = text.replace("\n.br\n\n.br\n", "\n.br\n");
    let character = |character: char| match character {
        _ if character.is_ascii() => character.to_string(),
        _ => format!("\\[u{:04X}]", u32::from(character)),
    };
    text.chars().map(character).collect()
}

/// What stands on the command line, without each flag: the list of these follows.
fn synopsis(command: &Command, name: &str) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or(name)), roman(" [")];
    line.extend([italic("OPTIONS"), roman("]")]);
    for argument in command.get_positionals() {
        let names = argument.get_value_names().unwrap_or_default();
        let name = names.first().map_or("", |name| name.as_str());
        if argument.is_required_set() {
            line.extend([roman(" "), italic(name)]);
        } else {
            line.extend([roman(" ["), italic(name), roman("]")]);
        }
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(line);
    roff
}

/// What the help says at its beginning, as a sentence, and more.
fn description(command: &Command, page: &Page) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    let about = command.get_about().map(ToString::to_string);
    roff.text([roman(about.unwrap_or_default()), roman(".")]);
    for paragraph in page.description {
        roff.control("PP", []);
        roff.text([roman(*paragraph)]);
    }
    roff
}

/// What the command line itself does not say.
fn sections(page: &Page) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in page.exits {
        term(&mut roff, &exit.code().to_string(), meaning);
    }
    term(&mut roff, "128 + N", "A signal of number N ended it.");
    for (heading, terms) in [("ENVIRONMENT", page.environment), ("FILES", page.files)] {
        if !terms.is_empty() {
            roff.control("SH", [heading]);
        }
        for (name, meaning) in terms {
            term(&mut roff, name, meaning);
        }
    }
    roff.control("SH", ["EXAMPLES"]);
    for (index, (purpose, lines)) in page.examples.iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*purpose)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in *lines {
            roff.text([roman(*line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
    roff.control("SH", ["SEE ALSO"]);
    for (index, name) in page.see_also.iter().enumerate() {
        let end = if index + 1 < page.see_also.len() {
            ","
        } else {
            ""
        };
        let (name, section) = name.split_once('(').unwrap_or((name, "1)"));
        roff.control("BR", [name, &format!("({section}{end}")]);
    }
    roff
}

fn term(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}
