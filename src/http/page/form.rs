//! In which form the facts are wanted: decided by `Accept` (RFC 9110 §12.5.1).

use http::header::{ACCEPT, HeaderMap};

/// How the facts can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As a document for a browser.
    Page,
    /// For a program.
    Json,
    /// For a terminal, and for everybody who asks for nothing in particular.
    Text,
}

/// How much a form is wanted: how much in thousandths, and how exactly it is named.
type Wish = (u16, u8);

/// In the order in which they are given to a client that names them and has no preference.
const FORMS: [(Form, &str, &str); 3] = [
    (Form::Page, "text", "html"),
    (Form::Json, "application", "json"),
    (Form::Text, "text", "plain"),
];

impl Form {
    /// The form that a request prefers. Text where it prefers none or accepts none: it always helps.
    pub(super) fn wanted(request: &HeaderMap) -> Self {
        let lines = request.get_all(ACCEPT).iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        let mut best = (Self::Text, (0, 0));
        for (form, kind, subtype) in FORMS {
            let wish = wish(&lines, kind, subtype);
            if wish > best.1 {
                best = (form, wish);
            }
        }
        // A wildcard does not name a form.
        if best.1.1 == 2 { best.0 } else { Self::Text }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Page => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// By the most exact of the ranges that match; what cannot be read is not there.
fn wish(lines: &[&str], kind: &str, subtype: &str) -> Wish {
    let ranges = lines.iter().flat_map(|line| line.split(','));
    let matches = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (its_kind, its_subtype) = parts.next()?.split_once('/')?;
        let exactness = match (its_kind, its_subtype) {
            ("*", "*") => 0,
            (its, "*") if its.eq_ignore_ascii_case(kind) => 1,
            (its, sub) if its.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => 2,
            _ => return None,
        };
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.eq_ignore_ascii_case("q").then_some(value)
        });
        let quality = weight.map_or(Some(1000), thousandths)?;
        Some((exactness, quality))
    });
    let (exactness, quality) = matches.max().unwrap_or_default();
    (quality, if quality == 0 { 0 } else { exactness })
}

/// A weight from 0 to 1 with three decimals at the most (RFC 9110 §12.4.2).
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let is_short = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let decimals: u16 = format!("{decimals:0<3}")
        .parse()
        .ok()
        .filter(|_| is_short)?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: Form) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        assert_eq!(Form::wanted(&headers), expected, "{lines:?}");
    }

    #[test]
    fn a_browser_gets_the_page() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
                        image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
        for accept in [
            chromium,
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html, text/plain, text/css, */*;q=0.01",
            "text/html, text/*;q=0.5, image/*",
            "Text/HTML;charset=utf-8",
            "text/html;q=0.5, application/json;q=0.4",
        ] {
            check(&[accept], Form::Page);
        }
        check(&["text/plain;q=0.5", "text/html"], Form::Page);
    }

    #[test]
    fn a_program_gets_json() {
        for accept in [
            "application/json",
            "application/json, text/plain, */*",
            "application/json, */*",
            "text/html;q=0.4, application/json;q=0.5",
            "application/json;q=0.001",
            "text/html;q=0, application/json;q=0.1",
        ] {
            check(&[accept], Form::Json);
        }
    }

    #[test]
    fn everybody_else_gets_text() {
        check(&[], Form::Text);
        for accept in [
            "",
            "*/*",
            "text/*",
            "application/*",
            "text/plain",
            "text/plain, text/html;q=0.9",
            "*/*, text/html;q=0.9",
            "image/png",
            "text/html;q=0",
            "text/html;q=0, */*",
            "text/html;q=2",
            "text/html;q=0.0001",
            "text/html;q=",
            "text/html;q=-0.5",
            "text",
            ",;,/",
        ] {
            check(&[accept], Form::Text);
        }
    }
}
