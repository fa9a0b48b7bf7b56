"""Quantizers of others, each called as its documentation calls it, in an environment that has it.

`python _quantizers.py TOOL MODEL IMAGES OUT` reads an ONNX model and calibration images (.npy), and
writes the model that the tool makes of it. Nothing of this project is imported, as tools want other
releases of what it needs. The exit status is `MISSING` where the tool is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

MISSING = 3  # exit status
Images = list[dict[str, Any]]  # what the model is given, image by image
Quantizer = Callable[[str, Images, str], None]


class Reader:
    """Images as ONNX Runtime and Neural Compressor ask for them."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.rewind()

    def rewind(self) -> None:
        self._left: Iterator[dict[str, Any]] = iter(self._images)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def ort_dynamic(model: str, images: Images, out: str) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, out)


def ort_static(model: str, images: Images, out: str) -> None:
    from onnxruntime.quantization import quantize_static

    quantize_static(model, out, Reader(images))


def ort_static_advised(model: str, images: Images, out: str) -> None:
    """As its documentation advises for x86 processors with VNNI."""
    from onnxruntime.quantization import QuantType, quantize_static

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(model, out, Reader(images), per_channel=True, **kinds)


def ort_blocks(model: str, images: Images, out: str) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(model))
    quantizer.process()
    quantizer.model.save_model_to_file(out, False)


def nncf_int8(model: str, images: Images, out: str) -> None:
    import nncf
    import onnx

    made = nncf.quantize(
        onnx.load(model), nncf.Dataset(images), model_type=nncf.ModelType.TRANSFORMER
    )
    onnx.save(made, out)


def nncf_weights(model: str, images: Images, out: str) -> None:
    import nncf
    import onnx

    mode = nncf.CompressWeightsMode.INT4_SYM
    onnx.save(nncf.compress_weights(onnx.load(model), mode=mode, group_size=32), out)


def inc_static(model: str, images: Images, out: str) -> None:
    from onnx_neural_compressor.quantization import config, quantize

    quantize(model, out, config.StaticQuantConfig(Reader(images)))


def inc_dynamic(model: str, images: Images, out: str) -> None:
    from onnx_neural_compressor.quantization import config, quantize

    quantize(model, out, config.DynamicQuantConfig())


class Tool(NamedTuple):
    """A quantizer.

    Attributes:
        maker: program that has it.
        name: what it does, for people.
        package: to install.
        quantize: reads a model, and writes another.
        prepared: whether it is given the model as ONNX Runtime's guide prepares it, without which
            int8 models are several times slower.
    """

    maker: str
    name: str
    package: str
    quantize: Quantizer
    prepared: bool = True


ORT, INC = "onnxruntime", "onnx-neural-compressor"
ADVISED = "static QDQ int8, uint8 activations, a scale a channel"
TOOLS: dict[str, Tool] = {
    "ort_dynamic": Tool(ORT, "dynamic int8, defaults", ORT, ort_dynamic),
    "ort_static": Tool(ORT, "static QDQ int8, defaults", ORT, ort_static),
    "ort_static_advised": Tool(ORT, ADVISED, ORT, ort_static_advised),
    "ort_blocks": Tool(
        ORT, "4-bit weights, a scale for 128 inputs", ORT, ort_blocks, prepared=False
    ),
    "nncf_int8": Tool("NNCF", "static int8 of transformers", "nncf", nncf_int8, prepared=False),
    "nncf_weights": Tool(
        "NNCF", "4-bit weights, a scale for 32 inputs", "nncf", nncf_weights, prepared=False
    ),
    "inc_dynamic": Tool("Neural Compressor", "dynamic int8", INC, inc_dynamic),
    "inc_static": Tool("Neural Compressor", "static int8", INC, inc_static),
}


def main(tool: str, model: str, images: str, out: str) -> None:
    """Quantize a model by one of `TOOLS`."""
    chosen = TOOLS[tool]
    if not find_spec(chosen.package.replace("-", "_")):  # before anything that it may need fails
        sys.exit(MISSING)
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(model).graph.input[0].name
    given = [{name: image[None]} for image in np.load(images)]
    with TemporaryDirectory() as folder:
        if chosen.prepared:
            source, model = model, str(Path(folder) / "prepared.onnx")
            quant_pre_process(source, model)
        chosen.quantize(model, given, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
