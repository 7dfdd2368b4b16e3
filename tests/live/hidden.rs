//! What is never told: no file but the code's archive, no directory, and no place where any of it lies.

use std::fs;

use crate::ingesting::{archive, open_to_uploads};
use crate::server::{Files, Reply, Server, Setup};

/// Stands in files that are not served.
const SECRET: &str = "do-not-tell";

/// A server with something to hide.
fn start() -> (Setup, Server) {
    let setup = open_to_uploads(&[]);
    setup.write("main.py", "print(1)");
    setup.write("pkg/data.txt", "data");
    setup.write(".env", SECRET);
    fs::write(setup.parent().join("beside"), SECRET).unwrap();
    let server = setup.serve();
    (setup, server)
}

/// Fails if an answer names a place of the server, or holds what is in none of its resources.
#[track_caller]
fn tells_nothing(setup: &Setup, asked: &str, reply: &Reply) {
    let body = String::from_utf8_lossy(&reply.body);
    let head = format!("{:?}", reply.headers);
    let places = [
        setup.parent().to_str().unwrap(),
        SECRET,
        "root:x:",
        "scan-cache",
        "print(1)",
    ];
    for place in places {
        assert!(!body.contains(place), "{asked}: {body}");
        assert!(!head.contains(place), "{asked}: {head}");
    }
}

fn asked(server: &Server, method: &str, target: &str, headers: &str) -> Reply {
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
    let reply = server.try_ask(request.as_bytes());
    reply.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

#[test]
fn no_target_leads_out_of_what_is_served() {
    let (setup, server) = start();
    let root = setup.root.to_str().unwrap();
    for target in [
        "/",
        "//",
        "/.",
        "/..",
        "/../etc/passwd",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e%2fbeside",
        "/..%5cbeside",
        "/code.tar.gz/..",
        "/code.tar.gz/../beside",
        "/code.tar.gz/",
        "/code.json%00",
        "/%00",
        "//code.json",
        "/./code.json",
        "/code%2ejson/",
        "//etc/passwd",
        "/main.py",
        "/pkg",
        "/pkg/",
        "/.env",
        "/.code-revision",
        "/server",
        "/artifacts",
        "/state/current",
        "/revisions/",
        "/revisions/../server",
        "/revisions/..%2fserver/code.json",
        "/revisions/%2e%2e/code.json",
        "/revisions/sha256:../code.json",
        "/revisions/%00/code.json",
        "/revisions//code.json",
        "http://test/../etc/passwd",
        "http://test//etc/passwd",
        "http://elsewhere/.env",
        root,
    ] {
        let reply = asked(&server, "GET", target, "");
        tells_nothing(&setup, target, &reply);
        // The site's own page may be at its root, and nowhere else.
        let is_page = matches!(target, "/") && reply.status == 200;
        assert!(is_page || reply.status == 404, "{target}: {}", reply.status);
    }
    for target in ["/\0", "/code.json\0", "\0", "code.json", "../etc/passwd"] {
        let reply = asked(&server, "GET", target, "");
        tells_nothing(&setup, target, &reply);
        assert!(matches!(reply.status, 400 | 404), "{target:?}");
    }
    assert_eq!(
        asked(&server, "GET", "http://test/code.json", "").status,
        200
    );
}

#[test]
fn no_problem_names_a_place_of_the_server() {
    let (setup, server) = start();
    let unknown = format!("/revisions/sha256:{}/code.json", "0".repeat(64));
    let targets = [
        "/code.tar.gz",
        "/code.json",
        "/code.list",
        "/revisions",
        "/revisions/x/code.list",
        &unknown,
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/nowhere",
    ];
    let headers = [
        "",
        "Host: twice\r\n",
        "If-Match: \"x\"\r\n",
        "Range: bytes=99999999-\r\n",
        "Authorization: Bearer wrong\r\n",
        "If-None-Match: *\r\n",
    ];
    let mut problems = 0;
    for target in targets {
        for method in [
            "GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "X",
        ] {
            for header in headers {
                let reply = asked(&server, method, target, header);
                if reply.status >= 400 {
                    problems += 1;
                    tells_nothing(&setup, &format!("{method} {target} {header}"), &reply);
                }
            }
        }
    }
    assert!(problems > 300, "{problems}");
}

#[test]
fn no_upload_that_fails_is_told_where_things_lie() {
    let (setup, server) = start();
    let hostile = |name: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, &[][..]).unwrap();
        archive.into_inner().unwrap()
    };
    let nothing = archive(&Files::from([(".env".to_owned(), b"x".to_vec())]));
    for (what, body) in [
        ("outside", hostile("../beside")),
        ("absolute", hostile("/etc/passwd")),
        ("nothing that is served", nothing.clone()),
        ("cut off", nothing[..nothing.len() / 2].to_vec()),
        ("no archive", b"hello".to_vec()),
        ("empty", Vec::new()),
    ] {
        let head = format!(
            "PUT /code.tar.gz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Authorization: Bearer s3cret\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = server.try_ask(&[head.as_bytes(), &body].concat()).unwrap();
        assert!(reply.status >= 400, "{what}: {}", reply.status);
        tells_nothing(&setup, what, &reply);
    }
    assert_eq!(
        fs::read(setup.parent().join("beside")).unwrap(),
        SECRET.as_bytes()
    );
}
