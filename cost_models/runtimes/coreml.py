"""Core ML: programs for Apple's systems, made here and run there.

What a file answers is computed here by the definitions of its operators, so that a conversion can
be compared; Core ML itself is not asked, and nothing is timed.
"""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...spaces.errors import CostError
from ..device import Device
from ..runtime_spec import RuntimeSpec
from . import Source
from .converting import Converting, refusing

if TYPE_CHECKING:
    from ..coreml.package import Program

Array = NDArray[np.float32]


class CoreMlModel:
    """One ML program.

    Attributes:
        input_shape: of a batch of images.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.input_shape = list(program.input_shape)

    def run(self, images: Array) -> Array:
        """Inputs of the compiled shape -> what the program is defined to answer."""
        from ..coreml.evaluate import evaluate

        return evaluate(self._program, images)

    def kernels(self) -> dict[str, int]:
        """Operators of the program, all in float32."""
        kinds = (operation.kind for operation in self._program.operations)
        return dict(Counter(f"{kind}:float32" for kind in kinds if kind != "const"))

    def memory_mb(self) -> None:
        """Nothing: Core ML is not here."""
        return


class CoreMlRuntime(Converting):
    """Converts ONNX graphs, and computes what programs are defined to answer."""

    title, writer = "Core ML", "..coreml.convert:to_coreml"

    def __init__(self, device: Device) -> None:
        if find_spec("coremltools") is None:  # which takes seconds to import
            raise ModuleNotFoundError("No module named 'coremltools'", name="coremltools")

    def compile(self, model: Source) -> CoreMlModel:
        """Read a program, every part of which is checked.

        Raises:
            CostError: it is no file of Core ML, or has what Core ML does not.
        """
        from ..coreml.evaluate import check_known
        from ..coreml.package import read_program

        content = self.content(model)
        with refusing(self.title, "file", (OSError, CostError)):
            read = content if isinstance(content, bytes) else Path(content).read_bytes()
            program = read_program(read)
            check_known(program)
        return CoreMlModel(program)


SPEC = RuntimeSpec(
    name="coreml",
    distributions=("coremltools",),
    install="vitpareto[coreml]",
    format="coreml",
    chips={"ALL": "apple"},
    open=CoreMlRuntime,
    in_caller=False,
    converts=True,
    recipes=("float", "stored8"),
    stand_in="the definitions of its operators",
    tested=("9.0", "9.0"),
)
