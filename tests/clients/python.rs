//! Python: what its library has, and requests.

use crate::site::{Ended, Site};
use crate::tools;

/// What each script begins with, which is indented as it stands in the test.
const BEGIN: &str = "
import hashlib, os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

archive, half, tag = os.environ['ARCHIVE'], int(os.environ['HALF']), '\"' + os.environ['DIGEST'] + '\"'

def tag_of(body):
    return '\"' + hashlib.sha256(body).hexdigest() + '\"'

if True:
";

fn run(site: &Site, script: &str) -> Ended {
    site.run(&format!("python3 -B - << 'END'\n{BEGIN}{script}\nEND"))
}

fn check(script: &str) {
    if let Some(site) = Site::for_clients(&["python3"]) {
        run(&site, script).succeeds();
    }
}

fn check_with_requests(script: &str) {
    if let Some(site) = site_with_requests() {
        run(&site, script).succeeds();
    }
}

fn site_with_requests() -> Option<Site> {
    let site = Site::for_clients(&["python3"])?;
    let found = site.run("python3 -c 'import requests'").status == Some(0);
    (found || tools::skip(true, "python3 has no module requests")).then_some(site)
}

#[test]
fn urllib_reads_the_archive() {
    check(
        "
        with urlopen(archive) as response:
            assert response.headers['Content-Type'] == 'application/gzip'
            assert response.headers['ETag'] == tag
            assert tag_of(response.read()) == tag
        ",
    );
}

#[test]
fn urllib_reads_a_part_and_the_rest() {
    check(
        "
        with urlopen(Request(archive, headers={'Range': f'bytes=0-{half - 1}'})) as response:
            assert response.status == 206
            first = response.read()
        rest = Request(archive, headers={'Range': f'bytes={half}-', 'If-Range': tag})
        with urlopen(rest) as response:
            assert response.status == 206
            assert tag_of(first + response.read()) == tag
        ",
    );
}

#[test]
fn urllib_is_told_that_nothing_has_changed() {
    check(
        "
        try:
            urlopen(Request(archive, headers={'If-None-Match': tag}))
            raise AssertionError('it was sent again')
        except HTTPError as answer:
            assert answer.status == 304 and answer.headers['ETag'] == tag
            assert answer.read() == b''
        ",
    );
}

#[test]
fn tarfile_unpacks_what_urllib_reads_while_it_comes() {
    let Some(site) = Site::for_clients(&["python3"]) else {
        return;
    };
    let script = "
        import tarfile
        with urlopen(archive) as response, tarfile.open(fileobj=response, mode='r|gz') as tar:
            tar.extractall('tree')
        ";
    run(&site, script).succeeds();
    site.assert_unpacked("tree");
}

#[test]
fn http_client_asks_again_on_one_connection() {
    check(
        "
        from http.client import HTTPConnection
        connection = HTTPConnection(os.environ['URL'].removeprefix('http://'))
        connection.connect()
        socket = connection.sock
        for path in ['/code.tar.gz', '/code.json', '/none', '/code.list', '/code.tar.gz']:
            connection.request('GET', path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == (404 if path == '/none' else 200)
            assert answer.status == 404 or answer.headers['ETag'] == tag_of(body)
            assert connection.sock is socket
        ",
    );
}

/// It offers gzip by itself, and would inflate what came with such a coding.
#[test]
fn requests_gets_the_archive_as_it_is() {
    check_with_requests(
        "
        import requests
        response = requests.get(archive)
        assert 'gzip' in response.request.headers['Accept-Encoding']
        assert 'Content-Encoding' not in response.headers
        assert tag_of(response.content) == tag
        with requests.get(archive, stream=True) as response:
            assert tag_of(b''.join(response.iter_content(100_000))) == tag
        ",
    );
}

#[test]
fn a_session_of_requests_resumes_and_asks_again() {
    check_with_requests(
        "
        import requests
        session = requests.Session()
        first = session.get(archive, headers={'Range': f'bytes=0-{half - 1}'})
        rest = session.get(archive, headers={'Range': f'bytes={half}-', 'If-Range': tag})
        assert (first.status_code, rest.status_code) == (206, 206)
        assert tag_of(first.content + rest.content) == tag
        stale = session.get(archive, headers={'Range': f'bytes={half}-', 'If-Range': '\"other\"'})
        assert stale.status_code == 200 and tag_of(stale.content) == tag
        again = session.get(archive, headers={'If-None-Match': tag})
        assert again.status_code == 304 and again.content == b''
        assert again.headers['ETag'] == tag
        ",
    );
}

#[test]
fn requests_uploads_a_file_and_what_is_made_on_the_way() {
    let Some(site) = site_with_requests() else {
        return;
    };
    let script = "
        import requests, subprocess
        headers = {'Authorization': 'Bearer ' + os.environ['TOKEN']}
        os.mkdir('new')
        for content in [b'one', b'two']:
            with open('new/main.py', 'wb') as file:
                file.write(content)
            subprocess.run(['tar', 'czf', 'new.tar.gz', '-C', 'new', '.'], check=True)
            with open('new.tar.gz', 'rb') as file:
                data = file if content == b'one' else iter(lambda: file.read(50), b'')
                response = requests.put(archive, data=data, headers=headers)
            assert response.status_code == 200 and response.json()['changed'], response.text
        ";
    run(&site, script).succeeds();
    site.assert_served("new");
}
