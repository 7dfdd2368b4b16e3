//! Where a redirect leads, and whether it is followed. Nothing here asks anybody.

use std::fmt;

use hyper::StatusCode;

use crate::config::url::{ResourceUrl, without_secrets};

/// Redirects that are followed one after the other.
const MOST: usize = 5;

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    /// It leads to where one came from.
    Loop,
    /// There were many before it.
    TooMany,
    /// It leads from an encrypted connection to one that is not.
    Downgrade,
    /// What it names cannot be asked.
    Location,
}

impl fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop => write!(f, "where it was asked before: the redirects go in a circle"),
            Self::TooMany => write!(f, "which would be redirect number {}", MOST + 1),
            Self::Downgrade => write!(f, "and https:// is not left for http://"),
            Self::Location => write!(f, "which cannot be asked"),
        }
    }
}

/// Whether an answer to a GET says that the resource is elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Decides where to go on.
///
/// `trail` is all that was asked so far, the one that redirects last; it is never empty. An error has the text that can be
/// shown of where it leads.
pub(super) fn follow(
    trail: &[ResourceUrl],
    location: &str,
) -> Result<ResourceUrl, (String, Unfollowed)> {
    let from = trail.last().expect("somebody was asked");
    let Some(to) = resolve(from, location) else {
        return Err((without_secrets(location), Unfollowed::Location));
    };
    let refusal = if from.base().is_secure() && !to.base().is_secure() {
        Unfollowed::Downgrade
    } else if trail.contains(&to) {
        Unfollowed::Loop
    } else if trail.len() > MOST {
        Unfollowed::TooMany
    } else {
        return Ok(to);
    };
    Err((to.to_string(), refusal))
}

/// What a reference means, seen from a URL (RFC 3986 §5.2). A fragment is nothing that a server is told.
fn resolve(from: &ResourceUrl, reference: &str) -> Option<ResourceUrl> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (reference, String::new()),
    };
    let origin = from.origin();
    let whole = if has_scheme(path) {
        reference.into()
    } else if let Some(authority) = path.strip_prefix("//") {
        let scheme = origin.split_once("//")?.0;
        format!("{scheme}//{authority}{query}")
    } else if path.is_empty() && query.is_empty() {
        return Some(from.clone());
    } else if path.is_empty() {
        format!("{origin}{}{query}", from.path())
    } else if path.starts_with('/') {
        format!("{origin}{}{query}", without_dots(path))
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(above, _)| above);
        format!(
            "{origin}{}{query}",
            without_dots(&format!("{directory}/{path}"))
        )
    };
    ResourceUrl::parse(&whole).ok()
}

/// Whether a reference begins with a scheme: letters, digits and some signs before the first colon.
fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    })
}

/// An absolute path without `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ResourceUrl {
        ResourceUrl::parse(text).unwrap()
    }

    #[test]
    fn a_reference_is_seen_from_where_it_stands() {
        for (reference, expected) in [
            ("http://other/x?y", "http://other/x?y"),
            ("https://other", "https://other/"),
            ("//other:81/x", "http://other:81/x"),
            ("/x/./y/../z", "http://host/x/z"),
            ("x.tgz", "http://host/a/x.tgz"),
            ("./x", "http://host/a/x"),
            ("../x?y=/..", "http://host/x?y=/.."),
            ("../../../x", "http://host/x"),
            ("..", "http://host/"),
            ("?z", "http://host/a/b?z"),
            ("", "http://host/a/b?q"),
            ("/x#fragment", "http://host/x"),
            ("x:y/z?", ""),
            ("ftp://other/x", ""),
            ("http://me:secret@other/x", ""),
            ("/white space", ""),
        ] {
            let found = resolve(&url("http://host/a/b?q"), reference);
            let expected = (!expected.is_empty()).then(|| url(expected));
            assert_eq!(found, expected, "{reference}");
        }
    }

    #[test]
    fn five_redirects_are_followed_and_neither_circles_nor_downgrades() {
        let trail = |count: usize| -> Vec<_> {
            let hop = |index| url(&format!("https://host/{index}"));
            (0..count).map(hop).collect()
        };
        let check = |count, location, expected: Result<&str, Unfollowed>| {
            let found = follow(&trail(count), location).map_err(|(_, why)| why);
            assert_eq!(found, expected.map(url), "{count} {location}");
        };
        check(1, "/x", Ok("https://host/x"));
        check(5, "/x", Ok("https://host/x"));
        check(6, "/x", Err(Unfollowed::TooMany));
        check(3, "/0", Err(Unfollowed::Loop));
        check(1, "", Err(Unfollowed::Loop));
        check(1, "/0?again", Ok("https://host/0?again"));
        check(1, "http://host/x", Err(Unfollowed::Downgrade));
        check(1, "ftp://host/x", Err(Unfollowed::Location));
        let up = follow(&[url("http://host/x")], "https://host/x");
        assert_eq!(up, Ok(url("https://host/x")));
    }

    #[test]
    fn what_is_shown_of_a_refusal_has_no_secret() {
        for location in [
            "ftp://me:s3cret@host/x",
            "ftp://host/?s3cret",
            "http://host/?s3cret",
        ] {
            let (shown, _) = follow(&[url("https://host/")], location).unwrap_err();
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
