//! The configuration of the Prometheus Adapter: a file within a `ConfigMap`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::Object;

use super::{Result, ensure, parts};

parts! {
    struct Config {
        #[serde(default)]
        rules: Vec<Rule>,
        #[serde(default)]
        external_rules: Vec<Rule>,
        resource_rules: Option<ResourceRules>,
    }
    struct Rule {
        series_query: String,
        #[serde(default)]
        series_filters: Vec<Filter>,
        resources: Resources,
        name: Option<Name>,
        metrics_query: String,
    }
    struct Filter {
        is: Option<String>,
        is_not: Option<String>,
    }
    struct Resources {
        template: Option<String>,
        #[serde(default)]
        overrides: BTreeMap<String, Override>,
        namespaced: Option<bool>,
    }
    struct Override {
        group: Option<String>,
        resource: String,
    }
    struct Name {
        matches: Option<String>,
        #[serde(rename = "as")]
        name: Option<String>,
    }
    struct ResourceRules {
        cpu: Option<ResourceRule>,
        memory: Option<ResourceRule>,
        window: Option<String>,
    }
    struct ResourceRule {
        container_query: String,
        node_query: String,
        resources: Resources,
        container_label: String,
    }
}

/// Fails for a `config.yaml` that the adapter would not take; any other `ConfigMap` passes.
pub(super) fn check(object: &Object) -> Result {
    let Some(text) = object
        .find("/data/config.yaml")
        .and_then(|text| text.as_str())
    else {
        return Ok(());
    };
    let document: Value =
        yaml_serde::from_str(text).map_err(|error| format!("config.yaml: {error}"))?;
    let rules = ["rules", "externalRules", "resourceRules"];
    if !rules.iter().any(|key| document.get(key).is_some()) {
        return Ok(());
    }
    let config: Config = serde_json::from_value(document).map_err(|error| error.to_string())?;
    config
        .rules
        .iter()
        .chain(&config.external_rules)
        .try_for_each(Rule::check)
}

impl Rule {
    fn check(&self) -> Result {
        let series = &self.series_query;
        let by = &self.resources;
        ensure(
            by.template.is_some() || !by.overrides.is_empty() || by.namespaced == Some(false),
            format!("the series {series} belong to no resource"),
        )?;
        ensure(
            by.template
                .as_ref()
                .is_none_or(|template| template.contains("<<.Resource>>")),
            format!("the template for {series} leaves <<.Resource>> out"),
        )?;
        // Without them, every object would have the sum of all.
        ensure(
            self.metrics_query.contains("<<.LabelMatchers>>"),
            format!("the metricsQuery for {series} leaves <<.LabelMatchers>> out"),
        )?;
        self.series_filters.iter().try_for_each(|filter| {
            ensure(
                filter.is.is_some() != filter.is_not.is_some(),
                format!("a filter of {series} says neither or both of is and isNot"),
            )
        })
    }
}
