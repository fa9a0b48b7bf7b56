"""Parts: everything from which candidates are assembled, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from ...spaces import Architecture, Block, mixers
from ...spaces.errors import SpaceError
from .start import Start, Wide

Option = Mapping[str, Wide]
Depths = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Library:
    """A start with the order in which its parts are given up, and what stands in for its mixers.

    Attributes:
        start: the network that everything imitates.
        units: "MODULE AXIS", such as "stages.0.blocks.1.attn heads" -> numbers of its heads or
            hidden units, the most important first.
        dropped: blocks of each stage in the order in which they are given up, as far as it is
            known; then the last ones go.
        missed: blocks by path, such as "stages.0.blocks.3" -> divergence from the start in nats
            where nothing else is gone; only of stages that get shallower.
        lost: blocks that are given up, by path -> divergence once they and those before them are.
        options: `option_name` -> parameters of a mixer, by their shared names in its block.
        explained: `option_name` -> share of what the start's mixer adds to the stream that the
            option adds, too; 1 is all.
        cuts: name as in `units` -> number of units that stay -> share of what all of them write
            into the stream that these say, repaired.
        sees: patch size -> whether candidates with it are repaired toward the start as it sees
            through it, and not toward its pooled stream.
    """

    start: Start
    units: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    dropped: Depths = ()
    missed: Mapping[str, float] = field(default_factory=dict[str, float])
    lost: Mapping[str, float] = field(default_factory=dict[str, float])
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    explained: Mapping[str, float] = field(default_factory=dict[str, float])
    cuts: Mapping[str, Mapping[int, float]] = field(default_factory=dict[str, Mapping[int, float]])
    sees: Mapping[int, bool] = field(default_factory=dict[int, bool])

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._digest, *(getattr(self, part.name) for part in fields(self)))

    @property
    def _digest(self) -> str:
        """Hash of everything."""
        about = self.start.architecture, self.dropped, dict(self.sees)
        digest = hashlib.sha256(repr(about).encode())
        parts = [*self.start.weights.items(), ("images", self.start.images), *self.units.items()]
        parts += [
            (name + part, wide.value)
            for name, option in self.options.items()
            for part, wide in option.items()
        ]
        for name, value in parts:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def kept(self, architecture: Architecture) -> Depths:
        """The start's blocks that a candidate has, in order, stage by stage."""
        return kept_blocks(self.start.architecture, self.dropped, architecture)

    def guide(self, architecture: Architecture) -> Start:
        """The start, as the repair of a candidate follows it."""
        size = architecture.patch_size
        return self.start.through(size) if self.sees.get(size) else self.start

    def dropping(self, stage: int, divergences: Mapping[int, float]) -> Library:
        """The library that gives up one more block of a stage, the least missed.

        Args:
            stage: whose block goes.
            divergences: of the networks without one of the blocks that are left, by block.
        """
        known = self.dropped or ((),) * len(self.start.architecture.stages)
        least = min(sorted(divergences), key=divergences.__getitem__)
        dropped = [(*order, least) if i == stage else order for i, order in enumerate(known)]
        by_path = {f"stages.{stage}.blocks.{j}": v for j, v in sorted(divergences.items())}
        missed = self.missed if known[stage] else {**self.missed, **by_path}
        lost = {**self.lost, f"stages.{stage}.blocks.{least}": divergences[least]}
        return replace(self, dropped=tuple(dropped), missed=missed, lost=lost)

    def seeing(self, count: int) -> Library:
        """The library whose repairs look at the first of its images alone."""
        return replace(self, start=replace(self.start, images=self.start.images[:count]))

    def adding(self, name: str, option: Option, explained: float) -> Library:
        """The library with one more option."""
        return replace(
            self,
            options={**self.options, name: option},
            explained={**self.explained, name: explained},
        )


_ALIVE: WeakValueDictionary[str, Library] = WeakValueDictionary()


def _unpickled(digest: str, *parts: Any) -> Library:
    """A library that came from another process; equal ones are one object, traced once."""
    library = _ALIVE.get(digest)
    if library is None:
        library = _ALIVE[digest] = Library(*parts)
    return library


def kept_blocks(start: Architecture, dropped: Depths, smaller: Architecture) -> Depths:
    """The blocks that stay in a smaller network, in order, stage by stage.

    Args:
        start: the whole network.
        dropped: as in `Library`.
        smaller: says how many blocks stay.

    Raises:
        SpaceError: more than there are, or a network of another kind.
    """
    for name in ("global_pool", "num_classes", "in_chans"):
        ours, theirs = getattr(smaller, name), getattr(start, name)
        if ours != theirs:
            raise SpaceError(f"{name} of the candidate is {ours!r}, of the start {theirs!r}")
    if len(smaller.stages) != len(start.stages):
        raise SpaceError(
            f"the candidate has {len(smaller.stages)} stages, the start {len(start.stages)}"
        )
    kept: list[tuple[int, ...]] = []
    for i, (own, whole) in enumerate(zip(smaller.stages, start.stages, strict=True)):
        excess = len(whole.blocks) - len(own.blocks)
        if excess < 0:
            raise SpaceError(
                f"stage {i} of the candidate has {len(own.blocks)} blocks, the start has "
                f"{len(whole.blocks)}"
            )
        known = dropped[i] if dropped else ()
        left = [j for j in range(len(whole.blocks)) if j not in known[:excess]]
        kept.append(tuple(left[: len(own.blocks)]))
    return tuple(kept)


def option_name(stage: int, block: int, mixer: Block) -> str:
    """Name of a mixer that stands in for that of a block of the start.

    What pruning shortens is not in it: one option serves every number of heads.

    >>> option_name(0, 3, Block("pooled", num_heads=4, head_dim=32, kv_pool=2, mlp_hidden=512))
    'stages.0.blocks.3 pooled head_dim=32 kv_pool=2'
    """
    pruned = mixers.find(mixer.mixer).pruned.values()
    numbers = [f"{n}={v}" for n, v in mixer.numbers if n not in pruned]
    return " ".join([f"stages.{stage}.blocks.{block}", mixer.mixer, *numbers])


def only_mixer(block: Block) -> Block:
    """The block without what is not of its mixer."""
    hidden = block.mlp_hidden if mixers.find(block.mixer).is_mlp else 0
    whole = {"token_keep": 1.0, "mixer_capacity": 1.0, "mlp_capacity": 1.0}
    return replace(block, mlp_hidden=hidden, **whole)
