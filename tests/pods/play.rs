//! A rendered Deployment as a pod that `podman kube play` runs as it is meant.
//!
//! Podman 4.3 leaves out or misreads some of what a kubelet does. Each such part, and no other, is put in other words here.

use std::path::Path;

use serde_json::{Value, json};

use crate::object::Object;

/// What podman has for what only a cluster has.
pub(crate) struct Stage<'a> {
    /// Images by the names that manifests call them.
    pub(crate) images: &'a [(&'a str, String)],
    /// The volume that every claim is bound to, and where it lies.
    pub(crate) volume: (&'a str, &'a Path),
    /// Where directories lie that each pod has for itself.
    pub(crate) directories: &'a Path,
}

/// One pod of a Deployment.
///
/// A Deployment with init containers cannot be played itself: its containers would be started beside them, again and again.
/// A pod that is not started again waits for them; one without them is, as a Deployment's always are.
pub(crate) fn pod(deployment: &Object, name: &str, stage: &Stage<'_>) -> Value {
    let mut metadata = deployment.at("/spec/template/metadata").clone();
    metadata["name"] = json!(name);
    let annotations = metadata.as_object_mut().expect("metadata is a map");
    let annotations = annotations.remove("annotations").unwrap_or_default();
    let mut spec = deployment.at("/spec/template/spec").clone();
    let is_prepared = spec.get("initContainers").is_some();
    spec["restartPolicy"] = json!(if is_prepared { "Never" } else { "Always" });

    // Is overlooked: a kubelet makes every process a member of the group that volumes belong to.
    if let Some(group) = spec.pointer("/securityContext/fsGroup").cloned() {
        spec["securityContext"]["supplementalGroups"] = json!([group]);
    }

    let mut volumes = spec["volumes"].take();
    let mut below = Vec::new();
    for key in ["initContainers", "containers"] {
        for container in list(&mut spec[key]) {
            refer(&annotations, container);
            below.extend(bring_to(stage, container));
            for mount in list(&mut container["volumeMounts"]) {
                mount["name"] = json!(named(name, &mount["name"]));
            }
        }
    }
    list(&mut volumes).extend(below);
    for volume in list(&mut volumes) {
        volume["name"] = json!(named(name, &volume["name"]));
        bind(stage, volume);
    }
    spec["volumes"] = volumes;
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Two pods may have volumes of the same name.
fn named(pod: &str, volume: &Value) -> String {
    format!("{pod}-{}", volume.as_str().expect("a volume has a name"))
}

/// Annotations are taken up to the length of labels, 63 characters, which is shorter than a revision: what a variable refers
/// to is put in its place. One that is not there is empty, as a kubelet has it.
fn refer(annotations: &Value, container: &mut Value) {
    let variables = container.get_mut("env").map(list);
    for variable in variables.into_iter().flatten() {
        let path = variable.pointer("/valueFrom/fieldRef/fieldPath");
        let path = path.and_then(Value::as_str).unwrap_or_default();
        let key = path.strip_prefix("metadata.annotations['");
        if let Some(key) = key.and_then(|key| key.strip_suffix("']")) {
            let value = annotations[key].as_str().unwrap_or_default();
            *variable = json!({"name": variable["name"], "value": value});
        }
    }
}

/// Gives the volumes that the container needs besides.
fn bring_to(stage: &Stage<'_>, container: &mut Value) -> Vec<Value> {
    let image = container["image"].as_str().expect("there is an image");
    let known = stage.images.iter().find(|(name, _)| *name == image);
    let (_, here) = known.unwrap_or_else(|| panic!("no image stands for {image}"));
    container["image"] = json!(here);
    // There is no registry.
    container["imagePullPolicy"] = json!("Never");
    let container = container.as_object_mut().expect("a container is a map");
    // Made calls of a `curl` in the container, which has none.
    container.remove("readinessProbe");
    container.remove("livenessProbe");
    container.remove("startupProbe");
    // Each would be published on this host, where another run may have it.
    container.remove("ports");
    expand(container);
    let mounts = container.get_mut("volumeMounts").map(list);
    let below = mounts.into_iter().flatten();
    below
        .filter_map(|mount| part_of_volume(stage, mount))
        .collect()
}

/// `$(NAME)` is handed over as it stands.
fn expand(container: &mut serde_json::Map<String, Value>) {
    let mut variables = container.get("env").cloned().unwrap_or_default();
    for key in ["command", "args"] {
        for argument in container.get_mut(key).map(list).into_iter().flatten() {
            let mut text = argument.as_str().expect("an argument is a text").to_owned();
            for variable in list(&mut variables) {
                if let (Some(name), Some(value)) =
                    (variable["name"].as_str(), variable["value"].as_str())
                {
                    text = text.replace(&format!("$({name})"), value);
                }
            }
            *argument = json!(text);
        }
    }
}

/// A `subPath` is overlooked, and all of the volume is mounted: the directory becomes a volume by itself.
fn part_of_volume(stage: &Stage<'_>, mount: &mut Value) -> Option<Value> {
    let part = mount.as_object_mut()?.remove("subPath")?;
    let part = part.as_str().expect("a path is a text");
    let name = named(mount["name"].as_str()?, &json!(part));
    mount["name"] = json!(name);
    let path = stage.volume.1.join(part);
    Some(json!({"name": name, "hostPath": {"path": path, "type": "Directory"}}))
}

fn bind(stage: &Stage<'_>, volume: &mut Value) {
    if let Some(claim) = volume.pointer_mut("/persistentVolumeClaim/claimName") {
        *claim = json!(stage.volume.0);
    }
    // Becomes a volume of podman, which the user of the container owns and which begins with what the image has there. A
    // kubelet makes a directory that is empty, and everybody's.
    let is_empty = volume.get("emptyDir").is_some();
    // Such a volume is unknown, even if its Secret need not be there; a kubelet leaves the directory empty then.
    if is_empty || volume.pointer("/secret/optional") == Some(&json!(true)) {
        let name = volume["name"].as_str().expect("a volume has a name");
        let path = stage.directories.join(name);
        *volume = json!({"name": name, "hostPath": {"path": path, "type": "Directory"}});
    }
}

/// The elements of a list that need not be there.
fn list(value: &mut Value) -> &mut Vec<Value> {
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it is a list")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Deployment of one container, and what its pod's container and volumes become.
    fn check(container: &Value, volumes: &Value, expected: (&Value, &Value)) {
        let deployment = Object(json!({"spec": {"template": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"long/one": "x"}},
            "spec": {"containers": [container], "volumes": volumes},
        }}}));
        let stage = Stage {
            images: &[("web", "localhost/web:ci".to_owned())],
            volume: ("claimed", Path::new("/volumes/claimed")),
            directories: Path::new("/own"),
        };
        let pod = pod(&deployment, "p", &stage);
        assert_eq!(pod["metadata"], json!({"labels": {"a": "b"}, "name": "p"}));
        assert_eq!(pod["spec"]["restartPolicy"], json!("Always"));
        let mut container = pod["spec"]["containers"][0].clone();
        assert_eq!(container["image"].take(), json!("localhost/web:ci"));
        assert_eq!(container["imagePullPolicy"].take(), json!("Never"));
        let mut all = expected.0.clone();
        all["image"] = json!(null);
        all["imagePullPolicy"] = json!(null);
        assert_eq!((&container, &pod["spec"]["volumes"]), (&all, expected.1));
    }

    #[test]
    fn what_podman_understands_stays() {
        let rest = json!({
            "image": "web",
            "resources": {"limits": {"memory": "64Mi"}},
            "securityContext": {"readOnlyRootFilesystem": true},
            "volumeMounts": [],
        });
        check(&rest, &json!([]), (&rest, &json!([])));
    }

    #[test]
    fn probes_and_ports_are_left_out() {
        let container = json!({"image": "web", "livenessProbe": {}, "readinessProbe": {}, "startupProbe": {}, "ports": []});
        check(
            &container,
            &json!(null),
            (&json!({"volumeMounts": []}), &json!([])),
        );
    }

    #[test]
    fn annotations_are_put_in() {
        let refers = |key: &str| json!({"fieldRef": {"fieldPath": format!("metadata.annotations['{key}']")}});
        let env = json!([{"name": "A", "valueFrom": refers("long/one")}, {"name": "B", "valueFrom": refers("none")}]);
        let expected = json!([{"name": "A", "value": "x"}, {"name": "B", "value": ""}]);
        let container = json!({"image": "web", "env": env});
        check(
            &container,
            &json!(null),
            (&json!({"env": expected, "volumeMounts": []}), &json!([])),
        );
    }

    #[test]
    fn variables_are_put_in() {
        let env = json!([{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {}}]);
        let container = json!({"image": "web", "env": env, "args": ["$(A)/$(A)", "$(B)"]});
        let expected = json!({"env": env, "args": ["x/x", "$(B)"], "volumeMounts": []});
        check(&container, &json!(null), (&expected, &json!([])));
    }

    #[test]
    fn volumes_are_each_pods_own_or_the_claimed_one() {
        let mounts = json!([{"name": "code", "mountPath": "/app"}, {"name": "data", "mountPath": "/s", "subPath": ".s"}]);
        let volumes = json!([
            {"name": "code", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "any"}},
            {"name": "token", "secret": {"secretName": "any", "optional": true}},
        ]);
        let expected = json!([{"name": "p-code", "mountPath": "/app"}, {"name": "p-data-.s", "mountPath": "/s"}]);
        let expected_volumes = json!([
            {"name": "p-code", "hostPath": {"path": "/own/p-code", "type": "Directory"}},
            {"name": "p-data", "persistentVolumeClaim": {"claimName": "claimed"}},
            {"name": "p-token", "hostPath": {"path": "/own/p-token", "type": "Directory"}},
            {"name": "p-data-.s", "hostPath": {"path": "/volumes/claimed/.s", "type": "Directory"}},
        ]);
        check(
            &json!({"image": "web", "volumeMounts": mounts}),
            &volumes,
            (&json!({"volumeMounts": expected}), &expected_volumes),
        );
    }

    #[test]
    fn what_is_prepared_first_is_started_once() {
        let deployment =
            Object(json!({"spec": {"template": {"metadata": {}, "spec": {"initContainers": []}}}}));
        let stage = Stage {
            images: &[],
            volume: ("", Path::new("")),
            directories: Path::new(""),
        };
        assert_eq!(
            pod(&deployment, "p", &stage)["spec"]["restartPolicy"],
            json!("Never")
        );
    }
}
