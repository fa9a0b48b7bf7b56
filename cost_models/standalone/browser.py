"""Browser: serves the page that measures a kit, and makes results of what it says.

This file is page.py of a kit. The page runs in whatever browser opens it, on this computer, on a
phone that adb connects to it, or anywhere else; it sends what it measured here, or gives it to be
saved as browser.json. Both become the same results that run.py of other kits writes. This file
needs numpy, on the computer that serves the page.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from .kit_files import ANSWERS, KIT, KIT_FORMAT, MEASURED, lines, write_results
from .seal import SealError, check_files, read_sealed
from .timing import IN_TURN, PLAN, RESULT, answer_of, session_of

PAGE = "page.json"  # what the page runs, with the version of the runtime that the kit brings
SAVED, SAVED_FORMAT = "browser.json", "vitpareto browser"
PORT = 8000
TOLD = ("host", "processor", "cores", "system")  # that a page tells of its machine
# What makes a page cross-origin isolated, so that it has threads and a clock of 5 us.
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def browser_identity(
    device: Mapping[str, Any], version: str, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Identity of a device in a browser, in the words of `Device.identity`.

    A page is not told the processor's instruction set, nor always its name.

    Args:
        device: of the kit.
        version: of the runtime that the kit brings.
        told: what the page says of its machine.
    """
    kept = {key: value for key, value in device.items() if key not in ("name", "recipes")}
    facts = {name: told[name] for name in TOLD}
    return kept | {"version": version, "isa": ""} | facts


def read_browser(folder: Path, said: Any) -> None:
    """Make measured.json of what the page of a kit says.

    Args:
        folder: of the kit.
        said: what it sent, or gave to be saved.

    Raises:
        SealError: the kit was edited, or it was another one that was measured, or what is said is
            not what the page says.
    """
    kit = read_sealed(folder / KIT, KIT_FORMAT)
    check_files(folder, kit["files"])
    try:
        if (said["format"], said["version"]) != (SAVED_FORMAT, 1):
            raise SealError(f"{SAVED}: not a {SAVED_FORMAT} of version 1: its format must say so")
        if said["kit"] != kit["digest"]:
            raise SealError(f"{SAVED}: was measured with another kit")
        _keep(folder, kit, said)
    except SealError:  # a ValueError, too
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = error if type(error) is ValueError else repr(error)
        raise SealError(f"{SAVED}: is not what the page says: {why}") from error


def _keep(folder: Path, kit: dict[str, Any], said: dict[str, Any]) -> None:
    """Write the result of each set, the answers of each model, and measured.json."""
    version = json.loads((folder / PAGE).read_text(encoding="utf-8"))["version"]
    machine = browser_identity(kit["device"], version, said["machine"])
    for part in said["sets"]:
        if f"{part}/{PLAN}" not in kit["files"]:
            raise ValueError(f"{part!r} is no set of this kit")
    for about in kit["models"].values():
        if about["set"] not in said["sets"]:
            raise ValueError(f"{about['set']!r} is not in it")
    results = {part: _result(folder / part, one) for part, one in said["sets"].items()}
    answers = {key: _answers(one["answers"]) for key, one in said["models"].items()}
    for part, result in results.items():
        text = json.dumps({"identity": machine, **result})
        (folder / part / RESULT).write_text(text, encoding="utf-8")
    (folder / ANSWERS).mkdir(exist_ok=True)
    for key in kit["models"]:
        if answers.get(key) is not None:
            np.save(folder / ANSWERS / f"{key}.npy", answers[key])
    kernels = {key: one["kernels"] for key, one in said["models"].items()}
    versions = {kit["device"]["runtime"]: machine["version"]}
    write_results(folder, kit, machine, versions, kernels)


def _result(part: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What `runner.measure_set` would write of a set."""
    plan = json.loads((part / PLAN).read_text(encoding="utf-8"))
    count, live = len(plan["graphs"]), [int(index) for index in said["live"]]
    told = [str(said["refused"].get(str(index), "not timed")) for index in range(count)]
    answers: list[dict[str, Any]] = [{"refused": why} for why in told]
    drift, factors = 0.0, list[float]()
    if live:
        session = session_of(np.array(said["samples_ms"], float), said["stable"])
        anchors = range(count - plan["anchors"], count)
        timings = dict(zip(live, session.timings, strict=True))
        anchors_ms = [timings[i].median_ms for i in anchors if i in timings]
        for index, timing in timings.items():
            answers[index] = answer_of(timing, anchors_ms)
        drift, factors = session.drift, [round(float(f), 5) for f in session.factors]
    session_said = {
        "way": IN_TURN,
        "drift": drift,
        "factors": factors,
        "unix_time": int(said["unix_time"]),
        "graphs": answers,
    }
    footprints = [[float(mb), 0.0] for mb in said["memory_mb"]]
    return {"sessions": [session_said], "footprints": footprints}


def _answers(said: Any) -> Any:
    """Answers of a model as a page writes them: a shape, and float32 in base64."""
    values = np.frombuffer(base64.b64decode(said["float32"], validate=True), np.float32)
    return values.reshape([int(n) for n in said["shape"]]) if values.size else None


class _Handler(SimpleHTTPRequestHandler):
    """The files of a kit, and what its page sends."""

    extensions_map = {  # noqa: RUF012 - as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Every answer keeps the page isolated."""
        for name, value in ISOLATED.items():
            self.send_header(name, value)
        super().end_headers()

    def do_POST(self) -> None:
        """Take what the page says, and write it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server: Any = self.server
        problem = server.take(body) if self.path == "/results" else "no such address"
        self.send_response(400 if problem else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(problem.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Write no lines of access."""


class Server(ThreadingHTTPServer):
    """Serves a kit until its page has measured everything.

    Args:
        folder: of the kit.
        port: 0 for any that is free.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.done, self.problem = folder, False, ""
        super().__init__(("127.0.0.1", port), partial(_Handler, directory=str(folder)))

    def take(self, body: bytes) -> str:
        """Write what the page says; why it is not what the page of this kit says, or nothing."""
        try:
            said = json.loads(body)
            read_browser(self.folder, said)
            (self.folder / SAVED).write_bytes(body)
            self.done = bool(said["done"])
        except ValueError as error:
            self.problem = str(error)
        return self.problem

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the browser has dropped."""


def serve(server: Server) -> None:
    """Serve until the page is done.

    Raises:
        SealError: what it said does not fit.
    """
    server.timeout = 0.5
    while not server.done:
        server.handle_request()
        if server.problem:
            raise SealError(server.problem)
    time.sleep(0.2)  # the page is still told that it was heard


def main() -> None:
    """Run in the folder of a kit."""
    parser = argparse.ArgumentParser(
        description="Serves the page that measures this kit, until it has; or reads what the page "
        "gave to be saved. Results: measured.json, measured.csv."
    )
    parser.add_argument("saved", nargs="?", type=Path, help="browser.json, as the page gave it")
    parser.add_argument("--port", type=int, default=PORT)
    asked = parser.parse_args()
    folder = Path(__file__).resolve().parent
    try:
        if asked.saved:
            read_saved(folder, asked.saved)
        else:
            _serve_kit(folder, asked.port)
    except SealError as error:
        sys.exit(f"Error: {error}")
    for line in [*lines(folder), f"Written: {folder / MEASURED}. Bring this folder back."]:
        _say(line)


def read_saved(folder: Path, path: Path) -> None:
    """Make measured.json of a file that the page gave to be saved.

    Args:
        folder: of the kit.
        path: of the file.

    Raises:
        SealError: it cannot be read, or `read_browser` refuses it.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SealError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SealError(f"{path}: not JSON: {error}") from error
    read_browser(folder, said)


def _serve_kit(folder: Path, port: int) -> None:
    check_files(folder, read_sealed(folder / KIT, KIT_FORMAT)["files"])
    try:
        server = Server(folder, port)
    except OSError as error:
        raise SealError(f"port {port}: {error.strerror}; --port takes another one") from error
    port = server.server_address[1]
    _say(f"Open http://localhost:{port} in the browser that is to be measured.")
    _say(f"On a phone that adb sees, first: adb reverse tcp:{port} tcp:{port}")
    with server:
        serve(server)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a script


if __name__ == "__main__":
    main()
