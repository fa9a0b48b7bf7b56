"""Host: a process that runs models in a runtime of the web, and lives as long as this one.

It asks for jobs over HTTP on the loopback interface, at an address that nobody else knows, since
that is what a page of a browser can do. `engine.mjs` is the other end.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import secrets
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ...spaces.errors import CostError, first_line

OWN = Path(__file__).parent
IDLE_S = 20.0  # after which the other end asks again
LOOK_S = 1.0  # between two looks at whether the process lives
JOB_S = 300.0  # a job that takes longer hangs
END_S = 5.0
SCRIPT = "text/javascript"
TYPES = {".html": "text/html", ".mjs": SCRIPT, ".js": SCRIPT, ".wasm": "application/wasm"}
# What makes a page cross-origin isolated, so that it has threads and a clock of 5 us.
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Host:
    """A process that does jobs one after the other.

    Args:
        name: for messages.
        runtime: likewise.
        command: (URL, scratch folder) -> command line that starts it.
        files: of the runtime, by the names that a page has for them.
        affinity: cores on which it runs, empty for any.

    Attributes:
        generation: how often it has begun anew.

    Raises:
        CostError: it does not start.
    """

    def __init__(
        self,
        name: str,
        runtime: str,
        command: Callable[[str, Path], Sequence[str]],
        files: Mapping[str, Path],
        affinity: Sequence[int] = (),
    ) -> None:
        self.name, self.generation = name, 0
        self._files, self._lock, self._forgotten = files, threading.RLock(), deque[int]()
        self._jobs: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._scratch = tempfile.TemporaryDirectory(prefix="vitpareto-", ignore_cleanup_errors=True)
        folder = Path(self._scratch.name)
        token = secrets.token_urlsafe(16)
        self._server = _Server(self, f"/{token}/")
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}/{token}/"
        self._log = folder / "stderr"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(url, folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which ends the other
            )
        atexit.register(self.close)
        if affinity and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(self._process.pid, affinity)
        try:
            self._wait()
        except CostError as error:
            self.close()
            raise CostError(f"{name} does not run {runtime}: {error}") from None

    @property
    def alive(self) -> bool:
        """Whether it can be given jobs."""
        return self._process.poll() is None

    def ask(self, job: str, content: bytes = b"", **about: Any) -> tuple[dict[str, Any], bytes]:
        """Have a job done.

        Args:
            job: name of one of the engine's.
            content: bytes that go with it.
            about: what else it is told.

        Returns:
            Facts, and bytes that go with them.

        Raises:
            CostError: it was refused, or the process ended or hangs.
        """
        with self._lock:
            if forgotten := [self._forgotten.popleft() for _ in range(len(self._forgotten))]:
                self._do("close", b"", ids=forgotten)
            return self._do(job, content, **about)

    def forget(self, session: int, generation: int) -> None:
        """Close a session of some generation before the next job."""
        if generation == self.generation:
            self._forgotten.append(session)

    def renew(self) -> None:
        """Begin anew with memory that nothing has used; all models are forgotten.

        Raises:
            CostError: the process ended or hangs.
        """
        with self._lock:
            self.generation += 1
            self._forgotten.clear()
            self._do("renew", b"")

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._scratch.cleanup()

    def exchange(self, answer: bytes) -> bytes:
        """Take an answer of the other end, and give it the next job."""
        if not answer.startswith(b'{"waited"'):
            self._answers.put(answer)
        try:
            return self._jobs.get(timeout=IDLE_S)
        except queue.Empty:
            return b'{"do": "wait"}\n'

    def file(self, name: str) -> Path | None:
        """A file that a page may load: one of the runtime's, or ours."""
        path = self._files.get(name, OWN / name)
        known = path.suffix in TYPES and Path(name).name == name
        return path if known and path.is_file() else None

    def _do(self, job: str, content: bytes, **about: Any) -> tuple[dict[str, Any], bytes]:
        self._jobs.put(json.dumps({"do": job, **about}).encode() + b"\n" + content)
        return self._wait()

    def _wait(self) -> tuple[dict[str, Any], bytes]:
        end = time.monotonic() + JOB_S
        while True:
            try:
                head, _, content = self._answers.get(timeout=LOOK_S).partition(b"\n")
                break
            except queue.Empty:
                if not self.alive:
                    raise CostError(f"{self.name} ended: {self._last_words}") from None
                if time.monotonic() > end:
                    self._process.kill()
                    raise CostError(f"{self.name} gave no answer in {JOB_S:.0f} s") from None
        about = json.loads(head)
        if "error" in about:
            raise CostError(first_line(about["error"]))
        return about, content

    @cached_property
    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        told = [line for line in lines if "Error" in line] or lines
        return told[-1].strip() if told else f"exit status {self._process.poll()}"


class _Server(ThreadingHTTPServer):
    """Serves one host under a path of its own."""

    daemon_threads = True

    def __init__(self, host: Host, root: str) -> None:
        self.host, self.root = host, root
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the other end has dropped."""


class _Handler(BaseHTTPRequestHandler):
    """Jobs and answers, and the files of a page."""

    protocol_version = "HTTP/1.1"  # one connection for all jobs
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """A file of the page."""
        name = self.path.partition("?")[0].removeprefix(self.server.root) or "page.html"
        found = self.server.host.file(name) if self._allowed() else None
        self._send(found.read_bytes() if found else None, found.suffix if found else "")

    def do_POST(self) -> None:
        """An answer, for which there is the next job."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._send(self.server.host.exchange(body) if self._allowed() else None, "")

    def log_message(self, format: str, *args: Any) -> None:
        """Write no lines of access."""

    def _allowed(self) -> bool:
        return self.path.startswith(self.server.root)

    def _send(self, content: bytes | None, suffix: str) -> None:
        self.send_response(404 if content is None else 200)
        for name, value in ISOLATED.items():
            self.send_header(name, value)
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")
