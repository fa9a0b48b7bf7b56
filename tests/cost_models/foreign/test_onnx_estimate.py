"""Files are read back as the sub-blocks that they were made of."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from vitpareto.cost_models import CostModel, Device, LatencyTable, predict_onnx, workload
from vitpareto.cost_models.foreign.onnx_pieces import read_pieces
from vitpareto.cost_models.foreign.onnx_recognition import recognize
from vitpareto.cost_models.graphs.modules import network
from vitpareto.cost_models.graphs.quantize import apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.units.precision_recipes import Book, kernel_recipe, recipe_for
from vitpareto.cost_models.units.unit import Unit, unit_of
from vitpareto.spaces import Architecture, Block, Candidate, SearchSpace, Stage
from vitpareto.spaces.errors import CostError

from ..conftest import law_ms

pytestmark = pytest.mark.onnx
DEVICE = Device.load("cpu-1t").recipes
OTHERS = """
name: others
num_classes: 12
input_size: 64
patch_size: 4
stem: conv
stem_norm: true
pos_embed: none
global_pool: avg
norm: [group, rms]
act: [silu, hardswish]
stages:
  - depth: 1
    width: [32, 48]
    mixer: [mbconv, linear]
    kernel_size: [3, 5]
    num_heads: 2
    head_dim: 16
    mlp_ratio: 2.0
  - depth: 2
    width: 96
    downsample: [merge, conv]
    mixer: [window, token_mlp, pooled]
    window_size: 4
    kv_pool: 2
    token_mlp_ratio: 0.5
    num_heads: 4
    head_dim: 16
    mlp_ratio: 2.0
"""

NORMLESS = """
name: normless
num_classes: 12
input_size: 32
patch_size: 4
stem: conv
pos_embed: relative
global_pool: avg
layer_scale: true
stages:
  - depth: 2
    width: 32
    blocks: [{mixer: pool_raw, mlp_ratio: 0.0}, {mixer: conv_mlp, mlp_ratio: 2.0}]
  - {depth: 1, width: 64, mixer: window, num_heads: 4, value_dim: 32, window_size: 4}
"""

ROUTED = """
name: routed
num_classes: 12
input_size: 32
patch_size: 4
global_pool: [token, avg]
act: [relu, silu]
token_routing: [learned, random]
stages:
  - depth: 2
    width: 32
    num_heads: 2
    mlp_ratio: 2.0
    token_keep: [1.0, 0.5]
    token_keep_at: ["0", "1"]
    blocks: {mlp_capacity: [1.0, 0.5, 0.3], mixer_capacity: [1.0, 0.5]}
"""


def write(path: Path, candidate: Candidate, recipes: Book | tuple[str, ...]) -> Path:
    a = candidate.architecture
    graph = to_onnx(network(candidate), (1, a.in_chans, a.input_size, a.input_size))
    onnx.save(apply_recipes(graph, candidate, recipes), path)
    return path


def alike(unit: Unit) -> str:
    """Its key, the same for all that are one and the same graph."""
    block = unit.block.place.block
    key = unit.key
    if block.kv_heads and block.kv_heads == block.num_heads:
        key = key.replace("grouped", "softmax").replace(f"&kv_heads={block.kv_heads}", "")
    if block.window_size >= unit.block.place.grid[0]:
        key = key.replace("&shift=True", "")
    return key


@pytest.mark.parametrize(
    ("name", "count", "order"),
    [
        *(("digits", 3, 1), ("digits", 3, -1), ("cifar", 3, 1), ("deit_tiny", 1, -1)),
        *(("mobile_hybrid", 1, 1), (OTHERS, 4, -1), (ROUTED, 8, 1), (NORMLESS, 1, -1)),
    ],
)
def test_what_was_exported_is_recognized(name: str, count: int, order: int, tmp_path: Path) -> None:
    """With every precision in the kernels that it was written with."""
    space = SearchSpace.from_text(name) if "\n" in name else SearchSpace.from_yaml(name)
    recipes = DEVICE[::order]
    for candidate in space.sample(count, 11):
        pieces = recognize(read_pieces(write(tmp_path / "x.onnx", candidate, recipes)))
        found = [(piece, block, recipe) for piece, block, recipe in pieces if block or piece.macs]
        wanted = [
            unit_of(block, kernel_recipe(recipe_for(block, recipes), "onnxruntime"))
            for block in workload(candidate).sub_blocks
        ]
        seen = [alike(unit_of(block, recipe)) for _, block, recipe in found if block is not None]
        assert seen == [alike(unit) for unit in wanted] and len(seen) == len(found)


def test_activations_are_told_from_gates_stage_by_stage(tmp_path: Path) -> None:
    """Those of squeeze-and-excitation are sigmoids as well, and no reason to call it hardswish."""
    bottle = {"mlp_hidden": 32, "kernel_size": 3}
    excited, plain = Block("mbconv", **bottle, se_hidden=8), Block("mbconv", **bottle)
    first = Stage(16, (excited, plain), act="relu")
    second = Stage(32, (excited, Block(num_heads=2, head_dim=16, mlp_hidden=64)))
    fields = {"input_size": 32, "patch_size": 4, "num_classes": 5, "stem": "conv", "norm": "layer"}
    for act in ("gelu", "silu", "hardswish"):
        stages = (first, second)
        a = Architecture(stages, **fields, act=act, global_pool="avg", pos_embed="none")
        candidate = Candidate.uncompressed(a)
        pieces = recognize(read_pieces(write(tmp_path / "x.onnx", candidate, DEVICE)))
        found = [(block.variant, block.place.act) for _, block, _ in pieces if block]
        units = workload(candidate).sub_blocks
        recognizable = [u for u in units if "se_hidden" not in u.key]
        assert found == [(unit.variant, unit.place.act) for unit in recognizable]
        assert ("mlp", act) in found and ("mbconv", "relu") in found


def test_the_estimate_is_the_prediction(
    fitted: CostModel, space: SearchSpace, recipes: dict[str, str], tmp_path: Path
) -> None:
    for candidate in space.sample(6, 77):
        path = write(tmp_path / "x.onnx", candidate, recipes)
        found, wanted = predict_onnx(fitted, path), fitted.predict([candidate]).row(0)
        for name in ("latency_ms", "low_ms", "high_ms", "peak_memory_mb"):
            assert getattr(found, name) == pytest.approx(wanted[name], rel=1e-3)
        assert found.size_mb == path.stat().st_size / 1e6
        assert found.coverage == 1 and found.row()["inside"] and wanted["inside"]
        assert sum(ms for *_, ms in found.pieces) == pytest.approx(found.latency_ms)
        law = sum(
            law_ms(unit_of(b, recipe_for(b, recipes))) for b in workload(candidate).sub_blocks
        )
        assert found.latency_ms == pytest.approx(law * 1.05 + 0.01, rel=0.1)


def test_what_is_strange_is_not_covered(fitted: CostModel, tmp_path: Path) -> None:
    """It is as slow as its size, and says that nothing is known of it."""
    layers = (
        nn.Conv2d(1, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.Flatten(),
        nn.Linear(2304, 9),
    )
    module = nn.Sequential(*layers).eval()
    onnx.save(to_onnx(module, (1, 1, 10, 10)), tmp_path / "cnn.onnx")
    found = predict_onnx(fitted, tmp_path / "cnn.onnx")
    macs = 64 * 64 * 9 + 36 * 64 * 64 * 9 + 2304 * 9
    assert 0 <= found.coverage < 0.1 and found.peak_memory_mb is None
    assert found.high_ms > 3 * found.latency_ms > 9 * found.low_ms
    assert found.latency_ms > 0.5 * fitted.ms_per_mmac * macs / 1e6


@pytest.mark.parametrize("stem", ["patch", "overlap"])
def test_what_only_looks_like_a_sub_block_is_not_covered(
    stem: str, fitted: CostModel, tmp_path: Path
) -> None:
    """Such as a stem whose patches overlap, of which a stem of patches computes a third."""
    stage = Stage(64, (Block(num_heads=2, head_dim=16, mlp_hidden=64),))
    a = Architecture((stage,), input_size=32, patch_size=4, num_classes=10, in_chans=1, stem=stem)
    candidate = Candidate.uncompressed(replace(a, global_pool="avg", pos_embed="none"))
    found = predict_onnx(fitted, write(tmp_path / "x.onnx", candidate, DEVICE))
    strange = "Conv: other multiply-accumulates than those of a stem like it"
    assert (strange in found.doubts) == (stem == "overlap")


def test_what_is_larger_than_anything_measured_is_not_covered(
    fitted: CostModel, recipes: dict[str, str], tmp_path: Path
) -> None:
    """Its operators are known, its widths are not: the interval is wider, and it says so."""
    space = SearchSpace.from_text(OTHERS.replace("[window, token_mlp, pooled]", "softmax"))
    candidate = space.smallest()
    found = predict_onnx(fitted, write(tmp_path / "x.onnx", candidate, recipes))
    wanted = fitted.predict([candidate]).row(0)
    assert not wanted["inside"] and 0 <= found.coverage < 0.9
    usual = fitted.predict(SearchSpace.from_yaml("digits").sample(1)).row(0)
    assert found.high_ms / found.low_ms > (usual["high_ms"] / usual["low_ms"]) ** 2


def test_weights_beside_the_file_count(fitted: CostModel, recipes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    candidate = SearchSpace.from_yaml("digits").sample(1)[0]
    whole = predict_onnx(fitted, write(path, candidate, recipes)).size_mb
    options = {"save_as_external_data": True, "location": "x.data"}
    onnx.save_model(onnx.load(path), path, **options)
    assert path.stat().st_size / 1e6 < 0.5 * whole
    assert predict_onnx(fitted, path).size_mb == pytest.approx(whole, rel=0.05)
    (tmp_path / "x.data").unlink()
    assert predict_onnx(fitted, path).size_mb is None


def test_the_batch_is_that_of_the_model(
    table: LatencyTable, recipes, fitted: CostModel, tmp_path: Path
) -> None:
    candidate = SearchSpace.from_yaml("digits").sample(1)[0]
    a, path = candidate.architecture, tmp_path / "x.onnx"
    graph = to_onnx(network(candidate), (4, a.in_chans, a.input_size, a.input_size))
    onnx.save(apply_recipes(graph, candidate, recipes), path)
    with pytest.raises(CostError, match="a batch of 4, where the model was measured with 1"):
        predict_onnx(fitted, path)
    four = CostModel.fit(LatencyTable({**table.identity, "batch": 4}, table.rows), recipes)
    wanted = float(four.predict([candidate]).latency_ms[0])
    assert predict_onnx(four, path).latency_ms == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(1, 64, 5), nn.Conv2d(64, 64, 4)),
        (nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 9)),
    ],
)
def test_what_is_strange_takes_longer_with_the_batch(
    layers: tuple[nn.Module, ...], table: LatencyTable, recipes, fitted: CostModel, tmp_path: Path
) -> None:
    """As much as what was measured does, be it a convolution or a linear layer."""
    rows = [replace(row, median_ms=4 * row.median_ms) for row in table.rows]
    four = CostModel.fit(LatencyTable({**table.identity, "batch": 4}, rows), recipes)
    found: list[float] = []
    for model, batch in ((fitted, 1), (four, 4)):
        path = tmp_path / f"{batch}.onnx"
        onnx.save(to_onnx(nn.Sequential(*layers).eval(), (batch, 1, 8, 8)), path)
        estimate = predict_onnx(model, path)
        assert estimate.coverage == 0
        found.append(estimate.latency_ms)
    assert found[1] == pytest.approx(4 * found[0], rel=0.01)


def test_what_is_no_network_is_refused(fitted: CostModel, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    for content, reason in ((b"", "it has no nodes"), (b"no protobuf", "cannot|can be read")):
        path.write_bytes(content)
        with pytest.raises(CostError, match=reason):
            predict_onnx(fitted, path)


def test_shapes_must_be_known(fitted: CostModel, tmp_path: Path) -> None:
    model = to_onnx(nn.Linear(4, 4), (1, 3, 4))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CostError, match="are not static"):
        predict_onnx(fitted, tmp_path / "x.onnx")
    assert torch.get_num_threads() == 1
