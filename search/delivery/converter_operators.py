"""Operators that other runtimes take from an ONNX file, each list from the runtime's own page.

A listed operator has a converter, but not every use of it need convert. A name may be preceded by
its domain.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime that models may be converted for.

    Attributes:
        name: of the runtime.
        version: of the converter that the list is for.
        source: page of the list, with its commit.
        listed: ONNX operators that convert, "domain:Name" outside of the standard domain.
    """

    name: str
    version: str
    source: str
    listed: str

    @property
    def operators(self) -> frozenset[str]:
        """The names in the list."""
        return frozenset(self.listed.split())


TARGETS = (
    Target(
        "TensorRT",
        "10.0",
        "onnx-tensorrt docs/operators.md at 96e7811 (2024-06-17)",
        """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
        BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv
        ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout
        Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements
        GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
        GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity If ImageScaler
        InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
        LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
        MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or
        PRelu Pad ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike
        RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
        ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
        Relu Reshape Resize ReverseSequence RoiAlign Round ScaledTanh Scan Scatter
        ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
        Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu
        Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
        """,
    ),
    Target(
        "Core ML",
        "ML Program, onnxruntime 04f568d",
        "onnxruntime tools/ci_build/github/apple/coreml_supported_mlprogram_ops.md at 04f568d",
        """
        Add ArgMax AveragePool Cast Ceil Clip Concat Conv ConvTranspose Cos DepthToSpace Div
        Elu Erf Exp GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool GridSample
        GroupNormalization HardSigmoid Identity InstanceNormalization LayerNormalization
        LeakyRelu MatMul Max MaxPool Mul PRelu Pow Range Reciprocal ReduceMax ReduceMean
        ReduceSum Relu Reshape Resize Round Shape Sigmoid Sin Slice Softmax Softplus Split
        Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze com.microsoft:FusedConv
        com.microsoft:QuickGelu
        """,
    ),
    Target(
        "TFLite",
        "1.24.0",
        "onnx2tf README.md at 001faec, operators that it marks as fully supported",
        """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
        BatchNormalization Bernoulli BitShift Cast Ceil Celu Clip Compress Concat
        ConcatFromSequence Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
        DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal
        Erf Exp Expand EyeLike Flatten Floor FusedConv GRU Gather GatherElements GatherND Gelu
        Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid
        HardSwish Hardmax Identity If InstanceNormalization Inverse IsInf IsNaN LRN LSTM
        LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul
        MatMulInteger Max MaxPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min
        Mish Mod Mul Multinomial Neg NonMaxSuppression NonZero Not OneHot OptionalGetElement
        OptionalHasElement Or PRelu Pad Pow QLinearAdd QLinearConcat QLinearConv
        QLinearLeakyRelu QLinearMatMul QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear
        RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
        ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
        ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
        Round ScaleAndTranslate Scatter ScatterElements ScatterND Selu SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape
        Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split
        SplitToSequence Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose
        Trilu Unique Unsqueeze Upsample Where Xor
        """,
    ),
    Target(
        "NNAPI",
        "onnxruntime 5308675",
        "onnxruntime tools/ci_build/github/android/nnapi_supported_ops.md at 5308675",
        """
        Abs Add AveragePool Cast Clip Concat Conv DepthToSpace DequantizeLinear Div Elu Exp
        Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool Identity Log MatMul Max
        MaxPool Min Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Relu
        Reshape Resize Sigmoid Sin Slice Softmax Sqrt Squeeze Sub Tanh Transpose Unsqueeze
        com.microsoft:QLinearAdd com.microsoft:QLinearAveragePool com.microsoft:QLinearSigmoid
        """,
    ),
    Target(
        "ncnn",
        "20260526",
        "ncnn tools/pnnx/README.md at a4d2ea1 (2026-07-22), operators that export to ncnn",
        """
        Abs Acos Add Asin Atan AveragePool BatchNormalization Ceil Celu Clip Concat Constant
        Conv ConvTranspose Cos DepthToSpace Div Dropout Elu Exp Flatten Floor GRU Gelu Gemm
        GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid HardSwish
        InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax MatMul Max
        MaxPool Min Mish Mul Neg PRelu Pad Pow RMSNormalization RNN Reciprocal ReduceL1
        ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu Reshape Resize Selu Shrink Sigmoid Sin Slice Softmax
        Softplus Split Sqrt Squeeze Sub Sum Tan Tanh Transpose Unsqueeze
        """,
    ),
)
