"""LiteRT.js: LiteRT as WebAssembly in a page of Chromium, with the kernels of XNNPACK.

It does not tell which kernels it executes. What is counted are the operators of the file, which
LiteRT executes as they are, with what they multiply.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from ...spaces.errors import MissingRuntimeError
from ..device import Device
from ..runtime_spec import RuntimeSpec
from ..standalone.litert_graph import MULTIPLIES
from ..web.packages import CHROMIUM, LITERT, host_version, package_version
from . import Source
from .converting import Converting
from .web import WebModel, WebRuntime, in_chromium

STARTS = {CHROMIUM: in_chromium}


class LiteRtWebModel(WebModel):
    """A model of LiteRT.js."""

    def kernels(self) -> dict[str, int]:
        """Operators of the file with what they multiply."""
        from ..tflite.reading import operators_of, read_file

        return operators_of(read_file(self.content))


class LiteRtWebRuntime(Converting, WebRuntime):
    """Converts ONNX graphs as for LiteRT, and runs them in a page."""

    title, writer, starts = "LiteRT.js", "..tflite.convert:to_tflite", STARTS

    def compile(self, model: Source) -> LiteRtWebModel:
        """Open a file.

        Raises:
            CostError: LiteRT.js refuses it.
        """
        return self.opened(self.content(model), partial(LiteRtWebModel, channels_last=True))


def open_runtime(device: Device) -> LiteRtWebRuntime:
    """LiteRT.js in Chromium.

    Raises:
        ModuleNotFoundError: npm has not installed it.
        MissingRuntimeError: the program is not here, or there is none of that name; or what writes
            the files of LiteRT is not.
    """
    runtime = LiteRtWebRuntime(device)
    if find_spec("ai_edge_litert") is None:
        raise MissingRuntimeError(
            f"device {device.name!r} needs ai-edge-litert, which writes the files of LiteRT.js and "
            "is not installed: pip install 'vitpareto[litert]'"
        )
    return runtime


SPEC = RuntimeSpec(
    name="litert-web",
    distributions=(LITERT,),
    install=f"{LITERT}@2.5.3",
    installer="npm",
    find_version=partial(package_version, LITERT),
    host=host_version,
    format="tflite",
    chips={CHROMIUM: "WebAssembly"},
    open=open_runtime,
    in_caller=False,
    outside=True,
    integer_kernels=tuple(f"{name}:int*" for name in MULTIPLIES),
    converts=True,
    recipes=("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4"),
    channels_last=True,
    tested=("2.5", "2.5"),
)
