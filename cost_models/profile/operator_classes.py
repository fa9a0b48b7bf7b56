"""Operator classes: kinds of kernels, in the words of whoever designs a network.

A runtime names its kernels as it likes, ONNX Runtime after what it fused, OpenVINO by kinds of
layers. A product of two activations is one of attention, one with a constant a linear layer,
whatever kernel computes it. An operator that is not listed is a class of its own, by its name, so
that its time is never hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..runtimes.kernel import Kernel

ATTENTION, LINEAR = "attention products", "linear"
CALL = "call"  # what a run takes without any kernel
OTHER = "other: "  # before the name of an operator that is not listed
PRODUCTS = (
    *("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "MatMulNBits"),
    *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"),
    *("MatMulFpQ4", "MatMulBnb4", "GemmFloat8", "FullyConnected"),
)
CLASSES = {
    ATTENTION: (
        *("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention", "Einsum"),
        *("PackedAttention", "PackedMultiHeadAttention", "DecoderMaskedMultiHeadAttention"),
        *("ScaledDotProductAttention", "MHA"),
    ),
    "softmax": ("Softmax", "LogSoftmax", "BiasSoftmax", "QLinearSoftmax", "Hardmax"),
    "convolution": (
        *("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"),
        *("NhwcConv", "Convolution", "Deconvolution"),
    ),
    "norm": (
        *("LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"),
        *("SkipSimplifiedLayerNormalization", "InstanceNormalization", "GroupNormalization"),
        *("GroupNorm", "SkipGroupNorm", "BatchNormalization", "RMSNormalization"),
        *("LpNormalization", "MeanVarianceNormalization", "EmbedLayerNormalization"),
        *("MVN", "RMS", "NormalizeL2"),
    ),
    "elementwise": (
        *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Neg", "Abs", "Exp", "Log"),
        *("Erf", "Sin", "Cos", "Tanh", "Sigmoid", "Relu", "LeakyRelu", "Elu", "Clip", "Min", "Max"),
        *("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "QGelu", "HardSigmoid", "HardSwish"),
        *("Swish", "Mish", "Softplus", "ThresholdedRelu", "Sum", "Mean", "Floor", "Round", "Ceil"),
        *("Where", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Not"),
        *("Mod", "Sign", "PRelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
        *("QLinearWhere", "RotaryEmbedding", "FusedMul", "BiasAdd"),
        *("Eltwise", "Math", "Subgraph", "Select", "RoPE", "Multiply", "Subtract"),
    ),
    "reduction": (
        *("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "NhwcMaxPool"),
        *("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearReduceMean", "ReduceMean"),
        *("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
        *("ReduceSumSquare", "ReduceLogSumExp", "TopK", "ArgMax", "ArgMin", "Reduce", "Pooling"),
    ),
    "layout": (
        *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "Split"),
        *("Slice", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Pad"),
        *("Expand", "Tile", "Shape", "Size", "ConstantOfShape", "Range", "DepthToSpace", "Roll"),
        *("SpaceToDepth", "ReorderInput", "ReorderOutput", "QLinearConcat", "Resize", "Trilu"),
        *("MemcpyToHost", "MemcpyFromHost", "Cast", "Constant", "ReverseSequence", "Upsample"),
        *("Reorder", "Concatenation", "StridedSlice", "ScatterUpdate", "Broadcast", "Convert"),
        *("ScatterNDUpdate", "ScatterElementsUpdate"),
        *("ShapeOf", "Interpolate"),
    ),
    "quantization": (
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "FakeQuantize"),
    ),
}
_BY_OPERATOR = {operator: name for name, listed in CLASSES.items() for operator in listed}


def classes_of(kernels: Sequence[Kernel]) -> list[str]:
    """Class of each kernel."""
    return list(_classes(kernels))


def _classes(kernels: Sequence[Kernel]) -> Iterator[str]:
    constants: set[str] = set()  # what is made of constants alone, at every run
    for kernel in kernels:
        if not set(kernel.reads) - constants and kernel.weights:
            constants.update(value.name for value in kernel.writes)
        if kernel.operator in PRODUCTS:
            weighs = bool(kernel.weights) or bool(set(kernel.reads) & constants)
            yield LINEAR if weighs else ATTENTION
        else:
            yield _BY_OPERATOR.get(kernel.operator, f"{OTHER}{kernel.operator}")
