//! What was asked, in so few words that they can be labels.

/// A resource by the pattern of its path, whatever stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The page for people.
    Page,
    /// The current archive.
    Archive,
    /// The current descriptor.
    Descriptor,
    /// The current listing.
    Listing,
    /// What is retained.
    Revisions,
    /// The archive of a revision.
    RevisionArchive,
    /// The descriptor of a revision.
    RevisionDescriptor,
    /// The listing of a revision.
    RevisionListing,
    /// Whether the process answers.
    Live,
    /// Whether there is something to serve.
    Ready,
    /// The same by its other name.
    Healthy,
    /// The metrics themselves.
    Metrics,
    /// None of ours.
    Other,
}

impl Route {
    /// All there are, in the order of their numbers.
    pub(super) const ALL: [Self; 13] = [
        Self::Page,
        Self::Archive,
        Self::Descriptor,
        Self::Listing,
        Self::Revisions,
        Self::RevisionArchive,
        Self::RevisionDescriptor,
        Self::RevisionListing,
        Self::Live,
        Self::Ready,
        Self::Healthy,
        Self::Metrics,
        Self::Other,
    ];

    /// The route of a request's path, which is taken as it came: percent signs mean nothing here.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/" => Self::Page,
            "/code.tar.gz" => Self::Archive,
            "/code.json" => Self::Descriptor,
            "/code.list" => Self::Listing,
            "/revisions" => Self::Revisions,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/healthz" => Self::Healthy,
            "/metrics" => Self::Metrics,
            _ => Self::of_revision(path).unwrap_or(Self::Other),
        }
    }

    fn of_revision(path: &str) -> Option<Self> {
        let beneath = path.strip_prefix("/revisions/")?;
        let (revision, name) = beneath.split_once('/')?;
        match name {
            _ if revision.is_empty() => None,
            "code.tar.gz" => Some(Self::RevisionArchive),
            "code.json" => Some(Self::RevisionDescriptor),
            "code.list" => Some(Self::RevisionListing),
            _ => None,
        }
    }

    /// As the label has it.
    #[must_use]
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Archive => "/code.tar.gz",
            Self::Descriptor => "/code.json",
            Self::Listing => "/code.list",
            Self::Revisions => "/revisions",
            Self::RevisionArchive => "/revisions/{revision}/code.tar.gz",
            Self::RevisionDescriptor => "/revisions/{revision}/code.json",
            Self::RevisionListing => "/revisions/{revision}/code.list",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Healthy => "/healthz",
            Self::Metrics => "/metrics",
            Self::Other => "other",
        }
    }

    /// Whether machines ask for it every few seconds, and nobody wants to read of it.
    #[must_use]
    pub fn is_observation(self) -> bool {
        matches!(
            self,
            Self::Live | Self::Ready | Self::Healthy | Self::Metrics
        )
    }

    /// What a GET of it is answered with sooner or later, and so counted from zero on.
    pub(super) fn usual_codes(self) -> &'static [u16] {
        match self {
            Self::Archive | Self::Descriptor | Self::Listing => &[200, 206, 304, 503],
            Self::RevisionArchive | Self::RevisionDescriptor | Self::RevisionListing => {
                &[200, 206, 304, 404]
            }
            Self::Ready | Self::Healthy => &[200, 503],
            Self::Page | Self::Revisions | Self::Live | Self::Metrics => &[200],
            Self::Other => &[404],
        }
    }
}

/// What was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// Any other.
    Other,
}

impl Method {
    /// All there are, in the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Put, Self::Other];

    /// As the label has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Other => "other",
        }
    }
}

impl From<&http::Method> for Method {
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::PUT => Self::Put,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_its_place_and_is_found_by_its_pattern() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index);
            assert_eq!(Route::of(route.pattern()), route, "{route:?}");
        }
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
    }

    #[test]
    fn a_path_that_is_not_served_is_another() {
        for path in [
            "",
            "/code.tar",
            "/code.tar.gz/",
            "//code.tar.gz",
            "/code%2Etar.gz",
            "/revisions/",
            "/revisions/x",
            "/revisions//code.json",
            "/revisions/x/y/code.json",
            "/revisions/x/code.json/",
            "*",
        ] {
            assert_eq!(Route::of(path), Route::Other, "{path}");
        }
    }

    #[test]
    fn what_stands_for_the_revision_does_not_matter() {
        for revision in ["sha256:00", "x", "%00", "\u{9b}"] {
            let path = format!("/revisions/{revision}/code.list");
            assert_eq!(Route::of(&path), Route::RevisionListing, "{path}");
        }
    }

    #[test]
    fn methods_are_told_by_their_case_too() {
        for (name, expected) in [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("PUT", Method::Put),
            ("get", Method::Other),
            ("POST", Method::Other),
            ("BREW", Method::Other),
        ] {
            let method: http::Method = name.parse().unwrap();
            assert_eq!(Method::from(&method), expected, "{name}");
        }
    }
}
