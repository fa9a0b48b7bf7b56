"""Tokens that are ranked by comparing them are those that a TopK keeps, in its order."""

import numpy as np
import pytest

from vitpareto.cost_models import Device
from vitpareto.cost_models.graphs.modules import build
from vitpareto.cost_models.graphs.to_onnx import to_onnx
from vitpareto.cost_models.onnx_ranking import without_top_k
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.units.unit import parse_unit

pytestmark = pytest.mark.onnx
ROUTED = "mlp/mlp?norm=layer&act=gelu&width=32&grid=4&routed=6{}&mlp_hidden=16&learned@float"
UNIT = (
    "mixer/softmax?norm=layer&act=gelu&width=32&grid=4&tokens=16&kept=6{}&num_heads=2"
    "&head_dim=16&evit@float"
)


@pytest.mark.parametrize("prefix", ["", "&prefix=1"])
@pytest.mark.parametrize(("unit", "batch"), [(UNIT, 2), (ROUTED, 1)])
def test_the_same_tokens_are_kept(unit: str, batch: int, prefix: str) -> None:
    """Also where some are equal, or differ by next to nothing; dropped ones in batches of 2."""
    module, shape = build(parse_unit(unit.format(prefix)).block, batch)
    model = to_onnx(module, shape)
    counted = without_top_k(model)
    kinds = {node.op_type for node in counted.graph.node}
    assert not kinds & {"TopK", "GatherElements", "ScatterND"} and "TopK" in str(model.graph)
    runtime = open_runtime(Device.load("cpu-1t"))
    before, after = runtime.compile(model), runtime.compile(counted)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    equal = x.copy()
    equal[:, 4:9] = equal[:, 12:] = x[:, 3:4]
    near = equal * (1 + np.arange(shape[1], dtype=np.float32)[:, None] * 1e-7)
    for images in (x, equal, near, np.zeros_like(x)):
        assert np.abs(before.run(images) - after.run(images)).max() < 1e-5


def test_known_places_are_a_product() -> None:
    module, shape = build(parse_unit(ROUTED.format("").replace("learned", "random")).block)
    model = to_onnx(module, shape)
    product = without_top_k(model)
    assert {n.op_type for n in model.graph.node} - {n.op_type for n in product.graph.node} == {
        "ScatterND"
    }
    runtime = open_runtime(Device.load("cpu-1t"))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    before, after = (runtime.compile(graph).run(x) for graph in (model, product))
    assert np.abs(before - after).max() < 1e-5


def test_rows_of_several_images_are_ranked_as_they_are() -> None:
    module, shape = build(parse_unit(ROUTED.format("")).block, 2)
    model = to_onnx(module, shape)
    assert without_top_k(model).graph == model.graph


def test_graphs_without_ranks_stay_as_they_are() -> None:
    key = "mlp/mlp?norm=rms&act=gelu&width=8&grid=1&tokens=4&kept=4&mlp_hidden=8@float"
    module, shape = build(parse_unit(key).block)
    model = to_onnx(module, shape)
    assert without_top_k(model) is model
