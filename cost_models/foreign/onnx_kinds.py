"""Kinds of ONNX operators: of which pieces are made, and which belong to the pieces around them."""

from __future__ import annotations

from typing import Any

# Products, of which pieces are made.
WORK = {
    *("MatMul", "Gemm", "MatMulInteger", "Conv", "ConvInteger", "ConvTranspose"),
    *("Attention", "Einsum"),
}
# What belongs to the sub-block around it and is measured with it: what computes each element for
# itself, what moves elements, what reduces, normalizes and pools them.
_LIGHT = """
    Abs Add And BitShift Cast CastLike Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor
    Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log
    Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu Reciprocal Relu Round Selu Sigmoid Sign Sin
    Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where Xor RotaryEmbedding
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear

    Concat Constant ConstantOfShape CumSum DepthToSpace Expand EyeLike Flatten Gather
    GatherElements GatherND OneHot Pad Range Reshape ScatterElements ScatterND Shape Size
    Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze

    ArgMax ArgMin AveragePool BatchNormalization GlobalAveragePool GlobalMaxPool
    GroupNormalization InstanceNormalization LayerNormalization LogSoftmax LpNormalization
    MaxPool MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare RMSNormalization Softmax TopK
"""
LIGHT = set(_LIGHT.split())
# What only moves values, or codes them as integers.
MOVES = (
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"),
    *("QuantizeLinear", "DequantizeLinear"),
)
# Activation functions, by the operator that they have alone.
ACTIVATIONS = {
    "Gelu": "gelu",
    "Erf": "gelu",
    "HardSwish": "hardswish",
    "HardSigmoid": "hardswish",
    "Swish": "silu",
    "Sigmoid": "silu",
    "Relu": "relu",
}
STANDARD = ("", "ai.onnx")  # domains of ONNX's own operators


def kind_of(node: Any) -> str:
    """Kind of a node, with its domain where that is not ONNX's own."""
    return str(node.op_type if node.domain in STANDARD else f"{node.domain}:{node.op_type}")
