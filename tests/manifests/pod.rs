//! The pods that an object makes, and what the profile `restricted` of the Pod Security Standards has against them.

use serde_json::{Value, json};

use crate::object::Object;

/// Where a workload, a job by the clock, and a pod itself keep what a pod is.
const SPECS: [&str; 3] = [
    "/spec/template/spec",
    "/spec/jobTemplate/spec/template/spec",
    "/spec",
];

/// What a pod of this object would be refused for, a sentence each; nothing for an object that makes none.
pub(crate) fn privileges(object: &Object) -> Vec<String> {
    let Some(pod) = spec(object) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[shared] == json!(true) {
            found.push(format!("{}: {shared}", object.name()));
        }
    }
    for volume in list(&pod["volumes"]) {
        if volume.get("hostPath").is_some() {
            found.push(format!(
                "{}: volume {} is a hostPath",
                object.name(),
                volume["name"]
            ));
        }
    }
    for container in containers(pod) {
        let complaints = complaints(&pod["securityContext"], container);
        found.extend(
            complaints
                .map(|text| format!("{}, container {}: {text}", object.name(), container["name"])),
        );
    }
    found
}

/// The pod that an object makes.
pub(crate) fn spec(object: &Object) -> Option<&Value> {
    let specs = SPECS.iter().filter_map(|pointer| object.find(pointer));
    specs.into_iter().find(|spec| spec["containers"].is_array())
}

/// Those that run before the others first.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["initContainers"])
        .iter()
        .chain(list(&pod["containers"]))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn complaints<'a>(pod: &'a Value, container: &'a Value) -> impl Iterator<Item = &'static str> {
    let own = &container["securityContext"];
    let either = move |name: &str| {
        if own[name].is_null() {
            &pod[name]
        } else {
            &own[name]
        }
    };
    let seccomp = either("seccompProfile")["type"] == json!("RuntimeDefault");
    [
        (either("runAsNonRoot") != &json!(true), "may run as root"),
        (either("runAsUser") == &json!(0), "runs as root"),
        (!seccomp, "has no seccomp profile"),
        (
            own["allowPrivilegeEscalation"] != json!(false),
            "may gain privileges",
        ),
        (
            own["capabilities"]["drop"] != json!(["ALL"]),
            "keeps capabilities",
        ),
        (!own["capabilities"]["add"].is_null(), "adds capabilities"),
        (own["privileged"] == json!(true), "is privileged"),
    ]
    .into_iter()
    .filter_map(|(is_so, text)| is_so.then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(container: &Value, expected: &[&str]) {
        let object = Object(json!({
            "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {"securityContext": {"runAsNonRoot": true}, "containers": [container]},
        }));
        let expected: Vec<_> = expected
            .iter()
            .map(|text| format!("web, container \"a\": {text}"))
            .collect();
        assert_eq!(privileges(&object), expected);
    }

    #[test]
    fn what_a_restricted_namespace_refuses_is_found() {
        let good = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        let with = |name: &str, value: Value| {
            let mut context = good.clone();
            context[name] = value;
            json!({"name": "a", "securityContext": context})
        };
        check(&with("runAsUser", json!(1000)), &[]);
        check(&with("runAsUser", json!(0)), &["runs as root"]);
        check(&with("runAsNonRoot", json!(false)), &["may run as root"]);
        check(&with("privileged", json!(true)), &["is privileged"]);
        check(
            &with("seccompProfile", json!(null)),
            &["has no seccomp profile"],
        );
        check(&with("capabilities", json!({})), &["keeps capabilities"]);
        check(
            &json!({"name": "a"}),
            &[
                "has no seccomp profile",
                "may gain privileges",
                "keeps capabilities",
            ],
        );
    }
}
