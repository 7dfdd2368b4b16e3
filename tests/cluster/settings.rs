//! What the environment says of the cluster and of the images in it.

use std::env;

use crate::tools;

/// The names of what is used.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The image of the server.
    pub(crate) server: Image,
    /// The image of the fetcher, if it has one of its own.
    pub(crate) fetcher: Option<Image>,
    /// The image of the application.
    pub(crate) application: Image,
    /// The class of volumes, if it is not the default one.
    pub(crate) storage_class: Option<String>,
}

/// The settings, or a word about what is missing.
pub(crate) fn settings() -> Option<Settings> {
    for (needed, what) in [
        ("KUBECONFIG", "cluster"),
        ("CODE_SERVER_TEST_IMAGE", "image"),
    ] {
        if set(needed).is_none() {
            tools::skip(false, &format!("{needed} names no {what}"));
            return None;
        }
    }
    let image = |variable: &str| set(variable).map(|name| Image::new(&name));
    Some(Settings {
        server: image("CODE_SERVER_TEST_IMAGE")?,
        fetcher: image("CODE_SERVER_TEST_FETCH_IMAGE"),
        application: image("CODE_SERVER_TEST_APP_IMAGE")
            .unwrap_or_else(|| Image::new("busybox:1.36")),
        storage_class: set("CODE_SERVER_TEST_STORAGE_CLASS"),
    })
}

/// A variable that is set and not empty.
pub(crate) fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The name of an image in the parts that kustomize replaces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Image {
    /// Registry and repository.
    pub(crate) name: String,
    /// `newTag` or `digest`, and which one it is.
    pub(crate) version: Option<(&'static str, String)>,
}

impl Image {
    /// The image of this name, tag or digest included.
    pub(crate) fn new(reference: &str) -> Self {
        let (name, version) = match reference.split_once('@') {
            Some((name, digest)) => (name, Some(("digest", digest))),
            // A colon before the last slash is that of a port.
            None => match reference.rsplit_once(':') {
                Some((name, tag)) if !tag.contains('/') => (name, Some(("newTag", tag))),
                _ => (reference, None),
            },
        };
        Self {
            name: name.to_owned(),
            version: version.map(|(kind, version)| (kind, version.to_owned())),
        }
    }
}

#[test]
fn the_name_of_an_image_is_taken_apart() {
    let check = |reference: &str, name: &str, version: Option<(&'static str, &str)>| {
        let image = Image::new(reference);
        let version = version.map(|(kind, version)| (kind, version.to_owned()));
        assert_eq!(
            (image.name.as_str(), image.version),
            (name, version),
            "{reference}"
        );
    };
    check("code-server", "code-server", None);
    check("code-server:ci", "code-server", Some(("newTag", "ci")));
    check("a.example:5000/b", "a.example:5000/b", None);
    check(
        "a.example:5000/b:1",
        "a.example:5000/b",
        Some(("newTag", "1")),
    );
    check(
        "a.example/b@sha256:0a",
        "a.example/b",
        Some(("digest", "sha256:0a")),
    );
}
