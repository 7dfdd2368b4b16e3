//! Each revision in a directory of its own, and a link to the current one.

use super::*;
use code_server::config::fetch::Layout;

impl Place {
    fn versioned(&self, server: &Server) -> FetchConfig {
        FetchConfig {
            layout: Layout::Versioned,
            ..self.config(server)
        }
    }

    async fn update(&self, tree: &Tree) -> Summary {
        let server = Server::of(artifact(tree)).await;
        fetch(&self.versioned(&server)).await.unwrap()
    }

    /// The tree is the current one, and so many revisions are there.
    #[track_caller]
    fn assert_is_current(&self, tree: &Tree, revisions: usize) {
        let hex = artifact(tree).descriptor.revision.digest().hex();
        let link = fs::read_link(self.target().join("current")).unwrap();
        assert_eq!(link, Path::new("revisions").join(&hex));
        assert_eq!(describe(&self.target().join("current")), expected(tree));
        let text = fs::read_to_string(self.target().join(".code-revision")).unwrap();
        assert_eq!(text, format!("sha256:{hex}\n"));
        let found = fs::read_dir(self.target().join("revisions")).unwrap();
        assert_eq!(found.count(), revisions);
        let root = fs::metadata(self.target().join(link)).unwrap();
        assert_eq!(root.mode() & 0o777, 0o755);
        self.assert_nothing_is_left();
    }

    fn inode(&self, name: &str) -> u64 {
        fs::metadata(self.target().join("current").join(name))
            .unwrap()
            .ino()
    }
}

#[tokio::test]
async fn a_revision_has_a_directory_and_a_link_names_it() {
    let place = Place::new();
    place.update(&sample(1)).await;
    place.assert_is_current(&sample(1), 1);
    let summary = place.update(&sample(1)).await;
    assert!(!summary.is_new);
    place.assert_is_current(&sample(1), 1);
}

#[tokio::test]
async fn predecessors_stay_as_many_as_are_asked_for() {
    let place = Place::new();
    for flavour in 1..5 {
        place.update(&sample(flavour)).await;
        place.assert_is_current(&sample(flavour), usize::from(flavour).min(2));
    }
    // The last but one is whole.
    let before = artifact(&sample(3)).descriptor.revision.digest().hex();
    let before = place.target().join("revisions").join(before);
    assert_eq!(describe(&before), expected(&sample(3)));
    let server = Server::of(artifact(&sample(5))).await;
    let config = FetchConfig {
        keep: NonZeroUsize::MIN,
        ..place.versioned(&server)
    };
    fetch(&config).await.unwrap();
    place.assert_is_current(&sample(5), 1);
}

#[tokio::test]
async fn going_back_is_an_update_like_any_other() {
    let place = Place::new();
    for flavour in [1, 2, 1, 2] {
        place.update(&sample(flavour)).await;
    }
    place.assert_is_current(&sample(2), 2);
}

#[tokio::test]
async fn files_that_did_not_change_are_shared() {
    let place = Place::new();
    let neat = |flavour| support::artifact::neat(&sample(flavour), |_| true);
    for flavour in [1, 2, 3] {
        let before = (flavour > 1).then(|| ["zeros", "app/small"].map(|name| place.inode(name)));
        let server = Server::of(neat(flavour)).await;
        let summary = fetch(&place.versioned(&server)).await.unwrap();
        place.assert_is_current(&sample(flavour), usize::from(flavour).min(2));
        if let Some(before) = before {
            assert_eq!(before, ["zeros", "app/small"].map(|name| place.inode(name)));
            assert!(summary.reused > 0);
        }
    }
}

#[tokio::test]
async fn a_file_that_was_edited_in_place_is_restored_in_a_new_tree() {
    let place = Place::new();
    place.update(&sample(1)).await;
    fs::write(place.target().join("current/app/small"), "edited").unwrap();
    let opened = fs::File::open(place.target().join("current/zeros")).unwrap();
    let summary = place.update(&sample(1)).await;
    assert!(summary.is_new);
    place.assert_is_current(&sample(1), 1);
    drop(opened);
}

#[tokio::test]
async fn a_failure_leaves_the_current_revision_alone() {
    let place = Place::new();
    place.update(&sample(1)).await;
    let mut damaged = artifact(&sample(2));
    damaged.archive[200] ^= 1;
    let server = Server::of(damaged).await;
    let error = fetch(&place.versioned(&server)).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Data);
    place.assert_is_current(&sample(1), 1);
}

#[tokio::test]
async fn a_target_keeps_its_layout() {
    let check = async |first: Layout, second: Layout, found: &str| {
        let place = Place::new();
        let server = Server::of(artifact(&sample(1))).await;
        let config = |layout| FetchConfig {
            layout,
            ..place.config(&server)
        };
        fetch(&config(first)).await.unwrap();
        let names = || {
            let found = fs::read_dir(place.target()).unwrap();
            let mut names: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        let error = fetch(&config(second)).await.unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(error.to_string().contains(found), "{error}");
        assert_eq!(names(), before);
    };
    check(Layout::Direct, Layout::Versioned, "--layout=direct").await;
    check(Layout::Versioned, Layout::Direct, "--layout=versioned").await;
}

#[tokio::test]
async fn names_that_somebody_else_has_are_not_taken() {
    for (name, make) in [
        (
            "current",
            (|path| fs::create_dir(path)) as fn(PathBuf) -> std::io::Result<()>,
        ),
        ("current", |path| fs::write(path, "mine")),
        ("revisions", |path| fs::write(path, "mine")),
    ] {
        let place = Place::new();
        fs::create_dir(place.target()).unwrap();
        make(place.target().join(name)).unwrap();
        let server = Server::of(artifact(&sample(1))).await;
        let error = fetch(&place.versioned(&server)).await.unwrap_err();
        assert_eq!(error.exit(), Exit::CannotCreate);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(fs::read_dir(place.target()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn who_was_repaired_has_it_all() {
    let place = Place::new();
    let server = Server::of(support::artifact::neat(&sample(1), |_| true)).await;
    let config = place.versioned(&server);
    fetch(&config).await.unwrap();
    fs::write(place.target().join("current/app/small"), "edited").unwrap();
    let repaired = fetch(&config).await.unwrap();
    assert!(repaired.is_new && repaired.reused > 0);
    let again = fetch(&config).await.unwrap();
    assert!(!again.is_new);
    assert_eq!(again.downloaded, 0);
    place.assert_is_current(&sample(1), 1);
}

#[tokio::test]
async fn a_failure_leaves_what_is_known_of_the_current_revision() {
    let place = Place::new();
    let neat = |flavour| support::artifact::neat(&sample(flavour), |_| true);
    let server = Server::of(neat(1)).await;
    fetch(&place.versioned(&server)).await.unwrap();
    // Kept files stand before and behind what is damaged.
    let mut damaged = neat(2);
    damaged.archive[200_000] ^= 1;
    let server_of_damage = Server::of(damaged).await;
    let error = fetch(&place.versioned(&server_of_damage))
        .await
        .unwrap_err();
    assert_eq!(error.exit(), Exit::Data);
    let summary = fetch(&place.versioned(&server)).await.unwrap();
    assert_eq!((summary.is_new, summary.downloaded), (false, 0));
    place.assert_is_current(&sample(1), 1);
}
