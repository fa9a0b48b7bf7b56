"""onnxruntime-web: ONNX Runtime as WebAssembly, in Chromium and in Node.js.

Models run in a process that this one starts once, and are timed by its own clock there, when the
functions that they need have been compiled by the optimizing compiler: as in a page that runs a
model again and again. In a page WebGPU may execute them, on the GPU that the browser gives; what it
has no kernel for is left to WebAssembly.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError, MissingRuntimeError
from ..device import Device
from ..runtime_spec import ONNX, Option, RuntimeSpec
from ..web.host import OWN, Host
from ..web.packages import (
    CHROMIUM,
    FILES,
    NODE,
    WASM,
    WEBGPU,
    dist,
    host_version,
    package_version,
    program,
)
from . import Runtime, Source, as_bytes

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


class WebModel:
    """One inference session of the host, opened again where that has begun anew."""

    def __init__(self, content: bytes, host: Host) -> None:
        self._content, self._host = content, host
        self._id, self._generation = -1, -1
        self._shape = self._opened()

    @property
    def input_shape(self) -> list[int]:
        """Shape of the one input."""
        return self._shape

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape, or of several such runs in a row -> outputs."""
        self._opened()
        if list(images.shape[1:]) != self._shape[1:] or len(images) % self._shape[0]:
            raise CostError(f"the model takes inputs of {self._shape}, got {list(images.shape)}")
        about, answer = self._host.ask("run", _bytes(images), id=self._id)
        return np.frombuffer(answer, np.float32).reshape(-1, *about["shape"][1:])

    def run_all(self, images: Array) -> Array:
        """Inputs of any number of runs -> outputs; the way there costs more than small runs."""
        runs = max(1, MOST_BYTES // (4 * int(np.prod(self._shape))))
        pieces = range(0, len(images), runs * self._shape[0])
        return np.concatenate([self.run(images[i : i + runs * self._shape[0]]) for i in pieces])

    def stopwatch(self, images: Array) -> Callable[[int, int, int], list[float]]:
        """What times runs where they run, see `timing.stopwatch`."""
        self._opened()
        self._host.ask("take", _bytes(images), id=self._id)

        def times(readings: int, runs: int, before: int) -> list[float]:
            about, _ = self._host.ask(
                "time", id=self._id, readings=readings, runs=runs, before=before
            )
            return about["ms"]

        return times

    def kernels(self) -> dict[str, int]:
        """Operators that one run executes."""
        return dict(Counter(self._host.ask("kernels", self._content)[0]["names"]))

    def memory_mb(self) -> None:
        """Sessions share one memory; `footprint` measures a fresh one."""
        return

    def _opened(self) -> list[int]:
        """Open the session where there is none; the shape of its input."""
        host, now = self._host, self._host.generation
        if self._generation != now:
            self._id = next(SERIAL)
            about, _ = host.ask("open", self._content, id=self._id)
            self._generation, self._shape = now, about["shape"]
            # Garbage is collected in the middle of other jobs: it is only noted.
            weakref.finalize(self, host.forget, self._id, now).atexit = False
        return self._shape


def _bytes(images: Array) -> bytes:
    return np.ascontiguousarray(images, np.float32).tobytes()


class WebRuntime(Runtime):
    """Runs models in a program, which is started for the first of them."""

    def __init__(self, device: Device) -> None:
        self._device, self._program, self._dist = device, program(device.provider), dist()
        self._executes = str(dict(device.options).get("provider", WASM))

    @property
    def _host(self) -> Host:
        device, start, executes = self._device, STARTS[self._device.provider], self._executes
        more = SOFTWARE, self._program, self._dist
        key = (device.provider, executes, device.threads, device.affinity, *more)
        if key not in HOSTS or not HOSTS[key].alive:

            def command(url: str, scratch: Path) -> list[str]:
                return [self._program, *start(url, self._dist, executes, device.threads, scratch)]

            name = host_version(device.provider) or device.provider
            HOSTS[key] = Host(name, command, self._dist, device.affinity)
        return HOSTS[key]

    def compile(self, model: Source) -> WebModel:
        """Open a session.

        Raises:
            CostError: onnxruntime-web refuses the graph.
        """
        source, host = as_bytes(model), self._host
        try:
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            return WebModel(content, host)
        except OSError as error:
            raise CostError(f"{source}: cannot be read: {error.strerror}") from error
        except CostError as error:
            raise CostError(f"onnxruntime-web refuses the graph: {error}") from error

    def check(self) -> None:
        """Start the program, where only that tells whether it can execute models.

        Raises:
            CostError: it cannot.
        """
        if self._executes == WEBGPU:
            _ = self._host

    def renew(self) -> None:
        """Begin anew with memory that nothing has used."""
        self._host.renew()

    def peak_mb(self) -> float:
        """Memory of WebAssembly that was used at the most since then."""
        return self._host.ask("peak")[0]["mb"]


def _node(url: str, files: Path, executes: str, threads: int, scratch: Path) -> list[str]:
    return [str(OWN / "node.mjs"), url, str(files), str(threads)]


def _chromium(url: str, files: Path, executes: str, threads: int, scratch: Path) -> list[str]:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    script, _, code = FILES[executes]
    asked = {"threads": threads, "provider": executes, "script": script, "code": code}
    asked |= {"software": "yes"} if SOFTWARE else {}
    return [
        *QUIET,
        *GPU[executes],
        *(["--no-sandbox"] if root else []),  # it has none for root
        f"--user-data-dir={scratch / 'profile'}",
        f"{url}?{urlencode(asked)}",
    ]


STARTS = {CHROMIUM: _chromium, NODE: _node}


def open_runtime(device: Device) -> WebRuntime:
    """onnxruntime-web in the program that the device's provider names.

    Raises:
        ModuleNotFoundError: npm has not installed it.
        MissingRuntimeError: the program is not here, or there is none of that name; or it has no
            GPU for WebGPU, which is asked for.
    """
    if device.provider not in STARTS:
        raise MissingRuntimeError(
            f"device {device.name!r}: onnxruntime-web runs in {' or '.join(STARTS)}, not in "
            f"{device.provider!r}"
        )
    try:
        runtime = WebRuntime(device)
        runtime.check()
        return runtime
    except CostError as error:
        raise MissingRuntimeError(f"device {device.name!r}: {error}") from None


SPEC = RuntimeSpec(
    name="onnxruntime-web",
    distributions=("onnxruntime-web",),
    install="onnxruntime-web@1.30.0",
    installer="npm",
    find_version=package_version,
    host=host_version,
    format=ONNX,
    chips={CHROMIUM: "WebAssembly", NODE: "WebAssembly"},
    open=open_runtime,
    in_caller=False,
    outside=True,
    folds_constants=True,
    integer_kernels=(
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"),
        *("QGemm", "ConvInteger", "QLinearConv", "QAttention"),
    ),
    tested=("1.27", "1.30"),
    options={"provider": Option((WASM, WEBGPU), (CHROMIUM,), (WASM, WEBGPU))},
)
