//! Figures as a person reads them.

use std::time::Duration;

const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];

/// An amount of bytes, as `22.4 MiB`.
pub(super) fn amount(bytes: u64) -> String {
    let unit = unit(bytes);
    format!("{} {}", in_unit(bytes, unit), UNITS[unit])
}

/// A part of an amount of bytes, as `1.3 of 22.4 MiB`.
pub(super) fn part(bytes: u64, whole: u64) -> String {
    let common = unit(whole);
    // In the unit of the whole a small part would be shown as nothing.
    let shown = in_unit(bytes, common);
    if bytes > 0 && shown == "0.0" {
        format!("{} of {}", amount(bytes), amount(whole))
    } else {
        format!("{shown} of {}", amount(whole))
    }
}

/// A time that passed, as `0.37s` or `2m05s`.
pub(super) fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.2}s", time.as_secs_f64()),
        _ => rough(time),
    }
}

/// A time in whole seconds, as `7s`, `2m05s` or `1h30m`.
pub(super) fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// The largest unit of which there is at least one.
fn unit(bytes: u64) -> usize {
    let is_enough = |unit: &usize| bytes >> (10 * unit) > 0;
    (1..UNITS.len()).rev().find(is_enough).unwrap_or(0)
}

fn in_unit(bytes: u64, unit: usize) -> String {
    if unit == 0 {
        return bytes.to_string();
    }
    let size = 1_u64 << (10 * unit);
    let tenths = u128::from(bytes) * 10 / u128::from(size);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_one_place_and_never_round_up() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (23_500_000, "22.4 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(amount(bytes), shown);
        }
    }

    #[test]
    fn a_part_has_the_unit_of_the_whole_unless_it_would_vanish() {
        for (bytes, whole, shown) in [
            (0, 0, "0 of 0 B"),
            (0, 23_500_000, "0.0 of 22.4 MiB"),
            (1_400_000, 23_500_000, "1.3 of 22.4 MiB"),
            (20_480, 23_500_000, "20.0 KiB of 22.4 MiB"),
            (24_000_000, 23_500_000, "22.8 of 22.4 MiB"),
        ] {
            assert_eq!(part(bytes, whole), shown);
        }
    }

    #[test]
    fn times_are_exact_as_long_as_they_are_short() {
        for (milliseconds, exact, about) in [
            (0, "0.00s", "0s"),
            (371, "0.37s", "0s"),
            (59_990, "59.99s", "59s"),
            (125_000, "2m05s", "2m05s"),
            (5_400_000, "1h30m", "1h30m"),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(
                (&*elapsed(time), &*rough(time)),
                (exact, about),
                "{milliseconds}"
            );
        }
    }
}
