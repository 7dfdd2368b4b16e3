//! The line that a person watches, made to fit the terminal.

use std::time::Duration;

use super::figures::{amount, part, rough};

/// A shorter bar shows nothing.
const SHORTEST_BAR: usize = 10;
/// A longer one is no easier to read.
const LONGEST_BAR: usize = 50;

/// What is to be seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) work: Work,
    /// What went wrong, if nothing went well since.
    pub(super) trouble: Option<&'a str>,
    /// Since when it is at this.
    pub(super) elapsed: Duration,
}

/// What is being done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Wait,
    Download {
        came: u64,
        /// `None` where nobody knows.
        size: Option<u64>,
        /// Bytes a second.
        rate: u64,
    },
    Install,
}

/// The line, of `width` columns at most.
pub(super) fn text(view: &View<'_>, width: usize) -> String {
    match (view.work, view.trouble) {
        (Work::Wait, None) => fit(&waiting(view), width),
        (Work::Wait, Some(trouble)) => fit(&format!("{}: {trouble}", waiting(view)), width),
        (Work::Install, _) => fit(&format!("installing {}", rough(view.elapsed)), width),
        (Work::Download { came, size, .. }, Some(trouble)) => {
            fit(&format!("{}: {trouble}", bytes(came, size)), width)
        }
        (Work::Download { came, size, rate }, None) => downloading(came, size, rate, width),
    }
}

fn waiting(view: &View<'_>) -> String {
    format!("waiting for the server {}", rough(view.elapsed))
}

/// As much as there is room for; what matters least goes first.
fn downloading(came: u64, size: Option<u64>, rate: u64, width: usize) -> String {
    // The last segments are still being unpacked when all has come.
    let word = match size {
        Some(size) if came >= size => "unpacking",
        _ => "downloading",
    };
    let bytes = bytes(came, size);
    let speed = match rate {
        0 => String::new(),
        _ => format!("  {}/s", amount(rate)),
    };
    let left = match size {
        Some(size) if rate > 0 && size > came => {
            format!(
                "  {} left",
                rough(Duration::from_secs((size - came) / rate))
            )
        }
        _ => String::new(),
    };
    if let Some(size) = size {
        let others = format!("{word} [] {bytes}{speed}{left}").chars().count();
        let room = width.saturating_sub(others).min(LONGEST_BAR);
        if room >= SHORTEST_BAR {
            let bar = bar(came, size, room);
            return format!("{word} [{bar}] {bytes}{speed}{left}");
        }
    }
    let shorter = [
        format!("{word} {bytes}{speed}{left}"),
        format!("{bytes}{speed}{left}"),
        format!("{bytes}{left}"),
    ];
    let fitting = shorter
        .into_iter()
        .find(|line| line.chars().count() <= width);
    fitting.unwrap_or_else(|| fit(&bytes, width))
}

fn bytes(came: u64, size: Option<u64>) -> String {
    size.map_or_else(|| amount(came), |size| part(came, size))
}

fn bar(came: u64, size: u64, columns: usize) -> String {
    let done = u128::from(came.min(size)) * columns as u128 / u128::from(size.max(1));
    let done = usize::try_from(done).expect("no more than the columns");
    let head = if done < columns { ">" } else { "" };
    format!("{:columns$}", "=".repeat(done) + head)
}

/// Cut to so many columns, visibly.
fn fit(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.into();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Work = Work::Download {
        came: 11 << 20,
        size: Some(22 << 20),
        rate: 1 << 20,
    };

    fn check(work: Work, trouble: Option<&str>, width: usize, expected: &str) {
        let view = View {
            work,
            trouble,
            elapsed: Duration::from_secs(3),
        };
        assert_eq!(text(&view, width), expected, "{width} columns");
    }

    #[test]
    fn a_download_shows_what_there_is_room_for() {
        let bar = format!("{}>{}", "=".repeat(25), " ".repeat(24));
        let wide = format!("downloading [{bar}] 11.0 of 22.0 MiB  1.0 MiB/s  11s left");
        for (width, expected) in [
            (198, &*wide),
            (
                78,
                "downloading [=============>            ] 11.0 of 22.0 MiB  1.0 MiB/s  11s left",
            ),
            (61, "downloading 11.0 of 22.0 MiB  1.0 MiB/s  11s left"),
            (38, "11.0 of 22.0 MiB  1.0 MiB/s  11s left"),
            (30, "11.0 of 22.0 MiB  11s left"),
            (20, "11.0 of 22.0 MiB"),
            (10, "11.0 of 2…"),
        ] {
            check(HALF, None, width, expected);
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let work = |came, size, rate| Work::Download { came, size, rate };
        for (work, expected) in [
            (work(0, Some(1 << 20), 0), "downloading 0.0 of 1.0 MiB"),
            (work(5 << 20, None, 0), "downloading 5.0 MiB"),
            (
                work(5 << 20, None, 1 << 20),
                "downloading 5.0 MiB  1.0 MiB/s",
            ),
            (work(1 << 20, Some(1 << 20), 0), "unpacking 1.0 of 1.0 MiB"),
        ] {
            check(work, None, 36, expected);
        }
    }

    #[test]
    fn a_wait_tells_for_how_long_and_why() {
        check(Work::Wait, None, 78, "waiting for the server 3s");
        let refused = "10.0.0.1:8080 refuses connections";
        check(
            Work::Wait,
            Some(refused),
            78,
            &format!("waiting for the server 3s: {refused}"),
        );
        check(
            Work::Wait,
            Some(refused),
            38,
            "waiting for the server 3s: 10.0.0.1:8…",
        );
        check(
            HALF,
            Some(refused),
            38,
            "11.0 of 22.0 MiB: 10.0.0.1:8080 refus…",
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 0..200 {
            for trouble in [
                None,
                Some("something went wrong, and that takes many words"),
            ] {
                for work in [Work::Wait, Work::Install, HALF] {
                    let view = View {
                        work,
                        trouble,
                        elapsed: Duration::from_hours(30),
                    };
                    assert!(
                        text(&view, width).chars().count() <= width.max(1),
                        "{width}"
                    );
                }
            }
        }
    }
}
