//! Roll-outs of one revision, undone ones, and such that cannot be.

use serde_json::{Value, json};

use crate::application::Application;
use crate::code::Code;
use crate::installation::Installation;
use crate::kubectl::until;
use crate::object::Object;

#[test]
fn a_roll_out_brings_exactly_one_revision_and_an_undo_brings_the_old_one_back() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let (old, new) = (Code::new("old"), Code::new("new"));
    site.ingest(&old);
    let application = Application::new(&site, &[], 3);
    application.pin(old.revision());
    application.check(3, &old);

    site.ingest(&new);
    // What is pinned stays what it is, also in a pod that comes later.
    application.scale(4);
    application.check(4, &old);
    let available = application.available();
    application.pin(new.revision());
    application.check(4, &new);
    application.undo();
    application.check(4, &old);
    assert_eq!(site.served(), new.revision());
    assert_eq!(available.least(), 4);
}

#[test]
fn a_revision_that_is_not_there_stops_the_roll_out_and_the_pod_says_why() {
    let Some(site) = Installation::new(1) else {
        return;
    };
    let code = Code::new("right");
    site.ingest(&code);
    let application = Application::new(&site, &[], 2);
    application.pin(code.revision());
    application.check(2, &code);

    let available = application.available();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let deadline = json!([{"name": "FETCH_INIT_DEADLINE", "value": "5s"}]);
    application.patch(&json!({
        "metadata": {"annotations": {"code-server/revision": wrong}},
        "spec": {"initContainers": [{"name": "fetch-code", "env": deadline}]},
    }));
    let end = until("the init container gives up", || {
        application.pods().iter().find_map(end_of_init)
    });
    let message = end["message"].as_str().unwrap();
    assert!(message.contains(&wrong), "{message}");
    assert!(message.contains(code.revision()), "{message}");
    assert_eq!(end["exitCode"], 69);
    application.undo();
    application.check(2, &code);
    assert_eq!(available.least(), 2);
}

/// How the init container of a pod has failed.
fn end_of_init(pod: &Object) -> Option<Value> {
    let status = pod.find("/status/initContainerStatuses/0")?;
    ["state", "lastState"]
        .iter()
        .map(|state| &status[state]["terminated"])
        .find(|end| end["exitCode"].as_u64().is_some_and(|code| code != 0))
        .cloned()
}
