//! aria2, which fetches the parts of a file over several connections.

use crate::site::Site;

const FETCH: &str = "aria2c --no-conf -q -x8 -s8 -k1M --checksum=sha-256=$DIGEST --log=log --log-level=info $ARCHIVE
    grep -c '^HTTP/1.1 206 ' log";

#[test]
fn a_download_in_parts_is_the_archive() {
    let Some(site) = Site::for_clients(&["aria2c"]) else {
        return;
    };
    let parts: u32 = site.run(FETCH).succeeds().parse().unwrap();
    assert!(parts > 1, "{parts}");
    site.assert_whole("code.tar.gz");
}

#[test]
fn half_a_file_is_continued_in_parts() {
    let Some(site) = Site::for_clients(&["aria2c"]) else {
        return;
    };
    site.leave_half("code.tar.gz");
    site.run(&FETCH.replace("-q", "-q -c")).succeeds();
    site.assert_whole("code.tar.gz");
}
