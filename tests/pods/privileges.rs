//! What the pods may do, asked of the kernel, and tried.

use crate::pod::Pod;
use crate::podman::text;
use crate::rendered::{pinned, rendered};
use crate::site::{Site, with};

/// The limits of a running container, as its manifest states them.
struct Limits {
    user: &'static str,
    memory: &'static str,
    cpu: &'static str,
}

fn check(pod: &Pod, container: &str, limits: &Limits) {
    let process = pod.process(container);
    let user = [limits.user; 4].join("\t");
    assert_eq!(process.status("Uid"), user);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process.status(set), "0000000000000000", "{container} {set}");
    }
    assert_eq!(process.status("NoNewPrivs"), "1");
    assert_eq!(process.status("Seccomp"), "2");
    let memory = process.limit("memory", ["memory.max", "memory.limit_in_bytes"]);
    assert_eq!(memory, limits.memory);
    let cpu = process.limit("cpu", ["cpu.max", "cpu.cfs_quota_us"]);
    assert_eq!(cpu.split(' ').next(), Some(limits.cpu), "of 100000 us");
}

/// The server writes an archive to a path, or says why not.
fn check_pack(pod: &Pod, path: &str, expected: Option<&str>) {
    let packed = pod.run(
        "code-server",
        &["/code-server", "pack", "/data/workspace", "-o", path],
    );
    let said = text(&packed.stderr);
    assert_eq!(
        packed.status.success(),
        expected.is_none(),
        "{path}: {said}"
    );
    assert!(
        said.contains(expected.unwrap_or_default()),
        "{path}: {said}"
    );
}

fn started_hello(site: &Site) -> Option<Pod> {
    let quickstart = rendered("examples/quickstart")?;
    Some(site.start(quickstart.deployment("hello")).unwrap())
}

#[test]
fn the_server_has_its_limits_and_no_privilege_and_writes_nothing_but_its_state() {
    with(|site| {
        let Some(base) = rendered("base") else { return };
        site.write(&[("main.py", b"one")]);
        let server = site.serve(&base, "code-server");
        server.wait_until_ready();
        let limits = Limits {
            user: "65532",
            memory: "67108864",
            cpu: "10000",
        };
        check(&server, "code-server", &limits);
        check_pack(&server, "/archive", Some("read-only"));
        check_pack(&server, "/data/archive", Some("read-only"));
        check_pack(&server, "/var/lib/code-server/archive", None);
    });
}

#[test]
fn an_application_has_its_limits_and_no_privilege_and_writes_nothing() {
    with(|site| {
        let Some(base) = rendered("base") else { return };
        site.write(&[("main.py", b"one")]);
        site.serve(&base, "code-server");
        let Some(pod) = started_hello(site) else {
            return;
        };
        let limits = Limits {
            user: "1000",
            memory: "67108864",
            cpu: "20000",
        };
        check(&pod, "hello", &limits);
        for path in ["/new", "/app/new", "/tmp/new"] {
            let touched = pod.run("hello", &["sh", "-c", &format!(": >> {path}")]);
            let said = text(&touched.stderr);
            assert!(said.contains("Read-only file system"), "{path}: {said}");
        }
        let within = ["dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=1"];
        assert!(pod.run("hello", &within).status.success());
        let beyond = ["dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1"];
        assert_eq!(pod.run("hello", &beyond).status.code(), Some(137));
    });
}

#[test]
fn a_fetch_that_makes_no_sense_says_why_it_fails() {
    with(|site| {
        let Some(base) = rendered("base") else { return };
        let Some(quickstart) = rendered("examples/quickstart") else {
            return;
        };
        site.write(&[("main.py", b"one")]);
        site.serve(&base, "code-server");
        let refused = site.start(&pinned(quickstart.deployment("hello"), "latest"));
        let said = refused.err().unwrap();
        assert!(said.contains("latest"), "{said}");
    });
}
