//! What the target has already does not come again, and is not touched.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use support::artifact::neat;

/// What a stat tells of each file of the target: it changes when the file is written, replaced or moved.
fn stamps(place: &Place) -> BTreeMap<String, (u64, i64, i64)> {
    let tree = sample(1);
    let files = tree
        .iter()
        .filter(|(_, thing)| !matches!(thing, Thing::Directory));
    let stamp = |name: &str| {
        let found = fs::symlink_metadata(place.target().join(name)).unwrap();
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    files
        .map(|(name, _)| (name.to_string(), stamp(name)))
        .collect()
}

/// A tree in which each file is a segment of its own, with what stands before it.
fn apart(tree: &Tree) -> Artifact {
    neat(tree, |_| true)
}

/// Fetches a tree into a place, and tells what was asked for: the ranges of archives.
async fn update(place: &Place, made: Artifact) -> (Summary, Vec<String>) {
    let server = Server::of(made).await;
    let summary = fetch(&place.config(&server)).await.unwrap();
    let archives = server
        .requests()
        .into_iter()
        .filter(Request::is_for_archive);
    let ranges = archives.map(|request| request.header("range").unwrap_or("all").into());
    (summary, ranges.collect())
}

/// A place that holds the first sample.
async fn filled() -> Place {
    let place = Place::new();
    let (summary, ranges) = update(&place, apart(&sample(1))).await;
    assert!(summary.is_new);
    assert_eq!(ranges, ["all"]);
    place
}

/// The bytes of the segment in which a file's content ends.
fn range_of(made: &Artifact, name: &str) -> (u64, u64) {
    let raw_end = tar_end_of(made, name);
    let mut raw = 0;
    let segment = made.descriptor.segments.iter().find(|segment| {
        raw += segment.raw_length;
        raw >= raw_end
    });
    let segment = segment.unwrap();
    (segment.offset, segment.offset + segment.length)
}

fn tar_end_of(made: &Artifact, name: &str) -> u64 {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&made.archive[..]));
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let mut found = entries.filter(|entry| entry.path().unwrap().ends_with(name));
    let entry = found.next().unwrap();
    entry.raw_file_position() + entry.size()
}

fn changed(name: &str, content: &[u8]) -> Tree {
    let mut tree = sample(1);
    let entry = tree.iter_mut().find(|(found, _)| *found == name).unwrap();
    entry.1 = Thing::File(content.into());
    tree
}

#[tokio::test]
async fn who_has_it_all_asks_for_the_descriptor_and_ends() {
    let place = filled().await;
    let before = stamps(&place);
    let server = Server::of(apart(&sample(1))).await;
    let summary = fetch(&place.config(&server)).await.unwrap();
    assert!(!summary.is_new);
    assert_eq!((summary.downloaded, summary.files), (0, 5));
    let paths: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(paths, ["/code.json"]);
    assert_eq!(stamps(&place), before);
    place.assert_holds(&sample(1));
}

#[tokio::test]
async fn a_change_brings_its_segment_and_touches_nothing_else() {
    let place = filled().await;
    let before = stamps(&place);
    let tree = changed("app/small", b"new");
    let made = apart(&tree);
    let (start, end) = range_of(&made, "app/small");
    let (summary, ranges) = update(&place, made.clone()).await;
    assert_eq!(ranges, [format!("bytes={start}-{}", end - 1)]);
    assert_eq!(summary.downloaded, end - start);
    assert_eq!(summary.reused, made.descriptor.size - summary.downloaded);
    place.assert_holds(&tree);
    let mut after = stamps(&place);
    assert_ne!(after.remove("app/small"), Some(before["app/small"]));
    assert!(after.iter().all(|(name, stamp)| before[name] == *stamp));
    // And again: the record is that of the new tree.
    let (summary, ranges) = update(&place, apart(&sample(1))).await;
    assert_eq!(ranges.len(), 1);
    assert!(summary.downloaded < 4_000);
    place.assert_holds(&sample(1));
}

#[tokio::test]
async fn neighbours_come_by_one_request() {
    let place = filled().await;
    let mut tree = changed("app/flavour", b"new");
    tree[1].1 = Thing::File(b"no longer empty".to_vec());
    let made = apart(&tree);
    let (start, end) = (
        range_of(&made, "app/empty").0,
        range_of(&made, "app/flavour").1,
    );
    let (_, ranges) = update(&place, made).await;
    assert_eq!(ranges, [format!("bytes={start}-{}", end - 1)]);
    place.assert_holds(&tree);
}

#[tokio::test]
async fn what_is_the_same_within_a_changed_segment_is_not_written() {
    let place = Place::new();
    let together = |tree: &Tree| neat(tree, |name| name.ends_with("zeros"));
    update(&place, together(&sample(1))).await;
    let before = stamps(&place);
    let tree = changed("app/flavour", b"new");
    update(&place, together(&tree)).await;
    place.assert_holds(&tree);
    let mut after = stamps(&place);
    assert_ne!(after.remove("app/flavour"), Some(before["app/flavour"]));
    assert!(after.iter().all(|(name, stamp)| before[name] == *stamp));
}

#[tokio::test]
async fn of_a_large_file_only_what_changed_comes() {
    let place = filled().await;
    let Thing::File(mut large) = sample(1)[3].1.clone() else {
        panic!("another sample");
    };
    large[200_000] ^= 1;
    let tree = changed("app/large", &large);
    let made = apart(&tree);
    let (summary, ranges) = update(&place, made).await;
    place.assert_holds(&tree);
    // Its first and its last segment have more in them than its content, and one is in its midst: of seven.
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(
        (128 << 10..200 << 10).contains(&summary.downloaded),
        "{summary:?}"
    );
}

#[tokio::test]
async fn what_somebody_changed_or_removed_is_restored() {
    let touches: [fn(&Path); 7] = [
        |small| fs::write(small, "edited").unwrap(),
        |small| fs::write(small, fs::read(small).unwrap()).unwrap(),
        |small| fs::remove_file(small).unwrap(),
        |small| {
            fs::remove_file(small).unwrap();
            symlink("/etc/passwd", small).unwrap();
        },
        |small| {
            let other = small.with_extension("other");
            fs::write(&other, fs::read(small).unwrap()).unwrap();
            fs::rename(other, small).unwrap();
        },
        |small| fs::set_permissions(small, Permissions::from_mode(0o777)).unwrap(),
        |small| {
            fs::set_permissions(small.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
        },
    ];
    for (case, touch) in touches.into_iter().enumerate() {
        let place = filled().await;
        touch(&place.target().join("app/small"));
        let (summary, ranges) = update(&place, apart(&sample(1))).await;
        assert!(summary.is_new, "{case}");
        assert_eq!(ranges.len(), 1, "{case}");
        assert!(summary.downloaded < 4_000, "{case}");
        place.assert_holds(&sample(1));
    }
}

#[tokio::test]
async fn a_directory_that_was_removed_is_restored() {
    let place = filled().await;
    fs::remove_dir_all(place.target().join("app")).unwrap();
    update(&place, apart(&sample(1))).await;
    place.assert_holds(&sample(1));
}

#[tokio::test]
async fn what_left_the_tree_is_removed_and_what_never_was_in_it_stays() {
    let place = filled().await;
    fs::write(place.target().join("app/own"), "mine").unwrap();
    let mut tree = sample(1);
    tree.remove(4);
    let (summary, _) = update(&place, apart(&tree)).await;
    assert!(!place.target().join("app/small").exists());
    assert_eq!(fs::read(place.target().join("app/own")).unwrap(), b"mine");
    assert!(summary.downloaded < 4_000, "{summary:?}");
    fs::remove_file(place.target().join("app/own")).unwrap();
    update(&place, apart(&sample(1))).await;
    place.assert_holds(&sample(1));
}

#[tokio::test]
async fn a_record_that_lies_is_found_out_and_forgotten() {
    let place = filled().await;
    // The content of a file that is kept is another one than is recorded.
    let installed = place.target().join(".code-fetch/installed");
    let listing = fs::read_to_string(&installed).unwrap();
    let empty = Digest::of(b"").hex();
    fs::write(
        &installed,
        listing.replace(&empty, &Digest::of(b"lie").hex()),
    )
    .unwrap();
    let tree = changed("app/small", b"new");
    let (summary, ranges) = update(&place, apart(&tree)).await;
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[1], "all");
    assert_eq!(summary.attempts, 2);
    place.assert_holds(&tree);
}

#[tokio::test]
async fn after_another_boot_and_with_a_damaged_record_everything_comes() {
    let spoils: [fn(&Path); 7] = [
        |hidden| {
            let stamps = fs::read_to_string(hidden.join("stamps")).unwrap();
            let rest = stamps.split_once('\n').unwrap().1;
            fs::write(hidden.join("stamps"), format!("another boot\n{rest}")).unwrap();
        },
        |hidden| {
            let stamps = fs::read_to_string(hidden.join("stamps")).unwrap();
            let cut = stamps.trim_end().rfind('\n').unwrap();
            fs::write(hidden.join("stamps"), &stamps[..=cut]).unwrap();
        },
        |hidden| fs::write(hidden.join("segments"), "").unwrap(),
        |hidden| {
            let segments = fs::read_to_string(hidden.join("segments")).unwrap();
            let first: String = segments.split_inclusive('\n').take(2).collect();
            fs::write(hidden.join("segments"), first).unwrap();
        },
        |hidden| {
            let other = artifact(&sample(2)).descriptor.revision;
            fs::write(hidden.join("../.code-revision"), format!("{other}\n")).unwrap();
        },
        |hidden| fs::remove_file(hidden.join("installed")).unwrap(),
        |hidden| fs::remove_file(hidden.join("../.code-revision")).unwrap(),
    ];
    for (case, spoil) in spoils.into_iter().enumerate() {
        let place = filled().await;
        spoil(&place.target().join(".code-fetch"));
        let (summary, ranges) = update(&place, apart(&sample(1))).await;
        assert_eq!(ranges, ["all"], "{case}");
        assert!(summary.is_new, "{case}");
        place.assert_holds(&sample(1));
    }
}

#[tokio::test]
async fn changes_far_apart_come_by_a_request_each() {
    let place = filled().await;
    let mut tree = changed("app/empty", b"new");
    tree[6].1 = Thing::File(vec![1; 200_000]);
    let (summary, ranges) = update(&place, apart(&tree)).await;
    assert_eq!((summary.attempts, ranges.len()), (1, 2), "{ranges:?}");
    place.assert_holds(&tree);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_will_do_for_a_part_too() {
    let place = filled().await;
    let mut tree = changed("app/empty", b"new");
    tree[6].1 = Thing::File(vec![1; 200_000]);
    let made = apart(&tree);
    let whole = made.clone();
    let server = Server::start(move |request, _| {
        let mut request = request.clone();
        request.headers.remove("range");
        answer(&whole, &request)
    });
    let server = server.await;
    let summary = fetch(&place.config(&server)).await.unwrap();
    assert_eq!(summary.attempts, 1);
    place.assert_holds(&tree);
    // One answer brings both parts.
    let archives = server
        .requests()
        .into_iter()
        .filter(Request::is_for_archive);
    assert_eq!(archives.count(), 1);
}

#[tokio::test]
async fn an_archive_whose_names_are_in_no_order_is_fetched_whole_each_time() {
    let place = Place::new();
    let mut tree = sample(1);
    tree.swap(1, 4);
    let reversed = apart(&tree);
    let mut made = reversed;
    made.descriptor.revision = artifact(&sample(1)).descriptor.revision;
    for _ in 0..2 {
        let (_, ranges) = update(&place, made.clone()).await;
        assert_eq!(ranges, ["all"]);
        place.assert_holds(&sample(1));
    }
}

/// A tree of some of a few names, in the order of their components; some content is that of an earlier tree.
fn any_tree(random: &mut fastrand::Rng) -> Tree {
    const NAMES: &[&str] = &[
        "a", "a/b", "a/b/c", "a/b/d", "a/e", "b", "b/f", "b-g", "h", "h/i", "h/j", "h/k", "l", "m",
    ];
    const DIRECTORIES: &[&str] = &["a", "a/b", "b", "h"];
    let mut tree = Tree::new();
    for name in NAMES {
        let thing = if DIRECTORIES.contains(name) {
            Thing::Directory
        } else {
            match random.u8(..8) {
                0 | 1 => continue,
                2 => Thing::Link(random.choice(["a", "b/f", "../elsewhere"]).unwrap()),
                _ => {
                    let size = *random.choice(&[0, 7, 3_000, 70_000, 300_000]).unwrap();
                    let mut content = fastrand::Rng::with_seed(random.u64(..2));
                    Thing::File(
                        std::iter::repeat_with(|| content.u8(..))
                            .take(size)
                            .collect(),
                    )
                }
            }
        };
        tree.push((name, thing));
    }
    tree
}

/// Cuts that fall behind some names, or anywhere.
fn sealed(tree: &Tree, random: &mut fastrand::Rng) -> Artifact {
    match random.u64(..4) {
        0 => artifact(tree),
        odds => neat(tree, |name| name.len() as u64 % 3 < odds),
    }
}

#[tokio::test]
async fn whatever_is_there_the_first_attempt_brings_the_tree() {
    for layout in [Layout::Direct, Layout::Versioned] {
        let mut reused = 0;
        for seed in 0..8 {
            let mut random = fastrand::Rng::with_seed(seed);
            let place = Place::new();
            for round in 0..8 {
                let tree = any_tree(&mut random);
                let server = Server::of(sealed(&tree, &mut random)).await;
                let config = FetchConfig {
                    layout,
                    ..place.config(&server)
                };
                let summary = fetch(&config).await.unwrap();
                assert_eq!(summary.attempts, 1, "seed {seed}, round {round}");
                let root = match layout {
                    Layout::Direct => place.target(),
                    Layout::Versioned => place.target().join("current"),
                };
                let found = describe(&root);
                assert_eq!(found, expected(&tree), "seed {seed}, round {round}");
                reused += u64::from(summary.reused > 0);
            }
        }
        assert!(reused > 10, "{reused}");
    }
}
