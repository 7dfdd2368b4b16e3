//! The facts as text for a terminal: a name and a value a line, all values one below the other.
//!
//! Nothing in it can drive the terminal: whatever came from outside is escaped.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use super::facts::{Build, Current, Facts, Ways};
use crate::descriptor::ARCHIVE;
use crate::entry::Escaped;
use crate::http::revisions::Line;

/// So wide is the column of names, the space behind it included.
const NAMES: usize = 14;
/// What stands for the host where the request named none.
const NO_HOST: &str = "HOST";
/// How curl is given a token.
const BEARER: &str = " -H \"Authorization: Bearer $TOKEN\"";

/// Writes the facts; the commands are for this host.
pub(super) fn write(facts: &Facts, host: Option<&str>) -> String {
    let mut text = Text(String::new());
    text.row("code-server", facts.version);
    match &facts.current {
        Some(current) => text.current(current, facts.now),
        None => text.row("revision", "none: nothing is published yet"),
    }
    let (running, waiting) = (facts.downloads.running, facts.downloads.waiting);
    text.row("downloads", format!("{running} running, {waiting} waiting"));
    text.table(
        "builds",
        facts.builds.iter().map(|build| line_of(build, facts.now)),
    );
    let revisions = facts.revisions.iter();
    text.table(
        "revisions",
        revisions.map(|line| line_of_revision(line, facts.now)),
    );
    text.commands(facts, host.unwrap_or(NO_HOST));
    text.0
}

struct Text(String);

impl Text {
    /// One line, whatever the value is.
    fn row(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        let line = format!("{name:NAMES$}{}", Escaped(value.as_bytes()));
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// A block of lines, of which the first has a name; nothing where there is no line.
    fn table(&mut self, name: &str, lines: impl Iterator<Item = String>) {
        for (index, line) in lines.enumerate() {
            if index == 0 {
                self.0.push('\n');
            }
            self.row(if index == 0 { name } else { "" }, line);
        }
    }

    fn current(&mut self, current: &Current, now: SystemTime) {
        self.row("revision", current.revision);
        self.row("digest", current.digest);
        self.row("published", moment(current.published_at, now));
        self.row("archive", size(current.size));
        self.row("uncompressed", size(current.uncompressed_size));
        self.row(
            "entries",
            format!("{} ({} files)", current.entries, current.files),
        );
        if current.left_out.is_empty() {
            self.row("left out", "nothing");
        }
        let mut name = "left out";
        for (rule, count) in &current.left_out {
            self.row(name, format!("{count} by {rule}"));
            name = "";
        }
    }

    fn commands(&mut self, facts: &Facts, host: &str) {
        let Ways {
            uploads,
            read_token,
            tls,
        } = facts.ways;
        let scheme = if tls { "https" } else { "http" };
        let server = quoted(&format!("{scheme}://{host}"));
        let archive = quoted(&format!("{scheme}://{host}/{ARCHIVE}"));
        let (bearer, token) = if read_token {
            (BEARER, " --token-file FILE")
        } else {
            ("", "")
        };
        self.0.push('\n');
        self.row(
            "fetch",
            format!("curl -fsS{bearer} {archive} | tar xz -C DIRECTORY"),
        );
        self.row("", format!("fetch-init{token} {server} DIRECTORY"));
        if let Some(current) = &facts.current {
            let revision = current.revision;
            let pin = format!("fetch-init{token} --revision {revision} {server} DIRECTORY");
            self.row("pin", pin);
        }
        self.row(
            "replace",
            "tar cz . | kubectl exec -i deploy/NAME -- /code-server ingest DIRECTORY",
        );
        if uploads {
            self.row("", format!("curl -fsS -T {ARCHIVE}{BEARER} {archive}"));
        }
    }
}

/// A shell would look for files by the brackets of an IPv6 address.
fn quoted(url: &str) -> String {
    if url.contains('[') {
        format!("'{url}'")
    } else {
        url.to_owned()
    }
}

fn line_of(build: &Build, now: SystemTime) -> String {
    let outcome = match (&build.revision, &build.error) {
        (Some(revision), _) => revision.to_string(),
        (None, Some(error)) if build.times > 1 => format!("{error} ({} times)", build.times),
        (None, Some(error)) => error.clone(),
        (None, None) => String::new(),
    };
    let (result, took) = (build.result, duration(build.seconds));
    let began = ago(build.began_at, now);
    format!("{result:9}  {took:>8}  {began:>12}  {outcome}")
}

fn line_of_revision(line: &Line, now: SystemTime) -> String {
    let (revision, size) = (line.revision, human_size(line.size));
    let published = ago(line.published_at, now);
    let current = if line.current { "  current" } else { "" };
    format!("{revision}  {published:>12}  {size:>9}{current}")
}

fn moment(time: SystemTime, now: SystemTime) -> String {
    format!(
        "{} ({})",
        humantime::format_rfc3339_seconds(time),
        ago(time, now)
    )
}

/// How long ago, in the largest unit of which there are two: `119 s ago`, `2 min ago`.
fn ago(time: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(time).unwrap_or(Duration::ZERO).as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return human_size(bytes);
    }
    format!("{} ({bytes} bytes)", human_size(bytes))
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn human_size(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let (mut value, mut unit) = (bytes as f64, "B");
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::publication::Publication;

    #[test]
    fn times_are_told_in_units_that_fit() {
        let check = |seconds, expected: &str| {
            let time = SystemTime::UNIX_EPOCH;
            assert_eq!(ago(time, time + Duration::from_secs(seconds)), expected);
        };
        check(0, "0 s ago");
        check(119, "119 s ago");
        check(120, "2 min ago");
        check(7200, "2 h ago");
        check(172_800, "2 days ago");
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(ago(now + Duration::from_secs(5), now), "0 s ago");
    }

    #[test]
    fn sizes_are_told_in_units_that_fit() {
        let check = |bytes, expected: &str| assert_eq!(human_size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(40_460_000, "38.6 MiB");
        check(3 << 40, "3.0 TiB");
        check(u64::MAX, "16777216.0 TiB");
    }

    #[test]
    fn commands_are_those_that_this_server_takes() {
        let check = |ways, host: &str, expected: &[&str]| {
            let (publication, metrics) = (Publication::new(), Metrics::new("1"));
            let text = write(&Facts::gather(&publication, &metrics, ways), Some(host));
            let lines: Vec<&str> = text
                .lines()
                .skip_while(|line| !line.starts_with("fetch"))
                .collect();
            let commands: Vec<&str> = lines.iter().map(|line| &line[NAMES..]).collect();
            assert_eq!(commands, expected);
        };
        let kubectl = "tar cz . | kubectl exec -i deploy/NAME -- /code-server ingest DIRECTORY";
        check(
            Ways::default(),
            "[::1]:80",
            &[
                "curl -fsS 'http://[::1]:80/code.tar.gz' | tar xz -C DIRECTORY",
                "fetch-init 'http://[::1]:80' DIRECTORY",
                kubectl,
            ],
        );
        let ways = Ways {
            uploads: true,
            read_token: true,
            tls: true,
        };
        let bearer = "-H \"Authorization: Bearer $TOKEN\"";
        check(
            ways,
            "a",
            &[
                &format!("curl -fsS {bearer} https://a/code.tar.gz | tar xz -C DIRECTORY"),
                "fetch-init --token-file FILE https://a DIRECTORY",
                kubectl,
                &format!("curl -fsS -T code.tar.gz {bearer} https://a/code.tar.gz"),
            ],
        );
    }

    #[test]
    fn a_value_is_one_line_and_cannot_drive_a_terminal() {
        let mut text = Text(String::new());
        text.row("left out", "1 by \u{1b}[31m\nrevision forged");
        assert_eq!(text.0, "left out      1 by \\u{1b}[31m\\nrevision forged\n");
    }
}
