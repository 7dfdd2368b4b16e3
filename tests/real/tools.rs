//! The programs that a test runs: ours as built, and those of the system.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};

/// The server as built for this test.
pub(crate) const CODE_SERVER: &str = env!("CARGO_BIN_EXE_code-server");
/// The fetcher as built for this test.
pub(crate) const FETCH_INIT: &str = env!("CARGO_BIN_EXE_fetch-init");

/// A program in an environment of known umask and language, without a variable that would configure ours.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"umask 022 && exec "$0" "$@""#])
        .arg(name)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    for (variable, _) in env::vars_os() {
        if configures(&variable.to_string_lossy()) {
            command.env_remove(variable);
        }
    }
    command
}

fn configures(variable: &str) -> bool {
    ["CODE_SERVER_", "FETCH_INIT_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
        || ["RUST_LOG", "SOURCE_DATE_EPOCH"].contains(&variable)
}

/// What a program that must succeed writes to standard output.
pub(crate) fn output(command: &mut Command) -> String {
    let output = run(command);
    succeeded(command, output.status, &output.stderr);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program whatever its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// `first | second`, where both must succeed.
pub(crate) fn pipe(mut first: Command, mut second: Command) {
    let mut writer = first
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell can be started");
    let between = writer.stdout.take().expect("standard output is piped");
    let reader = run(second.stdin(between));
    succeeded(&second, reader.status, &reader.stderr);
    let status = writer.wait().expect("it is our child");
    succeeded(&first, status, b"");
}

fn succeeded(command: &Command, status: ExitStatus, stderr: &[u8]) {
    let stderr = String::from_utf8_lossy(stderr);
    assert!(status.success(), "{command:?}: {status}\n{stderr}");
}

/// Whether each of the programs is installed; says which is not.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_installed(program));
    missing.is_none_or(|program| skip(true, &format!("{program} is not installed")))
}

fn is_installed(program: &str) -> bool {
    let mut shell = Command::new("sh");
    let status = shell
        .args(["-c", r#"command -v "$0" > /dev/null"#, program])
        .status();
    status.expect("a shell can be started").success()
}

/// Says why a test is skipped; fails it where nothing that is `needed` may be missing.
pub(crate) fn skip(needed: bool, reason: &str) -> bool {
    assert!(
        !(needed && is_set("CODE_SERVER_TEST_REQUIRE")),
        "{reason}, and CODE_SERVER_TEST_REQUIRE is set"
    );
    // Written past the test harness, which keeps to itself what a passing test prints.
    writeln!(io::stderr(), "skipped: {reason}").expect("standard error is open");
    false
}

/// Whether a switch of the tests is on.
pub(crate) fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

/// The SHA-256 of a file, by another program than ours.
pub(crate) fn sha256(file: &Path) -> String {
    let line = output(program("sha256sum").arg("--").arg(file));
    let digest = line.trim_start_matches('\\').split(' ').next();
    digest.expect("a split has a first part").to_owned()
}
