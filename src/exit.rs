//! How both programs end: with a code after `sysexits(3)` and, if they failed, with one sentence.
//!
//! A script and `kubectl describe pod` tell by the number alone whether to try again, to mend the call, or to look at the
//! data. Which error has which code is decided where the error is defined; this is only the table.

use std::error::Error;
use std::process::ExitCode;

use crate::entry::Escaped;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// The command line is wrong.
    Usage,
    /// An archive, a descriptor or a digest is wrong.
    Data,
    /// The server could not be reached, or had nothing to give, until the deadline.
    Unavailable,
    /// A file, a directory or a listening socket cannot be created.
    CannotCreate,
    /// Reading or writing failed, or the disk is full.
    Io,
    /// Somebody else is at work, or the tree does not hold still: try again later.
    Busy,
    /// Access was refused: by a file's mode, or by the server.
    Refused,
    /// What the configuration names does not exist or does not fit.
    Config,
    /// A signal of this number ended the work.
    Signal(u8),
}

impl Exit {
    /// The number that the parent process sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::CannotCreate => 73,
            Self::Io => 74,
            Self::Busy => 75,
            Self::Refused => 77,
            Self::Config => 78,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a program fails: its code, and the sentence that a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The sentence.
    pub reason: String,
}

impl Failure {
    /// A failure with a sentence of its own.
    pub fn new(exit: Exit, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { exit, reason }
    }

    /// A failure for which an error has the words.
    #[must_use]
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, sentence(error))
    }
}

/// An error with its causes, in one line that cannot drive a terminal, whoever had a hand in it.
#[must_use]
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Escaped(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_signal_ends_with_128_and_its_number() {
        assert_eq!(Exit::Signal(15).code(), 143);
    }

    #[test]
    fn a_sentence_tells_the_causes_too() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x")]
        struct Outer(#[source] io::Error);
        let cause = io::Error::other("disk on fire");
        assert_eq!(sentence(&Outer(cause)), "cannot read x: disk on fire");
        let cause = io::Error::other("no number: \u{1b}[2J\n");
        let shown = "cannot read x: no number: \\u{1b}[2J\\n";
        assert_eq!(sentence(&Outer(cause)), shown);
    }
}
