//! What a follower does after a change.

use std::time::Duration;

use rustix::process::Signal;

/// What happens each time the target has changed, in this order.
#[derive(Clone, Debug)]
pub struct Reaction {
    /// Runs to its end.
    pub on_change: Option<CommandLine>,
    /// How long it may run.
    pub on_change_timeout: Duration,
    /// Is sent.
    pub signal: Option<ProcessSignal>,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// A path if it has a slash, or else a name that is looked up in `PATH`. Never empty.
    pub program: String,
    /// As the program gets them.
    pub arguments: Vec<String>,
}

/// A signal for every process of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSignal {
    /// Which signal.
    pub signal: Signal,
    /// The name of the processes. Never empty, and no path.
    pub process: String,
}

/// Splits a command into words as a shell does. Nothing else of a shell's work is done: no variable is replaced, no pattern
/// is expanded, and `>` or `|` are words like others.
pub(super) fn command_line(text: &str) -> Result<CommandLine, String> {
    let words = shlex::split(text).ok_or("it has a quotation mark or a backslash too many")?;
    let mut words = words.into_iter();
    match words.next() {
        Some(program) if !program.is_empty() => Ok(CommandLine {
            program,
            arguments: words.collect(),
        }),
        _ => Err("it names no program".into()),
    }
}

/// Reads `HUP=nginx`, `SIGHUP=nginx` or `1=nginx`.
pub(super) fn process_signal(text: &str) -> Result<ProcessSignal, String> {
    let (signal, process) = text
        .split_once('=')
        .ok_or("it is not a signal and a process, such as HUP=nginx")?;
    if process.is_empty() || process.contains('/') {
        return Err(format!(
            "{process:?} is not the name of a process, such as nginx"
        ));
    }
    Ok(ProcessSignal {
        signal: by_name(signal).ok_or_else(|| format!("{signal:?} is not a signal such as HUP"))?,
        process: process.into(),
    })
}

fn by_name(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse() {
        return Signal::from_named_raw(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (_, signal) = NAMES.iter().find(|(known, _)| *known == name)?;
    Some(*signal)
}

/// The name of a signal, without `SIG` before it.
#[must_use]
pub fn name(signal: Signal) -> &'static str {
    let name = NAMES.iter().find(|(_, known)| *known == signal);
    name.map_or("?", |(name, _)| name)
}

const NAMES: [(&str, Signal); 31] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("STKFLT", Signal::STKFLT),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALARM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let check = |text, expected: &[&str]| {
            let command = command_line(text).unwrap();
            let mut words = vec![command.program];
            words.extend(command.arguments);
            assert_eq!(words, expected, "{text}");
        };
        check("reload", &["reload"]);
        check("  /bin/reload  -a 'b c' ", &["/bin/reload", "-a", "b c"]);
        check("sh -c \"echo $X > y\"", &["sh", "-c", "echo $X > y"]);
        check("a\\ b \"\" '*'", &["a b", "", "*"]);
    }

    #[test]
    fn a_command_that_cannot_be_split_or_names_nothing_is_refused() {
        for text in ["", "  ", "''", "'' a", "echo 'a", "echo \"a", "echo \\"] {
            assert!(command_line(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for text in ["HUP=nginx", "SIGHUP=nginx", "hup=nginx", "1=nginx"] {
            let parsed = process_signal(text).unwrap();
            assert_eq!(parsed.signal, Signal::HUP, "{text}");
            assert_eq!(parsed.process, "nginx", "{text}");
        }
        for text in [
            "HUP",
            "HUP=",
            "=nginx",
            "0=nginx",
            "32=nginx",
            "-1=nginx",
            "HOP=nginx",
            "SIG=nginx",
            "HUP=/usr/bin/nginx",
        ] {
            assert!(process_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_signal_up_to_31_has_its_name() {
        for number in 1..=31 {
            let signal = Signal::from_named_raw(number).unwrap();
            assert_eq!(by_name(name(signal)), Some(signal), "{number}");
        }
    }
}
