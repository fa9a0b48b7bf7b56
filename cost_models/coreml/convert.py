"""Convert: an ONNX graph as an ML program of Core ML, operator by operator.

Written from the graph, as for other runtimes, and not by coremltools from torch: its releases are
tested with torch of years ago, and what is written here has names, axes and weights as delivered.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from ...spaces.errors import CostError, first_line
from ..onnx_ranking import without_top_k
from ..onnx_reading import write_operators
from ..stored_weights import StoredWeights
from .conversion import Conversion, tools
from .operators import OPERATORS
from .package import FOLDER, packed

DATE = "com.github.apple.coremltools.conversion_date"  # without which files are always the same


def to_coreml(
    model: onnx.ModelProto,
    weights: Mapping[str, StoredWeights] | None = None,
    about: Mapping[str, str] | None = None,
) -> bytes:
    """An archive with an .mlpackage, for iOS 16 and macOS 13 or later, computed in float32.

    Args:
        model: a graph in float32 with one input and one output, as `graphs.to_onnx` makes it.
        weights: how layers are stored, by the name of their weight in the graph; the others in
            float32.
        about: JSON by name, kept as metadata of the user.

    Raises:
        CostError: an operator that has no conversion, by name, or more axes than Core ML has.
    """
    ct = tools()
    conversion = Conversion(without_top_k(model), weights or {})
    given, answer = conversion.ends
    mil = import_module("coremltools.converters.mil.mil")
    ends = {given: conversion.mb.placeholder(shape=conversion.shape(given))}
    program = mil.Program()
    try:
        with mil.Function(ends, opset_version=ct.target.iOS16) as function:
            conversion.give(given, function.inputs[given])
            write_operators(conversion, OPERATORS)
            made_last = conversion.mb.identity(x=conversion.flat(answer), name=answer)
            function.set_outputs([made_last])
        program.add_function("main", function)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # of folders; what is redirected are bars of progress
            made = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT32,
                skip_model_load=True,
            )
    except CostError:
        raise
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as error:
        raise CostError(f"Core ML: coremltools refuses the graph: {first_line(error)}") from error
    for name, text in (about or {}).items():
        made.user_defined_metadata[name] = text
    made.user_defined_metadata.pop(DATE, None)
    with TemporaryDirectory() as folder:
        made.save(str(Path(folder) / FOLDER))
        return packed(Path(folder) / FOLDER)
