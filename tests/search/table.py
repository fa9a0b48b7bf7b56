"""Spaces small enough to know all of them: every candidate with its score and its costs."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest

from vitpareto.cost_models import workload
from vitpareto.search.pareto.objectives import Objective, pareto_front
from vitpareto.spaces import Candidate, Scalar, SearchSpace

SPACE = """
in_chans: 1
num_classes: 10
input_size: 32
patch_size: [4, 8]
global_pool: avg
stages:
  - depth: {low: 2, high: DEPTH}
    width: [48, 64, 96]
    num_heads: 4
    head_dim: 16
    token_keep: [1.0, 0.5]
    token_keep_at: 1
    act_bits: 8
    weight_bits: [32, 8]
    blocks:
      mixer: [softmax, linear]
      mlp_ratio: [1.0, 2.0, 4.0]
"""
DATA = Path(__file__).parents[1] / "data"
OBJECTIVES = [Objective("accuracy"), Objective("latency_ms")]


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate with its metrics."""

    candidate: Candidate
    metrics: Mapping[str, float]


class Table:
    """All candidates of a space by key."""

    def __init__(self, space: SearchSpace, rows: dict[str, Row]) -> None:
        self.space, self.rows = space, rows
        self.front = pareto_front(list(rows.values()), OBJECTIVES)

    def costs(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """What is known of candidates without scoring them."""
        found = [self.rows[candidate.key].metrics for candidate in candidates]
        return [{n: value for n, value in m.items() if n != "accuracy"} for m in found]

    def score(self, candidate: Candidate) -> dict[str, float]:
        """What scoring it would give."""
        return {"accuracy": self.rows[candidate.key].metrics["accuracy"]}


@lru_cache(maxsize=2)
def make_table(depth: int) -> Table:
    """The table of `SPACE` with networks of 2 to `depth` blocks.

    Two give 648 candidates in 0.3 s, three 3,564 and four 21,384.
    """
    space = SearchSpace.from_text(SPACE.replace("DEPTH", str(depth)))
    rows = {c.key: Row(c, made_up(c)) for c in enumerate_space(space)}
    assert len(rows) == space.size
    return Table(space, rows)


def recorded() -> Table:
    """The table of `data/digits_small.yaml`: 5,280 candidates with real scores and latencies."""
    space = SearchSpace.from_yaml(DATA / "digits_small.yaml")
    candidates = {c.key: c for c in enumerate_space(space)}
    (_, head, _), *lines = csv.reader((DATA / "digits_small.csv").read_text().splitlines())
    images = int(head.rpartition("_")[2])
    rows = {
        key: Row(
            candidates[key],
            {"accuracy": int(correct) / images, "latency_ms": float(latency_us) / 1e3},
        )
        for key, correct, latency_us in lines
    }
    assert len(rows) == space.size
    return Table(space, rows)


def enumerate_space(space: SearchSpace) -> list[Candidate]:
    """Every candidate once."""
    found: dict[str, Candidate] = {}
    values: list[list[Scalar]] = [list(choice.values) for choice in space.parameters]
    names = [choice.name for choice in space.parameters]
    seen = set[tuple[Scalar, ...]]()
    depth = next(i for i, name in enumerate(names) if name.endswith("depth"))
    for combination in product(*values):
        # Choices of blocks that are not there have no effect.
        used = tuple(
            value if block_of(name) < int(combination[depth]) else None
            for name, value in zip(names, combination, strict=True)
        )
        if used not in seen:
            seen.add(used)
            candidate = space.candidate(dict(zip(names, combination, strict=True)))
            found[candidate.key] = candidate
    return list(found.values())


def block_of(name: str) -> int:
    """Index of the block whose choice it is; -1 for choices of the stage or network."""
    parts = name.split(".")
    return int(parts[parts.index("blocks") + 1]) if "blocks" in parts else -1


def made_up(candidate: Candidate) -> dict[str, float]:
    """Metrics that behave like real ones: saturating, with interactions and fixed noise.

    Accuracy grows with the log of MACs and of parameters, less where tokens are dropped early or
    patches are large; softmax helps most in the last block; eight bits hurt narrow networks; and
    a part depends on nothing but the key, as the noise of shared weights does. Latency is a sum
    over sub-blocks of work, memory traffic and a constant, and eight bits speed up matrices.
    """
    work = workload(candidate)
    a, policies = candidate.architecture, candidate.compression.stages[0]
    stage, blocks = a.stages[0], a.stages[0].blocks
    depth, tokens = len(blocks), a.grid**2
    eight = sum(p.weight_bits == 8 for p in (*policies.mixer, *policies.mlp)) / (2 * depth)
    softmax = sum((j + 1) * (b.mixer == "softmax") for j, b in enumerate(blocks))
    softmax /= depth * (depth + 1) / 2
    ends = [b.mlp_hidden / stage.width for b in (blocks[0], blocks[-1])]
    dropped = any(b.token_keep < 1 for b in blocks)
    skill = (
        0.55 * math.log(work.params / 2e4)
        + 0.35 * math.log(work.macs / 2e5)
        + 0.5 * softmax * (1.0 if tokens > 16 else 0.3)
        + 0.08 * (ends[1] - ends[0])
        - dropped * (0.25 if tokens > 16 else 0.7)
        - eight * 0.4 * (48 / stage.width) ** 2
        + 0.12 * (2 * fraction(candidate.key) - 1)
    )
    accuracy = 0.98 - 0.3 / (1 + math.exp(skill - 0.5))
    latency = 0.02
    for unit in work.sub_blocks:
        rate = 2.2 if unit.policy.weight_bits == 8 else 1.0
        latency += 0.004 + unit.macs / (25e6 * rate) + unit.moved_bytes / 8e6
    return {
        "accuracy": round(accuracy * 1000) / 1000,
        "latency_ms": latency,
        "size_mb": work.weight_bytes / 1e6,
    }


def fraction(key: str) -> float:
    """A number in [0, 1) that a key always gives."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12


def losses(metrics: Mapping[str, float]) -> list[float]:
    """What is minimized."""
    return [o.loss(metrics[o.name]) for o in OBJECTIVES]


@pytest.fixture(scope="session")
def table() -> Table:
    """3,564 candidates."""
    return make_table(3)
