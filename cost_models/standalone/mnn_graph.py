"""The graph of MNN: a file that is opened with MNN alone, and none of this package.

It is copied into bundles and kits, as graph.py.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module, metadata
from typing import Any

from .silence import silent

PACKAGE = MODULE = "MNN"
MODULES = (MODULE,)  # that are loaded before a model is
FLOAT32 = "high"  # precision; MNN would compute in 16 bits where a processor can
# Of `setSessionHint`: sizes to choose from for the tiles of Winograd's convolutions. By default
# there are three, and the largest answers 5e-4 away from what a convolution is, no faster.
TILES, FEWEST = 3, 1


def version() -> str:
    """Version that is installed, in the words of `Device.identity`."""
    return metadata.version(PACKAGE)


class Graph:
    """A session.

    Args:
        path: of a file of MNN.
        device: its threads.

    Attributes:
        input_shape: of a batch of images.

    Raises:
        ValueError: MNN refuses the file.
    """

    def __init__(self, path: str, device: dict[str, Any]) -> None:
        import numpy as np

        settings = {"backend": "CPU", "precision": FLOAT32, "numThread": device["threads"]}
        with silent():
            self._mnn: Any = import_module(MODULE)
            try:
                self._net: Any = self._mnn.Interpreter(path)
                self._net.setSessionHint(TILES, FEWEST)
                self._session: Any = self._net.createSession(settings)
            except Exception as error:  # MNN raises no other kind
                raise ValueError(f"not a file of MNN {version()}, or a part is missing") from error
            self._given: Any = self._net.getSessionInput(self._session)
            self._made: Any = self._net.getSessionOutput(self._session)
        self.input_shape: list[int] = list(self._given.getShape())
        self._shape = tuple(self._made.getShape())
        self._answer = self._tensor(np.zeros(self._shape, np.float32))

    def run(self, images: Any) -> Any:
        """Inputs -> first output.

        Raises:
            ValueError: the inputs are of another shape, of which MNN says nothing.
            RuntimeError: MNN stopped.
        """
        import numpy as np

        self._give(np.ascontiguousarray(images, np.float32))
        if failed := self._net.runSession(self._session):
            raise RuntimeError(f"MNN stopped with code {failed}")
        self._made.copyToHostTensor(self._answer)
        return np.array(self._answer.getNumpyData(), np.float32).reshape(self._shape)

    def kernels(self) -> dict[str, int]:
        """Kernels that run, by what MNN calls them."""
        import numpy as np

        names: list[str] = []

        def note(tensors: Any, kernel: Any) -> bool:
            names.append(f"{kernel.getType()}:float32")
            return True

        self._give(np.zeros(self.input_shape, np.float32))
        with silent():
            self._net.runSessionWithCallBackInfo(self._session, lambda *_: True, note)
        return dict(Counter(names))

    def memory_mb(self) -> float:
        """Memory that the session holds."""
        return float(self._net.getSessionInfo(self._session, 0))

    def _give(self, x: Any) -> None:
        if list(x.shape) != self.input_shape:
            raise ValueError(f"inputs are {list(x.shape)}, the file takes {self.input_shape}")
        self._given.copyFrom(self._tensor(x))

    def _tensor(self, x: Any) -> Any:
        """A tensor of MNN with the elements of an array, channels first as everywhere here."""
        kind, order = self._mnn.Halide_Type_Float, self._mnn.Tensor_DimensionType_Caffe
        return self._mnn.Tensor(x.shape, kind, x, order)
