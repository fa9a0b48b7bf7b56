"""Profiles: what is counted equals the rest of the product, what is timed adds up."""

import math
import random
from functools import cache

import numpy as np
import onnx
import pytest

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.graphs.modules import input_shape, locate, network
from vitpareto.cost_models.graphs.quantize import apply_recipe, apply_recipes
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.profile.liveness import Step, best_order, live_peak
from vitpareto.cost_models.profile.operator_classes import OTHER, classes_of
from vitpareto.cost_models.profile.placement import place_kernels, placed_pieces
from vitpareto.cost_models.profile.profile import Profile
from vitpareto.cost_models.profile.taking import take_profile, weight_bytes
from vitpareto.cost_models.profile.tensors import memory_of, steps_of
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.units.unit import unit_of
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

from ...spaces.helpers import mobile

pytestmark = pytest.mark.onnx
CPU = Device.load("cpu-1t")
PLAIN = """
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 4
pos_embed: learned
global_pool: token
norm: layer
stages:
  - {depth: 2, width: 16, num_heads: 2, blocks: {mixer: softmax, mlp_ratio: 2.0}}
"""
HYBRID = """
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 2
stem: [patch, conv]
pos_embed: [learned, none]
global_pool: [avg, map]
pool_heads: 2
norm: [layer, batch]
layer_scale: true
token_reduction: [evit, evit_mean, random]
token_routing: [learned, random]
stages:
  - {depth: {low: 1, high: 2}, width: 16, blocks: {mixer: [mbconv, pool], mlp_ratio: 2.0}}
  - depth: {low: 1, high: 3}
    width: 24
    downsample: [conv, merge]
    num_heads: 2
    token_keep: [1.0, 0.5]
    blocks:
      mixer: [softmax, grouped, linear]
      mlp_ratio: [1.0, 2.0]
      mlp_capacity: [1.0, 0.5]
      mixer_capacity: [1.0, 0.5]
    kv_heads: 1
"""


@cache
def plain() -> Candidate:
    return SearchSpace.from_text(PLAIN).largest()


def graph_of(candidate: Candidate) -> onnx.ModelProto:
    return to_onnx(network(candidate), input_shape(candidate, 1))


@pytest.fixture(scope="module")
def profiled() -> Profile:
    return take_profile(CPU, plain(), graph_of(plain()).SerializeToString())


def test_sub_blocks_that_no_branch_separates_are_refused() -> None:
    candidate = Candidate.uncompressed(mobile())
    with pytest.raises(CostError, match=r"stem and downsample \(inverted\) follow each other"):
        placed_pieces(onnx.ModelProto(), workload(candidate).sub_blocks)


def test_counts_are_those_of_the_workload(profiled: Profile) -> None:
    blocks = workload(plain()).sub_blocks
    rows = profiled.to_dict()["sub_blocks"]
    assert [row["macs"] for row in rows] == [block.macs for block in blocks]
    assert [row["params"] for row in rows] == [block.params for block in blocks]
    assert [row["name"] for row in rows] == list(locate(plain()))
    for row, block in zip(rows, blocks, strict=True):
        stored = row["weight_bytes"] - 4 * block.params  # where to reshape to, and the like
        assert 0 <= stored < 200
        assert row["bytes"] - stored == block.moved_bytes


def test_times_add_up(profiled: Profile) -> None:
    told = profiled.to_dict()
    assert set(told) - {"energy_mj"} == {
        *("operator_classes", "accounted", "sub_blocks", "tensors", "peak_mb")
    }
    classes = told["operator_classes"]
    assert sum(row["share"] for row in classes) == pytest.approx(1)
    total = sum(row["ms"] for row in classes)
    assert told["accounted"] == pytest.approx(total / profiled.latency_ms)
    assert 0.95 <= told["accounted"] <= 1 + 1e-9
    call = next(row["ms"] for row in classes if row["name"] == "call")
    assert sum(row["ms"] for row in told["sub_blocks"]) + call == pytest.approx(total)
    kinds = {row["name"] for row in classes}
    assert kinds >= {"attention products", "softmax", "linear", "convolution", "norm", "layout"}
    assert all(row["bound"] in ("compute", "memory", "overhead") for row in told["sub_blocks"])


def test_tensors_have_their_exact_bytes(profiled: Profile) -> None:
    tokens, width, heads = 1 + 16, 16, 2
    wanted = {
        "images": [1, 1, 16, 16],
        "embedding": [1, tokens, width],
        "attention map": [1, heads, tokens, tokens],
        "block output": [1, tokens, width],
    }
    tensors = profiled.to_dict()["tensors"]
    for name, shape in wanted.items():
        alike = [t for t in tensors if t["name"] == name]
        assert alike and all(t["shape"] == shape for t in alike), name
        assert alike[0]["mb"] == pytest.approx(4 * np.prod(shape) / 1e6)
    assert sum(t["name"] == "attention map" for t in tensors) == 2
    # One kernel adds and normalizes the last one, which is never written.
    assert sum(t["name"] == "block output" for t in tensors) == 3
    assert sum(t["mb"] for t in tensors) == pytest.approx(profiled.to_dict()["peak_mb"]["naive"])


@pytest.mark.parametrize("recipe", ["float", "fp16", "static8", "dynamic8", "stored4", "blocks4a8"])
def test_every_constant_is_in_one_block(recipe: str) -> None:
    candidate = plain()
    model = apply_recipe(graph_of(candidate), recipe)
    sizes = {
        t.name: len(t.raw_data) or onnx.numpy_helper.to_array(t).nbytes
        for t in model.graph.initializer
    }
    blocks = workload(candidate).sub_blocks
    found = weight_bytes(model, placed_pieces(model, blocks), len(blocks))
    assert sum(found) == sum(sizes.values())
    for stored, block in zip(found, blocks, strict=True):
        assert 0 <= stored - unit_of(block, recipe).weight_bytes < 200, block.kind


@pytest.mark.parametrize("seed", range(8))
def test_random_candidates_are_placed_and_planned(seed: int) -> None:
    """Weights are where their module is, kernels in order of sub-blocks, peaks in their order."""
    candidate = SearchSpace.from_text(HYBRID).sample(1, seed)[0]
    blocks, paths = workload(candidate).sub_blocks, locate(candidate)
    names = {path: min(i, len(blocks) - 1) for i, path in enumerate(paths)}
    content = apply_recipes(graph_of(candidate), candidate, CPU.recipes).SerializeToString()
    pieces = placed_pieces(onnx.load_model_from_string(content), blocks)
    for at, piece in pieces:
        for constant in piece.constants:
            path = next((p for p in names if constant.startswith(f"{p}.")), None)
            assert path is None or names[path] == at, (constant, at)
    watched = open_runtime(CPU).watched(content)
    images = input_shape(candidate, 1)
    for _ in range(2):
        watched.run(np.zeros(images, np.float32))
    kernels, ms = watched.kernels()
    assert ms.shape == (2, len(kernels)) and all(k.writes for k in kernels)
    values = {name: at for at, piece in pieces for name in piece.values}
    places = place_kernels(kernels, values)
    assert {*places} == {*range(len(blocks))}
    for kernel, at in zip(kernels, places, strict=True):
        for constant in kernel.weights:
            path = next((p for p in names if constant.startswith(f"{p}.")), None)
            assert path is None or names[path] == at, (kernel, at)
    found = memory_of(kernels, images)
    steps, sizes = steps_of(kernels, images)
    assert sum(sizes.values()) == found.naive >= found.reused >= found.reordered
    assert found.reordered >= max(
        sum(sizes[n] for n in {*step.reads, *step.writes}) for step in steps
    )


@pytest.mark.parametrize("seed", range(2))
def test_answers_are_the_same_in_the_order_that_needs_the_least_memory(seed: int) -> None:
    """Beginning with an order drawn at random, the planned one is another, and runs."""
    candidate = plain()
    given = onnx.shape_inference.infer_shapes(graph_of(candidate)).graph
    shapes = {v.name: v.type.tensor_type.shape for v in (*given.input, *given.value_info)}
    shapes |= {v.name: v.type.tensor_type.shape for v in given.output}
    made = dict.fromkeys((name for node in given.node for name in node.output if name), 4)
    sizes = made | {n: 4 * math.prod(d.dim_value for d in s.dim) for n, s in shapes.items()}
    steps = [
        Step(tuple(n for n in node.input if n in sizes), tuple(n for n in node.output if n))
        for node in given.node
    ]
    rng, ready, drawn = random.Random(seed), {given.input[0].name}, list[int]()
    while len(drawn) < len(steps):
        free = [i for i, s in enumerate(steps) if i not in drawn and ready >= {*s.reads}]
        drawn.append(rng.choice(free))
        ready |= {*steps[drawn[-1]].writes}
    x = np.random.default_rng(seed).normal(size=input_shape(candidate, 1)).astype(np.float32)
    answers = list[np.ndarray]()
    best = [drawn[i] for i in best_order([steps[i] for i in drawn], sizes)]
    needed = [live_peak([steps[i] for i in order], sizes) for order in (best, drawn)]
    assert best != drawn and needed[0] <= needed[1]
    for order in (range(len(steps)), best, drawn):
        model = graph_of(candidate)
        nodes = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend(nodes[i] for i in order)
        onnx.checker.check_model(model)
        (logits,) = open_runtime(CPU).compile(model.SerializeToString()).run(x)
        answers.append(logits)
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize("seed", range(3))
def test_openvino_tells_of_fused_layers(seed: int) -> None:
    """Attention that is fused into one layer is attention, and every sub-block has its layers."""
    pytest.importorskip("openvino")
    device = Device.load("cpu-openvino")
    candidate = SearchSpace.from_text(HYBRID).sample(1, seed)[0]
    blocks, images = workload(candidate).sub_blocks, input_shape(candidate, 1)
    content = graph_of(candidate).SerializeToString()
    watched = open_runtime(device).watched(content)
    x = np.random.default_rng(0).standard_normal(images).astype(np.float32)
    answer = watched.run(x)
    assert np.abs(answer - open_runtime(CPU).compile(content).run(x)).max() < 0.1
    kernels, ms = watched.kernels()
    assert ms.shape == (1, len(kernels)) and ms.sum() > 0
    pieces = placed_pieces(onnx.load_model_from_string(content), blocks)
    values = {name: at for at, piece in pieces for name in piece.values}
    assert {*place_kernels(kernels, values)} == {*range(len(blocks))}
    kinds = classes_of(kernels)
    assert not [kind for kind in kinds if kind.startswith(OTHER)]
    attends = any(block.kind == "mixer" and block.place.block.num_heads for block in blocks)
    assert ("attention products" in kinds) == attends and "linear" in kinds
    found = memory_of(kernels, images)
    assert found.naive >= found.reused >= found.reordered > 0


def test_a_mixer_that_does_nothing_has_no_kernels() -> None:
    candidate = SearchSpace.from_text(PLAIN.replace("mixer: softmax", "mixer: identity")).largest()
    blocks = workload(candidate).sub_blocks
    assert [at for at, _ in placed_pieces(graph_of(candidate), blocks)] == [0, 2, 4, 5]


def test_the_graph_of_another_candidate_is_refused() -> None:
    deeper = SearchSpace.from_text(PLAIN.replace("depth: 2", "depth: 3")).largest()
    with pytest.raises(CostError, match="is not that of its candidate"):
        placed_pieces(graph_of(plain()), workload(deeper).sub_blocks)


INSIDE = """
in_chans: 1
num_classes: 3
input_size: 16
patch_size: 2
global_pool: avg
norm: batch
stages:
  - depth: 3
    width: 16
    blocks:
      - {mixer: mbconv, kernel_size: 3, mlp_ratio: 2.0}
      - {mixer: MIXER, inner_width: 16, inner_layers: 2, unfold_size: 2, kernel_size: 3,
         mlp_ratio: 2.0HEADS}
"""


@pytest.mark.parametrize(
    ("mixer", "heads"), [("mobilevit", ", inner_heads: 2"), ("mobilevit2", "")]
)
def test_residuals_inside_of_a_block_are_no_sub_blocks(mixer: str, heads: str) -> None:
    text = INSIDE.replace("MIXER", mixer).replace("HEADS", heads)
    candidate = SearchSpace.from_text(text).largest()
    with pytest.raises(CostError, match="such a network has no profile"):
        placed_pieces(graph_of(candidate), workload(candidate).sub_blocks)


def test_two_threads_and_two_images_in_a_file_whatever_the_device_has(profiled: Profile) -> None:
    model = to_onnx(network(plain()), input_shape(plain(), 2))
    found = take_profile(Device.load("cpu-2t"), plain(), model.SerializeToString())
    assert found.device.batch == 2
    for one, two in zip(profiled.blocks, found.blocks, strict=True):
        assert two.block.macs == one.block.macs
        assert two.moved_bytes - two.weight_bytes == 2 * (one.moved_bytes - one.weight_bytes)
        assert two.intensity > one.intensity or not one.block.macs
    assert found.peak.naive == 2 * profiled.peak.naive
