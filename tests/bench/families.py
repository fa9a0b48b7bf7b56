"""Families: every mixer at one width and depth, on grids of 14x14, 28x28 and 56x56 tokens.

`python -m tests.bench families` times all of them in one interleaved run through ONNX Runtime, in
float32 and in int8 (with dynamic ranges, of convolutions with static ones), with their memory and
multiply-accumulates, and fits the power of the number of tokens by which latency grows; some ten
minutes of one core. Blocks hold a mixer alone, so that it is seen; those that expand channels
themselves have that, and the row `mlp` is what follows the others. `identity` is stem and head,
which are in every row. Table, picture and figures are written to the folder --out.

`python -m tests.bench families --train [FOLDER]` makes networks of five families as fast as each
other, and trains them alike on the images of FOLDER/CLASS, or on the digits; see `_equally_fast`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitpareto.cost_models import Device, workload
from vitpareto.cost_models.measure.bench import Bench, TimedGraph
from vitpareto.cost_models.measure.capabilities import examples
from vitpareto.cost_models.runtimes import open_runtime
from vitpareto.cost_models.standalone.runner import CLOCKS
from vitpareto.cost_models.standalone.timing import NETWORK_HEAT_MS, measure_session
from vitpareto.cost_models.sweep.taking import available_mb
from vitpareto.spaces import Architecture, Block, Candidate, Policy, Stage
from vitpareto.spaces.errors import CostError, first_line
from vitpareto.spaces.mixers import MIXERS, find
from vitpareto.spaces.rules import problems

from ..shared import everywhere
from ._families_cells import Cell, exponents
from ._families_drawn import drawn, table

DEVICE = Device.load("cpu-1t")
SIDES, WIDTH, DEPTH, PATCH, ROUNDS = (14, 28, 56), 192, 2, 4, 9
MLP, MLP_RATIO = "mlp", 4
GROWING = {"num_heads", "token_hidden", "inner_width"}  # numbers of mixers that grow with the width
PRECISIONS = {"float32": Policy(), "int8": Policy(8, 8)}
ROOM_MB = 2000.0  # of memory that stays free


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print the table, and write it with its picture and figures."""
    asked = _options(arguments)
    torch.set_num_threads(1)
    if asked.train is not None:
        from ._equally_fast import compare

        compare(asked.train, asked.seeds, asked.steps)
        return
    cells = measured(asked.mixers, asked.sides, asked.width, asked.depth, asked.rounds)
    about = (
        f"{DEVICE.name}, width {asked.width}, {asked.depth} blocks, median of {asked.rounds} rounds"
    )
    powers = exponents(cells)
    text = table(cells, powers, about)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "families.md").write_text(text + "\n", encoding="utf-8")
    figures = {"about": about, "cells": [asdict(cell) for cell in cells]}
    (asked.out / "families.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (asked.out / "families.png").write_bytes(drawn(cells, powers))
    print(f"written: {asked.out}/families.md, .json and .png")


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser("python -m tests.bench families", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = [*MIXERS, MLP]
    parser.add_argument("--mixers", nargs="+", default=known, choices=known, metavar="NAME")
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES, help="of the token grids")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--depth", type=int, default=DEPTH, help="blocks of a network")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder to write to")
    parser.add_argument("--train", nargs="?", const="", metavar="FOLDER", help="accuracies instead")
    parser.add_argument("--seeds", type=int, default=3, help="with --train: trainings of each")
    parser.add_argument("--steps", type=int, default=1000, help="with --train: of 64 images")
    return parser.parse_args(arguments)


def measured(
    mixers: Sequence[str], sides: Sequence[int], width: int, depth: int, rounds: int
) -> list[Cell]:
    """All cells, those that run timed in turn; the others say why they do not."""
    cells, graphs = made(mixers, sides, width, depth)
    timed(graphs, rounds)
    weigh(graphs)
    return cells


def made(
    mixers: Sequence[str], sides: Sequence[int], width: int, depth: int
) -> tuple[list[Cell], dict[Cell, TimedGraph]]:
    """All cells, and the graphs of those that can be made."""
    bench = Bench(DEVICE)
    cells: list[Cell] = []
    graphs: dict[Cell, TimedGraph] = {}
    for cell, candidate in planned(mixers, sides, width, depth):
        cells.append(cell)
        cell.refused = next(problems(candidate.architecture), "").rpartition("]: ")[2]
        if cell.refused:
            continue
        cell.macs = workload(candidate).macs
        try:
            graphs[cell] = bench.network(candidate, DEVICE.recipes)
        except CostError as error:
            cell.refused = first_line(error)
            continue
        print(f"made {cell.mixer} {cell.side}x{cell.side} {cell.precision}", flush=True)
    return cells, graphs


def timed(graphs: Mapping[Cell, TimedGraph], rounds: int) -> None:
    """Time all that run, and that there is room for, in turn.

    Samples are in ms, without what slowed a whole round.
    """
    rng, runtime = np.random.default_rng(0), open_runtime(DEVICE)
    cells: list[Cell] = []
    compiled: list[Any] = []
    inputs: list[NDArray[np.float32]] = []
    for cell, graph in graphs.items():
        free_mb = available_mb()
        if free_mb is not None and free_mb < ROOM_MB:
            cell.refused = f"{free_mb:.0f} MB of memory are left"
            continue
        images = rng.standard_normal(graph.shape).astype(np.float32)
        try:
            one = runtime.compile(graph.model)
            one.run(images)
        except (CostError, RuntimeError) as error:
            cell.refused = first_line(error)
            continue
        cells.append(cell)
        compiled.append(one)
        inputs.append(images)
    clock = CLOCKS[DEVICE.clock]
    session = measure_session(compiled, inputs, rounds, clock=clock, heat_ms=NETWORK_HEAT_MS)
    for cell, timing in zip(cells, session.timings, strict=True):
        cell.samples_ms += tuple((np.array(timing.samples_ms) / session.factors).tolist())


def weigh(graphs: Mapping[Cell, TimedGraph]) -> None:
    """Measure the memory of all that run, each in a fresh process."""
    bench = Bench(DEVICE)
    for cell, graph in graphs.items():
        if not cell.refused:
            cell.memory_mb = bench.footprint(graph).growth_mb


def planned(
    mixers: Sequence[str], sides: Sequence[int], width: int, depth: int
) -> Iterator[tuple[Cell, Candidate]]:
    """Everything that is asked for, with its network."""
    for name in mixers:
        for side in sides:
            blocks = tuple(block_of(name, width, j % 2 == 1) for j in range(depth))
            architecture = Architecture(
                (Stage(width, blocks),),
                input_size=side * PATCH,
                patch_size=PATCH,
                num_classes=10,
                pos_embed="none",
                global_pool="avg",
            )
            plain = Candidate.uncompressed(architecture)
            for precision, policy in PRECISIONS.items():
                yield Cell(name, side, precision), everywhere(plain, policy)


def block_of(name: str, width: int, odd: bool) -> Block:
    """The example of a mixer at another width: what counts channels or heads grows with it.

    Args:
        name: of the mixer, or `MLP` for a block of that alone.
        width: channels.
        odd: whether it is the second, fourth, ... block, whose windows are shifted.
    """
    if name == MLP:
        return Block("identity", mlp_hidden=MLP_RATIO * width)
    mixer, known = find(name), examples().get(name)
    share = width / known.place.width if known else 1.0
    numbers = dict(mixer.example.numbers)
    for number in GROWING & numbers.keys():
        numbers[number] = max(round(numbers[number] * share), 1)
    if "shift" in mixer.fields:
        numbers["shift"] = odd
    return Block(name, mlp_hidden=round(mixer.example.mlp_hidden * share), **numbers)


if __name__ == "__main__":
    main()
