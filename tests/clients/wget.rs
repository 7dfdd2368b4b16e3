//! GNU Wget.

use crate::site::Site;

fn site() -> Option<Site> {
    Site::for_clients(&["wget"])
}

#[test]
fn a_download_is_the_archive() {
    let Some(site) = site() else { return };
    site.run("wget -nv $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
    site.run("mkdir tree && wget -q -O - $ARCHIVE | tar xz -C tree")
        .succeeds();
    site.assert_unpacked("tree");
}

#[test]
fn half_a_file_is_continued() {
    let Some(site) = site() else { return };
    site.leave_half("code.tar.gz");
    let said = site.run("wget -c $ARCHIVE").ends_with(0).err;
    assert!(said.contains("206 Partial Content"), "{said}");
    site.assert_whole("code.tar.gz");
}

#[test]
fn to_continue_what_is_whole_does_no_harm() {
    let Some(site) = site() else { return };
    let said = site
        .run("wget -nv $ARCHIVE && wget -c $ARCHIVE")
        .ends_with(0);
    assert!(said.err.contains("nothing to do"), "{}", said.err);
    site.assert_whole("code.tar.gz");
}

#[test]
fn only_what_is_newer_is_sent_again() {
    let Some(mut site) = site() else { return };
    site.run("wget -nv -N $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
    let said = site.run("wget -N $ARCHIVE").ends_with(0).err;
    assert!(said.contains("304 Not Modified"), "{said}");
    site.assert_whole("code.tar.gz");

    // As if it had come long before the change: both may be done within one second.
    site.run("touch -d 1999-12-31 code.tar.gz").succeeds();
    site.change();
    let said = site.run("wget -N $ARCHIVE").ends_with(0).err;
    assert!(said.contains("200 OK"), "{said}");
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_spider_finds_what_is_there_and_takes_nothing() {
    let Some(site) = site() else { return };
    site.run("wget -nv --spider $ARCHIVE $URL/code.json $URL/code.list")
        .succeeds();
    // 8: the server answered with an error.
    site.run("wget -nv --spider $URL/other").ends_with(8);
    assert_eq!(site.run("ls").succeeds(), "");
}

#[test]
fn a_file_is_uploaded() {
    let Some(site) = site() else { return };
    site.run(
        "mkdir new && echo new > new/main.py && tar czf new.tar.gz -C new .
        wget -nv -O said --method=PUT --body-file=new.tar.gz --header=\"Authorization: Bearer $TOKEN\" $ARCHIVE",
    )
    .succeeds();
    site.assert_served("new");
}
