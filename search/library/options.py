"""Options: other mixers, trained block by block to do what the start's mixer does.

A block's option sees what enters the block in the start, and learns what its mixer adds to the
stream (block-wise distillation, as DNA, arXiv:1911.13053, and LANA, arXiv:2107.10624, do it).
Blocks know nothing of each other, so that all options can be trained at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...spaces import Architecture, Block, SearchSpace, mixers
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.branches import merge
from .parts import Library, only_mixer, option_name
from .slices import sliced
from .start import Wide, blocks_of, shaped, stages_of, tokens, wide

STEPS = 150
BATCH = 32  # images of a step
LR = 2e-3
HELD_OUT = 0.125  # share of the images on which options are judged
_FEED = ("mlp.", "norm2.", "ls2.")  # what a block has beside its mixer


class Task(NamedTuple):
    """A mixer that is to stand in for that of a block of the start."""

    stage: int
    block: int
    mixer: Block

    @property
    def name(self) -> str:
        """`option_name` of the mixer."""
        return option_name(self.stage, self.block, self.mixer)


class Learned(NamedTuple):
    """An option.

    Attributes:
        option: its parameters, by their shared names in its block.
        explained: share of the variance of what the start's mixer adds, on held-out images.
    """

    option: dict[str, Wide]
    explained: float


def tasks(start: Architecture, space: SearchSpace) -> list[Task]:
    """All options that candidates of a space may need; each once, with all heads that it can have.

    A candidate's block may come from any block of the start, so each gets all mixers of its stage.
    """
    wanted: dict[str, Task] = {}
    for candidate in space.covering():
        for i, stage in enumerate(candidate.architecture.stages):
            for block in stage.blocks:
                mixer = only_mixer(block)
                for j, old in enumerate(start.stages[i].blocks):
                    task = Task(i, j, mixer)
                    same = option_name(i, j, old) == task.name
                    if not same and mixers.find(mixer.mixer).has_weights:
                        known = wanted.get(task.name)
                        if known is None or _units(mixer) > _units(known.mixer):
                            wanted[task.name] = task
    return list(wanted.values())


def _units(mixer: Block) -> list[int]:
    """Numbers of heads and hidden units."""
    return [getattr(mixer, name) for name in mixers.find(mixer.mixer).pruned.values()]


class Teaching:
    """Trains options of a start; sent to a worker once, and called with a task.

    Args:
        library: whose start they imitate, with the order of its heads.
        steps: of training.
    """

    def __init__(self, library: Library, steps: int = STEPS) -> None:
        self._library, self._steps = library, steps

    def __call__(self, task: Task) -> Learned:
        """Train one option; a function of library and task alone."""
        start, (i, j, mixer) = self._library.start, task
        stages = [*start.architecture.stages]
        blocks = [*stages[i].blocks]
        blocks[j] = replace(mixer, mlp_hidden=mixer.mlp_hidden or blocks[j].mlp_hidden)
        stages[i] = replace(stages[i], blocks=tuple(blocks))
        network = sliced(self._library, replace(start.architecture, stages=tuple(stages)))
        block = blocks_of(stages_of(network)[i])[j]
        entering = start.trace.enter[i][j]
        left = start.trace.mixed[i][j] if block.mlp else start.trace.enter[i][j + 1]
        wanted = left - entering
        held = max(1, round(HELD_OUT * len(entering)))
        size = _variance(wanted)
        trained = [
            parameter.requires_grad_()
            for name, parameter in block.named_parameters()
            if not name.startswith(_FEED)
        ]
        optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, self._steps)
        with torch.enable_grad():
            block.train()
            for index in _batches(len(entering) - held, self._steps):
                added = _added(block, entering[index])
                loss = (added - wanted[index]).square().mean() / size
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        block.eval().requires_grad_(False)
        merge(block)
        missed = (_added(block, entering[-held:]) - wanted[-held:]).square().mean()
        share = 1 - (missed / _variance(wanted[-held:])).item()
        own = {name: w for name, w in wide(block).items() if not name.startswith(_FEED)}
        return Learned(own, share)


def _variance(added: Tensor) -> Tensor:
    """Mean square of what is added to the stream, beyond its mean by channel."""
    return (added - added.mean((0, 1))).square().mean()


def _added(block: ResidualBlock, entering: Tensor) -> Tensor:
    """What the mixer adds to the stream (B, N, C)."""
    x = shaped(entering, block.layout)
    return tokens(block.mix(x)) - entering


def _batches(images: int, steps: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        yield torch.randint(images, (BATCH,), generator=generator)
