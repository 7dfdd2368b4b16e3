//! The example that takes the place of a busybox httpd with a tarball: what has to stay as it was at each step.

use serde_json::{Value, json};

use crate::kubernetes::{kustomize, manifests};
use crate::object::{Object, only};

const STEPS: [&str; 4] = ["0-before", "1-server", "2-init-container", "3-ingest"];
const SERVER: &str = "/spec/template/spec/containers/0";
const FETCHER: &str = "/spec/template/spec/initContainers/0";

fn rendered(step: &str) -> Option<Vec<Object>> {
    kustomize(&manifests().join("examples/drop-in").join(step))
}

fn check_step(step: &str, kind: &str, name: &str, pointer: &str, expected: &Value) {
    let Some(objects) = rendered(step) else {
        return;
    };
    let found = only(&objects, kind, name).at(pointer);
    assert_eq!(found, expected, "{step}: {kind} {name} {pointer}");
}

fn check(steps: &[&str], kind: &str, name: &str, pointer: &str, expected: &Value) {
    for step in steps {
        check_step(step, kind, name, pointer, expected);
    }
}

fn check_server(steps: &[&str], pointer: &str, expected: &Value) {
    check(steps, "Deployment", "myapp-code-server", pointer, expected);
}

fn check_application(steps: &[&str], pointer: &str, expected: &Value) {
    check(steps, "Deployment", "myapp", pointer, expected);
}

#[test]
fn every_step_has_the_same_objects() {
    for step in STEPS {
        let Some(objects) = rendered(step) else {
            return;
        };
        let mut names: Vec<_> = objects
            .iter()
            .map(|object| (object.kind(), object.name()))
            .collect();
        names.sort_unstable();
        let expected = [
            ("Deployment", "myapp"),
            ("Deployment", "myapp-code-server"),
            ("NetworkPolicy", "myapp-code-server-network-policy"),
            ("PersistentVolumeClaim", "myapp-code-pvc"),
            ("Service", "myapp-code-server"),
            ("Service", "myapp-service"),
            ("ServiceAccount", "myapp-code-server-sa"),
        ];
        assert_eq!(names, expected, "{step}");
    }
}

#[test]
fn selectors_and_labels_stay_as_they_were() {
    let server = json!({"app": "myapp-code-server"});
    check_server(&STEPS, "/spec/selector/matchLabels", &server);
    check_server(&STEPS, "/spec/template/metadata/labels", &server);
    let application = json!({"app": "myapp"});
    check_application(&STEPS, "/spec/selector/matchLabels", &application);
    check_application(
        &STEPS,
        "/spec/template/metadata/labels/app",
        &json!("myapp"),
    );
    let service = "myapp-code-server";
    check(&STEPS, "Service", service, "/spec/selector", &server);
}

#[test]
fn the_server_is_asked_at_the_same_place() {
    let port = json!([{"port": 8080, "targetPort": 8080}]);
    let service = "myapp-code-server";
    check(&STEPS, "Service", service, "/spec/ports", &port);
    let ports = json!([{"containerPort": 8080}]);
    check_server(&STEPS, &format!("{SERVER}/ports"), &ports);
    let among = json!([{
        "from": [{"podSelector": {"matchLabels": {"app": "myapp"}}}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    }]);
    let policy = "myapp-code-server-network-policy";
    check(&STEPS, "NetworkPolicy", policy, "/spec/ingress", &among);
}

#[test]
fn the_server_reads_the_same_volume_as_the_same_user() {
    let user = format!("{SERVER}/securityContext/runAsUser");
    check_server(&STEPS, &user, &json!(1000));
    let account = "/spec/template/spec/serviceAccountName";
    check_server(&STEPS, account, &json!("myapp-code-server-sa"));
    let mounted = json!({"name": "code-source", "mountPath": "/code", "readOnly": true});
    check_server(&STEPS[..1], &format!("{SERVER}/volumeMounts/0"), &mounted);
    check_server(
        &STEPS[1..],
        &format!("{SERVER}/args"),
        &json!(["serve", "/code/workspace"]),
    );
    for step in STEPS {
        let Some(objects) = rendered(step) else {
            return;
        };
        let server = only(&objects, "Deployment", "myapp-code-server");
        let mounts = server
            .at(&format!("{SERVER}/volumeMounts"))
            .as_array()
            .unwrap();
        let mount = mounts
            .iter()
            .find(|mount| mount["mountPath"] == json!("/code"));
        let mount = mount.expect("the code is mounted");
        assert_eq!(mount["name"], json!("code-source"), "{step}");
        assert_eq!(mount["readOnly"], json!(step != "3-ingest"), "{step}");
    }
}

#[test]
fn the_init_container_puts_the_code_where_it_was() {
    check_application(&STEPS, &format!("{FETCHER}/name"), &json!("build-app"));
    let mount = json!({"name": "app-code", "mountPath": "/app"});
    check_application(&STEPS, &format!("{FETCHER}/volumeMounts/0"), &mount);
    let user = format!("{FETCHER}/securityContext/runAsUser");
    check_application(&STEPS, &user, &json!(1000));
    let arguments = json!(["http://myapp-code-server:8080", "/app"]);
    check_application(&STEPS[2..], &format!("{FETCHER}/args"), &arguments);
}

#[test]
fn old_init_containers_ask_as_they_always_did() {
    let line = "until wget -q -O /app/code.tar.gz http://myapp-code-server:8080/code.tar.gz; do sleep 2; done \
                && tar xzf /app/code.tar.gz -C /app/ && rm /app/code.tar.gz";
    let command = json!(["sh", "-c", line]);
    check_application(&STEPS[..2], &format!("{FETCHER}/command"), &command);
}

/// `kubectl apply` over objects that something else made leaves what it does not know of: a shell that is not there.
#[test]
fn a_program_is_named_where_there_was_a_shell() {
    check_server(
        &STEPS[1..],
        &format!("{SERVER}/command"),
        &json!(["/code-server"]),
    );
    let command = format!("{FETCHER}/command");
    check_application(&STEPS[2..], &command, &json!(["/fetch-init"]));
}

#[test]
fn a_pin_is_read_from_the_pod_and_kept_by_an_apply() {
    let field = json!({"name": "FETCH_INIT_REVISION", "valueFrom": {"fieldRef": {
        "fieldPath": "metadata.annotations['code-server/revision']",
    }}});
    check_application(&STEPS[3..], &format!("{FETCHER}/env/0"), &field);
    let label = "/metadata/labels/code-server~1client";
    check_application(&STEPS[3..], label, &json!("true"));
    let Some(objects) = rendered("3-ingest") else {
        return;
    };
    let application = only(&objects, "Deployment", "myapp");
    assert_eq!(
        application.find("/spec/template/metadata/annotations"),
        None
    );
}

#[test]
fn what_was_served_stays_on_the_volume_once_the_server_may_write_it() {
    let volumes =
        json!([{"name": "code-source", "persistentVolumeClaim": {"claimName": "myapp-code-pvc"}}]);
    check_server(&STEPS[3..], "/spec/template/spec/volumes", &volumes);
    let state = json!({"name": "code-source", "mountPath": "/var/lib/code-server", "subPath": ".code-server"});
    check_server(&STEPS[3..], &format!("{SERVER}/volumeMounts/1"), &state);
    let group = "/spec/template/spec/securityContext/fsGroup";
    check_server(&STEPS[3..], group, &json!(1000));
}
