"""The live page: served to this machine alone, nothing but a run's own, all of it escaped."""

import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from vitpareto.search.store.run_folder import RunPaths
from vitpareto.search.watch import server as module
from vitpareto.search.watch.page import page
from vitpareto.search.watch.server import Server
from vitpareto.spaces.errors import RunError

from ..chromium import chromium, needs_chromium

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def paths(finished: Path, tmp_path: Path) -> RunPaths:
    return RunPaths(Path(shutil.copytree(finished, tmp_path / "run")))


@pytest.fixture
def server(paths: RunPaths) -> Iterator[Server]:
    with Server(paths, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def get(server: Server, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        return answer.read().decode()


def status(server: Server, path: str, **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request("GET", path, headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


def test_a_finished_run(server: Server, paths: RunPaths) -> None:
    page = get(server, "")
    assert "Done: every stage has ended." in page
    assert '<a href="report.html">' in page
    assert page.count("<circle") > 4  # scored candidates
    for folder in paths.pareto.iterdir():
        assert folder.name in page
    now = json.loads(get(server, "now.json"))
    assert all(markup in page for markup in now["sections"].values())
    assert get(server, "report.html") == paths.report.read_text()


def test_the_page_follows_the_run(server: Server, paths: RunPaths) -> None:
    whole = paths.evaluations.read_bytes().splitlines(keepends=True)
    paths.evaluations.write_bytes(b"".join(whole[:2]))
    assert "2 candidates scored" in get(server, "now.json")
    paths.evaluations.write_bytes(b"".join(whole[:4]) + whole[4][:20])  # one is being written
    assert "4 candidates scored" in get(server, "now.json")
    with paths.log.open("a") as log:
        log.write("the last word\n")
    assert "the last word" in get(server, "now.json")


def test_a_run_whose_first_model_is_in_training(server: Server, paths: RunPaths) -> None:
    shutil.rmtree(paths.pareto)
    paths.training_of("abc").parent.mkdir()
    paths.training_of("abc").touch()
    page = get(server, "")
    assert "candidates scored" in page and "no delivered models" not in page


def test_a_run_that_begins_later(finished: Path, tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "later")
    with Server(paths, 0) as server:
        threading.Thread(target=server.serve_forever).start()
        assert "this page waits for it" in get(server, "now.json")
        shutil.copytree(finished, paths.path)
        assert "Done" in get(server, "now.json")
        server.shutdown()


def test_a_damaged_file_is_said_and_survived(server: Server, paths: RunPaths) -> None:
    paths.progress.write_text("{")
    assert "not JSON" in get(server, "now.json")
    assert "not JSON" in get(server, "")


def test_nothing_else_of_the_disk_is_served(server: Server, paths: RunPaths) -> None:
    (paths.path.parent / "secret").write_text("secret")
    names = ("config.yaml", "log.txt", "..", "../secret", "%2e%2e/secret", "//etc/passwd")
    odd = ("/report.html/..", "/./report.html", "/report.html%00", "/" + "x" * 3000, "/\\secret")
    for path in (*(f"/{name}" for name in names), *odd, str(paths.path / "log.txt"), "secret"):
        assert status(server, path) in (400, 404, 414), path
    assert status(server, "/report.html?x=1") == 200


def test_other_sites_and_methods_are_refused(server: Server) -> None:
    assert status(server, "/", Host="evil.example") == 403
    assert status(server, "/now.json", Host="evil.example:80") == 403
    assert status(server, "/", Host="localhost:9000") == 200  # through a tunnel
    request = urllib.request.Request(server.url, data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request, timeout=30)


def test_it_listens_for_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_names_are_shown_as_they_are(server: Server, paths: RunPaths) -> None:
    with paths.log.open("a") as log:
        log.write(f"{HOSTILE}\n")
    found = json.loads(paths.progress.read_text())
    found |= {"state": "failed", "error": HOSTILE, "stage": HOSTILE, "doing": HOSTILE}
    found["stages"][0] |= {"name": HOSTILE, "about": HOSTILE, "state": "now"}
    paths.progress.write_text(json.dumps(found))
    about = json.loads(paths.environment.read_text())
    about["command"] = ["vitpareto", "search", HOSTILE]
    paths.environment.write_text(json.dumps(about))
    for text in (get(server, ""), *json.loads(get(server, "now.json"))["sections"].values()):
        assert "<img" not in text
    assert get(server, "").count("&lt;img src=x") >= 5


def test_a_port_that_is_taken(paths: RunPaths) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port}: .* leave --port out"):
            Server(paths, port)


def test_the_command_serves_until_ctrl_c(paths: RunPaths) -> None:
    before = {path: path.stat().st_mtime_ns for path in paths.path.rglob("*")}
    command = [str(Path(sys.executable).parent / "vitpareto"), "watch", str(paths.path)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        url = next(word for word in said.split() if word.startswith("http")).rstrip(";")
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in paths.path.rglob("*")} == before


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(
    server: Server, paths: RunPaths, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaces what changed by itself, loads nothing from elsewhere, and fits the screen."""
    failed = json.loads(paths.progress.read_text()) | {"state": "failed", "error": HOSTILE}
    probe = "<script>setInterval(() => { document.body.dataset.wider = "
    probe += "document.documentElement.scrollWidth - innerWidth }, 100)</script></body>"

    def page_before_it_failed(run: RunPaths) -> str:
        markup = page(run)
        paths.progress.write_text(json.dumps(failed))
        return markup.replace("</body>", probe)

    monkeypatch.setattr(module, "page", page_before_it_failed)
    window = f"--window-size={width},900"
    dom, console = chromium(server.url, tmp_path / "profile", window, "--dump-dom")
    assert console == []
    assert "Failed: &lt;img src=x" in dom
    assert "Done:" not in dom
    assert 'data-wider="0"' in dom
    picture = tmp_path / "page.png"
    chromium(server.url, tmp_path / "profile", window, f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000  # an empty page has a few kB


def test_a_browser_that_leaves_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = RunPaths(tmp_path)
    paths.report.write_bytes(b"x" * 20_000_000)
    with Server(paths, 0) as server:
        thread = threading.Thread(target=server.handle_request)
        server.daemon_threads = False  # so that closing waits for the answer
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as browser:
            browser.sendall(b"GET /report.html HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert browser.recv(8) == b"HTTP/1.0"
            # It is cut off, as by a tab that is closed.
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        thread.join()
    assert capsys.readouterr().err == ""
