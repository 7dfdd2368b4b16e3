//! A browser of the test's own, driven over `WebDriver` (W3C): plain HTTP with JSON, spoken over a socket.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use data_encoding::BASE64;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::server::{PATIENCE, wait_until};

/// How an answer names an element (`WebDriver` §12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A headless Chromium with one window; it ends with the test.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    /// `/session/<id>`
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None`, and a line that says so, where there is none.
    pub(crate) fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut driver = match started {
            Ok(driver) => driver,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return skip(),
            Err(error) => panic!("chromedriver cannot be started: {error}"),
        };
        let port = port_of(&mut driver);
        let mut browser = Self {
            driver,
            port,
            session: "/session".into(),
            profile,
        };
        let data = format!("--user-data-dir={}", browser.profile.path().display());
        let mut arguments = ARGUMENTS.to_vec();
        arguments.extend([&*data, "--window-size=1280,1000"]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = browser.post("", &wanted);
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What a function body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What a promise in the page comes to.
    pub(crate) fn run_async(&self, promise: &str) -> Value {
        let script =
            format!("const done = arguments[0]; ({promise}).then(done, (e) => done(String(e)));");
        self.post("/execute/async", &json!({"script": script, "args": []}))
    }

    /// What a person reads there; empty where nothing matches.
    pub(crate) fn text(&self, selector: &str) -> String {
        let script = format!(
            "const one = document.querySelector({}); return one?.checkVisibility() ? one.innerText : '';",
            json!(selector)
        );
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// The same without any script in the page.
    pub(crate) fn visible_text(&self, selector: &str) -> String {
        let id = self.find(selector);
        let (status, answer) = self.ask("GET", &format!("/element/{id}/text"), "").unwrap();
        assert_eq!(status, 200, "{answer}");
        answer["value"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_for_text(&self, selector: &str, part: &str) {
        let what = format!("{selector} says {part:?}");
        wait_until(&what, || self.text(selector).contains(part));
    }

    /// Clicks as a person does: what is hidden or covered cannot be clicked.
    pub(crate) fn click(&self, selector: &str) {
        let id = self.find(selector);
        self.run(&format!(
            "document.querySelector({}).scrollIntoView({{block: 'center'}});",
            json!(selector)
        ));
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let presses = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        });
        let presses: Vec<Value> = presses.collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": presses});
        self.post("/actions", &json!({"actions": [keyboard]}));
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    /// What was logged since the last look: `browser` for the console, `performance` for the network.
    pub(crate) fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.post("/se/log", &json!({"type": kind}));
        log.as_array().unwrap().clone()
    }

    /// As wide as this, and shown with this colour scheme.
    pub(crate) fn view(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.cdp("Emulation.setEmulatedMedia", &scheme);
    }

    /// The whole page as a picture, in the directory for what tests leave behind.
    pub(crate) fn picture(&self, name: &str) {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        fs::create_dir_all(&directory).unwrap();
        let options = json!({"captureBeyondViewport": true});
        let picture = self.cdp("Page.captureScreenshot", &options);
        let picture = BASE64
            .decode(picture["data"].as_str().unwrap().as_bytes())
            .unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
        fs::write(directory.join(name).with_extension("png"), picture).unwrap();
    }

    /// The number of an element in this session.
    fn find(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let element = self.post("/element", &wanted);
        element[ELEMENT].as_str().unwrap().to_owned()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, mut answer) = self.ask("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer["value"].take()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (session, length) = (&self.session, body.len());
        write!(
            stream,
            "{method} {session}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut stream = BufReader::new(stream);
        let (mut status, mut length, mut line) = (0, 0, String::new());
        while stream.read_line(&mut line)? > 2 {
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("http/1.1 ") {
                status = value[..3].parse().unwrap();
            } else if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok((status, serde_json::from_slice(&answer)?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session; if it cannot, it is ended with all that it has started.
        drop(self.ask("DELETE", "", ""));
        let group = Pid::from_child(&self.driver);
        let _it_may_have_ended = kill_process_group(group, Signal::KILL);
        drop(self.driver.wait());
    }
}

/// `ChromeDriver was started successfully on port 12345.`
fn port_of(driver: &mut Child) -> u16 {
    let stdout = BufReader::new(driver.stdout.take().unwrap());
    let lines = stdout.lines().map_while(Result::ok);
    let mut ports = lines.filter_map(|line| {
        let (_, port) = line.split_once("successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    ports.next().expect("chromedriver says where it listens")
}

fn skip<T>() -> Option<T> {
    assert!(
        env::var_os("CODE_SERVER_TEST_REQUIRE").is_none_or(|value| value != "1"),
        "chromedriver is not installed, and CODE_SERVER_TEST_REQUIRE is set"
    );
    // Past the test harness, which keeps to itself what a passing test prints.
    writeln!(io::stderr(), "skipped: chromedriver is not installed")
        .expect("standard error is open");
    None
}
