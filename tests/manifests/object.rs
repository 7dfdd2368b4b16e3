//! An object of Kubernetes as it was rendered, whatever its kind.

use serde::Deserialize;
use serde_json::Value;
use yaml_serde::Deserializer;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(pub(crate) Value);

impl Object {
    /// What it is, such as `Deployment`.
    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name, without the namespace.
    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The part to which a JSON pointer (RFC 6901) leads, which must be there.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.find(pointer)
            .unwrap_or_else(|| panic!("there is no {pointer} in {:#}", self.0))
    }

    /// The same, where it need not be there.
    pub(crate) fn find(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    /// A text, which must be there.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.at(pointer);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{pointer} is no text in {:#}", self.0))
    }
}

/// The documents of a stream of YAML, empty ones left out.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    let documents = Deserializer::from_str(yaml).map(|document| {
        Value::deserialize(document).unwrap_or_else(|error| panic!("{error} in:\n{yaml}"))
    });
    documents
        .filter(|document| !document.is_null())
        .map(Object)
        .collect()
}

/// The one object of this kind and name.
pub(crate) fn only<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    let found: Vec<_> = objects
        .iter()
        .filter(|object| object.kind() == kind && object.name() == name)
        .collect();
    let [only] = found[..] else {
        let names: Vec<_> = objects
            .iter()
            .map(|object| format!("{} {}", object.kind(), object.name()))
            .collect();
        panic!("{} times {kind} {name} among {names:?}", found.len());
    };
    only
}
