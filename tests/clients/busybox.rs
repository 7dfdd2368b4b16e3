//! The wget and the tar of busybox, which is what a small image has.

use crate::site::Site;

fn site() -> Option<Site> {
    Site::for_clients(&["busybox"])
}

#[test]
fn a_download_is_the_archive() {
    let Some(site) = site() else { return };
    site.run("busybox wget -q $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn half_a_file_is_continued() {
    let Some(site) = site() else { return };
    site.leave_half("code.tar.gz");
    site.run("busybox wget -q -c $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn to_continue_what_is_whole_fails_and_does_no_harm() {
    let Some(site) = site() else { return };
    let refused = site.run("busybox wget -q $ARCHIVE && busybox wget -q -c $ARCHIVE");
    let refused = refused.ends_with(1);
    assert!(refused.err.contains("416"), "{}", refused.err);
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_download_is_unpacked_on_its_way() {
    let Some(site) = site() else { return };
    site.run("mkdir tree && busybox wget -q -O - $ARCHIVE | busybox tar xz -C tree")
        .succeeds();
    site.assert_unpacked("tree");
}

#[test]
fn there_is_nothing_behind_a_name_that_is_not_served() {
    let Some(site) = site() else { return };
    let refused = site.run("busybox wget -q $URL/lib/0").ends_with(1);
    assert!(refused.err.contains("404"), "{}", refused.err);
}
