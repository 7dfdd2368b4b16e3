//! Node.js, whose `fetch` is the one that browsers have.

use crate::site::Site;

fn check(script: &str) {
    let Some(site) = Site::for_clients(&["node"]) else {
        return;
    };
    let begin = r#"
        import assert from "node:assert/strict";
        import { createHash } from "node:crypto";
        const { ARCHIVE: archive, DIGEST: digest } = process.env;
        const half = Number(process.env.HALF);
        const tag = `"${digest}"`;
        const bytes = async (response) => Buffer.from(await response.arrayBuffer());
        const tagOf = (body) => `"${createHash("sha256").update(body).digest("hex")}"`;
    "#;
    site.run(&format!(
        "node --input-type=module - << 'END'\n{begin}{script}\nEND"
    ))
    .succeeds();
}

#[test]
fn fetch_gets_the_archive() {
    check(
        r#"
        const response = await fetch(archive);
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("content-encoding"), null);
        assert.equal(response.headers.get("etag"), tag);
        assert.equal(tagOf(await bytes(response)), tag);
        "#,
    );
}

#[test]
fn fetch_gets_a_part_and_the_rest() {
    check(
        r#"
        const first = await fetch(archive, { headers: { Range: `bytes=0-${half - 1}` } });
        const rest = await fetch(archive, { headers: { Range: `bytes=${half}-`, "If-Range": tag } });
        assert.deepEqual([first.status, rest.status], [206, 206]);
        assert.equal(tagOf(Buffer.concat([await bytes(first), await bytes(rest)])), tag);
        "#,
    );
}

#[test]
fn fetch_is_told_that_nothing_has_changed() {
    check(
        r#"
        const headers = { "If-None-Match": tag };
        const response = await fetch(archive, { cache: "no-store", headers });
        assert.equal(response.status, 304);
        assert.equal(response.headers.get("etag"), tag);
        assert.equal((await bytes(response)).length, 0);
        "#,
    );
}

#[test]
fn fetch_gives_up_in_the_middle_and_gets_all_of_it_the_next_time() {
    check(
        r"
        const controller = new AbortController();
        const { body } = await fetch(archive, controller);
        await body.getReader().read();
        controller.abort();
        assert.equal(tagOf(await bytes(await fetch(archive))), tag);
        ",
    );
}
