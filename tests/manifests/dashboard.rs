//! The dashboard: its queries are valid and ask for what there is, and a person can read its panels.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::exposed::Exposed;
use crate::kubernetes::manifests;
use crate::tools;

fn dashboard() -> Value {
    let file = manifests().join("operating/grafana/dashboard.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("there is no {key} in {value:#}"))
}

/// Those that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels: Vec<_> = list(dashboard, "panels")
        .iter()
        .filter(|panel| panel["type"] != "row")
        .collect();
    assert!(panels.len() > 20);
    panels
}

/// All that is asked of Prometheus, with what Grafana would put in the place of its variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let targets = panels(dashboard)
        .into_iter()
        .flat_map(|panel| list(panel, "targets"));
    let marks = list(&dashboard["annotations"], "list")
        .iter()
        .filter(|mark| mark["expr"].is_string());
    targets
        .chain(marks)
        .map(|query| text(query, "expr").replace("$__rate_interval", "2m"))
        .collect()
}

#[test]
fn its_queries_ask_for_what_there_is() {
    let (exposed, dashboard) = (Exposed::by_a_server(), dashboard());
    for query in queries(&dashboard) {
        exposed.check(&query);
    }
    for variable in list(&dashboard["templating"], "list") {
        if variable["type"] == "query" {
            let query = text(variable, "definition");
            exposed.check(query);
            assert_eq!(text(&variable["query"], "query"), query);
        }
    }
}

#[test]
fn its_queries_are_valid() {
    if !tools::installed(&["promtool"]) {
        return;
    }
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| json!({"record": format!("panel:{number}"), "expr": query}))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let written = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, written.to_string()).unwrap();
    let mut promtool = tools::program("promtool");
    tools::output(promtool.args(["check", "rules", "--lint-fatal"]).arg(file));
}

#[test]
fn its_queries_are_about_the_chosen_servers() {
    let dashboard = dashboard();
    for query in queries(&dashboard) {
        let ours = ["codeserver_", "process_"];
        let selectors: usize = ours.iter().map(|name| query.matches(name).count()).sum();
        let chosen = r#"{namespace=~"$namespace",instance=~"$instance""#;
        assert_eq!(query.matches(chosen).count(), selectors, "{query}");
    }
}

#[test]
fn every_panel_can_be_read() {
    let (exposed, dashboard) = (Exposed::by_a_server(), dashboard());
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(titles.insert(title), "{title} twice");
        assert!(text(panel, "description").ends_with('.'), "{title}");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert_ne!(text(defaults, "unit"), "", "{title}");
        assert!(
            !list(&defaults["thresholds"], "steps").is_empty(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in list(panel, "targets") {
            let legend = text(target, "legendFormat");
            assert_ne!(legend, "", "{title}");
            for label in legend.split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                assert!(exposed.has_label(label), "{title}: {label}");
            }
        }
    }
}

#[test]
fn panels_lie_side_by_side_and_none_on_another() {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let dashboard = dashboard();
    for panel in list(&dashboard, "panels") {
        assert!(ids.insert(panel["id"].as_u64()), "{panel:#}");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{panel:#}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{panel:#}");
            }
        }
    }
}

#[test]
fn it_shows_every_metric_of_the_server() {
    let dashboard = dashboard();
    let queries = queries(&dashboard).join("\n");
    let missing: Vec<_> = Exposed::by_a_server()
        .names()
        .into_iter()
        .filter(|name| !queries.contains(name.as_str()))
        .collect();
    assert_eq!(
        missing,
        ["codeserver_build_info", "process_virtual_memory_bytes"]
    );
}
