"""Server: the live page of one run, for browsers of this machine and nobody else."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ...spaces.errors import RunError
from ..config import load_config
from ..store.run_folder import RunPaths
from .page import page, sections

HOST, PORT = "127.0.0.1", 8642
NAMES = ("127.0.0.1", "localhost")
POLICY = (  # what a page may load: nothing but its own text, its style and what it polls
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


class Server(ThreadingHTTPServer):
    """Answers a few addresses: the page, what changed in it, the report, and those of devices.

    Args:
        paths: of the run, which need not exist yet.
        port: to listen at; None takes the usual one, or a free one where that is taken.

    Raises:
        RunError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, paths: RunPaths, port: int | None = None) -> None:
        self.run = paths
        try:
            super().__init__((HOST, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None:
                raise RunError(f"port {port}: {error.strerror}: leave --port out") from error
            super().__init__((HOST, 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that left before it had its answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        run, asked = self.server.run, urlsplit(self.path).path
        named = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if named not in NAMES:  # another site's name that leads here
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"only for this machine")
        elif asked == "/":
            self._answer(HTTPStatus.OK, "text/html", page(run).encode())
        elif asked == "/now.json":
            self._answer(HTTPStatus.OK, "application/json", json.dumps(sections(run)).encode())
        elif asked.endswith("/report.html") and (report := _reports(run).get(asked)):
            self._answer(HTTPStatus.OK, "text/html", report.read_bytes())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not here")

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests."""


def _reports(run: RunPaths) -> dict[str, Path]:
    """The reports that are there, of several devices those of each, by address."""
    devices = load_config(run.config).by_device if run.config.is_file() else {}
    files = {run.report, *(run.of(name).report for name in devices)}
    named = {f"/{file.relative_to(run.path).as_posix()}": file for file in files}
    return {quote(address): file for address, file in named.items() if file.is_file()}
