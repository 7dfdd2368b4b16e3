//! Web servers that others wrote: nginx, busybox httpd, and Python's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::place::{Place, noise};
use crate::tools;

/// A server in a group of its own, which ends with this.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    /// Starts a line of shell on a port that was free a moment ago; where somebody else was faster, on another one.
    fn start(place: &Place, script: &str) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let child = Command::new("sh")
                .args(["-euc", script])
                .env("PORT", port.to_string())
                .env("HERE", place.path(""))
                .env("SRC", place.path("source"))
                .env("DIR", place.path("site"))
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(place.path("server.log")).unwrap())
                .spawn()
                .unwrap();
            let mut running = Self { child, port };
            if running.listens() {
                return running;
            }
        }
        panic!(
            "{script}: {}",
            fs::read_to_string(place.path("server.log")).unwrap()
        );
    }

    fn listens(&mut self) -> bool {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it never listens"
            );
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            pause();
        }
        true
    }

    fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails where all of them have ended by themselves.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// Between two looks at what no event tells of.
#[expect(clippy::disallowed_methods, reason = "a test's thread may wait")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn fetched_from(programs: &[&str], script: &str) {
    if !tools::installed(programs) {
        return;
    }
    let place = Place::new();
    let archive = place.tar_gz();
    fs::write(place.path("site/code.tar.gz"), &archive).unwrap();
    let server = Running::start(&place, script);
    place
        .succeeds(&server.url("code.tar.gz"), &archive, &[])
        .await;
    let other = Place::new();
    let log = other
        .fails(&server.url("other.tar.gz"), &["--allow-unverified"], 69)
        .await;
    assert!(log.contains("404 Not Found"), "{log}");
}

#[tokio::test]
async fn nginx_will_do() {
    fetched_from(
        &["nginx"],
        r#"cat > "$HERE/nginx.conf" << END
daemon off;
master_process off;
pid $HERE/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $HERE/nginx.bodies;
  proxy_temp_path $HERE/nginx.parts;
  fastcgi_temp_path $HERE/nginx.fastcgi;
  uwsgi_temp_path $HERE/nginx.uwsgi;
  scgi_temp_path $HERE/nginx.scgi;
  server {
    listen 127.0.0.1:$PORT;
    root $DIR;
  }
}
END
exec nginx -e stderr -p "$HERE" -c nginx.conf"#,
    )
    .await;
}

#[tokio::test]
async fn the_server_of_busybox_will_do() {
    fetched_from(
        &["busybox"],
        r#"exec busybox httpd -f -p 127.0.0.1:$PORT -h "$DIR""#,
    )
    .await;
}

#[tokio::test]
async fn the_server_of_python_will_do() {
    fetched_from(
        &["python3"],
        r#"exec python3 -m http.server --bind 127.0.0.1 --directory "$DIR" $PORT"#,
    )
    .await;
}

#[tokio::test]
async fn what_a_line_of_shell_packs_and_serves_is_fetched() {
    if !tools::installed(&["tar", "busybox"]) {
        return;
    }
    let place = Place::new();
    let server = Running::start(
        &place,
        "tar czf $DIR/code.tar.gz -C $SRC --exclude='.jac' . && busybox httpd -f -p $PORT -h $DIR",
    );
    let archive = fs::read(place.path("site/code.tar.gz")).unwrap();
    place
        .succeeds(&server.url("code.tar.gz"), &archive, &[])
        .await;
}

/// Passes requests on to a server, and the answers back. Of the first answer it keeps the rest, from a byte on, and calls a
/// function before the next request. It ends with the test's process.
fn cutting(to: u16, from: usize, then: impl Fn() + Send + 'static) -> (u16, Arc<Mutex<Vec<bool>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ranges: Arc<Mutex<Vec<bool>>> = Arc::default();
    let asked = Arc::clone(&ranges);
    std::thread::spawn(move || {
        for (index, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let text = String::from_utf8_lossy(&head).to_lowercase();
            asked.lock().unwrap().push(text.contains("\r\nrange: "));
            let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            server.write_all(&head).unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            if index == 0 {
                answer.truncate(from);
                then();
            }
            // A client that goes away is none of a proxy's business.
            drop(client.write_all(&answer));
        }
    });
    (port, ranges)
}

#[tokio::test]
async fn two_archives_that_a_server_cannot_tell_apart_are_never_one() {
    if !tools::installed(&["busybox"]) {
        return;
    }
    let place = Place::new();
    let file = place.path("site/code.tar");
    let first = place.tar();
    place.write("app/noise", &noise(2, 700_000));
    let second = place.tar();
    assert_eq!(first.len(), second.len());
    fs::write(&file, first).unwrap();
    let server = Running::start(
        &place,
        r#"exec busybox httpd -f -p 127.0.0.1:$PORT -h "$DIR""#,
    );
    // As a copy does that keeps the times: length and time are those of the other one.
    let swap = {
        let (file, second) = (file.clone(), second.clone());
        move || {
            let time = fs::metadata(&file).unwrap().modified().unwrap();
            fs::write(&file, &second).unwrap();
            File::open(&file).unwrap().set_modified(time).unwrap();
        }
    };
    let (port, ranges) = cutting(server.port, 300_000, swap);
    let url = format!("http://127.0.0.1:{port}/code.tar");
    place.succeeds(&url, &second, &[]).await;
    // An older busybox gives no tags, and is not asked for a part.
    let ranges = ranges.lock().unwrap().clone();
    assert!(
        [&[false, true, false][..], &[false, false]].contains(&&*ranges),
        "{ranges:?}"
    );
}
