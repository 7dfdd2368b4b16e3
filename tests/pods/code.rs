//! The code of an application's pods: which each has, whatever happens to the server meanwhile.

use std::thread;

use crate::object::Object;
use crate::pod::Pod;
use crate::podman::{text, until};
use crate::rendered::{Rendered, pinned, rendered};
use crate::site::{Site, with};

const ONE: &[(&str, &[u8])] = &[("main.py", b"one")];
const TWO: &[(&str, &[u8])] = &[("main.py", b"two"), ("more.py", b"more")];

/// The base and an application, if they can be rendered.
fn base_and_hello() -> Option<(Rendered, Rendered)> {
    Some((rendered("base")?, rendered("examples/quickstart")?))
}

fn start_all(site: &Site, deployment: &Object, number: usize) -> Vec<Pod> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..number)
            .map(|_| scope.spawn(|| site.start(deployment).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn check(pod: &Pod, code: &str, revision: &str) {
    assert_eq!(pod.output("hello", &["cat", "/app/main.py"]), code);
    assert_eq!(
        pod.output("hello", &["cat", "/app/.code-revision"]).trim(),
        revision
    );
}

#[test]
fn pods_keep_the_code_that_they_started_with_and_get_what_they_are_pinned_to() {
    with(|site| {
        let Some((base, quickstart)) = base_and_hello() else {
            return;
        };
        let hello = quickstart.deployment("hello");
        let one = site.write(ONE);
        site.serve(&base, "code-server");
        let old = start_all(site, hello, 3);

        let two = site.write(TWO);
        assert_ne!(one, two);
        // Waits for what is not served yet; what comes after it need not.
        let waited = site.start(&pinned(hello, &two)).unwrap();
        check(&waited, "two", &two);
        check(&site.start(hello).unwrap(), "two", &two);
        check(&site.start(&pinned(hello, &one)).unwrap(), "one", &one);
        for pod in &old {
            check(pod, "one", &one);
        }
    });
}

#[test]
fn a_server_that_is_killed_while_pods_fetch_comes_back_and_all_get_their_code() {
    with(|site| {
        let Some((base, quickstart)) = base_and_hello() else {
            return;
        };
        let mut random = vec![0; 8 << 20];
        fastrand::Rng::with_seed(1).fill(&mut random);
        let server = site.serve(&base, "code-server");
        let first = server.process("code-server");
        thread::scope(|scope| {
            let pods = scope.spawn(|| start_all(site, quickstart.deployment("hello"), 6));
            // They wait for code, so that all get it at the same time.
            until("pods ask for code", || first.connections(8080) >= 3);
            let revision = site.write(&[("main.py", b"one"), ("model.bin", &random)]);
            until("code arrives", || !site.arrivals().is_empty());
            assert!(site.arrivals().contains(&false), "all have their code");
            first.kill();
            for pod in pods.join().unwrap() {
                check(&pod, "one", &revision);
            }
        });
        assert_ne!(server.process("code-server"), first);
    });
}

#[test]
fn code_comes_through_the_pod_that_has_the_volume() {
    with(|site| {
        let Some(quickstart) = rendered("examples/quickstart") else {
            return;
        };
        let hello = quickstart.deployment("hello");
        let server = site.serve(&quickstart, "code-server");
        let ingest = ["/code-server", "ingest", "/data/workspace"];
        for (files, code) in [(ONE, "one"), (TWO, "two")] {
            let (archive, revision) = site.archive(files);
            let ingested = server.feed("code-server", &ingest, &archive);
            assert_eq!(
                ingested.status.code(),
                Some(0),
                "{}",
                text(&ingested.stderr)
            );
            assert_eq!(text(&ingested.stdout).trim(), revision);
            check(
                &site.start(&pinned(hello, &revision)).unwrap(),
                code,
                &revision,
            );
        }
    });
}
