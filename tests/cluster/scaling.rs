//! More pods, and fewer.

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::until;

/// Many pods for a server with a tenth of a core, and few enough for a small cluster.
const MANY: usize = 12;

fn check_from(replicas: usize) {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::with_payload("many", 1 << 20);
    site.ingest(&code);
    let application = Application::new(&site, &[], replicas);
    application.check(replicas, &code);
    application.scale(MANY);
    application.check(MANY, &code);
    application.scale(0);
    application.check(0, &code);
}

#[test]
fn many_pods_at_once_get_the_code_where_there_was_none() {
    check_from(0);
}

#[test]
fn many_pods_at_once_get_the_code_where_there_was_one() {
    check_from(1);
}

#[test]
fn an_autoscaler_has_as_many_pods_with_the_code_as_it_wants() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("scaled");
    site.ingest(&code);
    let application = Application::new(&site, &["hpa"], 1);
    application.check(1, &code);
    // Bounds hold wherever, also where nobody measures what pods use.
    let bound = |bounds: &str, replicas: usize| {
        let patch = format!(r#"{{"spec": {{{bounds}}}}}"#);
        let hpa = "horizontalpodautoscaler/application";
        let merge = ["--type=merge", "--patch", &patch];
        site.kubectl()
            .output(&[&["patch", hpa], &merge[..]].concat());
        until("the autoscaler has scaled", || {
            (application.number("/spec/replicas") == replicas as u64).then_some(())
        });
        application.check(replicas, &code);
    };
    bound(r#""minReplicas": 3"#, 3);
    bound(r#""minReplicas": 2, "maxReplicas": 2"#, 2);
}
