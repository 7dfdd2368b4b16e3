//! Where a server or an archive is, as a person writes it.
//!
//! A query may be a secret, as that of a presigned URL is: no text for people shows more of it than that it is there.

use std::fmt;

use ::http::Uri;

/// An `http://` or `https://` URL that other resources are named beneath. It has a host, and no user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    secure: bool,
    authority: String,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Begins with a slash unless it is empty, and ends with none.
    path: String,
}

/// The URL of one resource, with its query. Two of them are equal if they ask for the same in the same place.
#[derive(Clone, PartialEq, Eq)]
pub struct ResourceUrl {
    /// The resource as a base, which is how it can be shown where a query does not matter.
    base: BaseUrl,
    /// As a request names it: never empty, and not a character other than it was written.
    path: String,
    query: Option<String>,
}

/// The URL of an archive on a plain web server: its path ends with `.tar`, `.tar.gz` or `.tgz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveUrl(ResourceUrl);

/// Where a tree is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A code-server.
    Server(BaseUrl),
    /// An archive on any web server.
    Archive(ArchiveUrl),
}

/// Why a text is no URL that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" cannot be asked: {reason}")]
pub struct UrlError {
    /// As typed, without a password and without what a query says.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl BaseUrl {
    /// Parses a URL as typed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let parsed = parse(text).map_err(|reason| UrlError::new(text, reason))?;
        match parsed.query {
            Some(_) => Err(UrlError::new(text, "a query means nothing here")),
            None => Ok(parsed.base),
        }
    }

    /// A resource beneath this URL; no name stands for the URL itself.
    #[must_use]
    pub fn resource(&self, name: &str) -> ResourceUrl {
        let path = self.path_of(name);
        let base = Self {
            path: path.trim_end_matches('/').into(),
            ..self.clone()
        };
        ResourceUrl {
            base,
            path,
            query: None,
        }
    }

    /// Whether a secret for the one may be told to the other: scheme, host and port are the same.
    #[must_use]
    pub fn is_of_one_origin(&self, other: &Self) -> bool {
        let origin = |url: &Self| (url.secure, url.host.to_ascii_lowercase(), url.port);
        origin(self) == origin(other)
    }

    /// Whether it is an `https://` URL.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The host as it is looked up.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 80 or 443 where none was typed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as the `Host` header carries them.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of a resource beneath this URL, as a request names it; no name stands for the URL itself.
    #[must_use]
    pub fn path_of(&self, resource: &str) -> String {
        if resource.is_empty() && !self.path.is_empty() {
            return self.path.clone();
        }
        format!("{}/{resource}", self.path)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

impl ResourceUrl {
    /// Parses a URL as somebody wrote it. A fragment is an error.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        parse(text).map_err(|reason| UrlError::new(text, reason))
    }

    /// The same without what a query says: scheme, host, port and path, which a slash at the end does not make another.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Begins with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What a request names: path and query.
    #[must_use]
    pub fn request_target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Scheme and authority, as a relative reference is put behind them.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.base.scheme(), self.base.authority)
    }
}

impl fmt::Display for ResourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_some() { "?…" } else { "" };
        write!(f, "{}{}{query}", self.origin(), self.path)
    }
}

impl fmt::Debug for ResourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ArchiveUrl {
    /// What is asked for.
    #[must_use]
    pub fn resource(&self) -> &ResourceUrl {
        &self.0
    }
}

impl fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Source {
    /// Parses a URL as typed, and tells by the ending of its path what is there.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let resource = ResourceUrl::parse(text)?;
        match ending(resource.path()) {
            Ending::Archive => Ok(Self::Archive(ArchiveUrl(resource))),
            Ending::Zstd => Err(UrlError::new(
                text,
                "zstd is not supported yet; name a .tar.gz, a .tgz or a .tar",
            )),
            Ending::Other => BaseUrl::parse(text).map(Self::Server),
        }
    }

    /// The server, or the archive as one can show it.
    #[must_use]
    pub fn base(&self) -> &BaseUrl {
        match self {
            Self::Server(url) => url,
            Self::Archive(url) => url.resource().base(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(url) => url.fmt(f),
            Self::Archive(url) => url.fmt(f),
        }
    }
}

impl UrlError {
    fn new(text: &str, reason: &'static str) -> Self {
        let url = without_secrets(text);
        Self { url, reason }
    }
}

/// What the ending of a path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Archive,
    Zstd,
    Other,
}

fn ending(path: &str) -> Ending {
    let path = path.to_ascii_lowercase();
    let is = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if is(&[".tar", ".tar.gz", ".tgz"]) {
        Ending::Archive
    } else if is(&[".tar.zst", ".tzst"]) {
        Ending::Zstd
    } else {
        Ending::Other
    }
}

fn parse(text: &str) -> Result<ResourceUrl, &'static str> {
    if text.contains('#') {
        return Err("a fragment means nothing here");
    }
    let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) => return Err("only http:// and https:// are supported"),
        None => return Err("it does not begin with http:// or https://"),
    };
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("a user in a URL is not supported");
    }
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() {
        return Err("it has no host");
    }
    let port = match authority.as_str().strip_prefix(host) {
        None | Some("") if secure => 443,
        None | Some("") => 80,
        Some(port) => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .filter(|&port| port != 0)
            .ok_or("its port is not a number from 1 to 65535")?,
    };
    let path = uri.path();
    let url = BaseUrl {
        secure,
        authority: authority.to_string(),
        host: bare.into(),
        port,
        path: path.trim_end_matches('/').into(),
    };
    Ok(ResourceUrl {
        base: url,
        path: path.into(),
        query: uri.query().map(Into::into),
    })
}

/// What may be shown of a text that is to be a URL, and may be anything.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    without_query(&without_password(text))
}

/// A query's values may be secrets, and so may its names.
fn without_query(text: &str) -> String {
    match text.split_once('?') {
        Some((before, query)) if !query.is_empty() => format!("{before}?…"),
        _ => text.into(),
    }
}

/// What may be shown of a URL: it goes to logs. A password may hold anything, so all before the last `@` may be one.
fn without_password(text: &str) -> String {
    let Some(at) = text.rfind('@') else {
        return text.into();
    };
    let scheme = text
        .find("://")
        .filter(|&end| end < at)
        .map_or(0, |end| end + 3);
    format!("{}***{}", &text[..scheme], &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, host: &str, port: u16, path: &str) {
        let url = BaseUrl::parse(text).unwrap();
        assert_eq!((url.host(), url.port()), (host, port), "{text}");
        assert_eq!(url.path_of("code.json"), path, "{text}");
    }

    #[test]
    fn a_base_url_has_host_port_and_path() {
        check("http://code", "code", 80, "/code.json");
        check("http://code/", "code", 80, "/code.json");
        check("http://code:8080/app//", "code", 8080, "/app/code.json");
        check("http://[::1]:81", "::1", 81, "/code.json");
        check("HTTP://10.0.0.1", "10.0.0.1", 80, "/code.json");
        check("https://code", "code", 443, "/code.json");
        check("HTTPS://code:8443/", "code", 8443, "/code.json");
    }

    #[test]
    fn no_name_stands_for_the_url_itself() {
        let path = |url| BaseUrl::parse(url).unwrap().path_of("");
        assert_eq!(path("http://code/readyz"), "/readyz");
        assert_eq!(path("http://code"), "/");
    }

    #[test]
    fn it_is_shown_as_it_was_typed() {
        for text in ["http://code:8080", "http://[::1]/app", "https://code"] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_fetched_from_is_refused_with_its_name() {
        for text in [
            "",
            "code",
            "code:8080",
            "/path",
            "ftp://code",
            "http://",
            "http://:80",
            "http://code:99999",
            "http://code:0",
            "http://code:",
            "http://code#x",
            "http://a b",
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(
                error.to_string().contains(&format!("\"{text}\"")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            ("http://user:hunter2@code/x", "http://***@code/x"),
            ("http://user:hunt/er2@code", "http://***@code"),
            ("http://user:hunt?er#2@code", "http://***@code"),
            ("user:hunter2@code", "***@code"),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap_err().url, shown);
        }
    }

    #[test]
    fn the_ending_of_the_path_tells_an_archive_from_a_server() {
        let is_archive = |text: &str| matches!(Source::parse(text), Ok(Source::Archive(_)));
        for archive in [
            "http://host/code.tar.gz",
            "http://host/a/b/code.tgz",
            "https://host:8443/code.tar",
            "http://host/CODE.TAR.GZ",
            "http://host/code.tar.gz?X-Amz-Signature=abc",
            "http://host/gitrepository/ns/name/0123abcd.tar.gz",
        ] {
            assert!(is_archive(archive), "{archive}");
        }
        for server in [
            "http://host",
            "http://host/tar",
            "http://host.tar",
            "http://host/code.tar.gz/",
            "http://host/code.zip",
        ] {
            let source = Source::parse(server).unwrap();
            assert!(matches!(source, Source::Server(_)), "{server}");
        }
        for zstd in ["http://host/code.tar.zst", "http://host/code.TAR.ZST?a=b"] {
            let error = Source::parse(zstd).unwrap_err();
            assert!(error.reason.contains("zstd is not supported yet"));
        }
    }

    #[test]
    fn a_query_is_asked_for_and_never_shown() {
        let text = "https://host/code.tar.gz?X-Amz-Signature=s3cret&a=/b@c";
        let source = Source::parse(text).unwrap();
        let Source::Archive(url) = &source else {
            panic!("{source}")
        };
        assert_eq!(
            url.resource().request_target(),
            "/code.tar.gz?X-Amz-Signature=s3cret&a=/b@c"
        );
        assert_eq!(source.to_string(), "https://host/code.tar.gz?…");
        assert!(!format!("{source:?}").contains("s3cret"), "{source:?}");
        for text in [
            "http://host?token=s3cret",
            "ftp://host/code.tar.gz?s3cret",
            "http://host/code.tar.zst?s3cret",
            "http://host/code.tar.gz?s3cret#x",
        ] {
            let error = Source::parse(text).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_resource_keeps_its_path_to_the_letter() {
        let url = ResourceUrl::parse("http://host/a//b/").unwrap();
        assert_eq!(url.request_target(), "/a//b/");
        assert_eq!(url.to_string(), "http://host/a//b/");
        let beneath = BaseUrl::parse("http://host/app/").unwrap();
        assert_eq!(beneath.resource("code.json").path(), "/app/code.json");
        assert_eq!(beneath.resource("").path(), "/app");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let one = |left: &str, right: &str| {
            let url = |text| BaseUrl::parse(text).unwrap();
            url(left).is_of_one_origin(&url(right))
        };
        assert!(one("http://Code/a", "http://code:80/b"));
        assert!(!one("http://code", "https://code"));
        assert!(!one("http://code", "http://code:8080"));
        assert!(!one("http://code", "http://code.example"));
    }
}
