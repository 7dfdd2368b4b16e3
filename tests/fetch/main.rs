//! The whole of a fetch against servers that cut, stall, corrupt, lie and come late: the target holds the new tree, or what
//! it held before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delta;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod versioned;

use std::fs;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::middleware::{Next, from_fn};
use code_server::config::credentials::{Credentials, Trust};
use code_server::config::fetch::{Action, FetchConfig, Layout, ProgressMode};
use code_server::config::url::{BaseUrl, Source};
use code_server::digest::{Digest, Revision};
use code_server::exit::{Exit, sentence};
use code_server::fetch::progress::Progress;
use code_server::fetch::{FetchError, Summary, run};
use code_server::http::{Downloads, Site};
use code_server::listen::{self, Limits};
use code_server::metrics::Metrics;
use code_server::publication::Publication;
use code_server::telemetry::LogFormat;
use tar::{Builder, EntryType, Header};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use support::artifact::{Artifact, Thing, Tree, artifact, sample, seal};
use support::server::{Answer, Request, Server, answer};

/// A place with a target in it, and something outside of the target.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("outside")).unwrap();
        place
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    fn config(&self, server: &Server) -> FetchConfig {
        FetchConfig {
            action: Action::Install,
            sources: vec![Source::Server(server.url())],
            credentials: Credentials {
                trust: Trust::default(),
                token_file: None,
            },
            target: self.target(),
            revision: None,
            sha256: None,
            layout: Layout::Direct,
            keep: NonZeroUsize::new(2).unwrap(),
            umask: None,
            deadline: Some(Duration::from_secs(20)),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(5),
            max_size: None,
            max_entries: None,
            workers: NonZeroUsize::new(2).unwrap(),
            progress: ProgressMode::Off,
            termination_log: self.0.path().join("termination-log"),
            log_format: LogFormat::Text,
        }
    }

    /// A place whose target holds a tree already, of which nothing can be reused.
    async fn with_old_tree() -> Self {
        let place = Self::new();
        let server = Server::of(artifact(&sample(1))).await;
        fetch(&place.config(&server)).await.unwrap();
        fs::remove_file(place.target().join(".code-fetch/stamps")).unwrap();
        place
    }

    #[track_caller]
    fn assert_holds(&self, tree: &Tree) {
        assert_eq!(describe(&self.target()), expected(tree));
        let revision = artifact(tree).descriptor.revision;
        let text = fs::read_to_string(self.target().join(".code-revision")).unwrap();
        assert_eq!(text, format!("{revision}\n"));
        self.assert_nothing_is_left();
    }

    /// Nothing is staged any more, and nothing was ever written elsewhere.
    #[track_caller]
    fn assert_nothing_is_left(&self) {
        assert_eq!(
            fs::read_dir(self.0.path().join("outside")).unwrap().count(),
            0
        );
        let place = fs::read_dir(self.0.path()).unwrap();
        for entry in place {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                ["outside", "target", "termination-log"].contains(&&*name),
                "{name}"
            );
        }
        if let Ok(hidden) = fs::read_dir(self.target().join(".code-fetch")) {
            for name in hidden.map(|entry| entry.unwrap().file_name()) {
                let records = ["installed", "revisions", "segments", "stamps"];
                assert!(
                    records.contains(&name.to_str().unwrap()),
                    "{}",
                    name.display()
                );
            }
        }
    }
}

/// What [`describe`] tells of a tree.
fn expected(tree: &Tree) -> Vec<String> {
    let mut expected: Vec<String> = tree
        .iter()
        .map(|(name, thing)| match thing {
            Thing::Directory => format!("{name} 40755"),
            Thing::File(content) => format!("{name} 100644 {}", Digest::of(content)),
            Thing::Link(target) => format!("{name} 120777 {target}"),
        })
        .collect();
    expected.sort();
    expected
}

/// All names but our own, with modes and contents.
fn describe(root: &Path) -> Vec<String> {
    fn walk(root: &Path, beneath: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(root.join(beneath)).unwrap() {
            let name = beneath.join(entry.unwrap().file_name());
            if name.starts_with(".code-fetch") || name.starts_with(".code-revision") {
                continue;
            }
            let path = root.join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let what = if metadata.is_symlink() {
                format!(" {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                walk(root, &name, found);
                String::new()
            } else {
                format!(" {}", Digest::of(&fs::read(&path).unwrap()))
            };
            assert_eq!(metadata.mtime(), 1_700_000_000, "{}", name.display());
            found.push(format!("{} {:o}{what}", name.display(), metadata.mode()));
        }
    }
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found);
    found.sort();
    found
}

async fn fetch(config: &FetchConfig) -> Result<Summary, FetchError> {
    run(config, &Progress::Off, CancellationToken::new()).await
}

/// Fetches over an old tree, which must be untouched by the failure.
async fn fails(server: &Server, expected: Exit) -> String {
    let place = Place::with_old_tree().await;
    fails_in(&place, &place.config(server), expected).await
}

async fn fails_in(place: &Place, config: &FetchConfig, expected: Exit) -> String {
    let error = fetch(config).await.unwrap_err();
    let sentence = sentence(&error);
    assert_eq!(error.exit(), expected, "{sentence}");
    place.assert_holds(&sample(1));
    sentence
}

/// A server whose answers are those of a good one, changed by a function of how many archives were asked for before.
async fn spoiling(
    artifact: Artifact,
    spoil: impl Fn(&mut Answer, usize) + Send + Sync + 'static,
) -> Server {
    let archives = AtomicUsize::new(0);
    Server::start(move |request, _| {
        let mut answer = answer(&artifact, request);
        if request.is_for_archive() {
            spoil(&mut answer, archives.fetch_add(1, Ordering::Relaxed));
        }
        answer
    })
    .await
}

#[tokio::test]
async fn a_tree_is_fetched() {
    let place = Place::new();
    let tree = sample(1);
    let made = artifact(&tree);
    let server = Server::of(made.clone()).await;
    let summary = fetch(&place.config(&server)).await.unwrap();
    place.assert_holds(&tree);
    assert_eq!(summary.revision, made.descriptor.revision);
    assert_eq!((summary.entries, summary.files), (7, 5));
    assert_eq!(summary.downloaded, made.descriptor.size);
    assert_eq!(summary.attempts, 1);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_tree_without_entries_is_a_tree() {
    let place = Place::new();
    let server = Server::of(artifact(&Vec::new())).await;
    fetch(&place.config(&server)).await.unwrap();
    place.assert_holds(&Vec::new());
}

#[tokio::test]
async fn a_later_tree_replaces_an_earlier_one() {
    let place = Place::with_old_tree().await;
    let mut tree = sample(2);
    tree.remove(4);
    let server = Server::of(artifact(&tree)).await;
    fetch(&place.config(&server)).await.unwrap();
    place.assert_holds(&tree);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let made = artifact(&sample(2));
    let cut = 200_000;
    for stall in [false, true] {
        let place = Place::with_old_tree().await;
        let server = spoiling(made.clone(), move |answer, before| {
            if before == 0 {
                answer.cut = Some(cut);
                answer.stall = stall;
            }
        });
        let server = server.await;
        let mut config = place.config(&server);
        config.stall_timeout = Duration::from_millis(200);
        let summary = fetch(&config).await.unwrap();
        place.assert_holds(&sample(2));
        assert_eq!(summary.attempts, 2);

        let segments = &made.descriptor.segments;
        let verified = segments
            .iter()
            .filter(|segment| segment.offset + segment.length <= cut as u64);
        let resumed = segments[verified.count()].offset;
        let requests = server.requests();
        let [_, first, second] = &requests[..] else {
            panic!("{requests:?}");
        };
        let tag = format!("\"{}\"", made.descriptor.digest.hex());
        assert_eq!(first.header("range"), None);
        assert_eq!(first.header("connection"), Some("close"));
        assert_eq!(first.header("if-match"), Some(&*tag));
        assert_eq!(second.header("range"), Some(&*format!("bytes={resumed}-")));
        assert_eq!(second.header("if-range"), Some(&*tag));
        let expected = cut as u64 + made.descriptor.size - resumed;
        assert_eq!(summary.downloaded, expected);
    }
}

#[tokio::test]
async fn a_server_that_ignores_ranges_will_do() {
    let place = Place::new();
    let made = artifact(&sample(2));
    let whole = made.archive.clone();
    let server = spoiling(made, move |answer, before| {
        *answer = Answer::status(200).body(whole.clone());
        // Each attempt but the last gets a little further.
        answer.cut = (before < 4).then_some(100_000 * before);
    });
    let summary = fetch(&place.config(&server.await)).await.unwrap();
    place.assert_holds(&sample(2));
    assert_eq!(summary.attempts, 5);
}

#[tokio::test]
async fn damage_on_the_way_is_repaired() {
    let place = Place::new();
    let server = spoiling(artifact(&sample(2)), |answer, before| {
        if before < 3 {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
    });
    fetch(&place.config(&server.await)).await.unwrap();
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn damage_is_given_up_only_when_nothing_else_happens_between() {
    let made = artifact(&sample(2));
    let size = made.archive.len();
    let segments = made.descriptor.segments.iter();
    let ends: Vec<_> = segments.map(|one| one.offset + one.length).collect();
    assert!(ends.len() > 6);
    let place = Place::new();
    // Each attempt gets a segment further.
    let server = spoiling(made.clone(), move |answer, before| {
        let begins = size - answer.body.len();
        if let Some(&end) = ends.get(before) {
            answer.body[usize::try_from(end).unwrap() - 1 - begins] ^= 1;
        }
    });
    fetch(&place.config(&server.await)).await.unwrap();
    place.assert_holds(&sample(2));

    let place = Place::new();
    let server = spoiling(made, |answer, before| match before {
        4 => *answer = Answer::status(503),
        0..8 => answer.body[20] ^= 1,
        _ => {}
    });
    fetch(&place.config(&server.await)).await.unwrap();
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn damage_behind_the_segments_is_mended_too() {
    let place = Place::with_old_tree().await;
    let server = spoiling(artifact(&sample(2)), |answer, before| {
        if before == 0 {
            *answer.body.last_mut().unwrap() ^= 1;
        }
    });
    let summary = fetch(&place.config(&server.await)).await.unwrap();
    assert_eq!(summary.attempts, 2);
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn a_range_that_begins_beyond_what_was_asked_for_is_named() {
    let server = spoiling(artifact(&sample(2)), |answer, _| {
        let size = answer.body.len();
        let range = format!("bytes 5-{}/{size}", size - 1);
        let rest = answer.body.split_off(5);
        *answer = Answer::status(206)
            .with("Content-Range", range.clone())
            .body(rest);
    });
    let sentence = fails(&server.await, Exit::Data).await;
    assert!(
        sentence.contains("from byte 0 with \"bytes 5-"),
        "{sentence}"
    );
}

#[tokio::test]
async fn bytes_behind_the_end_of_the_tar_are_refused() {
    let mut tar = Builder::new(Vec::new());
    hostile(&mut tar, EntryType::Regular, "a", "");
    let mut tar = tar.into_inner().unwrap();
    let listing = format!("f 0755 {}  a\n", Digest::of(b"").hex());
    for (padding, exit) in [(0, None), (7, Some(Exit::Data))] {
        tar.extend([padding; 512]);
        let mut made = seal(&tar);
        made.descriptor.revision = Revision::of_listing(Digest::of(listing.as_bytes()));
        (made.descriptor.entries, made.descriptor.files) = (1, 1);
        let place = Place::new();
        let fetched = fetch(&place.config(&Server::of(made).await)).await;
        assert_eq!(fetched.err().map(|error| error.exit()), exit);
    }
}

#[tokio::test]
async fn a_byte_that_is_flipped_anywhere_is_found() {
    let made = artifact(&sample(2));
    let size = made.archive.len();
    let borders = made.descriptor.segments.iter().flat_map(|segment| {
        let start = usize::try_from(segment.offset).unwrap();
        [start, start + usize::try_from(segment.length).unwrap() - 1]
    });
    let offsets = (0..10)
        .chain(size - 10..size)
        .chain(borders)
        .chain((10..size).step_by(size / 20));
    let mut fetches = JoinSet::new();
    for offset in offsets {
        let mut flipped = made.clone();
        flipped.archive[offset] ^= 0x55;
        fetches.spawn(async move {
            let server = Server::of(flipped).await;
            fails(&server, Exit::Data).await
        });
    }
    assert!(fetches.len() > 40);
    while let Some(failed) = fetches.join_next().await {
        failed.unwrap();
    }
}

#[tokio::test]
async fn a_descriptor_that_lies_is_not_believed() {
    let honest = artifact(&sample(2));
    let check = async |lie: fn(&mut Artifact), attempts: usize| {
        let mut lying = honest.clone();
        lie(&mut lying);
        let server = Server::of(lying).await;
        let sentence = fails(&server, Exit::Data).await;
        let archives = server
            .requests()
            .into_iter()
            .filter(Request::is_for_archive);
        assert!(archives.count() <= attempts, "{sentence}");
        sentence
    };
    let revision = check(
        |lying| lying.descriptor.revision = Revision::of_listing(Digest::of(b"else")),
        1,
    );
    assert!(revision.await.contains("revision"));
    check(|lying| lying.descriptor.entries += 1, 1).await;
    check(|lying| lying.descriptor.entries -= 1, 1).await;
    check(|lying| lying.descriptor.files += 1, 1).await;
    check(|lying| lying.descriptor.uncompressed_size += 1, 0).await;
    check(|lying| lying.descriptor.size += 1, 0).await;
    check(|lying| lying.descriptor.format = "2".into(), 0).await;
    check(
        |lying| lying.descriptor.segments[1].digest = Digest::of(b""),
        5,
    )
    .await;
    // A segment that inflates to more than it should, and one that inflates to less.
    check(
        |lying| {
            lying.descriptor.segments[0].raw_length -= 512;
            lying.descriptor.segments[1].raw_length += 512;
        },
        1,
    )
    .await;
    // The whole is cut short, and the descriptor with it.
    check(
        |lying| {
            let last = lying.descriptor.segments.pop().unwrap();
            let start = usize::try_from(last.offset).unwrap();
            let end = start + usize::try_from(last.length).unwrap();
            lying.archive.drain(start..end);
            lying.descriptor.size -= last.length;
            lying.descriptor.uncompressed_size -= last.raw_length;
            lying.descriptor.digest = Digest::of(&lying.archive);
        },
        1,
    )
    .await;
}

#[tokio::test]
async fn a_length_that_lies_is_not_believed() {
    for (length, cut) in [(1_000_000, None), (10, Some(10))] {
        let server = spoiling(artifact(&sample(2)), move |answer, _| {
            *answer = answer.clone().with("Content-Length", length.to_string());
            answer.cut = cut;
        });
        fails(&server.await, Exit::Data).await;
    }
}

fn hostile(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
}

#[tokio::test]
async fn a_hostile_archive_changes_nothing() {
    type Build = fn(&mut Builder<Vec<u8>>);
    let archives: [Build; 8] = [
        |tar| hostile(tar, EntryType::Regular, "../x", ""),
        |tar| hostile(tar, EntryType::Regular, "./../../../outside/x", ""),
        |tar| hostile(tar, EntryType::Regular, "/tmp/fetch-init-was-here", ""),
        |tar| hostile(tar, EntryType::Fifo, "pipe", ""),
        |tar| hostile(tar, EntryType::Link, "hard", "../../../../outside"),
        |tar| hostile(tar, EntryType::Regular, ".code-revision", ""),
        |tar| {
            hostile(tar, EntryType::Symlink, "link", "../../../../outside");
            hostile(tar, EntryType::Regular, "link/x", "");
        },
        |tar| {
            hostile(tar, EntryType::Directory, "app", "");
            hostile(tar, EntryType::Symlink, "app", "../../../../outside");
            hostile(tar, EntryType::Regular, "app/x", "");
        },
    ];
    for build in archives {
        let mut tar = Builder::new(Vec::new());
        build(&mut tar);
        let server = Server::of(seal(&tar.into_inner().unwrap())).await;
        fails(&server, Exit::Data).await;
        assert_eq!(server.requests().len(), 2);
    }
    assert!(!Path::new("/tmp/fetch-init-was-here").exists());
}

#[tokio::test]
async fn limits_are_kept_before_anything_is_downloaded() {
    let server = Server::of(artifact(&sample(2))).await;
    let place = Place::with_old_tree().await;
    for (size, entries) in [(Some(1000), None), (None, Some(6))] {
        let config = FetchConfig {
            max_size: size,
            max_entries: entries,
            ..place.config(&server)
        };
        fails_in(&place, &config, Exit::Data).await;
    }
    assert!(!server.requests().iter().any(Request::is_for_archive));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_at_the_deadline() {
    let place = Place::with_old_tree().await;
    let server = Server::refusing();
    let mut config = place.config(&server);
    config.deadline = Some(Duration::from_millis(500));
    let begun = Instant::now();
    let sentence = fails_in(&place, &config, Exit::Unavailable).await;
    assert!((500..2000).contains(&begun.elapsed().as_millis()));
    assert!(
        sentence.starts_with("gave up after 500ms and "),
        "{sentence}"
    );
    let cause = format!("cannot connect to {}: connection refused", server.url());
    assert!(sentence.ends_with(&cause), "{sentence}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let place = Place::with_old_tree().await;
    let server = spoiling(artifact(&sample(2)), |answer, _| {
        (answer.cut, answer.stall) = (Some(100_000), true);
    });
    let server = server.await;
    let mut config = place.config(&server);
    config.deadline = Some(Duration::from_millis(300));
    let sentence = fails_in(&place, &config, Exit::Unavailable).await;
    let size = artifact(&sample(2)).descriptor.size;
    let begins = format!(
        "gave up after 300ms and 1 attempt: {} had sent ",
        server.url()
    );
    let ends = format!(" of the archive's {size} bytes by then");
    assert!(
        sentence.starts_with(&begins) && sentence.ends_with(&ends),
        "{sentence}"
    );
}

#[tokio::test]
async fn what_the_last_attempt_was_at_is_told_rather_than_why_an_earlier_one_failed() {
    let place = Place::with_old_tree().await;
    let server = Server::start(|_, before| match before {
        0 => Answer::status(503),
        _ => Answer {
            cut: Some(0),
            stall: true,
            ..Answer::status(200).with("Content-Length", "1000")
        },
    });
    let server = server.await;
    let mut config = place.config(&server);
    config.deadline = Some(Duration::from_millis(1500));
    let sentence = fails_in(&place, &config, Exit::Unavailable).await;
    let expected = format!(
        "gave up after 1s 500ms and 2 attempts: {} had not answered by then",
        server.url()
    );
    assert_eq!(sentence, expected);
}

#[tokio::test]
async fn times_beyond_all_clocks_are_no_reason_to_panic() {
    let place = Place::with_old_tree().await;
    let server =
        Server::start(|_, _| Answer::status(503).with("Retry-After", u64::MAX.to_string()));
    let server = server.await;
    let mut config = place.config(&server);
    config.deadline = Some(Duration::from_millis(200));
    fails_in(&place, &config, Exit::Unavailable).await;
    let server = Server::start(|_, _| Answer::status(404)).await;
    let config = FetchConfig {
        deadline: Some(Duration::MAX),
        stall_timeout: Duration::MAX,
        connect_timeout: Duration::MAX,
        ..place.config(&server)
    };
    fails_in(&place, &config, Exit::Unavailable).await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let place = Place::new();
    let mut server = Server::refusing();
    let config = place.config(&server);
    let mut fetching = std::pin::pin!(fetch(&config));
    let early = timeout(Duration::from_millis(300), &mut fetching).await;
    assert!(early.is_err(), "{early:?}");
    server.listen(artifact(&sample(2))).await;
    let listening = Instant::now();
    fetching.await.unwrap();
    assert!(listening.elapsed() < Duration::from_secs(2));
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_when_it_wishes() {
    let place = Place::new();
    let made = artifact(&sample(2));
    let server = Server::start(move |request, before| match before {
        0 => Answer::status(503).with("Retry-After", "1"),
        1 => Answer::status(500),
        _ => answer(&made, request),
    });
    let begun = Instant::now();
    let summary = fetch(&place.config(&server.await)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(summary.attempts, 3);
    place.assert_holds(&sample(2));
}

#[tokio::test]
async fn an_archive_that_is_replaced_meanwhile_is_not_mixed_with_the_next_one() {
    for status in [412, 404] {
        let place = Place::new();
        let (first, second) = (artifact(&sample(1)), artifact(&sample(2)));
        let server = Server::start(move |request, before| match before {
            0 => answer(&first, request),
            1 => Answer {
                cut: Some(200_000),
                ..answer(&first, request)
            },
            2 => Answer::status(status),
            _ => answer(&second, request),
        });
        let summary = fetch(&place.config(&server.await)).await.unwrap();
        assert_eq!(summary.revision, artifact(&sample(2)).descriptor.revision);
        place.assert_holds(&sample(2));
    }
}

#[tokio::test]
async fn a_pinned_revision_is_waited_for_and_no_other_taken() {
    let place = Place::with_old_tree().await;
    let wanted = artifact(&sample(3)).descriptor.revision;
    let other = artifact(&sample(2)).descriptor.revision;
    let server = Server::of(artifact(&sample(2))).await;
    let config = FetchConfig {
        revision: Some(wanted),
        deadline: Some(Duration::from_millis(300)),
        ..place.config(&server)
    };
    let sentence = fails_in(&place, &config, Exit::Unavailable).await;
    assert!(sentence.contains(&wanted.to_string()), "{sentence}");
    assert!(sentence.contains(&other.to_string()), "{sentence}");
}

#[tokio::test]
async fn another_descriptor_than_that_of_the_pinned_revision_is_refused() {
    let place = Place::with_old_tree().await;
    let made = artifact(&sample(2));
    let server = Server::start(move |request, _| {
        let path = if request.is_for_archive() {
            "/code.tar.gz"
        } else {
            "/code.json"
        };
        let request = Request {
            path: path.into(),
            ..request.clone()
        };
        answer(&made, &request)
    });
    let server = server.await;
    let config = FetchConfig {
        revision: Some(artifact(&sample(3)).descriptor.revision),
        ..place.config(&server)
    };
    let sentence = fails_in(&place, &config, Exit::Data).await;
    assert!(
        sentence.contains("gave the descriptor of revision"),
        "{sentence}"
    );
}

#[tokio::test]
async fn an_archive_that_was_gone_for_a_moment_is_gone_on_with() {
    let place = Place::new();
    let server = spoiling(artifact(&sample(2)), |answer, before| match before {
        0 => answer.cut = Some(200_000),
        1 => *answer = Answer::status(412),
        _ => {}
    });
    let server = server.await;
    fetch(&place.config(&server)).await.unwrap();
    place.assert_holds(&sample(2));
    assert!(server.requests().last().unwrap().header("range").is_some());
}

#[tokio::test]
async fn a_pinned_revision_that_comes_later_is_fetched() {
    let place = Place::new();
    let (other, wanted) = (artifact(&sample(2)), artifact(&sample(3)));
    let revision = wanted.descriptor.revision;
    let server = Server::start(move |request, before| match before {
        0..3 => answer(&other, request),
        _ => answer(&wanted, request),
    });
    let server = server.await;
    let config = FetchConfig {
        revision: Some(revision),
        ..place.config(&server)
    };
    fetch(&config).await.unwrap();
    place.assert_holds(&sample(3));
}

#[tokio::test]
async fn what_another_attempt_would_not_change_is_not_tried_again() {
    for (status, exit) in [
        (404, Exit::Unavailable),
        (301, Exit::Unavailable),
        (401, Exit::Refused),
        (403, Exit::Refused),
    ] {
        let server = Server::start(move |_, _| Answer::status(status)).await;
        let sentence = fails(&server, exit).await;
        assert!(sentence.contains(&status.to_string()), "{sentence}");
        let tells_of_token = sentence.contains("--token-file");
        assert_eq!(tells_of_token, exit == Exit::Refused, "{sentence}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_descriptor_is_refused() {
    let server = Server::start(|_, _| Answer::status(200).body(b"<html>".to_vec()));
    fails(&server.await, Exit::Data).await;
}

#[tokio::test]
async fn a_fetch_that_is_stopped_leaves_nothing() {
    let place = Place::with_old_tree().await;
    let server = spoiling(artifact(&sample(2)), |answer, _| {
        (answer.cut, answer.stall) = (Some(200_000), true);
    });
    let server = server.await;
    let config = place.config(&server);
    let stop = CancellationToken::new();
    let mut fetching = std::pin::pin!(run(&config, &Progress::Off, stop.clone()));
    assert!(
        timeout(Duration::from_millis(200), &mut fetching)
            .await
            .is_err()
    );
    assert!(place.target().join(".code-fetch/staging").exists());
    stop.cancel();
    assert!(matches!(fetching.await, Err(FetchError::Stopped)));
    place.assert_holds(&sample(1));
}

/// The program itself, with an environment of its own.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fetch-init"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_program_fetches_and_says_what() {
    let place = Place::new();
    let server = Server::of(artifact(&sample(2))).await;
    let target = place.target();
    let mut command = program(&[&server.url().to_string(), target.to_str().unwrap()]);
    command
        .env("FETCH_INIT_LOG_FORMAT", "text")
        .env("FETCH_INIT_DEADLIEN", "1s");
    let output = output(command).await;
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    place.assert_holds(&sample(2));
    let revision = artifact(&sample(2)).descriptor.revision.to_string();
    let last = log.lines().last().unwrap();
    for part in ["installed", &revision, "5 files", "downloaded", "1 attempt"] {
        assert!(last.contains(part), "{log}");
    }
    assert!(log.contains("FETCH_INIT_DEADLIEN"), "{log}");
    assert_eq!(text(&output.stdout), "");
}

#[tokio::test]
async fn the_program_says_why_it_failed_and_to_kubernetes_too() {
    let place = Place::new();
    let server = Server::refusing();
    let note = place.0.path().join("termination-log");
    let target = place.target();
    let url = server.url().to_string();
    let command = || {
        let mut command = program(&[&url, target.to_str().unwrap(), "--deadline=200ms"]);
        command.arg("--termination-log").arg(&note);
        command
    };
    let without = output(command()).await;
    assert_eq!(without.status.code(), Some(69));
    assert!(!note.exists());
    fs::write(&note, "").unwrap();
    let with = output(command()).await;
    let reason = fs::read_to_string(&note).unwrap();
    assert!(reason.starts_with("gave up after 200ms"), "{reason}");
    let last = format!("error: {reason}\n");
    assert!(
        text(&with.stderr).ends_with(&last),
        "{}",
        text(&with.stderr)
    );
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_program_names_what_is_wrong_with_its_call() {
    for (arguments, named) in [
        (&["http://code"][..], "<TARGET>"),
        (&["ftp://code", "/nowhere"], "ftp://code"),
        (&["http://code", "/nowhere", "--revison=x"], "--revison"),
        (
            &["http://code", "/nowhere", "--deadline=soon"],
            "--deadline",
        ),
    ] {
        let output = output(program(arguments)).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(named),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn a_target_that_is_no_directory_is_refused_by_name() {
    let place = Place::new();
    fs::write(place.target(), "a file").unwrap();
    let target = place.target();
    let target = target.to_str().unwrap();
    let output = output(program(&["http://localhost", target])).await;
    assert_eq!(output.status.code(), Some(73));
    assert!(
        text(&output.stderr).contains(target),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn the_program_cleans_up_when_it_is_told_to_end() {
    let place = Place::with_old_tree().await;
    let server = spoiling(artifact(&sample(2)), |answer, _| {
        (answer.cut, answer.stall) = (Some(200_000), true);
    });
    let server = server.await;
    let target = place.target();
    let child = program(&[&server.url().to_string(), target.to_str().unwrap()])
        .spawn()
        .unwrap();
    while server.requests().len() < 2 {
        yield_now().await;
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let (status, log) = tokio::task::spawn_blocking(move || finish(child))
        .await
        .unwrap();
    assert_eq!(status, Some(143), "{log}");
    place.assert_holds(&sample(1));
}

fn finish(mut child: Child) -> (Option<i32>, String) {
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    (child.wait().unwrap().code(), log)
}

/// The server of this package, and how often it was asked.
struct RealServer {
    url: BaseUrl,
    publication: Publication,
    asked: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl RealServer {
    fn start() -> Self {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (publication, shutdown) = (Publication::new(), CancellationToken::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let metrics = Metrics::new("1.2.3");
        let downloads = Downloads {
            moving: 1,
            waiting: 1,
        };
        let site = Site::open(
            publication.clone(),
            metrics.clone(),
            downloads,
            shutdown.clone(),
        );
        let router = site.router().layer(from_fn(move |request, next: Next| {
            count.fetch_add(1, Ordering::Relaxed);
            next.run(request)
        }));
        let limits = Limits {
            header_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_mins(1),
            max_connections: 64,
            drain_timeout: Duration::from_mins(1),
            quota: None,
        };
        let serving = listen::serve(listener, router, limits, metrics, shutdown.clone());
        TaskTracker::new().spawn(serving);
        Self {
            url: BaseUrl::parse(&url).unwrap(),
            publication,
            asked,
            shutdown,
        }
    }

    fn publish(&self, made: &Artifact) {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let (archive, listing) = (file(&made.archive), file(b""));
        let artifact = code_server::artifact::Artifact::new(
            made.descriptor.clone(),
            archive,
            listing,
            SystemTime::now(),
        );
        self.publication.publish(Arc::new(artifact.unwrap()));
    }

    /// Waits until so many requests have come.
    async fn wait_for_requests(&self, count: usize) {
        let come = async {
            while self.asked.load(Ordering::Relaxed) < count {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), come).await.unwrap();
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn who_comes_before_the_code_is_held_by_the_server_and_has_not_to_come_again() {
    let made = artifact(&sample(2));
    let wanted = made.descriptor.revision;
    for revision in [None, Some(wanted)] {
        let (place, server) = (Place::new(), RealServer::start());
        let config = FetchConfig {
            sources: vec![Source::Server(server.url.clone())],
            revision,
            ..place.config(&Server::refusing())
        };
        let publishing = async {
            server.wait_for_requests(1).await;
            if revision.is_some() {
                server.publish(&artifact(&sample(1)));
                yield_now().await;
            }
            server.publish(&made);
        };
        let (fetched, ()) = tokio::join!(fetch(&config), publishing);
        assert_eq!(fetched.unwrap().revision, wanted);
        place.assert_holds(&sample(2));
        // The descriptor, and the archive.
        assert_eq!(server.asked.load(Ordering::Relaxed), 2);
    }
}
