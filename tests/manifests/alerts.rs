//! The alerts: they fire when they should and else not, ask for what there is, and each has a page that says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::exposed::Exposed;
use crate::kubernetes::manifests;
use crate::object::objects;
use crate::tools;

fn operating(path: &str) -> PathBuf {
    manifests().join("operating").join(path)
}

/// The one document in a file.
fn document(path: &str) -> Value {
    let text = fs::read_to_string(operating(path)).unwrap();
    let mut documents = objects(&text);
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0).0
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("there is no {key} in {value:#}"))
}

fn alerts() -> Vec<Value> {
    let rules = document("prometheus/rules.yaml");
    let groups = list(&rules["groups"]);
    let alerts: Vec<_> = groups
        .iter()
        .flat_map(|group| list(&group["rules"]).to_vec())
        .collect();
    assert!(!alerts.is_empty());
    alerts
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    if tools::installed(&["promtool"]) {
        let mut promtool = tools::program("promtool");
        promtool.args(arguments);
        tools::output(promtool.current_dir(operating("prometheus")));
    }
}

#[test]
fn the_rules_are_valid() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"]);
}

#[test]
fn the_rules_fire_when_they_should_and_else_not() {
    promtool(&["test", "rules", "rules_test.yaml"]);
}

#[test]
fn every_alert_is_tested_where_it_fires_and_where_it_does_not() {
    let tests = document("prometheus/rules_test.yaml");
    for alert in alerts() {
        let name = text(&alert, "alert");
        let about = |test: &&Value| text(test, "name").starts_with(&format!("{name}: "));
        let tests: Vec<_> = list(&tests["tests"])
            .iter()
            .filter(about)
            .map(|test| {
                let checks = list(&test["promql_expr_test"]);
                checks
                    .iter()
                    .any(|check| check["exp_samples"].to_string().contains(name))
            })
            .collect();
        assert!(tests.contains(&true), "no test has {name} fire");
        assert!(tests.contains(&false), "in no test {name} is silent");
    }
}

#[test]
fn the_rules_ask_for_what_there_is() {
    let exposed = Exposed::by_a_server();
    for alert in alerts() {
        exposed.check(text(&alert, "expr"));
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_it_means() {
    for alert in alerts() {
        let name = text(&alert, "alert");
        let severity = text(&alert["labels"], "severity");
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
        let annotations = &alert["annotations"];
        let page = format!("manifests/operating/runbook/{name}.md");
        assert_eq!(text(annotations, "runbook"), page);
        let told = format!(
            "{}{}",
            text(annotations, "summary"),
            text(annotations, "description")
        );
        let names_its_place = told.contains("$labels.") || name == "CodeServerAbsent";
        assert!(names_its_place, "{name} does not say where");
    }
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let alerts: BTreeSet<_> = alerts()
        .iter()
        .map(|alert| format!("{}.md", text(alert, "alert")))
        .collect();
    let pages: BTreeSet<_> = fs::read_dir(operating("runbook"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(pages, alerts);
    for page in pages {
        let written = fs::read_to_string(operating("runbook").join(&page)).unwrap();
        let title = format!("# {}\n", page.trim_end_matches(".md"));
        assert!(written.starts_with(&title), "{page} has another title");
        for part in [
            "**Who notices:** ",
            "\n## Look\n",
            "\n## Do\n",
            "\n## Harmless\n",
        ] {
            assert!(written.contains(part), "{page} lacks {part:?}");
        }
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut pages: Vec<_> = fs::read_dir(operating("runbook"))
        .unwrap()
        .map(|page| page.unwrap().path())
        .collect();
    pages.extend([operating("README.md"), operating("troubleshooting.md")]);
    let mut links = 0;
    for page in pages {
        let written = fs::read_to_string(&page).unwrap();
        for link in written.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = page.parent().unwrap().join(file);
            let target = if file.is_empty() {
                page.clone()
            } else {
                target
            };
            assert!(target.exists(), "{} names {link}", page.display());
            if !heading.is_empty() {
                let there = headings(&fs::read_to_string(target).unwrap());
                assert!(there.contains(heading), "{} names {link}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}

/// The anchors of a page.
fn headings(page: &str) -> BTreeSet<String> {
    let titles = page
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let anchor = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.replace(
            |letter: char| !letter.is_alphanumeric() && !"-_".contains(letter),
            "",
        )
    };
    titles.map(anchor).collect()
}

#[test]
fn the_operator_gets_the_same_rules() {
    let mut rules = document("prometheus/rules.yaml");
    let object = document("prometheus/prometheusrule.yaml");
    assert_eq!(text(&object, "kind"), "PrometheusRule");
    let spec = Map::from_iter([("groups".to_owned(), rules["groups"].take())]);
    assert_eq!(object["spec"], Value::Object(spec));
}
