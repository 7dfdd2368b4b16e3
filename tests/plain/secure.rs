//! Redirects between servers of which some are secure.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::place::{Place, serving};
use crate::support::server::{Answer, Server};

/// A secure server for `localhost` that answers once, and tells then what it was asked.
struct Secure {
    port: u16,
    certificate: String,
    answering: JoinHandle<String>,
}

impl Secure {
    fn start(answer: Vec<u8>) -> Self {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(&answer).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        Self {
            port,
            certificate: made.cert.pem(),
            answering,
        }
    }

    /// Flags with which it is trusted, and a token is shown to whom it is for.
    fn flags(&self, place: &Place) -> [String; 4] {
        let (certificate, token) = (place.path("ca.pem"), place.path("token"));
        fs::write(&certificate, &self.certificate).unwrap();
        fs::write(&token, "t0ken").unwrap();
        let text = |path: std::path::PathBuf| path.into_os_string().into_string().unwrap();
        let flag = |flag: &str| flag.to_owned();
        [
            flag("--ca-cert"),
            text(certificate),
            flag("--token-file"),
            text(token),
        ]
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/code.tar.gz", self.port)
    }
}

#[tokio::test]
async fn a_redirect_to_a_secure_server_is_followed_if_that_one_is_trusted() {
    let place = Place::new();
    let archive = place.tar_gz();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    let secure = Secure::start([head.as_bytes(), &archive].concat());
    let there = secure.url();
    let front = Server::start(move |_, _| Answer::status(308).with("Location", &*there)).await;
    let flags = secure.flags(&place);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let url = format!("{}/code.tar.gz", front.url());
    place.succeeds(&url, &archive, &flags).await;
    let asked = secure.answering.join().unwrap();
    assert!(asked.contains(&format!("host: localhost:{}\r\n", secure.port)));
    assert!(!asked.contains("authorization"), "{asked}");
}

#[tokio::test]
async fn a_secure_server_is_not_left_for_one_that_is_not() {
    let place = Place::new();
    let open = serving(place.tar_gz()).await;
    let there = format!("{}/code.tar.gz?s3cret", open.url());
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
    let secure = Secure::start(answer.into_bytes());
    let flags = secure.flags(&place);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let flags = [&["--allow-unverified"], &flags[..]].concat();
    let log = place.fails(&secure.url(), &flags, 69).await;
    let expected = format!(
        "{} redirects to {}/code.tar.gz?…, and https:// is not left for http://",
        secure.url(),
        open.url()
    );
    assert!(log.contains(&expected), "{log}");
    assert!(open.requests().is_empty());
    let asked = secure.answering.join().unwrap();
    assert!(asked.contains("authorization: bearer t0ken"), "{asked}");
}
