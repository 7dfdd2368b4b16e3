//! The way to the root: the names whose change makes its path lead elsewhere.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// Where a path leads, and by which names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Each link on the way and what stands at its end: the directory that holds it, free of links, and its name. Names of
    /// directories on the way are not among them: who moves those moves the mount too.
    pub(super) names: Vec<(PathBuf, OsString)>,
    /// What stands at its end, free of links; `None` if the way ends early.
    pub(super) end: Option<PathBuf>,
}

/// Follows an absolute path, step by step.
pub(super) fn follow(path: &Path) -> Way {
    let mut way = Way::default();
    way.end = walk(path, &mut way.names).ok();
    if let Some(end) = &way.end
        && let (Some(parent), Some(name)) = (end.parent(), end.file_name())
    {
        way.names.push((parent.to_owned(), name.to_owned()));
    }
    way
}

/// Gives the end, and the names but for its own.
fn walk(path: &Path, names: &mut Vec<(PathBuf, OsString)>) -> io::Result<PathBuf> {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = steps(path).collect();
    let mut links_left = MOST_LINKS;
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&step);
        let is_link = fs::symlink_metadata(&next).map(|found| found.is_symlink());
        if let Ok(false) = is_link {
            here = next;
            continue;
        }
        // A link, or the name at which the way ends.
        names.push((here.clone(), step));
        is_link?;
        links_left = links_left
            .checked_sub(1)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(step);
        }
    }
    Ok(here)
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes directories and links (`name -> target`) and follows a path among them.
    fn check(made: &[&str], path: &str, names: &[&str], end: Option<&str>) {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        for made in made {
            match made.split_once(" -> ") {
                Some((name, target)) => symlink(target, base.join(name)).unwrap(),
                None => fs::create_dir_all(base.join(made)).unwrap(),
            }
        }
        let way = follow(&base.join(path));
        let found: Vec<_> = way
            .names
            .iter()
            .map(|(directory, name)| directory.join(name))
            .collect();
        let expected: Vec<_> = names.iter().map(|name| base.join(name)).collect();
        assert_eq!(found, expected, "{path}");
        assert_eq!(way.end, end.map(|end| base.join(end)), "{path}");
    }

    #[test]
    fn a_way_without_links_has_its_end_alone() {
        check(&["a/b"], "a/b", &["a/b"], Some("a/b"));
        check(&["a/b"], "a/./b/../b", &["a/b"], Some("a/b"));
        check(&["a/b"], "a/b/..", &["a"], Some("a"));
    }

    #[test]
    fn a_link_that_is_swapped_has_its_own_name_and_that_of_its_end() {
        check(
            &[".worktrees/1", "current -> .worktrees/1"],
            "current",
            &["current", ".worktrees/1"],
            Some(".worktrees/1"),
        );
    }

    #[test]
    fn links_behind_links_are_all_on_the_way() {
        check(
            &["..1/code", "..data -> ..1", "code -> ..data/code"],
            "code",
            &["code", "..data", "..1/code"],
            Some("..1/code"),
        );
    }

    #[test]
    fn a_link_upwards_leads_from_where_it_points() {
        check(
            &["a/b", "x", "up -> a/b"],
            "up/../../x",
            &["up", "x"],
            Some("x"),
        );
    }

    #[test]
    fn a_way_that_ends_early_ends_with_the_name_that_is_missing() {
        check(&["a"], "a/b/c", &["a/b"], None);
        check(&["gone -> nowhere"], "gone/x", &["gone", "nowhere"], None);
    }

    #[test]
    fn links_in_a_circle_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert_eq!(follow(&directory.path().join("a")).end, None);
    }

    #[test]
    fn the_root_of_all_has_no_name() {
        let way = follow(Path::new("/"));
        assert_eq!((way.names, way.end), (vec![], Some("/".into())));
    }
}
