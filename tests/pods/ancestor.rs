//! The drop-in: each step of the migration, on the volume that was there and with what the step before has made.

use crate::object::Object;
use crate::podman::text;
use crate::rendered::{Rendered, pinned, rendered};
use crate::site::with;

const CODE: &[(&str, &[u8])] = &[("main.py", b"one")];

/// The server of one step, and an application pod of another, get along.
fn check(server: &str, application: &str) {
    with(|site| {
        let (Some(before), Some(after)) = (step(server), step(application)) else {
            return;
        };
        site.write(CODE);
        let _server = site.serve(&before, "myapp-code-server");
        let pod = site.start(after.deployment("myapp")).unwrap();
        assert_eq!(pod.output("myapp", &["cat", "/app/main.py"]), "one");
    });
}

/// What is ingested by the last step's server gets to an application pod of some step.
fn check_ingest(application: &str, wanting: impl Fn(&Object, &str) -> Object) {
    with(|site| {
        let (Some(last), Some(application)) = (step("3-ingest"), step(application)) else {
            return;
        };
        site.write(&[("old.py", b"old")]);
        let server = site.serve(&last, "myapp-code-server");
        server.wait_until_ready();
        let (archive, revision) = site.archive(CODE);
        let ingest = ["/code-server", "ingest", "/code/workspace"];
        let ingested = server.feed("code-server", &ingest, &archive);
        assert_eq!(
            ingested.status.code(),
            Some(0),
            "{}",
            text(&ingested.stderr)
        );
        assert_eq!(text(&ingested.stdout).trim(), revision);
        let wanting = wanting(application.deployment("myapp"), &revision);
        let pod = site.start(&wanting).unwrap();
        assert_eq!(pod.output("myapp", &["cat", "/app/main.py"]), "one");
        assert!(!pod.run("myapp", &["cat", "/app/old.py"]).status.success());
    });
}

fn step(name: &str) -> Option<Rendered> {
    rendered(&format!("examples/drop-in/{name}"))
}

#[test]
fn a_busybox_httpd_gives_its_tarball_to_wget() {
    check("0-before", "0-before");
}

#[test]
fn wget_gets_the_code_from_the_server_in_its_place() {
    check("1-server", "0-before");
}

#[test]
fn fetch_init_stands_in_for_wget() {
    check("2-init-container", "2-init-container");
}

#[test]
fn an_application_that_stays_with_wget_gets_what_is_ingested() {
    check_ingest("0-before", |application, _| application.clone());
}

#[test]
fn an_application_that_is_pinned_gets_what_is_ingested() {
    check_ingest("3-ingest", pinned);
}
