//! What RFC 9110 says of preconditions and ranges, a line for each case, in the order of its sections.
//!
//! A line has the header section of a request and what a GET is answered with; a HEAD must be answered likewise, but that a
//! range does not count for it. Each is asked of the current archive and of its revision. `TAG` stands for the entity tag
//! of what is served, and `DATE` for the time it was published at.

use std::thread;

use super::*;

const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

/// What a GET is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// 200 with all bytes.
    Whole,
    /// 206 with the bytes from the first to the last.
    Part(usize, usize),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

use Answer::{Failed, NotModified, Part, Unsatisfiable, Whole};

/// Tells which case it was that failed.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(writeln!(io::stderr(), "in the case {}", self.0));
        }
    }
}

async fn check(cases: &[(&str, Answer)]) {
    let server = Server::start();
    let tag = etag(ARCHIVE);
    let mut client = Client::connect(&server).await;
    for path in [
        "/code.tar.gz".into(),
        format!("/revisions/{}/code.tar.gz", revision()),
    ] {
        let whole = exchange(&mut client, "GET", &path, "").await;
        for (headers, expected) in cases {
            let _named = Named(format!("{path} {headers}"));
            let dates = headers.replace("BEFORE", BEFORE).replace("AFTER", AFTER);
            let headers = dates.replace("DATE", DATE).replace("TAG", &tag);
            let lines = headers.replace(" | ", "\r\n") + "\r\n";
            let get = exchange(&mut client, "GET", &path, &lines).await;
            let head = exchange(&mut client, "HEAD", &path, &lines).await;
            check_get(&get, &whole, *expected);
            check_head(&head, &get, &whole, *expected);
        }
    }
}

/// Asks on a connection that goes on, so that a byte too many or too few spoils what follows.
async fn exchange(client: &mut Client, method: &str, path: &str, headers: &str) -> Reply {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    client.send(&request).await;
    let mut reply = client.head().await;
    // They differ from answer to answer.
    for name in ["date", "x-request-id"] {
        assert!(reply.headers.remove(name).is_some(), "{name}");
    }
    if method == "GET" && reply.status != 304 {
        let length = reply.header("content-length").unwrap().parse().unwrap();
        reply.body = client.exactly(length).await;
    }
    reply
}

#[track_caller]
fn check_get(reply: &Reply, whole: &Reply, expected: Answer) {
    let length = whole.body.len();
    match expected {
        Whole => {
            reply.expect(200, &[]);
            assert_eq!((&reply.headers, &*reply.body), (&whole.headers, ARCHIVE));
        }
        Part(first, last) => {
            let content_range = format!("bytes {first}-{last}/{length}");
            reply.expect(206, &[("content-range", &content_range)]);
            assert_eq!(reply.body, &ARCHIVE[first..=last]);
            // §15.3.7: what the 200 would say, too.
            assert_same(reply, whole, &["content-length", "content-range"]);
        }
        NotModified => {
            assert_eq!(reply.status, 304);
            // §15.4.5: what guides a cache, and nothing that would describe a body.
            assert!(reply.headers.contains_key("cache-control"));
            assert!(reply.headers.contains_key("etag"));
            assert_same(reply, whole, &["content-length", "content-type"]);
            for name in ["content-length", "content-type", "transfer-encoding"] {
                assert!(!reply.headers.contains_key(name), "{name}");
            }
        }
        Failed | Unsatisfiable => {
            reply.expect_problem(if expected == Failed { 412 } else { 416 });
            reply.expect(reply.status, &[("code-revision", &revision())]);
            let complete = format!("bytes */{length}");
            let content_range = (expected == Unsatisfiable).then_some(&*complete);
            assert_eq!(reply.header("content-range"), content_range);
            // What would make a cache take the problem for the representation.
            assert!(!reply.headers.contains_key("etag"));
            assert!(!reply.headers.contains_key("last-modified"));
        }
    }
}

#[track_caller]
fn check_head(head: &Reply, get: &Reply, whole: &Reply, expected: Answer) {
    let like = match expected {
        Part(..) | Unsatisfiable => whole,
        Whole | NotModified | Failed => get,
    };
    assert_eq!((head.status, &head.headers), (like.status, &like.headers));
}

/// The same headers but for these.
#[track_caller]
fn assert_same(reply: &Reply, whole: &Reply, but: &[&str]) {
    let [mut reply, mut whole] = [&reply.headers, &whole.headers].map(HeaderMap::clone);
    for name in but {
        reply.remove(*name);
        whole.remove(*name);
    }
    assert_eq!(reply, whole);
}

#[tokio::test]
async fn section_13_1_1_if_match() {
    check(&[
        ("If-Match: *", Whole),
        ("If-Match: TAG", Whole),
        ("If-Match: \"other\", TAG", Whole),
        ("If-Match: TAG, \"other\"", Whole),
        ("If-Match: \"other\",TAG", Whole),
        ("If-Match: , ,TAG,", Whole),
        ("If-Match: \"other\" | If-Match: TAG", Whole),
        ("if-match:\t TAG \t", Whole),
        ("If-Match:TAG", Whole),
        ("If-Match: \"a,b\", TAG", Whole),
        ("If-Match: \"\", TAG", Whole),
        ("If-Match: \"other\"", Failed),
        ("If-Match: \"\"", Failed),
        ("If-Match: W/TAG", Failed),
        ("If-Match: W/TAG, W/\"other\"", Failed),
        ("If-Match: W/\"other\", TAG", Whole),
        ("If-Match: \"other\" | If-Match: W/TAG", Failed),
        ("If-Match: tag", Failed),
        ("If-Match: DATE", Failed),
        ("If-Match:", Failed),
        ("If-Match: *, \"other\"", Failed),
        ("If-Match: \"*\"", Failed),
    ])
    .await;
}

#[tokio::test]
async fn section_13_1_2_if_none_match() {
    check(&[
        ("If-None-Match: *", NotModified),
        ("If-None-Match: TAG", NotModified),
        ("If-None-Match: W/TAG", NotModified),
        ("If-None-Match: \"other\", TAG", NotModified),
        ("If-None-Match: TAG, \"other\"", NotModified),
        ("If-None-Match: \"other\",W/TAG", NotModified),
        ("If-None-Match: , ,TAG,", NotModified),
        ("If-None-Match: \"other\" | If-None-Match: TAG", NotModified),
        ("if-none-match:\t TAG \t", NotModified),
        ("If-None-Match: \"a,b\", TAG", NotModified),
        ("If-None-Match: \"other\"", Whole),
        ("If-None-Match: W/\"other\"", Whole),
        ("If-None-Match: \"\"", Whole),
        ("If-None-Match: w/TAG", Whole),
        ("If-None-Match: tag", Whole),
        ("If-None-Match: DATE", Whole),
        ("If-None-Match:", Whole),
        ("If-None-Match: \"*\"", Whole),
        ("If-None-Match: *, \"other\"", Whole),
    ])
    .await;
}

#[tokio::test]
async fn section_13_1_3_if_modified_since() {
    check(&[
        ("If-Modified-Since: BEFORE", Whole),
        ("If-Modified-Since: DATE", NotModified),
        ("If-Modified-Since: AFTER", NotModified),
        (
            "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",
            NotModified,
        ),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", Whole),
        ("if-modified-since:\t DATE \t", NotModified),
        // Not a date, or not one date.
        ("If-Modified-Since:", Whole),
        ("If-Modified-Since: 0", Whole),
        ("If-Modified-Since: TAG", Whole),
        ("If-Modified-Since: 2099-01-01T00:00:00Z", Whole),
        ("If-Modified-Since: Tue, 14 Nov 2099 22:13:20 +0000", Whole),
        ("If-Modified-Since: Tue, 32 Nov 2099 22:13:20 GMT", Whole),
        ("If-Modified-Since: AFTER, AFTER", Whole),
        ("If-Modified-Since: AFTER | If-Modified-Since: AFTER", Whole),
        // Not where there are tags, whatever they come to.
        ("If-None-Match: \"other\" | If-Modified-Since: AFTER", Whole),
        (
            "If-None-Match: TAG | If-Modified-Since: BEFORE",
            NotModified,
        ),
        ("If-None-Match: | If-Modified-Since: AFTER", Whole),
    ])
    .await;
}

#[tokio::test]
async fn section_13_1_4_if_unmodified_since() {
    check(&[
        ("If-Unmodified-Since: BEFORE", Failed),
        ("If-Unmodified-Since: DATE", Whole),
        ("If-Unmodified-Since: AFTER", Whole),
        ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", Failed),
        ("if-unmodified-since:\t BEFORE \t", Failed),
        ("If-Unmodified-Since:", Whole),
        ("If-Unmodified-Since: 0", Whole),
        ("If-Unmodified-Since: TAG", Whole),
        ("If-Unmodified-Since: BEFORE, BEFORE", Whole),
        (
            "If-Unmodified-Since: BEFORE | If-Unmodified-Since: BEFORE",
            Whole,
        ),
        // Not where there are tags, whatever they come to.
        ("If-Match: TAG | If-Unmodified-Since: BEFORE", Whole),
        ("If-Match: \"other\" | If-Unmodified-Since: AFTER", Failed),
    ])
    .await;
}

#[tokio::test]
async fn section_13_1_5_if_range() {
    check(&[
        ("Range: bytes=2-4 | If-Range: TAG", Part(2, 4)),
        ("Range: bytes=2- | if-range:\t TAG \t", Part(2, 9)),
        ("Range: bytes=2-4 | If-Range: \"other\"", Whole),
        ("Range: bytes=2-4 | If-Range: W/TAG", Whole),
        ("Range: bytes=2-4 | If-Range: W/\"other\"", Whole),
        ("Range: bytes=2-4 | If-Range: TAG, \"other\"", Whole),
        ("Range: bytes=2-4 | If-Range: \"other\", TAG", Whole),
        ("Range: bytes=2-4 | If-Range: *", Whole),
        ("Range: bytes=2-4 | If-Range:", Whole),
        ("Range: bytes=2-4 | If-Range: tag", Whole),
        ("Range: bytes=2-4 | If-Range: TAG | If-Range: TAG", Whole),
        // A date is no strong validator here.
        ("Range: bytes=2-4 | If-Range: BEFORE", Whole),
        ("Range: bytes=2-4 | If-Range: DATE", Whole),
        ("Range: bytes=2-4 | If-Range: AFTER", Whole),
        // Without a range it says nothing.
        ("If-Range: TAG", Whole),
        ("If-Range: \"other\"", Whole),
        // What does not count cannot fail.
        ("Range: bytes=10- | If-Range: \"other\"", Whole),
        ("Range: bytes=10- | If-Range: TAG", Unsatisfiable),
    ])
    .await;
}

#[tokio::test]
async fn section_13_2_2_each_step_in_its_order() {
    check(&[
        // 1. If-Match, which leaves out step 2.
        ("If-Match: \"other\" | If-None-Match: TAG", Failed),
        ("If-Match: \"other\" | If-Modified-Since: AFTER", Failed),
        (
            "If-Match: \"other\" | Range: bytes=2-4 | If-Range: TAG",
            Failed,
        ),
        ("If-Match: \"other\" | Range: bytes=10-", Failed),
        ("If-Match: TAG | If-Unmodified-Since: BEFORE", Whole),
        ("If-Match: TAG | If-None-Match: TAG", NotModified),
        ("If-Match: TAG | If-None-Match: \"other\"", Whole),
        ("If-Match: TAG | If-Modified-Since: AFTER", NotModified),
        ("If-Match: TAG | Range: bytes=2-4", Part(2, 4)),
        ("If-Match: TAG | Range: bytes=10-", Unsatisfiable),
        // 2. If-Unmodified-Since.
        ("If-Unmodified-Since: BEFORE | If-None-Match: TAG", Failed),
        (
            "If-Unmodified-Since: BEFORE | If-Modified-Since: AFTER",
            Failed,
        ),
        ("If-Unmodified-Since: BEFORE | Range: bytes=2-4", Failed),
        (
            "If-Unmodified-Since: AFTER | If-None-Match: TAG",
            NotModified,
        ),
        (
            "If-Unmodified-Since: AFTER | If-Modified-Since: AFTER",
            NotModified,
        ),
        ("If-Unmodified-Since: AFTER | Range: bytes=2-4", Part(2, 4)),
        // 3. If-None-Match, which leaves out step 4.
        (
            "If-None-Match: TAG | If-Modified-Since: BEFORE",
            NotModified,
        ),
        (
            "If-None-Match: TAG | Range: bytes=2-4 | If-Range: TAG",
            NotModified,
        ),
        ("If-None-Match: TAG | Range: bytes=10-", NotModified),
        ("If-None-Match: \"other\" | If-Modified-Since: AFTER", Whole),
        ("If-None-Match: \"other\" | Range: bytes=2-4", Part(2, 4)),
        (
            "If-None-Match: \"other\" | Range: bytes=2-4 | If-Range: \"other\"",
            Whole,
        ),
        // 4. If-Modified-Since.
        (
            "If-Modified-Since: DATE | Range: bytes=2-4 | If-Range: TAG",
            NotModified,
        ),
        ("If-Modified-Since: DATE | Range: bytes=10-", NotModified),
        ("If-Modified-Since: BEFORE | Range: bytes=2-4", Part(2, 4)),
        (
            "If-Modified-Since: BEFORE | Range: bytes=10-",
            Unsatisfiable,
        ),
        // 5. If-Range.
        ("Range: bytes=2-4 | If-Range: TAG", Part(2, 4)),
        ("Range: bytes=2-4 | If-Range: \"other\"", Whole),
        // 6. All of them at once.
        (
            "If-Match: TAG | If-Unmodified-Since: BEFORE | If-None-Match: \"other\" | \
             If-Modified-Since: AFTER | Range: bytes=2-4 | If-Range: TAG",
            Part(2, 4),
        ),
    ])
    .await;
}

#[tokio::test]
async fn section_14_1_2_byte_ranges() {
    check(&[
        // int-range
        ("Range: bytes=0-0", Part(0, 0)),
        ("Range: bytes=2-4", Part(2, 4)),
        ("Range: bytes=9-9", Part(9, 9)),
        ("Range: bytes=0-9", Part(0, 9)),
        ("Range: bytes=00002-04", Part(2, 4)),
        // A last position behind the end stands for the end.
        ("Range: bytes=0-10", Part(0, 9)),
        ("Range: bytes=8-99999999999999999999999999", Part(8, 9)),
        ("Range: bytes=0-18446744073709551615", Part(0, 9)),
        // Without a last position: up to the end.
        ("Range: bytes=0-", Part(0, 9)),
        ("Range: bytes=9-", Part(9, 9)),
        // suffix-range
        ("Range: bytes=-1", Part(9, 9)),
        ("Range: bytes=-10", Part(0, 9)),
        ("Range: bytes=-11", Part(0, 9)),
        ("Range: bytes=-99999999999999999999999999", Part(0, 9)),
        // Nothing that could be sent.
        ("Range: bytes=10-", Unsatisfiable),
        ("Range: bytes=10-12", Unsatisfiable),
        ("Range: bytes=18446744073709551615-", Unsatisfiable),
        ("Range: bytes=99999999999999999999999999-", Unsatisfiable),
        ("Range: bytes=-0", Unsatisfiable),
        ("Range: bytes=-000", Unsatisfiable),
        // Not valid, and so as if it were not there.
        ("Range: bytes=4-2", Whole),
        ("Range: bytes=12-11", Whole),
        ("Range: bytes=-", Whole),
        ("Range: bytes=", Whole),
        ("Range: bytes", Whole),
        ("Range:", Whole),
        ("Range: =0-1", Whole),
        ("Range: 0-1", Whole),
        ("Range: bytes=0", Whole),
        ("Range: bytes=a-b", Whole),
        ("Range: bytes=0x0-1", Whole),
        ("Range: bytes=+0-1", Whole),
        ("Range: bytes=--1", Whole),
        ("Range: bytes=0--1", Whole),
        ("Range: bytes=0-1-2", Whole),
        ("Range: bytes=0 -1", Whole),
        ("Range: bytes=0- 1", Whole),
        ("Range: bytes =0-1", Whole),
        ("Range: bytes:0-1", Whole),
        ("Range: bytes=0.0-1", Whole),
        ("Range: bytes=0-1;bytes=2-3", Whole),
        ("Range: bytes=0-1/10", Whole),
        ("Range: bytes=\"0-1\"", Whole),
    ])
    .await;
}

#[tokio::test]
async fn section_14_2_the_range_header() {
    check(&[
        ("Range: BYTES=2-4", Part(2, 4)),
        ("RANGE: bytes=2-4", Part(2, 4)),
        ("Range:bytes=2-4", Part(2, 4)),
        ("Range: \t bytes=2-4 \t ", Part(2, 4)),
        ("Range: bytes=2-4,", Part(2, 4)),
        ("Range: bytes=,2-4", Part(2, 4)),
        ("Range: bytes= 2-4 , ,", Part(2, 4)),
        // A unit that is not known.
        ("Range: items=0-1", Whole),
        ("Range: byte=0-1", Whole),
        ("Range: seconds=10-", Whole),
        ("Range: none", Whole),
        // Several, which are answered with everything.
        ("Range: bytes=0-0,-1", Whole),
        ("Range: bytes=0-0, 2-2, 4-4", Whole),
        ("Range: bytes=0-5,2-7", Whole),
        ("Range: bytes=10-,11-", Whole),
        ("Range: bytes=0-1,x", Whole),
        ("Range: bytes=0-1 | Range: bytes=2-3", Whole),
    ])
    .await;
}

#[tokio::test]
async fn section_14_4_content_range() {
    check(&[
        ("Range: bytes=2-4", Part(2, 4)),
        ("Range: bytes=10-", Unsatisfiable),
        // It says nothing in a request that reads.
        ("Content-Range: bytes 2-4/10", Whole),
        ("Content-Range: bytes */10 | Range: bytes=2-4", Part(2, 4)),
    ])
    .await;
}

#[tokio::test]
async fn section_15_3_7_a_part_can_be_joined_with_others() {
    check(&[
        ("Range: bytes=0-4", Part(0, 4)),
        ("Range: bytes=5-9 | If-Range: TAG", Part(5, 9)),
        (
            "Range: bytes=5- | If-Range: TAG | If-Match: TAG",
            Part(5, 9),
        ),
        ("Range: bytes=-5 | If-Match: TAG", Part(5, 9)),
        // All of it was asked for as a part, and so is one.
        ("Range: bytes=0-", Part(0, 9)),
    ])
    .await;
}

#[tokio::test]
async fn section_15_5_13_a_precondition_that_failed() {
    check(&[
        ("If-Match: \"other\"", Failed),
        ("If-Unmodified-Since: BEFORE", Failed),
        ("If-Match: W/TAG | Range: bytes=2-4", Failed),
    ])
    .await;
}

#[tokio::test]
async fn section_15_5_17_a_range_that_cannot_be_satisfied() {
    check(&[
        ("Range: bytes=10-", Unsatisfiable),
        ("Range: bytes=-0", Unsatisfiable),
        ("Range: bytes=10- | If-Range: TAG", Unsatisfiable),
        ("Range: bytes=10- | If-Range: \"other\"", Whole),
        ("Range: bytes=10- | If-None-Match: TAG", NotModified),
        ("Range: bytes=10- | If-Match: \"other\"", Failed),
    ])
    .await;
}

#[tokio::test]
async fn section_5_6_7_dates_in_three_forms() {
    check(&[
        (
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
            NotModified,
        ),
        (
            "If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT",
            NotModified,
        ),
        ("If-Modified-Since: Tue Nov 14 22:13:20 2023", NotModified),
        ("If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT", Whole),
        ("If-Modified-Since: Tuesday, 14-Nov-23 22:13:19 GMT", Whole),
        ("If-Modified-Since: Tue Nov 14 22:13:19 2023", Whole),
        ("If-Unmodified-Since: Tue Nov  7 22:13:20 2023", Failed),
        // Of two digits, the year that is at most 50 years ahead, and else one of the past.
        ("If-Modified-Since: Tuesday, 01-Jan-74 00:00:00 GMT", Whole),
        (
            "If-Modified-Since: Monday, 01-Jan-74 00:00:00 GMT",
            NotModified,
        ),
        ("If-Modified-Since: Friday, 31-Dec-99 23:59:59 GMT", Whole),
        (
            "If-Unmodified-Since: Friday, 31-Dec-99 23:59:59 GMT",
            Failed,
        ),
    ])
    .await;
}

#[tokio::test]
async fn section_13_2_1_what_fails_anyway_has_no_preconditions() {
    let server = Server::start();
    for condition in [
        "If-Match: \"other\"\r\n",
        "If-None-Match: *\r\n",
        "Range: bytes=99-\r\n",
    ] {
        server.get("/nowhere", condition).await.expect_problem(404);
        server
            .get("/revisions/x/code.json", condition)
            .await
            .expect_problem(404);
        server
            .ask("POST", "/code.list", condition)
            .await
            .expect_problem(405);
        server.get("/livez", condition).await.expect(200, &[]);
    }
    let empty = Server::empty(LIMITS);
    for condition in [
        "If-Match: *\r\n",
        "If-None-Match: *\r\n",
        "Range: bytes=99-\r\n",
    ] {
        let headers = format!("{condition}Prefer: wait=0\r\n");
        empty.get("/code.list", &headers).await.expect_problem(503);
    }
}

#[tokio::test]
async fn section_15_5_17_of_nothing_there_is_no_part() {
    let server = Server::of(b"", LIMITS);
    for (range, status) in [("0-", 416), ("0-0", 416), ("-0", 416), ("-1", 200)] {
        let reply = server
            .get("/code.tar.gz", &format!("Range: bytes={range}\r\n"))
            .await;
        reply.expect(status, &[]);
        let content_range = (status == 416).then_some("bytes */0");
        assert_eq!(reply.header("content-range"), content_range);
    }
}
