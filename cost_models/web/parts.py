"""Parts: the files that pages load to run models in a runtime of the web."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from .packages import LITERT, LITERT_UTILS, ORT, WASM, WEBGPU, package

ORT_FILES = {  # by what executes models: a script, the module that it loads, its code
    WASM: ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    WEBGPU: (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
# Of LiteRT.js, stems of a script and its code: for one thread, for several, for old browsers.
LITERT_STEMS = tuple(f"litert_wasm_{kind}internal" for kind in ("", "threaded_", "compat_"))


class Parts(NamedTuple):
    """What a page loads to run models.

    Attributes:
        engine: file of this folder that opens models in the runtime.
        files: of the runtime's packages, by the names that pages have for them.
        script: the one of these that is imported.
        code: the one of WebAssembly, which a page keeps for all its frames.
        channels_last: whether images have their channels last in the runtime's files.
    """

    engine: str
    files: Mapping[str, Path]
    script: str
    code: str
    channels_last: bool = False


def parts_of(runtime: str, executes: str = WASM, threads: int = 1) -> Parts:
    """Parts of a runtime, one of `RUNTIMES`.

    Args:
        runtime: its name.
        executes: what executes models, `WASM` or `WEBGPU`.
        threads: that execute them, where a page may have threads.

    Raises:
        ModuleNotFoundError: npm has not installed it.
    """
    return RUNTIMES[runtime](executes, threads)


def _onnxruntime(executes: str, threads: int) -> Parts:
    folder, names = package(ORT) / "dist", ORT_FILES[executes]
    return Parts("onnxruntime.mjs", {n: folder / n for n in names}, names[0], names[2])


def _litert(executes: str, threads: int) -> Parts:
    core, utils = package(LITERT), package(LITERT_UTILS)
    alone, threaded, old = LITERT_STEMS
    stems = (alone, *([threaded] if threads > 1 else []), old)
    names = [f"{stem}.{suffix}" for stem in stems for suffix in ("js", "wasm")]
    files = {"litert.js": core / "dist" / "index.js", "wasm-utils.js": utils / "dist" / "index.js"}
    files |= {name: core / "wasm" / name for name in names}
    code = f"{threaded if threads > 1 else alone}.wasm"
    return Parts("litert.mjs", files, "litert.js", code, channels_last=True)


RUNTIMES: Mapping[str, Callable[[str, int], Parts]] = {
    "onnxruntime-web": _onnxruntime,
    "litert-web": _litert,
}
