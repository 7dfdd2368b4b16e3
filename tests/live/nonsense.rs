//! Clients that talk nonsense, many of them, and what they leave behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::server::{PATIENCE, Server, Setup};

/// How many requests, and by how many clients at a time.
const REQUESTS: usize = 100_000;
const CLIENTS: usize = 4;
/// What a server may hold after them that it did not hold before, in KiB: less than 3 bytes a request.
const GROWTH: u64 = 256;

const REQUESTS_OF_ALL_KINDS: [&[u8]; 8] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /code.tar.gz HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
];

fn talk_nonsense(address: SocketAddr, requests: usize) {
    for at in 0..requests {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = REQUESTS_OF_ALL_KINDS[at % REQUESTS_OF_ALL_KINDS.len()];
        stream.write_all(request).unwrap();
        let mut answer = [0; 16];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 400"), "{request:?}");
    }
}

fn talk_nonsense_together(server: &Server, requests: usize) {
    let address = server.address;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || talk_nonsense(address, requests / CLIENTS));
        }
    });
}

/// What a process holds that is its own, in KiB.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[test]
fn malformed_requests_leave_memory_where_it_was() {
    let setup = Setup::new(&["--rescan", "0", "--settle", "10ms"]);
    setup.write("file", "content");
    let server = setup.serve();
    talk_nonsense_together(&server, REQUESTS / 20);
    let before = memory(&server);
    talk_nonsense_together(&server, REQUESTS);
    let after = memory(&server);
    assert!(
        after <= before + GROWTH,
        "{before} KiB before, {after} KiB after"
    );
    assert_eq!(server.get("/code.tar.gz").status, 200);
}
