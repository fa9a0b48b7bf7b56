"""One network in the forms that tools make of it is read as what it is, or with what is not."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper
from onnxruntime import quantization

from vitpareto.cost_models import CostModel, Device, LatencyTable, predict_onnx
from vitpareto.cost_models.foreign.onnx_pieces import pieces_of, read_pieces
from vitpareto.cost_models.foreign.onnx_plain import PlainGraph
from vitpareto.cost_models.foreign.onnx_recognition import recognize
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.search.cli.commands import cli
from vitpareto.search.cli.text import prediction_lines
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import CostError

pytestmark = pytest.mark.onnx
IMAGES = np.random.default_rng(0).standard_normal((2, 1, 1, 32, 32)).astype(np.float32)


class Images(quantization.CalibrationDataReader):
    def __init__(self, name: str) -> None:
        self.left = iter([{name: x} for x in IMAGES])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


@pytest.fixture(scope="module")
def model(table: LatencyTable, recipes: dict[str, str]) -> CostModel:
    """Of a device that was measured with static integers, too."""
    rows = [row for row in table.rows if row.key.endswith("@dynamic8")]
    static = [replace(row, key=row.key.replace("@dynamic8", "@static8")) for row in rows]
    return CostModel.fit(LatencyTable(table.identity, [*table.rows, *static]), recipes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of tokens as exported: attention, hidden layers, a stem and a head."""
    candidate = SearchSpace.from_yaml("digits").largest()
    path = tmp_path_factory.mktemp("forms") / "plain.onnx"
    onnx.save(to_onnx(network(candidate), IMAGES[0].shape), path)
    return path


def optimized(source: Path, level: str) -> Path:
    out, options = source.with_name(f"{source.stem}.{level}.onnx"), ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath, options.log_severity_level = str(out), 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return out


def quantized(source: Path, form: str, signed: bool = False) -> Path:
    out = source.with_name(f"{form}{signed}.onnx")
    if form == "dynamic":
        quantization.quantize_dynamic(source, out)
        return out
    (name,) = (value.name for value in onnx.load(source).graph.input)
    kind = quantization.QuantType.QInt8 if signed else quantization.QuantType.QUInt8
    quantization.quantize_static(
        *(source, out, Images(name)),
        quant_format=quantization.QuantFormat[form],
        activation_type=kind,
    )
    return out


def seen(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Sub-blocks that a file is read as, and what in them is computed in integers beside layers."""
    return [
        (unit_of(block, recipe).key if block else "", tuple(sorted(piece.coded)))
        for piece, block, recipe in recognize(read_pieces(path))
    ]


def test_optimized_files_are_read_as_what_they_were(plain: Path) -> None:
    """On every level, also of a file that was quantized before."""
    for source in (plain, quantized(plain, "dynamic")):
        kinds = Counter(key.partition("@")[0].partition("/")[0] for key, _ in seen(source))
        assert kinds["mixer"] == kinds["mlp"] > 0 and "" not in kinds
        for level in ("BASIC", "EXTENDED", "ALL"):
            assert seen(optimized(source, level)) == seen(source)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("opset", [14, 17])
def test_norms_in_operators_are_told(opset: int, plain: Path, tmp_path: Path) -> None:
    """Operator sets before 17 have none for layer norm, and its root is not one of RMS norm."""
    candidate, path = SearchSpace.from_yaml("digits").largest(), tmp_path / "x.onnx"
    images = (torch.from_numpy(IMAGES[0]),)
    torch.onnx.export(network(candidate), images, path, dynamo=False, opset_version=opset)
    assert seen(path) == seen(plain)


def test_integer_operators_are_read_as_the_pairs_they_came_from(
    plain: Path, model: CostModel
) -> None:
    """Of everything a quantizer turns to integers only the layers are in a recipe."""
    pairs, operators = quantized(plain, "QDQ"), quantized(plain, "QOperator")
    assert seen(operators) == seen(optimized(operators, "ALL"))
    assert [key for key, _ in seen(pairs)] == [key for key, _ in seen(operators)]
    mixers = [coded for key, coded in seen(operators) if key.startswith("mixer")]
    assert mixers and all({"Add", "MatMul", "Softmax"} <= {*coded} for coded in mixers)
    found, usual = predict_onnx(model, operators), predict_onnx(model, plain)
    assert found.coverage < 0.2 and sum(found.doubts.values()) == pytest.approx(1 - found.coverage)
    assert any("of integers: in no recipe" in why for why in found.doubts)
    assert found.high_ms / found.low_ms > 2 * usual.high_ms / usual.low_ms and not usual.doubts
    signed = predict_onnx(model, quantized(plain, "QOperator", signed=True))
    assert "signed" in next(iter(signed.doubts)) and signed.high_ms > 2 * found.high_ms


def value(name: str, array: np.ndarray) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(array, name)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


SCALE, ZERO = np.float32(0.1), np.uint8(128)
CODES = np.full((16, 24), 3, np.uint8)
CASES = {  # operator -> shape that enters, constants, attributes, multiply-accumulates
    "FusedMatMul": ((1, 9, 16), [floats(24, 16)], {"transB": 1}, 9 * 16 * 24),
    "Attention": ((1, 9, 16), [floats(16, 48), floats(48)], {"num_heads": 2}, 9 * 16 * 48 + 2592),
    "SkipLayerNormalization": ((1, 9, 16), [floats(1, 9, 16), floats(16)], {}, 0),
    "BiasGelu": ((1, 9, 16), [floats(16)], {}, 0),
    "QuickGelu": ((1, 9, 16), [], {}, 0),
    "DynamicQuantizeMatMul": ((1, 9, 16), [CODES, np.array(SCALE)], {}, 9 * 16 * 24),
    "MatMulNBits": (
        *((1, 9, 32), [np.full((24, 1, 16), 7, np.uint8), floats(24)]),
        *({"K": 32, "N": 24, "bits": 4, "block_size": 32}, 9 * 32 * 24),
    ),
    "FusedConv": ((1, 3, 8, 8), [floats(5, 3, 3, 3)], {"activation": "Relu"}, 36 * 5 * 27),
    "NhwcMaxPool": ((1, 8, 8, 3), [], {"kernel_shape": [2, 2], "strides": [2, 2]}, 0),
    "RotaryEmbedding": (
        *((1, 2, 9, 16), [np.zeros((1, 9), np.int64), floats(9, 8), floats(9, 8)], {}, 0),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_operators_of_the_runtime_make_the_shapes_that_it_makes(kind: str) -> None:
    shape, given, attributes, macs = CASES[kind]
    names = [f"c{i}" for i in range(len(given))]
    x = np.full(shape, 3, np.uint8) if kind == "NhwcMaxPool" else floats(*shape)
    enters = helper.np_dtype_to_tensor_dtype(x.dtype)
    out = helper.make_tensor_value_info("y", enters, None)
    node = helper.make_node(kind, ["x", *names], ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        *([node], "one", [helper.make_tensor_value_info("x", enters, shape)], [out]),
        [value(name, array) for name, array in zip(names, given, strict=True)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert PlainGraph(model).shapes["y"] == list(session.run(None, {"x": x})[0].shape)
    (piece,) = pieces_of(model)
    assert piece.macs == macs and not piece.strange


COUNTED = [  # operator, shape that enters, shape of its constant, multiply-accumulates
    ("Conv <pads = [0, 3, 0, 3]> (x, w)", (2, 8, 6, 6), (4, 8, 1, 7), 2 * 36 * 4 * 8 * 7),
    ("Conv <pads = [3, 0, 3, 0]> (x, w)", (2, 8, 6, 6), (4, 8, 7, 1), 2 * 36 * 4 * 8 * 7),
    ("Conv <pads = [1, 1]> (x, w)", (2, 8, 9), (4, 8, 3), 2 * 9 * 4 * 8 * 3),
    ("ConvTranspose (x, w)", (2, 8, 6, 6), (8, 4, 1, 2), 2 * 36 * 4 * 8 * 2),
    ("MatMul (w, x)", (2, 3, 9, 8), (5, 9), 6 * 5 * 9 * 8),
    ("MatMul (x, w)", (2, 1, 9, 8), (3, 8, 5), 6 * 9 * 8 * 5),
    ('Einsum <equation = "...ij,...jk->...ik"> (x, w)', (1, 9, 8), (3, 8, 5), 3 * 9 * 8 * 5),
    ("Gemm <transA = 1, transB = 1> (x, w)", (8, 9), (5, 8), 9 * 8 * 5),
    ("MatMul (x, w)", (2, 9, 8), (8,), 2 * 9 * 8),
    ("MatMul (w, x)", (2, 9, 8), (9,), 2 * 9 * 8),
]


@pytest.mark.parametrize(("operator", "shape", "constant", "macs"), COUNTED)
def test_what_is_counted_is_what_is_computed(
    operator: str, shape: tuple[int, ...], constant: tuple[int, ...], macs: int
) -> None:
    """Of all images, whatever the shape of a kernel, and whichever factor is repeated."""
    (piece,) = pieces_of(single(operator, shape, constant))
    assert piece.macs == macs and not piece.strange


def single(operator: str, shape: tuple[int, ...], constant: tuple[int, ...]) -> onnx.ModelProto:
    """A graph of one operator of x and a constant w."""
    dims = ", ".join(map(str, shape))
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> one (float[{dims}] x) => (float y) '
        f"{{ y = {operator} }}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.append(value("w", floats(*constant)))
    return model


def block(middle: str) -> onnx.ModelProto:
    """A stem, a residual branch of some operators, and a head."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 23, "com.example": 1]>
        one (float[1, 3, 16, 16] x) => (float[1, 10] y)
        <int64[3] rows = {{1, 64, 16}}, int64[1] axis = {{1}},
         int64[4] heads = {{1, 16, 4, 16}}, int64[3] tokens = {{1, 16, 64}}>
        {{
            grid = Conv <strides = [4, 4]> (x, stem)
            flat = Reshape (grid, rows)
            s = Transpose <perm = [0, 2, 1]> (flat)
            n = RMSNormalization (s, gain)
            {middle}
            t = Add (s, branch)
            m = ReduceMean <keepdims = 0> (t, axis)
            y = MatMul (m, head)
        }}""")
    given = {
        "stem": (64, 3, 4, 4), "gain": (64,), "qkv": (64, 192), "proj": (64, 64), "head": (64, 10)
    }  # fmt: skip
    model.graph.initializer.extend(value(name, floats(*shape)) for name, shape in given.items())
    return model


ATTENTION = """
    p = MatMul (n, qkv)
    q, k, v = Split <axis = -1, num_outputs = 3> (p)
    o = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)
    branch = MatMul (o, proj)"""
SAME = """
    p = MatMul (n, qkv)
    q3, k3, v3 = Split <axis = -1, num_outputs = 3> (p)
    q2 = Reshape (q3, heads)
    k2 = Reshape (k3, heads)
    v2 = Reshape (v3, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)
    k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)
    a0 = Einsum <equation = "bhid,bhdj->bhij"> (q, k)
    a = Softmax (a0)
    o4 = MatMul (a, v)
    o3 = Transpose <perm = [0, 2, 1, 3]> (o4)
    o = Reshape (o3, tokens)
    branch = MatMul (o, proj)"""


def test_fused_attention_is_the_one_written_out() -> None:
    fused = recognize(pieces_of(block(ATTENTION)))
    apart = recognize(pieces_of(block(SAME)))
    assert [b for _, b, _ in fused] == [b for _, b, _ in apart]
    assert [p.macs for p, _, _ in fused] == [p.macs for p, _, _ in apart]
    assert fused[1][1].place.block.num_heads == 4 and fused[1][1].norm == "rms"


def test_grids_that_end_in_channels_are_those_of_tokens() -> None:
    """As Swin has them: with the width of their channels, and not that of a row."""
    flat = block("h = MatMul (n, up)  a = Gelu (h)  branch = MatMul (a, down)")
    hidden = [value("up", floats(64, 128)), value("down", floats(128, 64))]
    flat.graph.initializer.extend(hidden)
    rows = onnx.parser.parse_node("s = Transpose <perm = [0, 2, 3, 1]> (grid)")
    grid = onnx.ModelProto.FromString(flat.SerializeToString())
    del grid.graph.node[1:3]
    grid.graph.node.insert(1, rows)
    axes = next(t for t in grid.graph.initializer if t.name == "axis")
    axes.CopyFrom(value("axis", np.array([1, 2])))
    found = [b for _, b, _ in recognize(pieces_of(grid))]
    assert found == [b for _, b, _ in recognize(pieces_of(flat))] and found[1].place.width == 64


def test_what_is_not_known_is_named_or_refused(model: CostModel, tmp_path: Path) -> None:
    """With its share of the time; where no one knows what it makes, or it may be most of all."""
    path = tmp_path / "x.onnx"
    bent = "u = MatMul (o, proj)\n branch = com.example.Bend (u)"
    known = block(ATTENTION.replace("branch = MatMul (o, proj)", bent))
    onnx.save(known, path)
    with pytest.raises(CostError, match=r"operator com.example:Bend of 'branch' is not known"):
        predict_onnx(model, path)
    said = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1, 16, 64])
    known.graph.value_info.append(said)
    onnx.save(known, path)
    found = predict_onnx(model, path)
    assert 0 < found.doubts["com.example:Bend: not known"] < 0.5
    assert any(
        "com.example:Bend" in line for line in prediction_lines([{"key": "x", **found.row()}])
    )
    weights = [value(f"w{i}", floats(64, 512)) for i in range(2)]
    known.graph.initializer.extend(weights)
    next(n for n in known.graph.node if n.op_type == "Bend").input.extend(w.name for w in weights)
    onnx.save(known, path)
    with pytest.raises(CostError, match=r"com.example:Bend, not known, may be \d+% of"):
        predict_onnx(model, path)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_control_flow_is_refused(known: bool, kind: str, model: CostModel, tmp_path: Path) -> None:
    """Also where it depends on constants alone: what its graphs read from outside is no input."""
    told = "on = Identity (always)" if known else "f = Cast <to = 9> (x)\n on = ReduceMax (f)"
    flow = {
        "If": """y = If (on) <
            then_branch = a () => (float[1, 16, 64] p) { p = MatMul (x, w) },
            else_branch = b () => (float[1, 16, 64] q) { q = Identity (x) }>""",
        "Loop": """y = Loop (twelve, on, x) <
            body = c (int64 i, bool go, float[1, 16, 64] v) => (bool more, float[1, 16, 64] r)
                { more = Identity (go)  r = MatMul (v, w) }>""",
    }
    graph = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 23]>
        one (float[1, 16, 64] x) => (float[1, 16, 64] y)
        <bool always = {{1}}, int64 twelve = {{12}}> {{ {told} {flow[kind]} }}""")
    graph.graph.initializer.append(value("w", floats(64, 64)))
    onnx.save(graph, tmp_path / "x.onnx")
    with pytest.raises(CostError, match=f"{kind} 'y' holds graphs of its own"):
        predict_onnx(model, tmp_path / "x.onnx")


def test_what_the_file_says_helps_where_nothing_is_inferred() -> None:
    """As where the sizes of a Reshape lie beside the file."""
    model = block("b2 = Reshape (n, sizes)  b3 = MatMul (b2, proj)  branch = Reshape (b3, rest)")
    for name, sizes in (("sizes", [1, 4, 4, 64]), ("rest", [1, 16, 64])):
        beside = value(name, np.array(sizes))
        beside.data_location = TensorProto.EXTERNAL
        model.graph.initializer.append(beside)
    with pytest.raises(CostError, match="are not static"):
        pieces_of(model)
    said = {"b2": [1, 4, 4, 64], "branch": [1, 16, 64]}
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in said.items()
    )
    assert pieces_of(model)[1].macs == 16 * 64 * 64


@pytest.mark.parametrize(
    ("entering", "reason"), [("", "it has no input"), ("float[n, 3] x", "input 'x' are not static")]
)
def test_files_without_images_are_refused(entering: str, reason: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 20]> one ({entering}) => (float[1, 3] y)
        <float[3] c = {{1, 2, 3}}> {{ y = Relu ({"x" if entering else "c"}) }}"""
    with pytest.raises(CostError, match=reason):
        pieces_of(onnx.parser.parse_model(text))


def test_next_to_nothing_is_no_estimate(model: CostModel, plain: Path) -> None:
    """As a model gives that was fitted to far larger networks, whose calls cost less than none."""
    data = model.to_dict()
    data["correction"] |= {"per_call_ms": -1e3, "constant_ms": -1e3}
    with pytest.raises(CostError, match=r"too far from what was measured: .* ms would be the"):
        predict_onnx(CostModel.from_dict(data), plain)


def test_16_bits_are_no_float_recipe(model: CostModel, plain: Path) -> None:
    """A processor without such kernels casts at every layer: its time is another one."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = plain.with_name("half.onnx")
    onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), half)
    found = predict_onnx(model, half)
    assert found.coverage < 0.1 and "computed in 16 bits: in no recipe" in found.doubts


def test_another_machine_is_named(model: CostModel, plain: Path, tmp_path: Path) -> None:
    """Also if only its runtime was another release; options are the model's own."""
    here = Device.load("cpu-1t").identity()
    for change in ({}, {"options": {"arena": False}}, {"version": "1.0"}, {"isa": "mmx"}):
        other = CostModel.from_dict({**model.to_dict(), "device": here | change})
        other.save(tmp_path / "model.json")
        result = CliRunner().invoke(cli, ["predict", str(tmp_path / "model.json"), str(plain)])
        assert result.exit_code == 0, result.output
        warned = "in the model and" in result.stderr and "`vitpareto calibrate`" in result.stderr
        differs = change.keys() - {"options"}
        assert warned == bool(differs) and all(name in result.stderr for name in differs)
