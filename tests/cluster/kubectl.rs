//! kubectl, each call of which ends.

use std::ffi::OsStr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubernetes;
use crate::object::Object;
use crate::settings::set;
use crate::tools;

/// How long anything may take that pods, volumes and images have a part in.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// As text, for kubectl: less than any call of it may take.
pub(crate) const TIMEOUT: &str = "--timeout=300s";

/// kubectl with a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    namespace: String,
}

impl Kubectl {
    /// kubectl, which is there.
    pub(crate) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
        }
    }

    /// kubectl with these arguments, ended after twice as long as anything may take.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let kubectl = program().expect("it was there when the test began");
        let mut command = tools::program("timeout");
        command
            .args(["--kill-after=5", "600"])
            .arg(kubectl.get_program())
            .args(kubectl.get_args())
            .args(["--namespace", &self.namespace])
            .args(arguments);
        command
    }

    /// What a call that must succeed writes to standard output.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        tools::output(&mut self.command(arguments))
    }

    /// The same, or what it says of its failure.
    pub(crate) fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = tools::run(&mut self.command(arguments));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// One object, by kind and name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Object {
        Object(self.json(&["get", kind, name]))
    }

    /// The objects of a kind that have these labels.
    pub(crate) fn list(&self, kind: &str, selector: &str) -> Vec<Object> {
        let mut list = self.json(&["get", kind, "--selector", selector]);
        let Value::Array(items) = list["items"].take() else {
            panic!("not a list: {list:#}");
        };
        items.into_iter().map(Object).collect()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--output=json"]].concat();
        serde_json::from_str(&self.output(&arguments)).unwrap()
    }
}

/// kubectl as it is started, which may take several words; nothing where there is none.
pub(crate) fn program() -> Option<Command> {
    let Some(named) = set("KUBECTL") else {
        return kubernetes::kubectl();
    };
    let mut words = named.split_whitespace();
    let mut command = tools::program(words.next()?);
    command.args(words);
    Some(command)
}

/// The words by which a script starts it.
pub(crate) fn words() -> String {
    let kubectl = program().expect("it was there when the test began");
    // The first two are for the shell.
    let words = kubectl.get_args().skip(2);
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Asks until there is an answer, which must come in time.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// The same with another patience.
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        // The API server has other things to do.
        thread::park_timeout(Duration::from_millis(300));
    }
}
