"""Rewrites: operators of ONNX Runtime as standard ones that compute the same with the same kernels.

Integer operators become what their quantizer started from, fused ones come apart again. What they
do is told by the operator documentation of ONNX Runtime (ContribOperators.md).
"""

from __future__ import annotations

from typing import Any

from .onnx_fused import BLOCKED, FUSED
from .onnx_integers import INTEGERS
from .onnx_kinds import STANDARD
from .onnx_writer import Rewritten, Shapes, UnknownFormError, Writer

_ORT = ("com.microsoft", *STANDARD)  # some of its operators it writes without their domain
_BLOCKED = "com.microsoft.nchwc"  # channels in groups as wide as the processor's vectors
# Written without their domain, or standard.
_WITHOUT_DOMAIN = ("QLinearMatMul", "QLinearConv", "SimplifiedLayerNormalization")


def rewritten(node: Any, shapes: Shapes) -> Rewritten | None:
    """What a node is in standard operators; None where it is one, or is not known.

    Args:
        node: `onnx.NodeProto`.
        shapes: value -> shape, of those that are known.
    """
    known = BLOCKED if node.domain == _BLOCKED else {**INTEGERS, **FUSED}
    write = known.get(node.op_type)
    if node.domain not in (*_ORT, _BLOCKED) or write is None:
        return None
    if node.domain in STANDARD and node.op_type not in _WITHOUT_DOMAIN:
        return None
    writer = Writer(node, shapes)
    try:
        write(writer)
    except UnknownFormError:
        return None
    return writer.written
