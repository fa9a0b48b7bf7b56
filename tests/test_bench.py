"""What benchmarks compare is what they say."""

from math import log, prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.measure.bench import Bench
from vitpareto.cost_models.runtimes import find_runtime, open_runtime
from vitpareto.search.config import DataConfig, FinishConfig
from vitpareto.search.data.loading import load_data
from vitpareto.search.delivery.export import chosen_recipes
from vitpareto.search.training.finetune import FineTuning
from vitpareto.search.training.teacher import Teacher, make_lessons
from vitpareto.spaces import Architecture, Block, Candidate, Stage
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.mixers import MIXERS
from vitpareto.spaces.rules import problems

from .bench import _compression_rows as compression
from .bench import _equally_fast as equally_fast
from .bench import _quantizers, distillation
from .bench._compression_rows import OURS, Failed, Row, against, names
from .bench._compression_ways import WAYS
from .bench._families_cells import Cell, exponents
from .bench._families_drawn import drawn, table
from .bench.compression import Maker, options
from .bench.families import MLP, planned
from .bench.routing import PARTS, arms, macs_of

SIDES = (14, 28, 56)


def test_every_mixer_is_among_the_families_at_one_width_and_depth() -> None:
    found = list(planned([*MIXERS, MLP], SIDES, 192, 2))
    assert len(found) == (len(MIXERS) + 1) * len(SIDES) * 2
    for cell, candidate in found:
        a = candidate.architecture
        assert not list(problems(a)), cell
        assert a.grid == cell.side and [s.width for s in a.stages] == [192]
        named = [block.mixer for block in a.blocks()]
        assert named == [cell.mixer if cell.mixer != MLP else "identity"] * 2
        heads = {prod((b.num_heads, b.head_dim)) for b in a.blocks()}
        assert heads in ({192}, {0}), cell


def test_the_power_is_that_of_the_tokens_and_refusals_are_named() -> None:
    rng = np.random.default_rng(0)
    cells = [
        Cell("softmax", side, "float32", 10, tuple(side**3.0 * rng.uniform(0.98, 1.02, 9)), 5.0)
        for side in SIDES
    ]
    cells.append(Cell("window", 14, "float32", refused="a reason"))
    powers = exponents(cells)
    power, low, high = powers["softmax", "float32"]
    assert low <= power <= high and power == pytest.approx(1.5, abs=0.02) and high - low < 0.05
    text = table(cells, powers, "here")
    assert "- `window` 14x14 float32: a reason" in text
    assert drawn(cells[:3], powers).startswith(b"\x89PNG")


def test_families_are_compared_at_the_width_that_takes_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine on which each operation takes as long as any other."""
    data, step = load_data(DataConfig(), equally_fast.SIZE), equally_fast.STEP

    def macs(candidate: Candidate) -> int:
        return workload(candidate).macs

    def timed(candidates: list[Candidate]) -> list[SimpleNamespace]:
        return [SimpleNamespace(median_ms=macs(candidate)) for candidate in candidates]

    monkeypatch.setattr(equally_fast, "timed", timed)
    make_vit = equally_fast.FAMILIES["ViT"]
    goal = Candidate.uncompressed(make_vit(equally_fast.VIT_WIDTH, data))
    for name, make in equally_fast.FAMILIES.items():
        found = equally_fast.as_fast_as(goal, make, data)
        a = found.architecture
        assert not list(problems(a)) and len(list(a.blocks())) == equally_fast.DEPTH, name
        width = a.stages[-1].width
        others = [Candidate.uncompressed(make(width + by, data)) for by in (-step, step)]
        off = [abs(log(macs(each) / macs(goal))) for each in (found, *others)]
        assert off[0] == min(off), name
        assert name != "ViT" or found == goal


def test_routes_and_dropped_tokens_are_compared_at_equal_work() -> None:
    named = list(arms(torch.zeros(1, 1, 8, 8), 10, 2, list(PARTS)))
    whole = macs_of(named[0][1])
    for at, part in enumerate(PARTS):
        (learned, random, dropping) = named[1 + 3 * at : 4 + 3 * at]
        macs = [macs_of(architecture) for _, architecture in (learned, random, dropping)]
        assert max(macs) < 1.05 * min(macs) and max(macs) < 0.95 * whole
        assert learned[0].startswith(part) and "dropped" in dropping[0]
        assert not list(problems(learned[1]))


def small() -> Architecture:
    block = Block("softmax", num_heads=4, head_dim=8, mlp_hidden=64)
    return Architecture((Stage(32, (block,) * 2),), 16, 1, 10, patch_size=4, global_pool="avg")


def test_every_way_of_compression_is_in_the_precisions_that_it_names() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)
    candidates = [way.candidate(small()) for way in WAYS]
    for way, candidate in zip(WAYS, candidates, strict=True):
        chosen = set(chosen_recipes(candidate, way.recipes).values())
        plain = {"float"} if way.policy.weight_bits < 32 else set[str]()
        unused = {name for name in way.recipes if name.endswith("4")} - chosen
        assert chosen <= set(way.recipes) - plain, way
        assert not unused or way.policy.weight_bits == 8, way
    keys = [(way.cut, candidate.key) for way, candidate in zip(WAYS, candidates, strict=True)]
    assert len(set(keys)) >= len(keys) - 1, "ranges that are fixed or not are the same candidate"


def test_models_are_compared_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        alike = rng.random(500) < 0.9  # else each is right by chance of its own
        one, other = (np.where(alike, rng.random(500) < 2, rng.random(500) < p) for p in (0.7, 0.5))
        gain, low, high = against(one, other)
        assert low <= gain <= high
        assert against(other, one) == pytest.approx((-gain, -high, -low))
        held += low <= 0.1 * 0.2 <= high
    assert 0.92 <= held / 400 <= 0.99  # of 95% intervals
    gain, low, high = against(one, one)
    assert gain == 0 and low < 0 < high


def test_the_smallest_and_the_fastest_are_named_of_those_that_are_close(tmp_path: Path) -> None:
    rows = list[Row]()
    for name, maker, size, wrong, ms in (
        ("float", OURS, 1000, 10, 2.0),
        ("small", OURS, 100, 14, 1.5),
        ("smaller", OURS, 50, 19, 3.0),
        ("fast", "others", 500, 12, 0.5),
    ):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        rows.append(Row(name, maker, "", path, np.arange(1000) >= wrong, (ms, ms, ms)))
    half, whole = names(rows, 0.5), names(rows, 1.0)
    assert "smallest of ours: vitpareto: small (100 bytes, 10.00 x smaller; " in half[1]
    assert "smallest of others': others: fast (500 bytes" in half[2]
    assert "smallest of ours: vitpareto: smaller" in whole[1] and "-0.90 points" in whole[1]
    assert "fastest of ours: vitpareto: small" in whole[3] and "4.00 x faster" in whole[4]
    assert "none" in names(rows, -0.5)[1]
    assert (
        "| fast | others |  | 500 | 2.00 x | 98.80% (97.9% to 99.3%) | -0.20% "
        in compression.table(rows)
    )


@pytest.mark.onnx
def test_what_does_not_run_is_a_row_that_says_so(tmp_path: Path) -> None:
    maker = Maker(options(["--images", "20", "--out", str(tmp_path)]))
    whole, broken, made = (tmp_path / f"{name}.onnx" for name in ("whole", "broken", "made"))

    def written(path: Path, weights: int) -> str:
        """A layer of ten integer rows with one scale each, of which some may be missing."""
        rows, scales = np.eye(10, 1024, dtype=np.int8), np.ones(weights, np.float32)
        constants = {"w": rows, "s": scales, "z": np.zeros(weights, np.int8)}
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["float"], axis=0),
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("Gemm", ["flat", "float"], ["logits"], transB=1),
        ]
        ends = [
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
            for name, shape in (("images", (1, 1, 32, 32)), ("logits", (1, 10)))
        ]
        stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "layer", *ends, stored)
        opsets = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return "PTQ"

    def nothing() -> str:
        raise RunError("KeyError: 'a | b'")

    row = maker.attempt(whole, "layer", "NNCF", lambda: written(whole, 10))
    assert isinstance(row, Row) and len(row.right) == 20
    tried = (
        maker.attempt(broken, "int8", "NNCF", lambda: written(broken, 9)),
        maker.attempt(made, "int4", "others", nothing),
    )
    failed = [one for one in tried if isinstance(one, Failed)]
    first, second = compression.table([row], failed).splitlines()[-2:]
    assert first.startswith("| int8 | NNCF | does not run: ONNX Runtime refuses the graph: ")
    assert "DequantizeLinear" in first and first.count("|") == second.count("|") == 10
    assert second.startswith("| int4 | others | is not made: KeyError: 'a / b' |")


@pytest.mark.onnx
def test_quantizers_of_others_take_our_graphs(tmp_path: Path) -> None:
    device = Device.load("cpu-1t")
    graph = Bench(device).network(Candidate.uncompressed(small()), device.recipes)
    images = np.random.default_rng(0).standard_normal((8, 1, 16, 16)).astype(np.float32)
    (tmp_path / "model.onnx").write_bytes(graph.model)
    np.save(tmp_path / "images.npy", images)
    exact = open_runtime(device).compile(graph.model).run(images[:1])
    for tool in ("ort_dynamic", "ort_static"):
        out = tmp_path / tool
        _quantizers.main(tool, *map(str, (tmp_path / "model.onnx", tmp_path / "images.npy", out)))
        compiled = open_runtime(device).compile(out.read_bytes())
        rounded = compiled.run(images[:1])
        assert 0 < np.linalg.norm(rounded - exact) < 0.3 * np.linalg.norm(exact)
        assert find_runtime("onnxruntime").integers(compiled.kernels())


@pytest.mark.slow
@pytest.mark.onnx
def test_distillation_changes_weights_and_no_operation() -> None:
    data = load_data(DataConfig(), distillation.SIZE)
    candidate = distillation.student(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # decides what is learned: what is no better than before is undone
        teacher = Teacher(candidate.architecture).eval()
    told = make_lessons(data, teacher, 1)
    named = dict(distillation.ways(told, teacher))
    assert list(named) == [distillation.LABELS, *distillation.LOSSES]
    graphs = list[onnx.GraphProto]()
    config = FinishConfig(lr=3e-3, ramp=0)
    for lessons in named.values():
        tuning = FineTuning(lessons, data.split("validation"), config, 0, length=30)
        network = distillation.trained(candidate, tuning)
        content = distillation.exported(candidate, network, data)
        graphs.append(onnx.load_model_from_string(content).graph)
    plain = [
        ([*graph.node], [(t.name, t.dims, t.data_type) for t in graph.initializer])
        for graph in graphs
    ]
    assert all(one == plain[0] for one in plain)
    weights = {b"".join(t.raw_data for t in graph.initializer) for graph in graphs}
    assert len(weights) == len(graphs), "each loss teaches something else"
