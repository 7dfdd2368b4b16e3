//! nginx in front, as a cache that fetches and keeps an archive in slices.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::wait_until;
use crate::site::{Ended, Site};

/// A proxy that listens on a socket beside the files of the clients. It has four ways:
///
/// - `/passed/`: nothing is kept, and all is as nginx has it by itself, which is to ask by HTTP/1.0;
/// - `/kept/`: what came once is given out again for an hour;
/// - `/asked/`: after a second it is asked for again, with its tag;
/// - `/obeyed/`: it is kept as the server says.
const CONFIGURATION: &str = "
daemon off;
user root;
worker_processes 1;
pid @/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path @/nginx.bodies;
  proxy_temp_path @/nginx.parts;
  fastcgi_temp_path @/nginx.fastcgi;
  uwsgi_temp_path @/nginx.uwsgi;
  scgi_temp_path @/nginx.scgi;
  proxy_cache_path @/nginx.cache keys_zone=code:1m;
  server {
    listen unix:@/nginx.sock;
    location /passed/ {
      proxy_pass URL/;
    }
    location / {
      slice 1m;
      proxy_set_header Range $slice_range;
      proxy_set_header Connection '';
      proxy_http_version 1.1;
      proxy_cache code;
      proxy_cache_key $uri$slice_range;
      add_header X-Cache $upstream_cache_status;
      location /kept/ {
        proxy_pass URL/;
        proxy_ignore_headers Cache-Control;
        proxy_cache_valid 200 206 1h;
      }
      location /asked/ {
        proxy_pass URL/;
        proxy_ignore_headers Cache-Control;
        proxy_cache_valid 200 206 1s;
        proxy_cache_revalidate on;
      }
      location /obeyed/ {
        proxy_pass URL/;
      }
    }
  }
}
";

struct Proxy {
    site: Site,
    nginx: Child,
}

impl Proxy {
    fn new() -> Option<Self> {
        let site = Site::for_clients(&["nginx", "curl"])?;
        let here = site.path("");
        let configuration = CONFIGURATION
            .replace("@/", here.to_str().unwrap())
            .replace("URL", &site.url());
        fs::write(site.path("nginx.conf"), configuration).unwrap();
        let nginx = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(&here)
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(site.path("nginx.log")).unwrap())
            .spawn()
            .unwrap();
        let mut proxy = Self { site, nginx };
        wait_until("nginx listens", || {
            assert_eq!(proxy.nginx.try_wait().unwrap(), None, "{}", proxy.log());
            UnixStream::connect(proxy.site.path("nginx.sock")).is_ok()
        });
        Some(proxy)
    }

    /// Asks for the archive by one of the ways; what comes is in the file `got`, and told is the status and whether it
    /// came from the cache.
    fn ask(&self, way: &str, flags: &str) -> Ended {
        self.site.run(&format!(
            "curl -sS --unix-socket nginx.sock {flags} -D head -o got -w '%{{http_code}}' http://nginx/{way}/code.tar.gz
            sed -n 's/^X-Cache: \\(.*\\)\\r/ \\1/p' head"
        ))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("nginx.log")).unwrap()
    }
}

impl Drop for Proxy {
    /// Killed, it would leave its worker behind.
    fn drop(&mut self) {
        if kill_process(Pid::from_child(&self.nginx), Signal::TERM).is_ok() {
            drop(self.nginx.wait());
        }
    }
}

#[test]
fn a_download_through_slices_is_the_archive() {
    let Some(proxy) = Proxy::new() else { return };
    assert_eq!(proxy.ask("kept", "").succeeds(), "200 MISS");
    proxy.site.assert_whole("got");
}

#[test]
fn a_range_across_slices_is_that_part() {
    let Some(proxy) = Proxy::new() else { return };
    let said = proxy.ask("kept", "-r 1000000-3000000");
    assert_eq!(said.succeeds(), "206 MISS");
    proxy.site.assert_part("got", 1_000_000..=3_000_000);
    proxy.ask("kept", "-r -10").succeeds();
    let length = proxy.site.archive().len();
    proxy.site.assert_part("got", length - 10..);
}

#[test]
fn what_the_cache_keeps_is_the_archive_even_if_nobody_can_be_asked() {
    let Some(mut proxy) = Proxy::new() else {
        return;
    };
    assert_eq!(proxy.ask("kept", "").succeeds(), "200 MISS");
    proxy.site.end_server();
    assert_eq!(proxy.ask("kept", "").succeeds(), "200 HIT");
    proxy.site.assert_whole("got");
    assert_eq!(
        proxy.ask("kept", "-r 1000000-3000000").succeeds(),
        "206 HIT"
    );
    proxy.site.assert_part("got", 1_000_000..=3_000_000);
}

#[test]
fn a_slice_from_before_a_change_and_one_from_after_it_are_never_a_download() {
    let Some(mut proxy) = Proxy::new() else {
        return;
    };
    assert_eq!(proxy.ask("kept", "-r 0-99").succeeds(), "206 MISS");
    let before = proxy.site.archive().to_vec();
    proxy.site.change();
    // 18: the answer ended before its length.
    let broken = proxy.ask("kept", "").ends_with(18);
    let got = fs::read(proxy.site.path("got")).unwrap();
    assert!(before.starts_with(&got), "{broken:?}");
    assert!(proxy.log().contains("etag mismatch"), "{}", proxy.log());
}

#[test]
fn what_has_not_changed_is_given_out_again_once_the_server_has_said_so() {
    let Some(proxy) = Proxy::new() else { return };
    assert_eq!(proxy.ask("asked", "").succeeds(), "200 MISS");
    wait_until("the cache asks again", || {
        let said = proxy.ask("asked", "").succeeds();
        proxy.site.assert_whole("got");
        said == "200 REVALIDATED"
    });
}

#[test]
fn what_has_changed_replaces_what_the_cache_kept() {
    let Some(mut proxy) = Proxy::new() else {
        return;
    };
    proxy.ask("asked", "").succeeds();
    proxy.site.change();
    wait_until("the cache asks again", || {
        // Until all of its slices are new, an answer may break off.
        let ended = proxy.ask("asked", "");
        ended.status == Some(0) && fs::read(proxy.site.path("got")).unwrap() == proxy.site.archive()
    });
}

#[test]
fn a_cache_that_does_as_the_server_says_never_gives_out_what_is_old() {
    let Some(mut proxy) = Proxy::new() else {
        return;
    };
    for _ in 0..2 {
        assert_eq!(proxy.ask("obeyed", "").succeeds(), "200 MISS");
        proxy.site.assert_whole("got");
    }
    proxy.site.change();
    assert_eq!(proxy.ask("obeyed", "").succeeds(), "200 MISS");
    proxy.site.assert_whole("got");
}

#[test]
fn what_is_passed_on_has_its_ranges_and_conditions() {
    let Some(proxy) = Proxy::new() else { return };
    assert_eq!(proxy.ask("passed", "").succeeds(), "200");
    proxy.site.assert_whole("got");
    let condition = "-H \"If-Range: \\\"$DIGEST\\\"\"";
    let resumed = proxy.ask("passed", &format!("-r $HALF- {condition}"));
    assert_eq!(resumed.succeeds(), "206");
    proxy.site.assert_part("got", proxy.site.half()..);
    let stale = proxy.ask("passed", "-r $HALF- -H 'If-Range: \"other\"'");
    assert_eq!(stale.succeeds(), "200");
    proxy.site.assert_whole("got");
    let again = proxy.ask("passed", "-H \"If-None-Match: \\\"$DIGEST\\\"\"");
    assert_eq!(again.succeeds(), "304");
}
