//! A target that is filled by a code-server and by a plain web server in turn: what the one has recorded never passes for
//! what the other brought.

use super::*;
use support::artifact::neat;

/// By the archive's own URL, as of a server that knows nothing else.
async fn plainly(config: &FetchConfig, made: Artifact) -> Summary {
    let sha256 = Some(made.descriptor.digest);
    let server = Server::of(made).await;
    let url = format!("{}/code.tar.gz", server.url());
    let config = FetchConfig {
        sources: vec![Source::parse(&url).unwrap()],
        sha256,
        ..config.clone()
    };
    fetch(&config).await.unwrap()
}

#[tokio::test]
async fn servers_of_both_kinds_take_turns_in_either_layout() {
    for layout in [Layout::Direct, Layout::Versioned] {
        let place = Place::new();
        let tree = match layout {
            Layout::Direct => place.target(),
            Layout::Versioned => place.target().join("current"),
        };
        let check = |flavour| {
            assert_eq!(describe(&tree), expected(&sample(flavour)), "{layout:?}");
            place.assert_nothing_is_left();
        };
        let made = |flavour| neat(&sample(flavour), |_| true);
        // The same tree again, another one, and one that was there before.
        for (from_server, from_other) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
            let server = Server::of(made(from_server)).await;
            let config = FetchConfig {
                layout,
                ..place.config(&server)
            };
            let summary = fetch(&config).await.unwrap();
            assert_eq!(summary.reused, 0, "nothing is known of a plain archive");
            check(from_server);
            assert!(!fetch(&config).await.unwrap().is_new);
            plainly(&config, made(from_other)).await;
            check(from_other);
            fs::write(tree.join("app/small"), "edited").unwrap();
        }
    }
}
