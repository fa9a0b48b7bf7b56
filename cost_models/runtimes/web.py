"""Web: what runtimes of the web share, which run in Chromium or Node.js beside this process.

Models run in a process that this one starts once, and are timed by its own clock there, when the
functions that they need have been compiled by the optimizing compiler: as in a page that runs a
model again and again.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..web.host import OWN, Host
from ..web.packages import CHROMIUM, NODE, WASM, WEBGPU, host_version, program
from ..web.parts import Parts, parts_of
from . import Runtime
from .converting import channels_first

Array = NDArray[np.float32]
HOSTS: dict[tuple[object, ...], Host] = {}  # by what they are started with
SERIAL = count()
MOST_BYTES = 16 << 20  # of inputs that are sent at once
QUIET = (  # no window, and nothing that works beside the model
    *("--headless", "--no-first-run", "--no-default-browser-check"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--disable-dev-shm-usage", "--mute-audio"),
)
SOFTWARE = False  # whether a GPU may be a program of the browser's, which tests the way to others
GPU = {WASM: ("--disable-gpu",), WEBGPU: ("--enable-unsafe-webgpu",)}  # which Linux asks for


class Start(NamedTuple):
    """What a program is started with.

    Attributes:
        url: at which it asks for jobs.
        parts: of the runtime.
        executes: what executes models there.
        threads: of a run.
        scratch: folder that is its own.
    """

    url: str
    parts: Parts
    executes: str
    threads: int
    scratch: Path


class WebModel:
    """One model that the host has opened, and opens again where it has begun anew.

    Args:
        content: of a file.
        host: that runs it.
        channels_last: whether the file has channels of images last.
    """

    def __init__(self, content: bytes, host: Host, channels_last: bool = False) -> None:
        self._content, self._host, self._channels_last = content, host, channels_last
        self._id, self._generation = -1, -1
        self._shape = self._opened()

    @property
    def content(self) -> bytes:
        """Of the file."""
        return self._content

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input; images have their channels first, as everywhere here."""
        return channels_first(self._shape) if self._channels_last else self._shape

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape, or of several such runs in a row -> outputs."""
        self._opened()
        shape = self.input_shape
        if list(images.shape[1:]) != shape[1:] or len(images) % shape[0]:
            raise CostError(f"the model takes inputs of {shape}, got {list(images.shape)}")
        about, answer = self._host.ask("run", self._bytes(images), id=self._id)
        found = np.frombuffer(answer, np.float32).reshape(-1, *about["shape"][1:])
        return found.transpose(0, 3, 1, 2) if self._channels_last and found.ndim == 4 else found

    def run_all(self, images: Array) -> Array:
        """Inputs of any number of runs -> outputs; the way there costs more than small runs."""
        runs = max(1, MOST_BYTES // (4 * int(np.prod(self._shape))))
        pieces = range(0, len(images), runs * self._shape[0])
        return np.concatenate([self.run(images[i : i + runs * self._shape[0]]) for i in pieces])

    def stopwatch(self, images: Array) -> Callable[[int, int, int], list[float]]:
        """What times runs where they run, see `timing.stopwatch`."""
        self._opened()
        self._host.ask("take", self._bytes(images), id=self._id)

        def times(readings: int, runs: int, before: int) -> list[float]:
            about, _ = self._host.ask(
                "time", id=self._id, readings=readings, runs=runs, before=before
            )
            return about["ms"]

        return times

    def kernel_names(self) -> list[str]:
        """Names of the operators that one run executes, where the runtime tells them."""
        return self._host.ask("kernels", self._content)[0]["names"]

    def memory_mb(self) -> None:
        """Models share one memory; `footprint` measures a fresh one."""
        return

    def _bytes(self, images: Array) -> bytes:
        laid = images.transpose(0, 2, 3, 1) if self._channels_last and images.ndim == 4 else images
        return np.ascontiguousarray(laid, np.float32).tobytes()

    def _opened(self) -> list[int]:
        """Open the model where there is none; the shape of its input in the file."""
        host, now = self._host, self._host.generation
        if self._generation != now:
            self._id = next(SERIAL)
            about, _ = host.ask("open", self._content, id=self._id)
            self._generation, self._shape = now, about["shape"]
            # Garbage is collected in the middle of other jobs: it is only noted.
            weakref.finalize(self, host.forget, self._id, now).atexit = False
        return self._shape


M = TypeVar("M", bound=WebModel)


class WebRuntime(Runtime):
    """Runs models in a program, which is started for the first of them.

    Args:
        device: whose provider is the program.
        executes: what executes models there, `WASM` or `WEBGPU`.

    Attributes:
        title: name of the runtime, as errors call it.
        starts: the programs in which it runs, with what makes their command lines.

    Raises:
        ModuleNotFoundError: npm has not installed the runtime.
        MissingRuntimeError: the program is not here, or the runtime does not run in it.
    """

    title: str
    starts: Mapping[str, Callable[[Start], list[str]]]

    def __init__(self, device: Device, executes: str = WASM) -> None:
        if device.provider not in self.starts:
            raise MissingRuntimeError(
                f"device {device.name!r}: {self.title} runs in {' or '.join(self.starts)}, not in "
                f"{device.provider!r}"
            )
        self._parts = parts_of(device.runtime, executes, device.threads)
        try:
            self._program = program(device.provider)
        except MissingRuntimeError as error:
            raise MissingRuntimeError(f"device {device.name!r}: {error}") from None
        self._device, self._executes = device, executes

    @property
    def host(self) -> Host:
        """The program, started where it does not run.

        Raises:
            CostError: it does not start, or cannot execute models.
        """
        device, parts, executes = self._device, self._parts, self._executes
        more = SOFTWARE, self._program, *parts.files.values()
        key = (device.provider, executes, device.threads, device.affinity, *more)
        if key not in HOSTS or not HOSTS[key].alive:

            def command(url: str, scratch: Path) -> list[str]:
                start = Start(url, parts, executes, device.threads, scratch)
                return [self._program, *self.starts[device.provider](start)]

            name = host_version(device.provider) or device.provider
            HOSTS[key] = Host(name, self.title, command, parts.files, device.affinity)
        return HOSTS[key]

    def opened(self, model: bytes | str, make: Callable[[bytes, Host], M]) -> M:
        """Open a file's content, or the file of a path.

        Raises:
            CostError: it cannot be read, or the runtime refuses it.
        """
        host = self.host
        try:
            content = model if isinstance(model, bytes) else Path(model).read_bytes()
            return make(content, host)
        except OSError as error:
            raise CostError(f"{model!s}: cannot be read: {error.strerror}") from error
        except CostError as error:
            raise CostError(f"{self.title} refuses the graph: {error}") from error

    def renew(self) -> None:
        """Begin anew with memory that nothing has used."""
        self.host.renew()

    def peak_mb(self) -> float:
        """Memory of WebAssembly that was used at the most since then."""
        return self.host.ask("peak")[0]["mb"]


def in_node(start: Start) -> list[str]:
    """Arguments of Node.js."""
    folder = start.parts.files[start.parts.script].parent
    return [str(OWN / "node.mjs"), start.url, str(folder), str(start.threads)]


def in_chromium(start: Start) -> list[str]:
    """Arguments of Chromium."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    asked = query(start.parts, start.executes, start.threads)
    asked |= {"software": "yes"} if SOFTWARE else {}
    return [
        *QUIET,
        *GPU[start.executes],
        *(["--no-sandbox"] if root else []),  # it has none for root
        f"--user-data-dir={start.scratch / 'profile'}",
        f"{start.url}?{urlencode(asked)}",
    ]


def query(parts: Parts, executes: str, threads: int) -> dict[str, str]:
    """What `page.html` is asked for."""
    told = {"engine": parts.engine, "script": parts.script, "code": parts.code}
    return told | {"threads": str(threads), "provider": executes}


STARTS = {CHROMIUM: in_chromium, NODE: in_node}
