//! What may go wrong with one connection, and what that does to an answer. Nothing here waits, or sends anything.

use std::fmt;

use fastrand::Rng;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Descriptor,
    Archive,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// Where in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Head,
    BeforeBody,
    Body,
    /// Where a segment of the archive ends.
    Border,
    LastByte,
}

/// How an archive is labelled that is not the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tag {
    /// As what it is.
    Its,
    /// Not at all.
    None,
    /// As the one that was asked for.
    Wanted,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Nothing,
    /// Closed without a word.
    Close(End),
    Cut(Place, End),
    /// Silent from there on.
    Stall(Place),
    /// A few bytes at a time, for a while.
    Trickle,
    FlipInHead,
    FlipInBody,
    /// A piece comes twice; the length is adjusted to it or not.
    Duplicate {
        adjusted: bool,
    },
    /// A piece does not come.
    Drop {
        adjusted: bool,
    },
    ShorterLength,
    LongerLength,
    /// The range is said to be another.
    Range,
    /// All of it, with this status, whatever range was asked for.
    Whole(u16),
    OtherArchive(Tag),
    OtherDescriptor,
    /// That of the tree which the target may hold, as from a cache.
    StaleDescriptor,
    /// Nothing but a status, and when to come again.
    Status(u16, Option<u8>),
    Garbage,
    EndlessHead,
}

/// What may happen to any answer.
const ANY: [Fault; 21] = [
    Fault::Close(End::Fin),
    Fault::Close(End::Reset),
    Fault::Cut(Place::Head, End::Fin),
    Fault::Cut(Place::Head, End::Reset),
    Fault::Cut(Place::BeforeBody, End::Fin),
    Fault::Cut(Place::Body, End::Fin),
    Fault::Cut(Place::Body, End::Reset),
    Fault::Cut(Place::LastByte, End::Fin),
    Fault::Stall(Place::Head),
    Fault::Stall(Place::BeforeBody),
    Fault::Stall(Place::Body),
    Fault::Trickle,
    Fault::FlipInHead,
    Fault::ShorterLength,
    Fault::LongerLength,
    Fault::Status(500, None),
    Fault::Status(503, None),
    Fault::Status(503, Some(0)),
    Fault::Status(503, Some(1)),
    Fault::Garbage,
    Fault::EndlessHead,
];

/// What may happen to a descriptor besides. All but the first two are worse than bad luck.
const DESCRIPTOR: [Fault; 6] = [
    Fault::OtherDescriptor,
    Fault::StaleDescriptor,
    Fault::FlipInBody,
    Fault::Drop { adjusted: true },
    Fault::Status(404, None),
    Fault::Status(416, None),
];

/// What may happen to an archive besides.
const ARCHIVE: [Fault; 21] = [
    Fault::Cut(Place::Border, End::Fin),
    Fault::Cut(Place::Border, End::Reset),
    Fault::Cut(Place::LastByte, End::Reset),
    Fault::Stall(Place::Border),
    Fault::Stall(Place::LastByte),
    Fault::FlipInBody,
    Fault::Duplicate { adjusted: true },
    Fault::Duplicate { adjusted: false },
    Fault::Drop { adjusted: true },
    Fault::Drop { adjusted: false },
    Fault::Range,
    Fault::Range,
    Fault::Whole(200),
    Fault::Whole(206),
    Fault::OtherArchive(Tag::Its),
    Fault::OtherArchive(Tag::None),
    Fault::OtherArchive(Tag::Wanted),
    Fault::Status(404, None),
    Fault::Status(412, None),
    Fault::Status(412, None),
    Fault::Status(416, None),
];

/// Every fault there is.
pub(crate) fn all() -> impl Iterator<Item = Fault> {
    ANY.into_iter().chain(DESCRIPTOR).chain(ARCHIVE)
}

/// One of those that may happen to what is asked for.
pub(crate) fn pick(asked: Asked, random: &mut Rng) -> Fault {
    let besides = match asked {
        Asked::Descriptor => &DESCRIPTOR[..],
        Asked::Archive => &ARCHIVE[..],
    };
    match random.usize(..ANY.len() + besides.len()) {
        any if any < ANY.len() => ANY[any],
        other => besides[other - ANY.len()],
    }
}

/// An answer: the lines of its head, and its body.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.map_or(bytes.len(), |end| end + 4));
        let head = String::from_utf8_lossy(head);
        Self {
            head: head.trim_end().lines().map(Into::into).collect(),
            body: body.into(),
        }
    }

    pub(crate) fn status(status: u16, retry_after: Option<u8>) -> Self {
        let mut reply = Self {
            head: vec![
                format!("HTTP/1.1 {status} Spoilt"),
                "Connection: close".into(),
            ],
            body: Vec::new(),
        };
        if let Some(seconds) = retry_after {
            reply.set("Retry-After", seconds);
        }
        reply.set_length();
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.head.retain(|line| {
            !line
                .split_once(": ")
                .is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
        });
    }

    pub(crate) fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.remove(name);
        self.head.push(format!("{name}: {value}"));
    }

    fn set_length(&mut self) {
        self.set("Content-Length", self.body.len());
    }

    /// Where in the archive the body begins.
    pub(crate) fn first(&self) -> usize {
        let range = self.header("Content-Range").unwrap_or_default();
        let digits: String = range
            .chars()
            .skip("bytes ".len())
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().unwrap_or(0)
    }

    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        (self.head.join("\r\n") + "\r\n\r\n").into_bytes()
    }

    /// Changes what is to be sent; how it is sent is not decided here.
    pub(crate) fn spoil(&mut self, fault: Fault, random: &mut Rng) {
        match fault {
            Fault::FlipInHead => {
                let at = random.usize(..self.head.len());
                let line = &mut self.head[at];
                let letter = random.usize(..line.len());
                if line.is_char_boundary(letter) && line.is_char_boundary(letter + 1) {
                    let other = char::from(random.u8(b' '..b'~'));
                    line.replace_range(letter..=letter, other.encode_utf8(&mut [0; 4]));
                }
            }
            Fault::FlipInBody => {
                for _ in 0..random.usize(1..4) {
                    if !self.body.is_empty() {
                        let at = random.usize(..self.body.len());
                        self.body[at] ^= random.u8(1..);
                    }
                }
            }
            Fault::Duplicate { adjusted } | Fault::Drop { adjusted } => {
                let start = random.usize(..=self.body.len());
                let end = (start + random.usize(1..100_000)).min(self.body.len());
                let piece = match fault {
                    Fault::Drop { .. } => Vec::new(),
                    _ => self.body[start..end].repeat(2),
                };
                self.body.splice(start..end, piece);
                if adjusted {
                    self.set_length();
                }
            }
            Fault::ShorterLength => self.set("Content-Length", random.usize(..=self.body.len())),
            Fault::LongerLength => {
                self.set("Content-Length", self.body.len() + random.usize(1..100_000));
            }
            Fault::Range => self.lie_about_the_range(random),
            Fault::Whole(206) if self.head[0].contains(" 200 ") => {
                let size = self.body.len();
                self.set(
                    "Content-Range",
                    format_args!("bytes 0-{}/{size}", size.saturating_sub(1)),
                );
                self.head[0] = "HTTP/1.1 206 Partial Content".into();
            }
            _ => {}
        }
    }

    fn lie_about_the_range(&mut self, random: &mut Rng) {
        let (first, length) = (self.first(), self.body.len());
        let size = first + length;
        let shift = random.usize(1..=size.max(1));
        let range = match random.u8(..5) {
            0 => format!("bytes {}-{}/{size}", first + shift, size + shift - 1),
            1 => format!(
                "bytes {}-{}/{size}",
                first.saturating_sub(shift),
                size.saturating_sub(shift)
            ),
            2 => format!("bytes {first}-{}/{}", size.saturating_sub(1), size + shift),
            3 => format!("bytes */{size}"),
            _ => "bytes soon-later/all".into(),
        };
        self.set("Content-Range", range);
        self.head[0] = "HTTP/1.1 206 Partial Content".into();
    }
}
