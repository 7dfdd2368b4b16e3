//! HTTPS, asked for by clients that others wrote and by our own; certificates that change, and what is no TLS at all.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use code_server::digest::Digest;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::ingesting::archive;
use crate::server::{Files, PATIENCE, PROGRAM, Reply, Server, Setup, found, parse, wait_until};

const FETCH: &str = env!("CARGO_BIN_EXE_fetch-init");

/// A site with an authority of its own.
struct Site {
    setup: Setup,
    key: KeyPair,
}

impl Site {
    /// One whose server speaks TLS and, where that is told, more.
    fn new(flags: &[&str]) -> Self {
        let mut setup = Setup::new(flags);
        for (flag, name) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")] {
            let path = setup.parent().join(name);
            setup.flags.extend([flag.into(), path.into_os_string()]);
        }
        let site = Self {
            setup,
            key: KeyPair::generate().unwrap(),
        };
        let certificate = authority().self_signed(&site.key).unwrap();
        fs::write(site.path("ca.crt"), certificate.pem()).unwrap();
        site.put(&site.signed(&named()));
        site.setup.write("main.py", "print(1)");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.parent().join(name)
    }

    /// A certificate, and its key.
    fn signed(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority(), &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Lays a pair where the server has its own.
    fn put(&self, (certificate, key): &(String, String)) {
        fs::write(self.path("tls.crt"), certificate).unwrap();
        fs::write(self.path("tls.key"), key).unwrap();
    }

    fn serve(&self) -> Server {
        let server = self.setup.start();
        wait_until("the server is ready", || {
            self.get(&server, "/readyz").status == 200
        });
        server
    }

    /// A connection by our own library; fails where the certificate is not accepted.
    fn try_connect(&self, address: SocketAddr) -> std::io::Result<Tls> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.path("ca.crt")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        connection.complete_io(&mut stream)?;
        Ok(StreamOwned::new(connection, stream))
    }

    fn connect(&self, server: &Server) -> Tls {
        self.try_connect(server.address).unwrap()
    }

    fn get(&self, server: &Server, path: &str) -> Reply {
        let mut stream = self.connect(server);
        ask(&mut stream, path);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        parse(&answer).unwrap()
    }

    /// Runs curl, which trusts our authority; `None` where there is none.
    fn curl(&self, server: &Server, flags: &[&str], path: &str) -> Option<Output> {
        let url = format!("https://localhost:{}{path}", server.address.port());
        let authority = self.path("ca.crt");
        let authority = authority.to_str().unwrap();
        let resolve = format!("localhost:{}:127.0.0.1", server.address.port());
        let ours = ["-sS", "--cacert", authority, "--resolve", &resolve, &url];
        run("curl", &[&ours, flags].concat())
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn named() -> CertificateParams {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).unwrap();
    // Or it would be named like the authority, and seem to have signed itself.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// One that was over long ago.
fn expired() -> CertificateParams {
    let mut params = named();
    params.not_before = date_time_ymd(1999, 1, 1);
    params.not_after = date_time_ymd(2000, 1, 1);
    params
}

fn ask(stream: &mut impl Write, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// What another program says; `None` where it is not installed, which is a failure where all tests are required.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            let required = std::env::var_os("CODE_SERVER_TEST_REQUIRE").is_some();
            assert!(!required, "{program}: {error}");
            drop(writeln!(
                std::io::stderr(),
                "skipped: there is no {program}"
            ));
            None
        }
    }
}

/// One of our own programs, with nothing but this in its environment.
fn ours(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Several megabytes that nothing makes smaller.
fn large() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = Digest::of(b"large").hex();
    while bytes.len() < 12 << 20 {
        piece = Digest::of(piece.as_bytes()).hex();
        bytes.extend_from_slice(piece.as_bytes());
    }
    bytes
}

#[test]
fn curl_downloads_whole_archives_by_both_versions() {
    let site = Site::new(&[]);
    site.setup.write("large", large());
    let server = site.serve();
    let whole = site.get(&server, "/code.tar.gz");
    assert!(whole.body.len() > 5 << 20, "{}", whole.body.len());
    let tag = format!("\"{}\"", Digest::of(&whole.body).hex());
    assert_eq!(whole.headers["etag"], tag);
    for (least, most, spoken) in [
        ("--tlsv1.2", "1.2", "TLSv1.2"),
        ("--tlsv1.3", "1.3", "TLSv1.3"),
    ] {
        let flags = [least, "--tls-max", most, "-v", "--http1.1"];
        let Some(output) = site.curl(&server, &flags, "/code.tar.gz") else {
            return;
        };
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&format!("using {spoken}")), "{said}");
        assert!(said.contains("http/1.1"), "{said}");
        assert_eq!(Digest::of(&output.stdout), Digest::of(&whole.body));
    }
    let range = site
        .curl(&server, &["-r", "1000000-1999999"], "/code.tar.gz")
        .unwrap();
    assert_eq!(range.stdout, whole.body[1_000_000..2_000_000]);
}

#[test]
fn what_is_older_than_version_1_2_is_not_spoken() {
    let site = Site::new(&[]);
    let server = site.serve();
    let flags = [
        "--tlsv1.0",
        "--tls-max",
        "1.1",
        "--ciphers",
        "ALL:@SECLEVEL=0",
    ];
    if let Some(output) = site.curl(&server, &flags, "/livez") {
        assert_eq!(output.status.code(), Some(35), "{}", said(&output));
    }
}

#[test]
fn other_libraries_are_served_and_sessions_are_resumed() {
    let site = Site::new(&[]);
    let server = site.serve();
    let (address, authority) = (server.address.to_string(), site.path("ca.crt"));
    let authority = authority.to_str().unwrap();
    let connect = [
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        authority,
        "-verify_return_error",
        "-alpn",
        "http/1.1",
    ];
    if let Some(output) = run(
        "openssl",
        &[&connect[..], &["-tls1_2", "-reconnect"]].concat(),
    ) {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
        assert!(text.contains("Reused, TLSv1.2"), "{text}");
    }
    let program = format!(
        "import ssl, urllib.request as u\n\
         c = ssl.create_default_context(cafile='{authority}')\n\
         print(u.urlopen('https://{address}/livez', context=c).read().decode(), end='')"
    );
    if let Some(output) = run("python3", &["-c", &program]) {
        assert_eq!(output.stdout, b"ok\n", "{}", said(&output));
    }
}

#[test]
fn a_new_certificate_is_taken_and_running_downloads_go_on() {
    let site = Site::new(&[]);
    site.setup.write("large", large());
    let server = site.serve();
    let mut running = site.connect(&server);
    ask(&mut running, "/code.tar.gz");
    let mut answer = vec![0; 100_000];
    running.read_exact(&mut answer).unwrap();

    let new = site.signed(&named());
    let shown = |stream: &Tls| {
        let shown = stream.conn.peer_certificates().unwrap();
        shown[0].clone().into_owned()
    };
    let old = shown(&running);
    site.put(&new);
    wait_until("the new certificate is shown", || {
        shown(&site.connect(&server)) != old
    });
    let expected = CertificateDer::from_pem_slice(new.0.as_bytes()).unwrap();
    assert_eq!(shown(&site.connect(&server)), expected);
    server.wait_for_event("a new certificate is in use");

    running.read_to_end(&mut answer).unwrap();
    let reply = parse(&answer).unwrap();
    let tag = format!("\"{}\"", Digest::of(&reply.body).hex());
    assert_eq!(reply.headers["etag"], tag);
}

#[test]
fn a_pair_that_does_not_fit_never_takes_the_place_of_one_that_does() {
    let site = Site::new(&[]);
    let server = site.serve();
    let other = site.signed(&named());
    fs::write(site.path("tls.crt"), &other.0).unwrap();
    wait_until("the server has seen it", || {
        site.get(&server, "/livez").status == 200
            && server
                .event("the certificate of before stays in use")
                .is_some()
    });
    let event = server.wait_for_event("the certificate of before stays in use");
    let error = event["error"].as_str().unwrap();
    assert!(
        error.contains("is not the key of the certificate in"),
        "{error}"
    );
    fs::write(site.path("tls.key"), &other.1).unwrap();
    wait_until("the whole pair is taken", || {
        site.get(&server, "/livez").status == 200
            && server.event("a new certificate is in use").is_some()
    });
}

#[test]
fn a_server_does_not_start_with_what_cannot_be_used() {
    let site = Site::new(&[]);
    let path = |name: &str| site.path(name).to_str().unwrap().to_owned();
    let root = site.setup.root.to_str().unwrap();
    let (ca, certificate, key) = (path("ca.crt"), path("tls.crt"), path("tls.key"));
    let start = |certificate: &str, key: &str| {
        let listen = ["--listen", "127.0.0.1:0", "--state-dir", &path("state")];
        let pair = ["--tls-cert", certificate, "--tls-key", key];
        ours(
            PROGRAM,
            &[&["serve", root][..], &listen, &pair].concat(),
            &[],
        )
    };
    for (certificate, key, reason) in [
        (
            &*ca,
            &*key,
            format!("{key} is not the key of the certificate in {ca}"),
        ),
        (&certificate, &ca, format!("{ca} holds no private key")),
        (&key, &key, format!("{key} holds no certificate")),
        (&certificate, "/no/such", "/no/such: No such file".into()),
    ] {
        let output = start(certificate, key);
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains(&reason), "{}", said(&output));
    }
    let output = ours(PROGRAM, &["serve", root, "--tls-cert", &certificate], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("--tls-key"), "{}", said(&output));
}

#[test]
fn who_asks_by_plain_http_is_told_so() {
    let site = Site::new(&[]);
    let server = site.serve();
    let reply = server.get("/code.tar.gz");
    assert_eq!(reply.status, 400);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("this port speaks HTTPS"), "{text}");
    assert_eq!(reply.headers["connection"], "close");
    // What is neither gets no answer that could be taken for one.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"\x00\x01\x02\x03\x04\x05\x06").unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn a_handshake_that_stalls_costs_its_own_connection() {
    let site = Site::new(&["--header-timeout", "1s"]);
    let server = site.serve();
    for beginning in [&b"\x16\x03\x01"[..], b"", b"GET"] {
        let began = Instant::now();
        let mut stalled = TcpStream::connect(server.address).unwrap();
        stalled.set_read_timeout(Some(PATIENCE)).unwrap();
        stalled.write_all(beginning).unwrap();
        assert_eq!(site.get(&server, "/livez").status, 200);
        let mut answer = Vec::new();
        // It ends, be it in order or not.
        if let Err(error) = stalled.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert!(began.elapsed() < PATIENCE / 4);
    }
    server.wait_for_event("TLS handshake took too long");
}

#[test]
fn a_drain_lets_a_download_end_and_waits_for_no_handshake() {
    let site = Site::new(&["--header-timeout", "10m", "--drain-timeout", "10m"]);
    site.setup.write("large", large());
    let server = site.serve();
    let mut running = site.connect(&server);
    ask(&mut running, "/code.tar.gz");
    let mut answer = vec![0; 1000];
    running.read_exact(&mut answer).unwrap();
    let mut stalled = TcpStream::connect(server.address).unwrap();
    stalled.set_read_timeout(Some(PATIENCE)).unwrap();
    stalled.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(site.get(&server, "/livez").status, 200);

    server.signal(rustix::process::Signal::TERM);
    drop(stalled.read_to_end(&mut Vec::new()));
    assert!(site.try_connect(server.address).is_err());
    running.read_to_end(&mut answer).unwrap();
    let reply = parse(&answer).unwrap();
    let tag = format!("\"{}\"", Digest::of(&reply.body).hex());
    assert_eq!(reply.headers["etag"], tag);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn an_expired_certificate_is_served_and_accepted_by_nobody_else() {
    let site = Site::new(&[]);
    site.put(&site.signed(&expired()));
    let server = site.setup.start();
    assert!(site.try_connect(server.address).is_err());
    if let Some(output) = site.curl(&server, &[], "/livez") {
        assert_eq!(output.status.code(), Some(60), "{}", said(&output));
    }
    let url = format!("https://{}", server.address);
    let (target, authority) = (site.path("target"), site.path("ca.crt"));
    let arguments = [
        &url,
        target.to_str().unwrap(),
        "--ca-cert",
        authority.to_str().unwrap(),
    ];
    let began = Instant::now();
    let output = ours(FETCH, &arguments, &[]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    let reason = "the certificate of 127.0.0.1 is not accepted: it has expired";
    assert!(said(&output).contains(reason), "{}", said(&output));
    assert!(began.elapsed() < PATIENCE / 2, "it is no use to try again");
}

#[test]
fn a_healthcheck_finds_the_server_of_its_environment() {
    let site = Site::new(&["--metrics-listen", "127.0.0.1:0"]);
    let server = site.setup.start();
    let probes = server.wait_for_event("listening for probes and metrics");
    let probes = probes["address"].as_str().unwrap();
    let listen = server.address.to_string();
    let certificate = site.path("tls.crt");
    let environment = [
        ("CODE_SERVER_LISTEN", &*listen),
        ("CODE_SERVER_TLS_CERT", certificate.to_str().unwrap()),
        ("CODE_SERVER_METRICS_LISTEN", probes),
    ];
    wait_until("the server is found, and ready", || {
        let output = ours(PROGRAM, &["healthcheck"], &environment);
        output.status.success()
    });
    // Where the code is, nobody answers probes then.
    let output = ours(PROGRAM, &["healthcheck"], &environment[..2]);
    assert!(said(&output).contains("404"), "{}", said(&output));
    assert_eq!(site.get(&server, "/metrics").status, 404);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_healthcheck_trusts_the_servers_own_certificate_alone() {
    let site = Site::new(&[]);
    let server = site.serve();
    let listen = server.address.to_string();
    let check = |arguments: &[&str], certificate: &str| {
        let certificate = site.path(certificate);
        let environment = [
            ("CODE_SERVER_LISTEN", &*listen),
            ("CODE_SERVER_TLS_CERT", certificate.to_str().unwrap()),
        ];
        ours(
            PROGRAM,
            &[&["healthcheck"], arguments].concat(),
            &environment,
        )
    };
    let output = check(&[], "tls.crt");
    assert!(output.status.success(), "{}", said(&output));
    let output = check(&[], "ca.crt");
    assert_eq!(output.status.code(), Some(69));
    assert!(
        said(&output).contains("certificate of 127.0.0.1"),
        "{}",
        said(&output)
    );
    let url = format!("https://{listen}/readyz");
    let authority = site.path("ca.crt");
    let output = check(&[&url, "--ca-cert", authority.to_str().unwrap()], "ca.crt");
    assert!(output.status.success(), "{}", said(&output));
    let output = check(&[&url, "--ca-cert", "/no/such"], "ca.crt");
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("--ca-cert"), "{}", said(&output));
}

#[test]
fn our_own_programs_ask_by_tls_and_with_the_token() {
    let mut site = Site::new(&[]);
    let token = site.path("token");
    fs::write(&token, "s3cret\n").unwrap();
    let token = token.to_str().unwrap().to_owned();
    let flags = ["--read-token-file".into(), token.clone().into()];
    site.setup.flags.extend(flags);
    let server = site.serve();
    assert_eq!(site.get(&server, "/code.json").status, 401);

    let (target, authority) = (site.path("target"), site.path("ca.crt"));
    let (target, authority) = (target.to_str().unwrap(), authority.to_str().unwrap());
    let url = format!("https://{}", server.address);
    let told = [&*url, target, "--ca-cert", authority];
    let output = ours(FETCH, &[&told[..], &["--token-file", &token]].concat(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    let mut fetched = found(target.as_ref());
    fetched.retain(|name, _| !name.starts_with(".code-"));
    assert_eq!(fetched, found(&site.setup.root));
    let output = ours(FETCH, &told, &[]);
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));

    let new = Files::from([("main.py".to_owned(), b"print(2)".to_vec())]);
    let state = site.setup.state.to_str().unwrap();
    let root = site.setup.root.to_str().unwrap();
    let upload = site.path("upload");
    fs::write(&upload, archive(&new)).unwrap();
    let output = Command::new(PROGRAM)
        .args(["ingest", root, "--state-dir", state])
        .stdin(fs::File::open(&upload).unwrap())
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(said(&output), "served\n");
}
