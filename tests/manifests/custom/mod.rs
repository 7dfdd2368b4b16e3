//! Objects of kinds that Kubernetes does not know itself: a misspelt field, a value out of range or a missing one is an
//! error, as it would be once the operator looks at it.
//!
//! The fields are those of the projects' own definitions; of an object's meaning as much is checked as can be told from
//! the object alone.

#![allow(
    dead_code,
    reason = "most fields are there to be known, not to be read"
)]

mod adapter;
mod keda;
mod minicluster;
mod monitoring;
mod rules;
mod scaling;
mod tests;

use std::collections::BTreeMap;
use std::result;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::object::Object;

/// Nothing, or what is wrong in words that name the place.
type Result = result::Result<(), String>;

/// Declares what a part of an object may say; everything but `Option`s and maps with a default must be there.
macro_rules! parts {
    ($($(#[$outer:meta])* struct $part:ident {
        $($(#[$inner:meta])* $field:ident: $kind:ty,)*
    })*) => {$(
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        $(#[$outer])*
        pub(super) struct $part {
            $($(#[$inner])* pub(super) $field: $kind,)*
        }
    )*};
}
use parts;

/// What a specification says beyond the spelling of its fields.
trait Meaning {
    /// Fails when the operator would refuse it, or take it for something else.
    fn check(&self) -> Result;
}

parts! {
    struct Metadata {
        name: String,
        namespace: Option<String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    struct Selector {
        #[serde(default)]
        match_labels: BTreeMap<String, String>,
        #[serde(default)]
        match_expressions: Vec<Expression>,
    }
    struct Expression {
        key: String,
        operator: Operator,
        #[serde(default)]
        values: Vec<String>,
    }
    struct SecretKey {
        name: String,
        key: String,
        optional: Option<bool>,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Deserialize)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A number or a text, where Kubernetes takes both.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrText {
    Number(u32),
    Text(String),
}

/// Fails for an object of a custom kind that its operator would not take as it is meant, and for a kind that is not
/// known here. Objects of Kubernetes' own kinds pass, but for a `ConfigMap` that configures the Prometheus Adapter.
pub(crate) fn check(object: &Object) -> Result {
    let version = object.text("/apiVersion");
    let (group, _) = version.split_once('/').unwrap_or_default();
    let found = match (version, object.kind()) {
        ("v1", "ConfigMap") => adapter::check(object),
        ("monitoring.coreos.com/v1", "ServiceMonitor") => {
            meaning::<monitoring::ServiceMonitor>(object)
        }
        ("monitoring.coreos.com/v1", "PodMonitor") => meaning::<monitoring::PodMonitor>(object),
        ("monitoring.coreos.com/v1", "PrometheusRule") => meaning::<rules::PrometheusRule>(object),
        ("keda.sh/v1alpha1", "ScaledObject") => meaning::<keda::ScaledObject>(object),
        ("keda.sh/v1alpha1", "TriggerAuthentication" | "ClusterTriggerAuthentication") => {
            meaning::<keda::TriggerAuthentication>(object)
        }
        ("flux-framework.org/v1alpha2", "MiniCluster") => {
            meaning::<minicluster::MiniCluster>(object)
        }
        _ if !group.contains('.') || group.ends_with(".k8s.io") => Ok(()),
        (_, kind) => Err(format!("nothing is known here of {kind} in {version}")),
    };
    found.map_err(|error| format!("{} {}: {error}", object.kind(), object.name()))
}

fn meaning<S: DeserializeOwned + Meaning>(object: &Object) -> Result {
    let document: Document<S> =
        serde_json::from_value(object.0.clone()).map_err(|error| error.to_string())?;
    document.spec.check()
}

/// Fails with these words unless it holds.
fn ensure(holds: bool, words: impl Into<String>) -> Result {
    if holds { Ok(()) } else { Err(words.into()) }
}

impl Selector {
    /// Fails for expressions whose values do not fit their operator.
    fn check(&self) -> Result {
        self.match_expressions.iter().try_for_each(|expression| {
            let takes_values = matches!(expression.operator, Operator::In | Operator::NotIn);
            ensure(
                takes_values != expression.values.is_empty(),
                format!(
                    "the values for {} do not fit {:?}",
                    expression.key, expression.operator
                ),
            )
        })
    }
}

impl NumberOrText {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}
