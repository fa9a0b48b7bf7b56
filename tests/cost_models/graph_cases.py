"""Graphs and spaces that converters are tried with: each runtime's must answer as ONNX Runtime."""

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.files import unit_file
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.tables.anchors import SMALL
from vitpareto.cost_models.units.unit import Unit

EXAMPLES = examples()
ISOTROPIC = """
name: features
in_chans: 3
num_classes: 5
input_size: 32
patch_size: 8
stem: [patch, conv]
pos_embed: [learned, patches, relative, none]
global_pool: [avg, token, distill, token_avg, map]
pool_heads: 2
norm: [layer, rms]
act: [gelu, relu, silu, hardswish, gelu_tanh, quick_gelu]
token_reduction: [evit, evit_mean, random]
layer_scale: true
stages:
  - depth: 2
    width: 16
    head_dim: 8
    window_size: [2, 4]
    kv_heads: 1
    kv_pool: 2
    token_keep: [1.0, 0.7]
    token_keep_at: ["0", "1"]
    blocks:
      mixer: [softmax, grouped, pooled, window, linear, pool, token_mlp]
      num_heads: [2, 4]
      token_mlp_ratio: 0.5
      mlp_ratio: 2.0
"""
HYBRID = """
name: hybrid
in_chans: 1
num_classes: 5
input_size: 40
patch_size: 4
stem: [patch, conv]
global_pool: avg
norm: [batch, group, layer]
act: [gelu, relu, silu, hardswish]
stages:
  - depth: [1, 2]
    width: 16
    blocks: {mixer: [mbconv, pool], kernel_size: [3, 5], mlp_ratio: [1.0, 2.0]}
  - depth: 2
    width: 24
    downsample: [conv, merge]
    head_dim: 8
    window_size: 3
    kv_pool: 2
    kernel_size: 3
    blocks: {mixer: [window, linear, pooled, mbconv], num_heads: [2, 3], mlp_ratio: 1.0}
"""


def graph_of(
    shape: tuple[int, ...],
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    result: tuple[int, ...] | None = None,
) -> onnx.ModelProto:
    """A graph from `x` to `y`."""
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", shape), ("y", result))]
    tensors = [numpy_helper.from_array(v, name) for name, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def padding_themselves() -> list[onnx.ModelProto]:
    """Graphs of one operator each, whose padding follows from its sizes."""
    weight = {"w": np.ones((3, 3, 3, 3), np.float32)}
    nodes = [
        node("Conv", "x w", "y", kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        node("AveragePool", "x", "y", kernel_shape=[3, 3], auto_pad="SAME_LOWER"),
    ]
    return [graph_of((1, 3, 7, 7), [each], weight, (1, 3, 7, 7)) for each in nodes]


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


RANDOM = np.random.default_rng(1)
CASES = {
    "conv with other padding on each side": (
        (2, 3, 7, 9),
        [node("Conv", "x w", "y", kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 1])],
        {"w": RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)},
        (2, 4, 4, 9),
    ),
    "conv whose bias is called nothing": (
        (1, 3, 5, 5),
        [helper.make_node("Conv", ["x", "w", ""], ["y"])],
        {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3, 1, 1)},
        (1, 4, 5, 5),
    ),
    "depthwise conv with two filters a channel": (
        (1, 3, 8, 8),
        [node("Conv", "x w", "y", kernel_shape=[3, 3], group=3, strides=[2, 2], pads=[1, 1, 1, 1])],
        {"w": RANDOM.standard_normal((6, 1, 3, 3)).astype(np.float32)},
        (1, 6, 4, 4),
    ),
    "average over squares that reach over the edge": (
        (1, 3, 7, 7),
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
        {},
        (1, 3, 4, 4),
    ),
    "average that counts zeros around": (
        (1, 3, 7, 7),
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)],
        {},
        (1, 3, 7, 7),
    ),
    "bias that is no bias": (
        (1, 4, 3),
        [node("MatMul", "x w", "a"), node("Add", "a b", "y")],
        {
            "w": RANDOM.standard_normal((3, 4)).astype(np.float32),
            "b": RANDOM.standard_normal((4, 1)).astype(np.float32),
        },
        (1, 4, 4),
    ),
    "relu whose input is read twice": (
        (1, 4, 3),
        [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("Add", "a b", "y")],
        {"w": RANDOM.standard_normal((3, 3)).astype(np.float32)},
        (1, 4, 3),
    ),
    "hard swish": (
        (1, 2, 4, 4),
        [node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "x a", "y")],
        {},
        (1, 2, 4, 4),
    ),
    "hard sigmoid alone": (
        (1, 2, 4, 4),
        [node("HardSigmoid", "x", "a", alpha=1 / 6), node("Sub", "x a", "y")],
        {},
        (1, 2, 4, 4),
    ),
    "norm of groups": (
        (2, 4, 6),
        [node("InstanceNormalization", "x s b", "y", epsilon=1e-3)],
        {"s": RANDOM.random(4).astype(np.float32), "b": RANDOM.random(4).astype(np.float32)},
        (2, 4, 6),
    ),
    "sum over images that lie channels last": (
        (2, 3, 4, 5),
        [node("ReduceSum", "x axes", "y", keepdims=0)],
        {"axes": whole(1, 3)},
        (2, 4),
    ),
    "mean over all, and a maximum": (
        (2, 3, 4),
        [node("ReduceMax", "x axes", "a"), node("Clip", "a low high", "y")],
        {"axes": whole(-1), "low": np.float32([0])[0], "high": np.float32([0.5])[0]},
        (2, 3, 1),
    ),
    "parts joined in another order": (
        (1, 6, 4),
        [
            helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            node("Transpose", "a", "c", perm=[0, 2, 1]),
            node("Transpose", "b", "d", perm=[0, 2, 1]),
            node("Concat", "d c", "y", axis=2),
        ],
        {},
        (1, 4, 6),
    ),
    "one place, and places in a row": (
        (1, 6, 4),
        [node("Gather", "x some", "a", axis=1), node("Gather", "a one", "y", axis=2)],
        {"some": whole(4, 0, 5), "one": np.array(-1, np.int64)},
        (1, 3),
    ),
    "product with keys that lie transposed": (
        (1, 2, 5, 4),
        [
            node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
            node("MatMul", "x t", "a"),
            node("Transpose", "a", "b", perm=[1, 0, 2, 3]),
            node("Transpose", "x", "c", perm=[1, 0, 2, 3]),
            node("MatMul", "b c", "y"),
        ],
        {},
        (2, 1, 5, 4),
    ),
    "product with a constant query, and one with constant values": (
        (1, 2, 5, 4),
        [
            node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
            node("MatMul", "q t", "a"),
            node("MatMul", "a v", "y"),
        ],
        {
            "q": RANDOM.standard_normal((1, 2, 1, 4)).astype(np.float32),
            "v": RANDOM.standard_normal((1, 2, 5, 3)).astype(np.float32),
        },
        (1, 2, 1, 3),
    ),
    "images split into windows": (
        (1, 4, 6, 2),
        [
            node("Reshape", "x s", "a"),
            node("Transpose", "a", "b", perm=[0, 1, 3, 2, 4, 5]),
            node("Reshape", "b t", "y"),
        ],
        {"s": whole(1, 2, 2, 2, 3, 2), "t": whole(4, 6, 2)},
        (4, 6, 2),
    ),
    "copies of which there are many": (
        (1, 1, 3, 2),
        [node("Tile", "x times", "y")],
        {"times": whole(1, 6, 7, 1)},
        (1, 6, 21, 2),
    ),
}


@cache
def _exported(kind: str) -> onnx.ModelProto:
    return to_onnx(*build(EXAMPLES[kind]))


def example(kind: str) -> onnx.ModelProto:
    """The graph of a sub-block of typical size, which is exported once a process."""
    model = onnx.ModelProto()
    model.CopyFrom(_exported(kind))
    return model


def weights_of(model: onnx.ModelProto) -> int:
    """Elements of the matrices of a graph."""
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if len(t.dims) > 1)


def check_sizes(device: Device) -> None:
    """Check that what a sub-block adds to a file is what the second one in a row adds."""
    model = example("softmax")
    four, two = (unit_file(device, model, "float", copies) for copies in (4, 2))
    assert four.body_bytes == pytest.approx(two.body_bytes, abs=64)
    assert len(four.content) - len(two.content) == pytest.approx(2 * two.body_bytes, abs=128)


def check_timed(device: Device) -> None:
    """Check that sub-blocks are timed, and their memory is measured, in a process of their own."""
    bench = Bench(device)
    graphs = [bench.unit(Unit(SMALL[0], recipe)) for recipe in ("float", "dynamic8")]
    rows = bench.time([*graphs, bench.unit(Unit(EXAMPLES["mbconv"], "float"))], rounds=3)
    assert len(rows) == 3 and all(row.median_ms > 0 for row in rows)
    assert bench.footprint(graphs[0]).growth_mb > 0
