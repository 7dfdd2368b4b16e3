//! Tells the first of many failures that are all the same from the others: a log that repeats itself is not read.

use std::time::{Duration, Instant};

/// After this time what goes on is told again.
const OLD: Duration = Duration::from_mins(10);

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Option<(String, Instant)>,
}

impl News {
    /// Whether this is to be told; it then counts as told.
    pub(super) fn is_new(&mut self, text: &str, now: Instant) -> bool {
        let known = self.told.as_ref();
        let is_new =
            known.is_none_or(|(known, told)| known != text || now.duration_since(*told) > OLD);
        if is_new {
            self.told = Some((text.to_owned(), now));
        }
        is_new
    }

    /// It is over: the same again would be news. Says whether there was something to be over.
    pub(super) fn over(&mut self) -> bool {
        self.told.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_in_a_while() {
        let mut news = News::default();
        let now = Instant::now();
        assert!(news.is_new("a", now));
        assert!(!news.is_new("a", now + OLD));
        assert!(news.is_new("a", now + OLD + Duration::from_secs(1)));
        assert!(news.is_new("b", now + OLD + Duration::from_secs(1)));
        assert!(!news.is_new("b", now + OLD + Duration::from_secs(1)));
        assert!(news.over());
        assert!(!news.over());
        assert!(news.is_new("b", now + OLD + Duration::from_secs(1)));
    }
}
