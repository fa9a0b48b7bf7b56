"""A table whose law is known, and the candidates that it was made from."""

import math
import random

import pytest
import torch

from vitpareto.cost_models import CostModel, LatencyTable, workload
from vitpareto.cost_models.calibration.selection import trials
from vitpareto.cost_models.tables.latency_table import Row
from vitpareto.cost_models.units.precision_recipes import kernel_recipe, recipe_for
from vitpareto.cost_models.units.unit import Unit, unit_of
from vitpareto.spaces import Candidate, SearchSpace

torch.set_num_threads(1)

IDENTITY = {"runtime": "onnxruntime", "processor": "a law", "threads": 1, "version": "1"}
RECIPES = ("float", "dynamic8", "stored8", "fp16", "dynamic4", "stored4")
FACTOR, CONSTANT = 1.05, 0.01  # of a whole network against the sum of its parts


def law_ms(unit: Unit) -> float:
    """What a unit costs on a device that does not exist."""
    speed = {"linear_macs": 0.01, "matmul_macs": 0.02, "conv_macs": 0.01, "softmax": 0.5}
    rate = 0.5 if unit.recipe == "dynamic8" else 1.0
    return 0.004 + sum(rate * speed.get(name, 0.02) * x for name, x in unit.terms.items())


def runs_as(block, recipes) -> Unit:
    return unit_of(block, kernel_recipe(recipe_for(block, recipes), "onnxruntime"))


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.from_yaml("digits")


@pytest.fixture(scope="session")
def recipes(space: SearchSpace) -> dict[str, str]:
    found = {u: 1 for c in space.sample(100, 5) for u in workload(c).sub_blocks}
    return {group: tried[0].recipe for group, tried in trials(found, RECIPES).items()}


@pytest.fixture(scope="session")
def table(space: SearchSpace, recipes: dict[str, str]) -> LatencyTable:
    rng = random.Random(0)
    units = {runs_as(u, recipes) for c in space.sample(60, 1) for u in workload(c).sub_blocks}
    rows = [
        Row("unit", unit.key, law_ms(unit) * math.exp(rng.gauss(0, 0.005)), 0.0, 0.0, 10,
            graph_bytes=unit.weight_bytes + 500, anchor_ms=0.5, session="s")
        for unit in sorted(units, key=lambda u: u.key)
    ]  # fmt: skip
    rows += [network_row(c, recipes, rng) for c in space.sample(40, 2)]
    return LatencyTable(IDENTITY, rows)


@pytest.fixture(scope="session")
def fitted(table: LatencyTable, recipes: dict[str, str]) -> CostModel:
    """The cost model of the table, which takes a second to fit; nobody changes it."""
    return CostModel.fit(table, recipes)


def network_ms(candidate: Candidate, recipes: dict[str, str]) -> float:
    parts = [law_ms(runs_as(block, recipes)) for block in workload(candidate).sub_blocks]
    return CONSTANT + FACTOR * sum(parts)


def network_row(candidate: Candidate, recipes: dict[str, str], rng: random.Random) -> Row:
    blocks = workload(candidate).sub_blocks
    size = sum(unit_of(b, recipe_for(b, recipes)).weight_bytes + 500 for b in blocks) + 300
    ms = network_ms(candidate, recipes) * math.exp(rng.gauss(0, 0.01))
    return Row("model", candidate.to_json(), ms, 0.0, 0.0, 10, graph_bytes=size, anchor_ms=0.5,
               session="m")  # fmt: skip
