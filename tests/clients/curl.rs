//! curl: whole, in parts, resumed, again only if there is something new, and the other way.

use std::fs;

use crate::server::wait_until;
use crate::site::Site;

fn site() -> Option<Site> {
    Site::for_clients(&["curl"])
}

#[test]
fn a_download_is_the_archive() {
    let Some(site) = site() else { return };
    site.run("curl -fsS -o code.tar.gz $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
    site.run("mkdir tree && curl -fsS $ARCHIVE | tar xz -C tree")
        .succeeds();
    site.assert_unpacked("tree");
}

#[test]
fn the_listing_and_the_descriptor_name_what_comes() {
    let Some(site) = site() else { return };
    let digest = site
        .run(r#"curl -fsS $URL/code.json | sed -n 's/.*"digest":"sha256:\([0-9a-f]*\)","size".*/\1/p'"#)
        .succeeds();
    assert_eq!(digest, site.digest());
    let revisions = site.run(
        "curl -fsS $URL/code.list | sha256sum
        curl -fsSI $ARCHIVE | sed -n 's/^code-revision: sha256:\\([0-9a-f]*\\).*/\\1  -/p'",
    );
    let revisions = revisions.succeeds();
    let (listing, header) = revisions.split_once('\n').unwrap();
    assert_eq!(listing, header);
}

#[test]
fn a_download_that_was_cut_is_resumed() {
    let Some(site) = site() else { return };
    site.run(
        "(curl -s $ARCHIVE || true) | head -c $HALF > code.tar.gz
        curl -fsS -C - -o code.tar.gz -w '%{http_code} %{size_download}' $ARCHIVE > said
        test \"$(cat said)\" = \"206 $(($(stat -c %s code.tar.gz) - HALF))\"",
    )
    .succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn to_resume_what_is_whole_does_no_harm() {
    let Some(site) = site() else { return };
    let said = site.run(
        "curl -fsS -o code.tar.gz $ARCHIVE
        # Not with -f, by which some versions take it for a failure.
        curl -sS -C - -o code.tar.gz -w '%{http_code}' $ARCHIVE",
    );
    assert_eq!(said.succeeds(), "416");
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_resume_after_a_change_is_never_a_mixture() {
    let Some(mut site) = site() else { return };
    site.run("curl -fsS --etag-save tag -o whole $ARCHIVE")
        .succeeds();
    site.leave_half("code.tar.gz");
    let before = site.half();
    let resume = "curl -sS -C - -H \"If-Range: $(cat tag)\" -o code.tar.gz $ARCHIVE";
    site.change();
    // What comes is the new one from its beginning, and curl does not add that to what it has.
    let refused = site.run(resume).ends_with(33);
    assert!(refused.err.contains("Cannot resume"), "{refused:?}");
    let kept =
        site.run("cmp -n $(stat -c %s code.tar.gz) code.tar.gz whole && stat -c %s code.tar.gz");
    assert_eq!(kept.succeeds(), before.to_string());

    let said = site.run(
        "curl -fsS -r $HALF- -H \"If-Range: $(cat tag)\" -o code.tar.gz -w '%{http_code}' $ARCHIVE",
    );
    assert_eq!(said.succeeds(), "200");
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_resume_by_tag_goes_on_where_nothing_has_changed() {
    let Some(site) = site() else { return };
    site.leave_half("code.tar.gz");
    let said = site.run(
        "curl -fsS -C - -H \"If-Range: \\\"$DIGEST\\\"\" -o code.tar.gz -w '%{http_code}' $ARCHIVE",
    );
    assert_eq!(said.succeeds(), "206");
    site.assert_whole("code.tar.gz");
}

#[test]
fn what_has_the_tag_already_is_not_sent_again() {
    let Some(mut site) = site() else { return };
    site.run("curl -fsS --etag-save tag -o code.tar.gz $ARCHIVE")
        .succeeds();
    assert_eq!(
        site.run("cat tag").succeeds(),
        format!("\"{}\"", site.digest())
    );
    let written = site.modified("code.tar.gz");
    let again = "curl -fsS --etag-compare tag --etag-save tag -o code.tar.gz -w '%{http_code} %{size_download}' $ARCHIVE";
    assert_eq!(site.run(again).succeeds(), "304 0");
    assert_eq!(site.modified("code.tar.gz"), written);
    site.assert_whole("code.tar.gz");

    site.change();
    let length = site.archive().len();
    assert_eq!(site.run(again).succeeds(), format!("200 {length}"));
    site.assert_whole("code.tar.gz");
    assert_eq!(site.run(again).succeeds(), "304 0");
}

#[test]
fn what_is_as_new_as_the_file_is_not_sent_again() {
    let Some(site) = site() else { return };
    let again = "curl -fsSR -z code.tar.gz -o code.tar.gz -w '%{http_code}' $ARCHIVE";
    site.run("curl -fsSR -o code.tar.gz $ARCHIVE").succeeds();
    assert_eq!(site.run(again).succeeds(), "304");
    site.assert_whole("code.tar.gz");
    site.run("touch -d 1999-12-31 code.tar.gz").succeeds();
    assert_eq!(site.run(again).succeeds(), "200");
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_head_says_what_a_get_would() {
    let Some(site) = site() else { return };
    let differing = site.run(
        "for name in code.tar.gz code.json code.list; do
            curl -fsS -D get -o body $URL/$name
            curl -fsSI -o head $URL/$name
            diff <(grep -Evi '^(date|x-request-id):' get) <(grep -Evi '^(date|x-request-id):' head)
            grep -qi \"^content-length: $(stat -c %s body)\" head
        done",
    );
    assert_eq!(differing.succeeds(), "");
}

#[test]
fn the_archive_has_no_coding_for_those_who_take_one() {
    let Some(site) = site() else { return };
    site.run(
        "curl -fsS --compressed -D head -o code.tar.gz $ARCHIVE; ! grep -i ^content-encoding: head",
    )
    .succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_range_of_any_form_is_that_part() {
    let Some(site) = site() else { return };
    let length = site.archive().len();
    let half = site.half();
    let check = |form: &str, status: &str, from, to| {
        let said = site.run(&format!(
            "curl -sS -r {form} -o part -w '%{{http_code}}' $ARCHIVE"
        ));
        assert_eq!(said.succeeds(), status, "{form}");
        site.assert_part("part", from..to);
    };
    check("0-0", "206", 0, 1);
    check("0-99", "206", 0, 100);
    check("100-199", "206", 100, 200);
    check(&format!("{half}-"), "206", half, length);
    check("-100", "206", length - 100, length);
    check("-999999999", "206", 0, length);
    check("0-999999999", "206", 0, length);
    check(&format!("{}-", length - 1), "206", length - 1, length);
    // Several at once would have to be told apart, so all of it comes.
    check("0-1,5-6", "200", 0, length);

    let refused = site.run(
        "curl -sS -r 999999999- -D head -o problem -w '%{http_code}' $ARCHIVE
        sed -n 's/^content-range: \\(.*\\)\\r/ \\1/p' head",
    );
    assert_eq!(refused.succeeds(), format!("416 bytes */{length}"));
}

#[test]
fn halves_that_come_at_once_make_the_archive() {
    let Some(site) = site() else { return };
    site.run(
        "curl -fsS -r 0-$((HALF - 1)) -o first $ARCHIVE & first=$!
        curl -fsS -r $HALF- -o second $ARCHIVE
        wait $first
        cat first second > code.tar.gz",
    )
    .succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn twenty_downloads_at_once_are_all_whole() {
    let Some(site) = site() else { return };
    let digests = site.run(
        "curl -fsSZ --parallel-max 20 -o 'code.tar.gz.#1' \"$ARCHIVE?[1-20]\"
        sha256sum code.tar.gz.* | grep -c ^$DIGEST",
    );
    assert_eq!(digests.succeeds(), "20");
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    let Some(site) = site() else { return };
    let connections = site.run(
        "curl -fsS -w '%{num_connects}' -o one $ARCHIVE -o two $URL/code.json -o three $ARCHIVE",
    );
    assert_eq!(connections.succeeds(), "100");
    site.assert_whole("one");
    site.assert_whole("three");
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let Some(site) = site() else { return };
    site.run("curl -fsS0 -o code.tar.gz $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");
    site.leave_half("code.tar.gz");
    site.run("curl -fsS0 -C - -o code.tar.gz $ARCHIVE")
        .succeeds();
    site.assert_whole("code.tar.gz");
}

#[test]
fn an_offer_of_http_2_is_let_pass() {
    let Some(site) = site() else { return };
    let said =
        site.run("curl -fsS --http2 -o code.tar.gz -w '%{http_version} %{http_code}' $ARCHIVE");
    assert_eq!(said.succeeds(), "1.1 200");
    site.assert_whole("code.tar.gz");
}

#[test]
fn a_download_that_has_begun_ends_with_what_it_began_with() {
    let Some(mut site) = site() else { return };
    let before = site.archive().to_vec();
    let slow = site.start("curl -fsS --limit-rate 2M -o code.tar.gz $ARCHIVE");
    wait_until("some of it has come", || {
        fs::metadata(site.path("code.tar.gz")).is_ok_and(|file| file.len() > 0)
    });
    site.change();
    site.run("curl -fsS -o changed $ARCHIVE").succeeds();
    site.assert_whole("changed");
    slow.end().succeeds();
    assert!(fs::read(site.path("code.tar.gz")).unwrap() == before);
}

#[test]
fn an_earlier_revision_is_resumed_after_a_change() {
    let Some(mut site) = site() else { return };
    let revision = site.run("curl -fsS $URL/code.list | sha256sum | cut -d ' ' -f 1");
    let revision = revision.succeeds();
    let before = site.archive().to_vec();
    site.leave_half("code.tar.gz");
    site.change();
    site.run(&format!(
        "curl -fsS -C - -o code.tar.gz $URL/revisions/sha256:{revision}/code.tar.gz"
    ))
    .succeeds();
    assert!(fs::read(site.path("code.tar.gz")).unwrap() == before);
}

#[test]
fn a_file_is_uploaded() {
    let Some(site) = site() else { return };
    let said = site.run(
        "mkdir new && echo new > new/main.py && tar czf new.tar.gz -C new .
        curl -fsS -T new.tar.gz -H \"Authorization: Bearer $TOKEN\" $ARCHIVE",
    );
    let said = said.succeeds();
    assert!(said.contains("\"changed\":true"), "{said}");
    site.assert_served("new");
}

#[test]
fn an_archive_is_uploaded_while_it_is_made() {
    let Some(site) = site() else { return };
    site.run(
        "mkdir new && head -c 3000000 /dev/urandom > new/noise
        tar cz -C new . | curl -fsS -T - -H \"Authorization: Bearer $TOKEN\" $ARCHIVE",
    )
    .succeeds();
    site.assert_served("new");
}

#[test]
fn an_upload_over_something_newer_is_refused() {
    let Some(mut site) = site() else { return };
    site.run("curl -fsSI --etag-save tag $ARCHIVE && mkdir new && echo new > new/main.py")
        .succeeds();
    let upload = "tar cz -C new . | curl -sS -T - -o said -w '%{http_code}' -H \"If-Match: $(cat tag)\" \\
            -H \"Authorization: Bearer $TOKEN\" $ARCHIVE";
    site.change();
    assert_eq!(site.run(upload).succeeds(), "412");
    site.run("curl -fsS -o code.tar.gz $ARCHIVE").succeeds();
    site.assert_whole("code.tar.gz");

    site.run("curl -fsSI --etag-save tag $ARCHIVE").succeeds();
    assert_eq!(site.run(upload).succeeds(), "200");
    site.assert_served("new");
}
