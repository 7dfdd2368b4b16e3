//! The root itself may be swapped, removed, made again, or come late.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::server::{Files, Setup, found, pause, wait_until};

fn one_file(content: &str) -> Files {
    Files::from([("file".into(), content.into())])
}

fn make(directory: &Path, content: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("file"), content).unwrap();
}

/// Puts a link in the place of another one, in one step.
fn swap(link: &Path, target: &str) {
    let new = link.with_file_name("new-link");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

const FLAGS: [&str; 4] = ["--rescan", "0", "--settle", "50ms"];

#[test]
fn a_root_that_is_a_link_is_followed_when_it_is_swapped() {
    let setup = Setup::new(&FLAGS);
    fs::remove_dir(&setup.root).unwrap();
    for name in ["one", "two"] {
        make(&setup.parent().join(".worktrees").join(name), name);
    }
    symlink(".worktrees/one", &setup.root).unwrap();
    let server = setup.serve();
    for name in ["two", "one", "two"] {
        server.wait_for_files(&found(&setup.root));
        swap(&setup.root, &format!(".worktrees/{name}"));
        server.wait_for_files(&one_file(name));
    }
    // What lies behind the link is watched, too.
    make(&setup.parent().join(".worktrees/two"), "changed");
    server.wait_for_files(&one_file("changed"));
}

#[test]
fn a_volume_of_kubernetes_is_followed_when_its_data_are_swapped() {
    let setup = Setup::new(&FLAGS);
    fs::remove_dir(&setup.root).unwrap();
    for name in ["one", "two"] {
        make(&setup.parent().join(format!("..{name}/code")), name);
    }
    symlink("..one", setup.parent().join("..data")).unwrap();
    symlink("..data/code", &setup.root).unwrap();
    let server = setup.serve();
    server.wait_for_files(&one_file("one"));
    swap(&setup.parent().join("..data"), "..two");
    fs::remove_dir_all(setup.parent().join("..one")).unwrap();
    server.wait_for_files(&one_file("two"));
}

#[test]
fn a_root_that_is_removed_and_made_again_is_found_again() {
    let setup = Setup::new(&FLAGS);
    make(&setup.root, "one");
    let server = setup.serve();
    for content in ["two", "three"] {
        let tag = server.tag();
        fs::remove_dir_all(&setup.root).unwrap();
        wait_until("the root is missed", || {
            server.metric("codeserver_builds_total{result=\"failed\"}") > 0.5
        });
        assert_eq!(server.tag(), tag);
        make(&setup.root, content);
        server.wait_for_files(&one_file(content));
    }
}

#[test]
fn a_root_that_is_filled_slowly_is_not_served_in_part() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "2s"]);
    make(&setup.root, "one");
    let server = setup.serve();
    fs::remove_dir_all(&setup.root).unwrap();
    wait_until("the root is missed", || {
        server.metric("codeserver_builds_total{result=\"failed\"}") > 0.5
    });
    make(&setup.root, "two");
    for index in 0..30 {
        setup.write(&format!("part-{index}"), "part");
        pause(Duration::from_millis(50));
    }
    server.wait_for_files(&found(&setup.root));
    assert!(server.metric("codeserver_builds_total{result=\"published\"}") < 2.5);
}

#[test]
fn a_root_that_is_exchanged_is_the_new_one() {
    let setup = Setup::new(&FLAGS);
    make(&setup.root, "one");
    let server = setup.serve();
    let other = setup.parent().join("other");
    make(&other, "two");
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let (here, root) = (rustix::fs::CWD, &setup.root);
    rustix::fs::renameat_with(here, &other, here, root, exchange).unwrap();
    server.wait_for_files(&one_file("two"));
    // What happens to the old one is nobody's business any more; what happens to the new one is.
    make(&other, "three");
    make(&setup.root, "four");
    server.wait_for_files(&one_file("four"));
}

#[test]
fn a_root_that_comes_late_is_waited_for() {
    // It has settled long before the longest time that a restless one is given.
    let setup = Setup::new(&["--rescan", "0", "--settle", "300ms", "--settle-max", "10m"]);
    fs::remove_dir(&setup.root).unwrap();
    let server = setup.start();
    server.wait_for_event("the build failed");
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.get("/readyz").status, 503);
    // Empty, as a volume is mounted on; and then with something in it.
    fs::create_dir(&setup.root).unwrap();
    make(&setup.root, "late");
    server.wait_for_files(&one_file("late"));
}
