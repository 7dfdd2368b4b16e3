//! Freeze windows: what cron and kubectl are told for them, and what is refused.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::{made, pool, refused};
use crate::kubernetes::kubectl;
use crate::object::{Object, only};
use crate::tools;

/// From, to and the days on which it begins, such as `23:00-02:00 1,2,3,4,5`.
pub(super) struct Window(&'static str);

pub(super) const NIGHT: Window = Window("23:00-02:00 1,2,3,4,5");

impl Window {
    /// The window as a configuration has it.
    pub(super) fn parsed(&self) -> Value {
        let (times, days) = self.0.split_once(' ').unwrap();
        let (from, to) = times.split_once('-').unwrap();
        let days: Vec<u8> = days.split(',').map(|day| day.parse().unwrap()).collect();
        json!({"from_time": from, "to_time": to, "weekdays": days})
    }
}

fn with(windows: &[&'static str]) -> Value {
    let windows: Vec<_> = windows
        .iter()
        .map(|window| Window(window).parsed())
        .collect();
    pool(&json!({"freeze_schedules": windows}))
}

/// What cron is told: a line for each `CronJob`, by its name.
#[track_caller]
fn check(windows: &[&'static str], expected: &[(&str, &str)]) {
    let Some(objects) = made(&with(windows)) else {
        return;
    };
    let jobs = objects.iter().filter(|object| object.kind() == "CronJob");
    let found: BTreeMap<_, _> = jobs
        .map(|job| (job.name(), job.text("/spec/schedule")))
        .collect();
    assert_eq!(found, expected.iter().copied().collect());
}

#[test]
fn a_window_across_midnight_ends_on_the_next_day() {
    let expected = [
        ("freeze-2300-a", "0 23 * * 1,2,3,4,5"),
        ("thaw-0200-a", "0 2 * * 2,3,4,5,6"),
    ];
    check(&[NIGHT.0], &expected);
    check(
        &["23:30-00:15 6"],
        &[
            ("freeze-2330-a", "30 23 * * 6"),
            ("thaw-0015-a", "15 0 * * 0"),
        ],
    );
}

#[test]
fn a_window_within_a_day_ends_on_that_day() {
    check(
        &["09:05-17:00 1,3"],
        &[
            ("freeze-0905-a", "5 9 * * 1,3"),
            ("thaw-1700-a", "0 17 * * 1,3"),
        ],
    );
    check(
        &["08:08-09:09 1"],
        &[("freeze-0808-a", "8 8 * * 1"), ("thaw-0909-a", "9 9 * * 1")],
    );
}

#[test]
fn sunday_is_the_first_and_the_last_day() {
    let expected = [
        ("freeze-2200-a", "0 22 * * 0"),
        ("thaw-0100-a", "0 1 * * 1"),
    ];
    check(&["22:00-01:00 7"], &expected);
    check(&["22:00-01:00 0"], &expected);
    check(&["22:00-01:00 0,7"], &expected);
}

#[test]
fn a_window_of_every_day_says_so() {
    let expected = [
        ("freeze-2300-a", "0 23 * * *"),
        ("thaw-0200-a", "0 2 * * *"),
    ];
    check(&["23:00-02:00 1,2,3,4,5,6,7"], &expected);
}

#[test]
fn the_end_of_a_day_is_the_next_one_s_beginning() {
    check(
        &["20:00-24:00 5"],
        &[
            ("freeze-2000-a", "0 20 * * 5"),
            ("thaw-0000-a", "0 0 * * 6"),
        ],
    );
    check(
        &["20:00-00:00 5"],
        &[
            ("freeze-2000-a", "0 20 * * 5"),
            ("thaw-0000-a", "0 0 * * 6"),
        ],
    );
}

#[test]
fn windows_that_touch_or_overlap_are_one() {
    let night = [
        ("freeze-2200-a", "0 22 * * 1"),
        ("thaw-0400-a", "0 4 * * 2"),
    ];
    check(&["22:00-00:00 1", "00:00-04:00 2"], &night);
    check(&["22:00-02:00 1", "23:00-04:00 1"], &night);
    check(&["22:00-04:00 1", "23:00-23:30 1"], &night);
    check(
        &["00:00-24:00 6,7"],
        &[("freeze-0000-a", "0 0 * * 6"), ("thaw-0000-a", "0 0 * * 1")],
    );
    check(
        &["00:00-24:00 7,1"],
        &[("freeze-0000-a", "0 0 * * 0"), ("thaw-0000-a", "0 0 * * 2")],
    );
}

#[test]
fn windows_that_leave_nothing_or_say_nothing_are_refused() {
    let always = "frozen all week: give it max_replicas 0";
    refused(&with(&["00:00-24:00 1,2,3,4,5,6,7"]), always);
    refused(
        &with(&["06:00-18:00 0,1,2,3,4,5,6", "18:00-06:00 0,1,2,3,4,5,6"]),
        always,
    );
    refused(&with(&["02:00-02:00 1"]), "frozen from 02:00 to 02:00");
    refused(&with(&["02:00-02:09 1"]), "for 9 minutes");
    refused(&with(&["02:00-03:00 1", "03:05-04:00 1"]), "for 5 minutes");
    refused(&with(&["25:00-02:00 1"]), "from_time");
    refused(&with(&["23:00-2:00 1"]), "to_time");
    refused(&with(&["23:00-02:00 8"]), "weekdays");
    let nameless =
        json!({"freeze_schedules": [{"from_time": "23:00", "to_time": "02:00", "weekdays": []}]});
    refused(&pool(&nameless), "weekdays");
}

#[test]
fn a_pool_without_windows_has_no_clock() {
    let Some(objects) = made(&pool(&json!({"freeze_schedules": []}))) else {
        return;
    };
    let kinds: Vec<_> = objects.iter().map(Object::kind).collect();
    assert_eq!(kinds, ["Deployment", "ScaledObject"]);
}

#[test]
fn a_window_sets_and_clears_the_annotation_that_holds_the_pool_at_none() {
    let Some(objects) = made(&with(&[NIGHT.0])) else {
        return;
    };
    for (name, value) in [("freeze-2300-a", json!("0")), ("thaw-0200-a", Value::Null)] {
        let job = only(&objects, "CronJob", name);
        let container = job.at("/spec/jobTemplate/spec/template/spec/containers/0");
        let args: Vec<_> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(
            args[..4],
            [
                "patch",
                "scaledobjects.keda.sh",
                "iac-agent-a",
                "--type=merge"
            ]
        );
        let patch: Value = serde_json::from_str(args[4].strip_prefix("--patch=").unwrap()).unwrap();
        let annotations = json!({"autoscaling.keda.sh/paused-replicas": value});
        assert_eq!(patch, json!({"metadata": {"annotations": annotations}}));
        assert_eq!(args.len(), 5);
    }
}

/// What kubectl makes of an object by the arguments of the job of this name.
fn patched(objects: &[Object], job: &str, object: &Object) -> Option<Object> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("object.json");
    fs::write(&file, object.0.to_string()).unwrap();
    let container = "/spec/jobTemplate/spec/template/spec/containers/0/args";
    let args = only(objects, "CronJob", job)
        .at(container)
        .as_array()
        .unwrap();
    let args: Vec<_> = args.iter().filter_map(Value::as_str).collect();
    // In the place of the cluster's object, which the second and the third name, stands the file.
    let mut kubectl = kubectl()?;
    kubectl
        .arg(args[0])
        .args(&args[3..])
        .args(["--local", "-o", "json", "-f"])
        .arg(&file);
    Some(Object(
        serde_json::from_str(&tools::output(&mut kubectl)).unwrap(),
    ))
}

#[test]
fn kubectl_freezes_by_what_it_is_told_and_thaws() {
    let Some(objects) = made(&with(&[NIGHT.0])) else {
        return;
    };
    let scaled = only(&objects, "ScaledObject", "iac-agent-a");
    let Some(frozen) = patched(&objects, "freeze-2300-a", scaled) else {
        return;
    };
    let annotations = json!({"autoscaling.keda.sh/paused-replicas": "0"});
    assert_eq!(frozen.at("/metadata/annotations"), &annotations);
    let mut thawed = patched(&objects, "thaw-0200-a", &frozen).unwrap();
    assert_eq!(thawed.0["metadata"]["annotations"].take(), json!({}));
    thawed.0["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    assert_eq!(&thawed, scaled);
}

#[test]
fn the_clock_is_the_pools_and_keeps_little() {
    let mut configuration = with(&[NIGHT.0]);
    configuration["freeze"] = json!({"time_zone": "Europe/Berlin"});
    let Some(objects) = made(&configuration) else {
        return;
    };
    for (name, deadline) in [
        ("freeze-2300-a", 3 * 3600 - 300),
        ("thaw-0200-a", 21 * 3600 - 300),
    ] {
        let job = only(&objects, "CronJob", name);
        assert_eq!(job.text("/spec/timeZone"), "Europe/Berlin");
        assert_eq!(job.text("/spec/concurrencyPolicy"), "Replace");
        assert_eq!(job.at("/spec/startingDeadlineSeconds"), &json!(deadline));
        assert_eq!(job.at("/spec/successfulJobsHistoryLimit"), &json!(1));
        assert_eq!(job.at("/spec/failedJobsHistoryLimit"), &json!(3));
        assert_eq!(
            job.at("/spec/jobTemplate/spec/activeDeadlineSeconds"),
            &json!(300)
        );
    }
}

#[test]
fn the_clock_may_patch_the_pools_that_have_windows_and_nothing_else() {
    let mut configuration = with(&[NIGHT.0]);
    let mut other = configuration["pools"][0].clone();
    other["pool_id"] = json!("b");
    let mut without = pool(&json!({"pool_id": "c"}))["pools"][0].clone();
    without["name"] = json!("C");
    configuration["pools"]
        .as_array_mut()
        .unwrap()
        .extend([other, without]);
    let Some(objects) = made(&configuration) else {
        return;
    };
    let role = only(&objects, "Role", "iac-agent-freeze");
    let rules = json!([{
        "apiGroups": ["keda.sh"],
        "resources": ["scaledobjects"],
        "resourceNames": ["iac-agent-a", "iac-agent-b"],
        "verbs": ["get", "patch"],
    }]);
    assert_eq!(role.at("/rules"), &rules);
    let binding = only(&objects, "RoleBinding", "iac-agent-freeze");
    assert_eq!(binding.text("/roleRef/name"), "iac-agent-freeze");
    assert_eq!(binding.text("/subjects/0/name"), "iac-agent-freeze");
    only(&objects, "ServiceAccount", "iac-agent-freeze");
    let job = only(&objects, "CronJob", "freeze-2300-b");
    assert_eq!(
        job.text("/spec/jobTemplate/spec/template/spec/serviceAccountName"),
        "iac-agent-freeze"
    );
}
