//! The Prometheus Operator's `PrometheusRule` (monitoring.coreos.com/v1).

use std::collections::{BTreeMap, BTreeSet};
use std::result;

use super::{Meaning, NumberOrText, Result, ensure, parts};

parts! {
    struct PrometheusRule {
        groups: Vec<Group>,
    }
    struct Group {
        name: String,
        interval: Option<String>,
        #[serde(rename = "query_offset")]
        query_offset: Option<String>,
        limit: Option<u64>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        rules: Vec<Rule>,
    }
    struct Rule {
        record: Option<String>,
        alert: Option<String>,
        expr: NumberOrText,
        #[serde(rename = "for")]
        lasting: Option<String>,
        #[serde(rename = "keep_firing_for")]
        keep_firing_for: Option<String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
}

impl Meaning for PrometheusRule {
    fn check(&self) -> Result {
        let mut names = BTreeSet::new();
        for group in &self.groups {
            ensure(
                names.insert(&group.name),
                format!("two groups are named {}", group.name),
            )?;
            optional_duration(group.interval.as_ref())?;
            optional_duration(group.query_offset.as_ref())?;
            ensure(
                !group.rules.is_empty(),
                format!("group {} has no rule", group.name),
            )?;
            group.rules.iter().try_for_each(Rule::check)?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result {
        let name = self.alert.as_ref().or(self.record.as_ref());
        let name = name.ok_or("a rule that neither alerts nor records")?;
        ensure(
            self.alert.is_none() || self.record.is_none(),
            format!("{name} alerts and records"),
        )?;
        ensure(
            !self.expr.text().trim().is_empty(),
            format!("{name} has an empty expr"),
        )?;
        optional_duration(self.lasting.as_ref())?;
        optional_duration(self.keep_firing_for.as_ref())?;
        let alerting = self.lasting.is_some()
            || self.keep_firing_for.is_some()
            || !self.annotations.is_empty();
        ensure(
            self.alert.is_some() || !alerting,
            format!("{name} records, and says what only an alert may say"),
        )
    }
}

pub(super) fn optional_duration(text: Option<&String>) -> result::Result<Option<u64>, String> {
    let read = |text: &String| milliseconds(text).ok_or_else(|| format!("{text:?} is no duration"));
    text.map(read).transpose()
}

/// What Prometheus takes for a duration: whole numbers with units, the larger before the smaller.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum, mut units) = (text, 0, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let letters = rest[digits..].find(|letter: char| letter.is_ascii_digit());
        let end = letters.map_or(rest.len(), |letters| digits + letters);
        let place = units
            .iter()
            .position(|(unit, _)| *unit == &rest[digits..end])?;
        sum += rest[..digits].parse::<u64>().ok()? * units[place].1;
        (rest, units) = (&rest[end..], &units[place + 1..]);
    }
    (!text.is_empty()).then_some(sum)
}
