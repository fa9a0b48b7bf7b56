"""What benchmarks compare is what they say."""

from math import prod

import numpy as np
import pytest
import torch

from vitpareto.spaces.mixers import MIXERS
from vitpareto.spaces.rules import problems

from .bench._families_cells import Cell, exponents
from .bench._families_drawn import drawn, table
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


def test_routes_and_dropped_tokens_are_compared_at_equal_work() -> None:
    named = list(arms(torch.zeros(1, 1, 8, 8), 10, 2, list(PARTS)))
    whole = macs_of(named[0][1])
    for at, part in enumerate(PARTS):
        (learned, random, dropping) = named[1 + 3 * at : 4 + 3 * at]
        macs = [macs_of(architecture) for _, architecture in (learned, random, dropping)]
        assert max(macs) < 1.05 * min(macs) and max(macs) < 0.95 * whole
        assert learned[0].startswith(part) and "dropped" in dropping[0]
        assert not list(problems(learned[1]))
