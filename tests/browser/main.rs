//! The page as a person sees it: a real server over a tree that changes, and a headless Chromium that looks at it.
//!
//! Pictures of the page are left in `browser/` of the directory for what tests leave behind. Where there is no chromedriver
//! the tests say so and pass; with `CODE_SERVER_TEST_REQUIRE=1` they fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;
#[path = "../live/server.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod server;

use serde_json::{Value, json};

use driver::Browser;
use server::{Server, Setup, wait_until};

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
/// A name that would run if it were taken for HTML.
const HOSTILE: &str = "<img src=x onerror=window.hacked=1>";
/// The current revision in full.
const REVISION: &str = "return document.getElementById('revision').lastChild.textContent";

/// A server over a small tree, and a browser; `None` where there is no browser.
fn seen(flags: &[&str]) -> Option<(Setup, Server, Browser)> {
    let browser = Browser::start()?;
    let setup = Setup::new(flags);
    setup.write("main.py", "print('hello')\n");
    setup.write("lib/deep/er.py", "1\n");
    setup.write("lib/util.py", "2\n");
    setup.write(HOSTILE, "3\n");
    setup.write(".env", "SECRET=1\n");
    let server = setup.serve();
    browser.open(&page(&server));
    browser.wait_for_text("#pulse", "Live");
    Some((setup, server, browser))
}

fn page(server: &Server) -> String {
    format!("http://{}/", server.address)
}

fn revision(server: &Server) -> String {
    server.get("/code.list").headers["code-revision"].clone()
}

/// Nothing was asked of anybody else, and nothing went wrong in the page.
#[track_caller]
fn expect_quiet(browser: &Browser, server: &Server) {
    for entry in browser.log("performance") {
        let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        if event["message"]["method"] != "Network.requestWillBeSent" {
            continue;
        }
        let parameters = &event["message"]["params"];
        // The empty window that a browser begins with is made of resources, too.
        if parameters["documentURL"]
            .as_str()
            .unwrap()
            .starts_with("chrome:")
        {
            continue;
        }
        let url = parameters["request"]["url"].as_str().unwrap();
        let own = url.starts_with(&page(server)) || url.starts_with("data:");
        assert!(own, "{url}");
    }
    let console = browser.log("browser");
    assert_eq!(console, Vec::<Value>::new());
}

#[test]
fn the_page_follows_the_tree_without_a_reload() {
    let Some((setup, server, browser)) = seen(&[]) else {
        return;
    };
    let before = revision(&server);
    assert_eq!(browser.run(REVISION), json!(before));
    assert!(browser.text("#left-out").contains(".env"));
    browser.run("window.same = true;");

    setup.write("main.py", "print('hello again')\n");
    setup.write("new.py", "4\n");
    wait_until("the page shows another revision", || {
        browser.run(REVISION) != json!(before)
    });
    wait_until("the page shows what is served", || {
        browser.run(REVISION) == json!(revision(&server))
    });
    assert_eq!(browser.run("return window.same"), json!(true));
    assert!(browser.text("#say").contains("is served"));
    wait_until("both revisions are listed", || {
        browser.run("return document.querySelectorAll('#revisions li').length >= 2") == json!(true)
    });
    assert!(browser.text("#builds").contains("published"));

    browser.run(&format!(
        "document.getElementById('from').value = {}",
        json!(before)
    ));
    browser.click("#compare-button");
    browser.wait_for_text("#compare-state", "1 changed, 1 added, 0 removed");
    let differences = browser.text("#differences");
    for part in ["main.py", "content", "new.py", "added"] {
        assert!(differences.contains(part), "{part} in {differences}");
    }
    expect_quiet(&browser, &server);
}

#[test]
fn the_listing_is_opened_directory_by_directory_and_names_stay_text() {
    let Some((_setup, server, browser)) = seen(&[]) else {
        return;
    };
    browser.run("document.getElementById('tree').scrollIntoView()");
    browser.wait_for_text("#tree", HOSTILE);
    assert!(!browser.text("#tree").contains("util.py"));
    browser.click("#tree button[data-key=lib]");
    browser.wait_for_text("#tree", "util.py");
    assert!(!browser.text("#tree").contains("er.py"));

    browser.run("document.getElementById('filter').focus()");
    browser.press("DEEP/");
    browser.wait_for_text("#listing-state", "1 of 6 entries");
    browser.wait_for_text("#tree", "lib/deep/er.py");
    assert_eq!(
        browser.run("return [window.hacked ?? null, document.images.length]"),
        json!([null, 0])
    );
    expect_quiet(&browser, &server);
}

#[test]
fn a_large_listing_is_shown_in_portions() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let setup = Setup::new(&[]);
    for number in 0..1000 {
        setup.write(&format!("many/{number:04}"), "");
        setup.write(&format!("dir{}/{number:04}", number % 10), "");
    }
    let server = setup.serve();
    browser.open(&page(&server));
    browser.wait_for_text("#pulse", "Live");
    browser.run("document.getElementById('tree').scrollIntoView()");
    browser.wait_for_text("#tree", "many/");
    let lines = || browser.run("return document.querySelectorAll('#tree li').length");
    assert_eq!(lines(), json!(11));
    browser.click("#tree button[data-key=many]");
    browser.wait_for_text("#tree", "Show 300 more of 1,000");
    assert_eq!(lines(), json!(11 + 300 + 1));
    browser.click("#tree .more");
    browser.wait_for_text("#tree", "0599");
    browser.run("document.getElementById('filter').focus()");
    browser.press("999");
    browser.wait_for_text("#listing-state", "2 of 2,011 entries");
    assert_eq!(lines(), json!(2));
    expect_quiet(&browser, &server);
}

#[test]
fn all_controls_are_reached_and_worked_by_keyboard() {
    let Some((_setup, server, browser)) = seen(&[]) else {
        return;
    };
    let origin = page(&server);
    let permissions = json!({"origin": origin.trim_end_matches('/'),
        "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.cdp("Browser.grantPermissions", &permissions);
    browser.run("document.getElementById('tree').scrollIntoView()");
    browser.wait_for_text("#tree", "lib/");
    browser.run("scrollTo(0, 0); document.activeElement.blur()");
    let controls = browser.run(
        "return [...document.querySelectorAll('a, button, input, select')]
            .filter((one) => !one.disabled && one.checkVisibility() && one.offsetParent).length",
    );
    let controls = usize::try_from(controls.as_u64().unwrap()).unwrap();
    let (mut names, mut copied, mut opened) = (Vec::new(), false, false);
    for _ in 0..controls {
        browser.press(&TAB.to_string());
        let focused = browser.run(
            "const one = document.activeElement;
             return [one.id, one.dataset.key ?? '', one.ariaLabel ?? one.labels?.[0]?.innerText ?? one.innerText]",
        );
        let name = focused[2].as_str().unwrap();
        assert!(!name.is_empty(), "{focused} has no name");
        if focused[0] == "copy-revision" {
            browser.press(&ENTER.to_string());
            browser.wait_for_text("#copy-revision", "Copied");
            copied = true;
        }
        if focused[1] == "lib" {
            browser.press(&ENTER.to_string());
            browser.wait_for_text("#tree", "util.py");
            opened = true;
        }
        names.push(name.to_owned());
    }
    assert!(copied && opened, "{names:?}");
    let clipboard = browser.run_async("navigator.clipboard.readText()");
    assert_eq!(clipboard, json!(revision(&server)));
    expect_quiet(&browser, &server);
}

#[test]
fn the_page_waits_for_the_first_artifact() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let setup = Setup::new(&[]);
    let server = setup.start();
    browser.open(&page(&server));
    browser.wait_for_text("#revision", "Nothing is published yet");
    browser.wait_for_text("#verdict", "failed");
    let verdict = browser.text("#verdict");
    let parent = setup.parent().to_str().unwrap();
    assert!(browser.text("#upload").contains("takes no uploads"));
    assert!(verdict.contains("nothing in the root belongs"), "{verdict}");
    assert!(!verdict.contains(parent), "{verdict}");
    setup.write("main.py", "1\n");
    wait_until("the first revision is shown", || {
        browser.text("#revision").contains("sha256:")
    });
    browser.wait_for_text("#verdict", "published");
    expect_quiet(&browser, &server);
}

#[test]
fn a_server_that_does_not_answer_is_told_of_and_waited_for() {
    let Some((setup, server, browser)) = seen(&[]) else {
        return;
    };
    let before = browser.run(REVISION);
    server.signal(rustix::process::Signal::STOP);
    browser.wait_for_text("#pulse", "No answer since");
    assert_eq!(browser.run(REVISION), before);
    setup.write("main.py", "5\n");
    server.signal(rustix::process::Signal::CONT);
    browser.wait_for_text("#pulse", "Live");
    wait_until("the page shows another revision", || {
        browser.run(REVISION) != before
    });
}

#[test]
fn a_page_behind_a_token_follows_with_the_password_that_opened_it() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let secrets = tempfile::tempdir().unwrap();
    let token = secrets.path().join("token");
    std::fs::write(&token, "opensesame\n").unwrap();
    let setup = Setup::new(&["--read-token-file", token.to_str().unwrap()]);
    setup.write("main.py", "1\n");
    let server = setup.start();
    let url = format!("http://anybody:opensesame@{}/", server.address);
    browser.open(&url);
    browser.wait_for_text("#pulse", "Live");
    wait_until("the first revision is shown", || {
        browser.text("#revision").contains("sha256:")
    });
    let before = browser.run(REVISION);
    setup.write("main.py", "2\n");
    wait_until("the page shows another revision", || {
        browser.run(REVISION) != before
    });
    browser.run("document.getElementById('tree').scrollIntoView()");
    browser.wait_for_text("#tree", "main.py");
    let text = browser.text("body");
    assert!(text.contains("--token-file"), "{text}");
    assert!(!text.contains("opensesame"), "{text}");

    // As when the question for a password is answered by none.
    browser
        .run("window.asked = fetch; window.fetch = async () => new Response('', {status: 401});");
    browser.wait_for_text("#pulse", "Another token is asked for");
    browser.run("window.fetch = window.asked;");
    browser.wait_for_text("#pulse", "Live");
}

#[test]
fn a_page_that_nobody_sees_asks_for_nothing() {
    let Some((setup, server, browser)) = seen(&[]) else {
        return;
    };
    let before = browser.run(REVISION);
    let turn = |hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
        browser.run("return watching !== null && !watching.signal.aborted")
    };
    assert_eq!(turn(true), json!(false));
    setup.write("main.py", "7\n");
    wait_until("another revision is served", || {
        json!(revision(&server)) != before
    });
    assert_eq!(browser.run(REVISION), before);
    assert_eq!(turn(false), json!(true));
    wait_until("the page shows it", || browser.run(REVISION) != before);
    expect_quiet(&browser, &server);
}

#[test]
fn without_its_script_the_page_says_where_else_to_look() {
    let Some((_setup, server, browser)) = seen(&[]) else {
        return;
    };
    let disabled = json!({"value": true});
    browser.cdp("Emulation.setScriptExecutionDisabled", &disabled);
    browser.open(&page(&server));
    let text = browser.visible_text("main");
    assert!(text.contains("curl shows the same facts as text"), "{text}");
    assert!(!text.contains("Current revision"), "{text}");
    browser.picture("without-script");
}

#[test]
fn the_page_can_be_read_in_any_light_and_width() {
    let Some((setup, server, browser)) = seen(&["--write-token-file", "/dev/null"]) else {
        return;
    };
    let before = browser.run(REVISION);
    setup.write("main.py", "print('hello again')\n");
    setup.write("lib/deep/new.py", "6\n");
    wait_until("the page shows another revision", || {
        browser.run(REVISION) != before
    });
    browser.click("#compare-button");
    browser.wait_for_text("#compare-state", "1 changed");
    browser.run("document.getElementById('tree').scrollIntoView()");
    browser.wait_for_text("#tree", "lib/");
    browser.click("#tree button[data-key=lib]");
    // A build that fails, so that its colours are there too.
    std::fs::write(setup.path(".codeignore"), "[z-a]\n").unwrap();
    browser.wait_for_text("#builds", "failed");
    for (name, width, scheme) in [
        ("light", 1280, "light"),
        ("dark", 1280, "dark"),
        ("narrow", 360, "light"),
        ("narrow-dark", 360, "dark"),
        ("narrowest", 320, "light"),
        ("zoomed", 640, "light"),
    ] {
        browser.view(width, 1000, scheme);
        browser.run("scrollTo(0, 0)");
        let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{name}: {overflow}");
        assert_eq!(browser.run(FAINT), json!([]), "{name}");
        browser.picture(name);
    }
    expect_quiet(&browser, &server);
}

/// The texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3).
const FAINT: &str = r"
    const parse = (color) => color.match(/[\d.]+/g).map(Number);
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const color = parse(getComputedStyle(one).backgroundColor);
            if (color[3] !== 0) return color;
        }
        return [255, 255, 255];
    };
    const light = ([r, g, b]) => {
        const [R, G, B] = [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * R + 0.7152 * G + 0.0722 * B;
    };
    const faint = [];
    for (const one of document.querySelectorAll('body *')) {
        const says = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!says || one.disabled || !one.checkVisibility() || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(one.tagName)) continue;
        const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push([one.innerText, contrast]);
    }
    return faint;
";
