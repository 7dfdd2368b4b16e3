//! Where things lie on the server, and sentences that do not tell it.

use std::path::Path;

/// The directories that an error may name, with the words that a client reads instead.
#[derive(Clone, Debug)]
pub struct Places(Vec<(String, &'static str)>);

impl Places {
    /// The root of the code, and the directory where the server keeps its own files.
    #[must_use]
    pub fn new(root: &Path, state_dir: &Path) -> Self {
        let mut places = vec![
            (shown(root), "the root"),
            (shown(state_dir), "the state directory"),
        ];
        // One may lie in the other, and then the inner one has the longer name.
        places.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self(places)
    }

    /// A sentence for those who need not know where things lie.
    ///
    /// Only whole paths and what lies beneath them are replaced: a root that is named `.` is no reason to replace every dot.
    #[must_use]
    pub fn hidden(&self, sentence: &str) -> String {
        let hide = |text: String, (path, words): &(String, &str)| replaced(&text, path, words);
        self.0.iter().fold(sentence.to_owned(), hide)
    }
}

/// As errors show it, but for slashes at the end.
fn shown(path: &Path) -> String {
    let path = path.display().to_string();
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        path
    } else {
        trimmed.to_owned()
    }
}

fn replaced(text: &str, path: &str, words: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(path).filter(|_| !path.is_empty()) {
        let (before, mut after) = (&rest[..at], &rest[at + path.len()..]);
        let is_whole = !before
            .chars()
            .next_back()
            .or_else(|| result.chars().next_back())
            .is_some_and(|last| is_of_name(last) || last == '/')
            && !after.chars().next().is_some_and(is_of_name);
        result.push_str(before);
        result.push_str(if is_whole { words } else { path });
        if let Some(behind) = after.strip_prefix('/').filter(|_| is_whole)
            && !behind.chars().next().is_some_and(is_of_name)
        {
            after = behind;
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(root: &str, state_dir: &str, sentence: &str, expected: &str) {
        let places = Places::new(Path::new(root), Path::new(state_dir));
        assert_eq!(places.hidden(sentence), expected);
    }

    #[test]
    fn a_client_is_not_told_where_things_lie() {
        let check = |sentence, expected| check("/data/code", "/state", sentence, expected);
        check(
            "nothing in /data/code belongs",
            "nothing in the root belongs",
        );
        check(
            "cannot use /state/artifacts: full (in /state)",
            "cannot use the state directory/artifacts: full (in the state directory)",
        );
        check("a/b changed", "a/b changed");
        check(
            "the file 'x/state' and /state2",
            "the file 'x/state' and /state2",
        );
    }

    #[test]
    fn the_inner_of_two_places_is_told_from_the_outer_one() {
        check(
            "/data",
            "/data/.state",
            "/data/.state is full, /data/a is not",
            "the state directory is full, the root/a is not",
        );
    }

    #[test]
    fn a_root_with_a_short_name_is_found_where_it_stands_alone() {
        check(
            ".",
            "/s",
            "nothing in . belongs: see ./a.b, e.g. in x.y",
            "nothing in the root belongs: see the root/a.b, e.g. in x.y",
        );
        check(
            "/data/",
            "/s/",
            "cannot read /data/: a/b",
            "cannot read the root: a/b",
        );
        check("/", "/s", "cannot read /: a/b", "cannot read the root: a/b");
    }
}
