//! Windows of any kind, minute by minute: what cron does with what it is told, beside what the windows say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{made, pool};
use crate::object::Object;

/// The minutes of a week.
const WEEK: usize = 7 * 24 * 60;

/// The minutes of the week at which cron starts a job.
fn moments(schedule: &str) -> Vec<usize> {
    let fields: Vec<_> = schedule.split(' ').collect();
    let [minute, hour, "*", "*", days] = fields[..] else {
        panic!("{schedule} is none of ours");
    };
    let days = days.replace('*', "0,1,2,3,4,5,6");
    let time = hour.parse::<usize>().unwrap() * 60 + minute.parse::<usize>().unwrap();
    let days = days.split(',').map(|day| day.parse::<usize>().unwrap());
    days.map(|day| (day + 6) % 7 * 1440 + time).collect()
}

/// Whether a pool is frozen, for each minute of the week, when its jobs have run for a week already.
fn frozen(jobs: &[&Object]) -> Vec<bool> {
    let mut turns = BTreeMap::new();
    for job in jobs {
        for moment in moments(job.text("/spec/schedule")) {
            let before = turns.insert(moment, job.name().starts_with("freeze-"));
            assert_eq!(before, None, "two jobs at once");
        }
    }
    let last = turns.last_key_value().is_some_and(|(_, freezes)| *freezes);
    let minutes = (0..WEEK).scan(last, |frozen, minute| {
        *frozen = turns.get(&minute).copied().unwrap_or(*frozen);
        Some(*frozen)
    });
    minutes.collect()
}

/// From and to, in minutes of the day, and the days on which a window begins.
type Times = (usize, usize, Vec<usize>);

/// The same by the windows themselves.
fn meant(windows: &[Times]) -> Vec<bool> {
    let mut frozen = vec![false; WEEK];
    for (from, to, days) in windows {
        let length = (to + 1440 - from) % 1440;
        for day in days {
            let begin = (day + 6) % 7 * 1440 + from;
            (begin..begin + length).for_each(|minute| frozen[minute % WEEK] = true);
        }
    }
    frozen
}

fn any(random: &mut fastrand::Rng) -> Times {
    let from = random.usize(0..48) * 30;
    let to = (from + random.usize(1..30) * 30) % 1440;
    let days = (0..8).filter(|_| random.u8(0..3) == 0).collect::<Vec<_>>();
    let one = random.usize(0..8);
    (from, to, [days, vec![one]].concat())
}

fn configured((from, to, days): &Times) -> Value {
    let time = |minutes: &usize| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    json!({"from_time": time(from), "to_time": time(to), "weekdays": days})
}

/// The configuration of a pool, named by its number.
fn numbered(number: usize, windows: &[Times]) -> Value {
    let windows: Vec<_> = windows.iter().map(configured).collect();
    let mut one = pool(&json!({"pool_id": format!("p{number}"), "freeze_schedules": windows}));
    one["pools"][0].take()
}

#[test]
fn a_pool_is_frozen_in_the_minutes_of_its_windows_and_in_no_other() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut cases = Vec::new();
    while cases.len() < 60 {
        let windows: Vec<_> = (0..=cases.len() % 3).map(|_| any(&mut random)).collect();
        if meant(&windows).contains(&false) {
            cases.push(windows);
        }
    }
    let pools = cases.iter().enumerate();
    let pools: Vec<_> = pools
        .map(|(number, windows)| numbered(number, windows))
        .collect();
    let Some(objects) = made(&json!({"pools": pools})) else {
        return;
    };
    for (number, windows) in cases.iter().enumerate() {
        let suffix = format!("-p{number}");
        let jobs = objects.iter().filter(|object| object.kind() == "CronJob");
        let jobs: Vec<_> = jobs.filter(|job| job.name().ends_with(&suffix)).collect();
        assert!(frozen(&jobs) == meant(windows), "{windows:?}");
    }
}
