//! Which names belong to a tree.
//!
//! Patterns are written in the grammar of `gitignore`. Of the patterns that match a name, the last one of the first source
//! decides that has one: `--exclude` arguments, then the `.codeignore` files from the name's own directory up to the root,
//! then the floor. `!pattern` takes a name back in. What lies in a directory that is left out stays out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::floor;
use crate::entry::{EntryPath, Escaped};

/// The name of the files that hold patterns for their directory.
pub(super) const CODEIGNORE: &str = ".codeignore";

/// The rules that hold for a whole tree.
#[derive(Debug)]
pub struct Rules {
    excludes: Gitignore,
    default_excludes: bool,
}

/// The rules of one `.codeignore`.
#[derive(Debug)]
pub(super) struct Level {
    patterns: Gitignore,
    file: String,
}

/// What becomes of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    LeaveOut(String),
    /// Left out by this rule if its content is secret.
    LeaveOutIfSecret(String),
}

/// A pattern that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: the pattern {pattern:?} cannot be understood: {reason}")]
pub struct RuleError {
    /// The file and line, or the flag, that has it.
    pub source_name: String,
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Rules {
    /// Rules of these `--exclude` patterns, with the floor or without.
    pub fn new<S: AsRef<str>>(excludes: &[S], default_excludes: bool) -> Result<Self, RuleError> {
        let mut patterns = GitignoreBuilder::new("");
        for pattern in excludes {
            add(&mut patterns, pattern.as_ref(), "--exclude")?;
        }
        Ok(Self {
            excludes: build(&patterns),
            default_excludes,
        })
    }

    /// Decides about one name; `levels` are those of the directories above it, the root's first.
    pub(super) fn judge(&self, levels: &[Level], path: &EntryPath, is_dir: bool) -> Verdict {
        let name = Path::new(OsStr::from_bytes(path.as_bytes()));
        match self.excludes.matched(name, is_dir) {
            Match::Ignore(glob) => {
                return Verdict::LeaveOut(format!("--exclude {}", glob.original()));
            }
            Match::Whitelist(_) => return Verdict::Keep,
            Match::None => {}
        }
        for Level { patterns, file } in levels.iter().rev() {
            match patterns.matched(name, is_dir) {
                Match::Ignore(glob) => {
                    return Verdict::LeaveOut(format!("{file} {}", glob.original()));
                }
                Match::Whitelist(_) => return Verdict::Keep,
                Match::None => {}
            }
        }
        if !self.default_excludes {
            return Verdict::Keep;
        }
        if let Some(pattern) = floor::find(floor::BY_NAME, path, is_dir) {
            return Verdict::LeaveOut(format!("default {pattern}"));
        }
        if let Some(pattern) = floor::find(floor::BY_CONTENT, path, is_dir)
            && !is_dir
        {
            return Verdict::LeaveOutIfSecret(format!("default {pattern} with a private key"));
        }
        Verdict::Keep
    }
}

impl Level {
    /// Reads the `.codeignore` of a directory (`None`: the root).
    pub(super) fn parse(directory: Option<&EntryPath>, text: &[u8]) -> Result<Self, RuleError> {
        let directory = directory.map_or(&b""[..], EntryPath::as_bytes);
        let file = match directory {
            b"" => CODEIGNORE.to_owned(),
            directory => format!("{}/{CODEIGNORE}", Escaped(directory)),
        };
        let mut patterns = GitignoreBuilder::new(Path::new(OsStr::from_bytes(directory)));
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let source_name = || format!("{file}:{}", index + 1);
            let line = std::str::from_utf8(line).map_err(|_| RuleError {
                source_name: source_name(),
                pattern: String::from_utf8_lossy(line).into_owned(),
                reason: "it is not UTF-8".into(),
            })?;
            add(&mut patterns, line, &source_name())?;
        }
        Ok(Self {
            patterns: build(&patterns),
            file,
        })
    }
}

fn add(patterns: &mut GitignoreBuilder, pattern: &str, source_name: &str) -> Result<(), RuleError> {
    let added = patterns.add_line(None, pattern);
    added.map(drop).map_err(|error| RuleError {
        source_name: source_name.into(),
        pattern: pattern.trim_end().into(),
        reason: error.to_string(),
    })
}

fn build(patterns: &GitignoreBuilder) -> Gitignore {
    patterns
        .build()
        .expect("each pattern was checked when it was added")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a name, with a trailing `/` if it is a directory, by `--exclude` patterns and `.codeignore` files.
    fn judge(excludes: &[&str], levels: &[(&str, &str)], name: &str) -> Verdict {
        let rules = Rules::new(excludes, true).unwrap();
        let directory = |path: &str| EntryPath::new(path.as_bytes());
        let levels: Vec<_> = levels
            .iter()
            .map(|(path, text)| Level::parse(directory(path).as_ref(), text.as_bytes()).unwrap())
            .collect();
        let path = EntryPath::new(name.trim_end_matches('/').as_bytes()).unwrap();
        rules.judge(&levels, &path, name.ends_with('/'))
    }

    fn left_out(rule: &str) -> Verdict {
        Verdict::LeaveOut(rule.into())
    }

    #[test]
    fn the_floor_takes_secrets_and_version_control_in_any_case() {
        for name in [
            ".git/",
            "a/.git/",
            ".ENV",
            "a/.env.local",
            "a/.ssh/",
            "id_rsa.pub",
            "x.P12",
        ] {
            assert!(
                matches!(judge(&[], &[], name), Verdict::LeaveOut(_)),
                "{name}"
            );
        }
        for name in [
            ".github/",
            "env",
            ".environment",
            "valid_rsa",
            "git",
            ".gitignore",
        ] {
            assert_eq!(judge(&[], &[], name), Verdict::Keep, "{name}");
        }
    }

    #[test]
    fn some_names_are_taken_in_the_root_only() {
        assert_eq!(
            judge(&[], &[], "lost+found/"),
            left_out("default /lost+found")
        );
        assert_eq!(
            judge(&[], &[], ".code-fetch/"),
            left_out("default /.code-*")
        );
        assert_eq!(judge(&[], &[], "a/lost+found/"), Verdict::Keep);
        assert_eq!(judge(&[], &[], "a/.code-fetch/"), Verdict::Keep);
        assert_eq!(judge(&[], &[], ".codeignore"), Verdict::Keep);
    }

    #[test]
    fn certificates_are_left_out_only_for_what_they_hold() {
        let rule = "default *.pem with a private key".to_owned();
        assert_eq!(
            judge(&[], &[], "certifi/cacert.pem"),
            Verdict::LeaveOutIfSecret(rule)
        );
        assert_eq!(judge(&[], &[], "dir.pem/"), Verdict::Keep);
        assert_eq!(judge(&["!*.pem"], &[], "cacert.pem"), Verdict::Keep);
    }

    #[test]
    fn the_nearest_codeignore_decides() {
        let levels = [("", "*.log\nbuild/\n"), ("a", "!keep.log\n/only\n")];
        assert_eq!(
            judge(&[], &levels, "a/b/x.log"),
            left_out(".codeignore *.log")
        );
        assert_eq!(judge(&[], &levels, "a/b/keep.log"), Verdict::Keep);
        assert_eq!(
            judge(&[], &levels, "a/build/"),
            left_out(".codeignore build/")
        );
        assert_eq!(judge(&[], &levels, "a/build"), Verdict::Keep);
        assert_eq!(
            judge(&[], &levels, "a/only"),
            left_out("a/.codeignore /only")
        );
        assert_eq!(judge(&[], &levels, "a/b/only"), Verdict::Keep);
    }

    #[test]
    fn exclude_arguments_come_before_every_file() {
        let levels = [("", "!x.tmp\n")];
        assert_eq!(
            judge(&["*.tmp"], &levels, "a/x.tmp"),
            left_out("--exclude *.tmp")
        );
        assert_eq!(judge(&["!.env"], &[], "a/.env"), Verdict::Keep);
        assert_eq!(judge(&[], &[("", "!.env\n")], "a/.env"), Verdict::Keep);
    }

    #[test]
    fn comments_blank_lines_and_a_byte_order_mark_are_no_patterns() {
        let levels = [("", "\u{feff}*.o\n# *.py\n\n  \n\\#x\r\n")];
        assert_eq!(judge(&[], &levels, "a.py"), Verdict::Keep);
        assert_eq!(judge(&[], &levels, "a.o"), left_out(".codeignore *.o"));
        assert_eq!(judge(&[], &levels, "#x"), left_out(".codeignore \\#x"));
    }

    #[test]
    fn a_pattern_that_cannot_be_understood_is_named_with_its_place() {
        let error = Level::parse(EntryPath::new(b"a").as_ref(), b"ok\n{a").unwrap_err();
        assert_eq!(
            (error.source_name.as_str(), error.pattern.as_str()),
            ("a/.codeignore:2", "{a")
        );
        let error = Level::parse(None, b"\xff").unwrap_err();
        assert_eq!(error.reason, "it is not UTF-8");
        assert_eq!(
            Rules::new(&["{a"], true).unwrap_err().source_name,
            "--exclude"
        );
    }
}
