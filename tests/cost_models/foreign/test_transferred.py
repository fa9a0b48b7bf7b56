"""A device whose law is known, from the model of another one and a few of its sub-blocks."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from vitpareto.cost_models import CostModel, LatencyTable, workload
from vitpareto.cost_models.foreign.exchange import blocks_of
from vitpareto.cost_models.foreign.transferred import telling_units, transfer_model
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.cost_models.units.unit import Unit, parse_unit
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.errors import CostError

from ..conftest import CONSTANT, FACTOR, IDENTITY, law_ms, runs_as

OTHER = {**IDENTITY, "processor": "another law"}


def other_ms(unit: Unit) -> float:
    """Slower by half to four times, and with int8 that helps less."""
    speed = {"linear_macs": 0.02, "matmul_macs": 0.06, "conv_macs": 0.03, "softmax": 0.9}
    rate = 0.8 if unit.recipe == "dynamic8" else 1.0
    return 0.010 + sum(rate * speed.get(name, 0.05) * x for name, x in unit.terms.items())


def other_network_ms(candidate: Candidate, recipes: dict[str, str]) -> float:
    parts = [other_ms(runs_as(block, recipes)) for block in workload(candidate).sub_blocks]
    return CONSTANT * 2.5 + FACTOR * sum(parts)


@pytest.fixture(scope="module")
def known(fitted: CostModel) -> CostModel:
    return fitted


@pytest.fixture(scope="module")
def blocks(space: SearchSpace):
    return blocks_of([space.smallest(), space.largest(), *space.sample(200, 3)])


def measured(keys: list[str], identity: dict = OTHER, rows: list[Row] | None = None):
    rng = random.Random(0)
    units = [
        Row("unit", key, other_ms(parse_unit(key)) * math.exp(rng.gauss(0, 0.01)), 0.0, 0.0, 10)
        for key in keys
    ]
    return LatencyTable(identity, [*units, *(rows or [])])


def test_few_measurements_make_a_model(known, blocks, space, recipes) -> None:
    """Much closer than the known model at the right speed, and the interval holds."""
    keys = telling_units([known], blocks, 30)
    assert len(set(keys)) == 30
    model = transfer_model([known], measured(keys), blocks)
    candidates = space.sample(100, 9)
    actual = np.array([other_network_ms(c, recipes) for c in candidates])
    found, old = model.predict(candidates), known.predict(candidates).latency_ms
    scaled = old * np.exp(np.mean(np.log(actual / old)))
    error = np.abs(found.latency_ms / actual - 1).mean()
    assert error < 0.03
    assert error < 0.25 * np.abs(scaled / actual - 1).mean()
    assert np.mean((found.low_ms <= actual) & (actual <= found.high_ms)) >= 0.9
    assert found.size_mb.tolist() == known.predict(candidates).size_mb.tolist()
    assert model.identity == OTHER and model.validation["sub_blocks"] == 30
    assert model.validation["transferred_from"] == [known.to_dict()["fingerprint"]]


def test_networks_fit_and_validate_it(known, blocks, space, recipes) -> None:
    networks = [
        Row(kind, c.to_json(), other_network_ms(c, recipes), 0.0, 0.0, 10)
        for kind, count, seed in (("model", 12, 20), ("fresh", 8, 21))
        for c in space.sample(count, seed)
    ]
    keys = telling_units([known], blocks, 30)
    model = transfer_model([known], measured(keys, rows=networks), blocks)
    assert model.validation["networks_fresh"] == 8 and model.validation["mape"] < 4


def test_networks_fit_it_in_the_recipes_that_they_were_made_with(
    known, blocks, space, recipes
) -> None:
    """As those of a bundle, which do not all have the recipes of the known device."""
    book = {g: "stored8" if name == "dynamic8" else name for g, name in recipes.items()}
    networks = [
        Row(kind, c.to_json(), other_network_ms(c, book), 0.0, 0.0, 10)
        for kind, count, seed in (("model", 12, 20), ("fresh", 8, 21))
        for c in space.sample(count, seed)
    ]
    table = measured(telling_units([known], blocks, 30), rows=networks)
    said = [replace(row, recipes=json.dumps(book)) for row in networks]
    with_book = measured(telling_units([known], blocks, 30), rows=said)
    plain, told = (transfer_model([known], t, blocks) for t in (table, with_book))
    assert told.validation["mape"] < 4
    fresh = space.sample(60, 9)
    actual = np.array([other_network_ms(c, recipes) for c in fresh])
    errors = [np.abs(m.predict(fresh).latency_ms / actual - 1).mean() for m in (plain, told)]
    assert errors[1] < 0.04 and errors[1] < 0.6 * errors[0]


def test_more_known_devices_say_more(known, blocks, space, recipes, table) -> None:
    """One of them is the new device, hardly noisier."""
    twin = [
        Row("unit", row.key, other_ms(parse_unit(row.key)), 0.0, 0.0, 10)
        for row in table.of_kind("unit")
    ]
    second = CostModel.fit(LatencyTable(OTHER, twin), recipes)
    keys = telling_units([known, second], blocks, 12)
    candidates = space.sample(60, 9)
    actual = np.array([other_network_ms(c, recipes) for c in candidates])
    errors = [
        np.abs(np.log(transfer_model(m, measured(keys), blocks).predict(candidates).latency_ms
                      / actual)).std()
        for m in ([known], [known, second])
    ]  # fmt: skip
    assert errors[1] < 0.6 * errors[0]


def test_what_cannot_be_transferred_is_refused(known, blocks) -> None:
    keys = telling_units([known], blocks, 10)
    with pytest.raises(CostError, match=r"runtime must be the same.*'onnxruntime'.*'openvino'"):
        transfer_model([known], measured(keys, {**OTHER, "runtime": "openvino"}), blocks)
    with pytest.raises(CostError, match=r"need 5 measured sub-blocks or more.*got 3"):
        transfer_model([known], measured(keys[:3]), blocks)


def test_the_known_law_comes_back(known, blocks, space) -> None:
    """The same device measured again is the same device."""
    keys = telling_units([known], blocks, 30)
    again = [Row("unit", key, law_ms(parse_unit(key)), 0.0, 0.0, 10) for key in keys]
    model = transfer_model([known], LatencyTable(IDENTITY, again), blocks)
    candidates = space.sample(30, 9)
    found, wanted = model.predict(candidates).latency_ms, known.predict(candidates).latency_ms
    assert found == pytest.approx(wanted, rel=0.02)
