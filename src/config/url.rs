//! Where a server is, as a person writes it.

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

/// Why a text is no base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" cannot be asked: {reason}")]
pub struct UrlError {
    /// As typed, without a password.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl BaseUrl {
    /// Parses a URL as typed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        parse(text).map_err(|reason| UrlError {
            url: without_password(text),
            reason,
        })
    }

    /// Whether it is an `https://` URL.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
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
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

fn parse(text: &str) -> Result<BaseUrl, &'static str> {
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
    if uri.query().is_some() {
        return Err("a query means nothing here");
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
    Ok(BaseUrl {
        secure,
        authority: authority.to_string(),
        host: bare.into(),
        port,
        path: uri.path().trim_end_matches('/').into(),
    })
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
            "http://code?x=1",
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
}
