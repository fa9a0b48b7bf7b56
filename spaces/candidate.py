"""Architecture, Compression, Candidate: what is built, as data.

All three are frozen and canonical: a field that has no effect is at its default, defaults are
left out of the JSON, and `Candidate.key` is the hash of that JSON. So equal keys mean the same
network at the same precision, in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, TypeVar, cast

from . import mixers
from .block import Block
from .errors import SpaceError, did_you_mean

FORMAT_VERSION = 1

STEMS = ("patch", "conv")
POS_EMBEDS = ("learned", "relative", "none")
GLOBAL_POOLS = ("token", "distill", "avg")
NORMS = ("layer", "rms", "batch", "group")
ACTS = ("gelu", "relu", "silu", "hardswish")
DOWNSAMPLES = ("conv", "merge")
TOKEN_REDUCTIONS = ("evit", "random")
BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)
INTEGER_BITS = 8  # at most this many bits are integers; 16 and 32 are floats
RANGES: dict[str, tuple[float, float]] = {
    "token_keep": (0.01, 1.0),
    "rank_ratio": (0.01, 1.0),
    "prune_ratio": (0.0, 0.95),
    "sparsity": (0.0, 0.99),
    "width": (1, 16384),
    "input_size": (1, 4096),
    "patch_size": (1, 1024),
    "in_chans": (1, 1024),
    "num_classes": (1, 1_000_000),
    "num_heads": (0, 1024),
    "depth": (1, 256),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width on one token grid.

    Attributes:
        width: channels of the residual stream.
        blocks: the blocks in order.
        downsample: how the grid was halved before the stage; the first stage has the stem.
    """

    width: int
    blocks: tuple[Block, ...]
    downsample: str = "conv"


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes a network's shapes, under timm's names.

    Attributes:
        stages: one stage for a plain vision transformer, several for a hierarchy.
        input_size: side of the square input image in pixels.
        in_chans: image channels.
        num_classes: outputs of the head.
        stem: "patch" (one convolution) or "conv" (3x3 convolutions of stride 2).
        patch_size: pixels a token is wide and high after the stem.
        stem_norm: a norm after the stem, as in Swin.
        pos_embed: "learned" table, "relative" bias inside windows, or "none".
        global_pool: class "token", class and "distill" tokens with a head each, or "avg".
        norm: layer, rms, batch or group.
        norm_eps: epsilon of every norm.
        act: activation of MLPs and convolutions.
        layer_scale: a learned scale on every residual branch.
        token_reduction: which tokens are dropped: the least attended ("evit", the dropped
            ones fused into one token) or a fixed "random" subset, the control.
    """

    stages: tuple[Stage, ...]
    input_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000
    stem: str = "patch"
    patch_size: int = 16
    stem_norm: bool = False
    pos_embed: str = "learned"
    global_pool: str = "token"
    norm: str = "layer"
    norm_eps: float = 1e-6
    act: str = "gelu"
    layer_scale: bool = False
    token_reduction: str = "evit"

    def __post_init__(self) -> None:
        stages = tuple(
            Stage(
                stage.width,
                tuple(mixers.canonical(block) for block in stage.blocks),
                stage.downsample if index else "conv",
            )
            for index, stage in enumerate(self.stages)
        )
        object.__setattr__(self, "stages", stages)
        if all(block.token_keep == 1 for block in self.blocks()):
            object.__setattr__(self, "token_reduction", "evit")

    @property
    def grid(self) -> int:
        """Side of the token grid after the stem."""
        return self.input_size // self.patch_size

    @property
    def prefix(self) -> int:
        """Number of class and distillation tokens."""
        return {"avg": 0, "token": 1, "distill": 2}[self.global_pool]

    def blocks(self) -> Iterator[Block]:
        """All blocks of all stages in order."""
        for stage in self.stages:
            yield from stage.blocks


@dataclass(frozen=True, slots=True)
class Policy:
    """How the weights of one sub-block are compressed.

    Attributes:
        weight_bits: bits of a weight; 32 is float32.
        act_bits: bits of the activations that enter linear layers; needs integer weights.
        prune_ratio: share of heads or hidden units cut away; the block's numbers are what
            is left.
        rank_ratio: rank of factored weights relative to full rank; 1.0 does not factor.
        sparsity: share of zero weights.

    Integer activations need integer weights: beside float weights `act_bits` becomes 32.
    """

    weight_bits: int = 32
    act_bits: int = 32
    prune_ratio: float = 0.0
    rank_ratio: float = 1.0
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if self.weight_bits > INTEGER_BITS:
            object.__setattr__(self, "act_bits", 32)


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """Policies of a stage: its downsampling, and mixer and MLP of every block."""

    mixer: tuple[Policy, ...]
    mlp: tuple[Policy, ...]
    downsample: Policy = Policy()


@dataclass(frozen=True)
class Compression:
    """Policies of every part of a network; `None` stages mean no compression anywhere."""

    stages: tuple[StagePolicy, ...]
    stem: Policy = Policy()
    head: Policy = Policy()


@dataclass(frozen=True)
class Candidate:
    """An architecture and its compression: one point of a search space.

    Raises:
        SpaceError: the compression has another number of stages or blocks.
    """

    architecture: Architecture
    compression: Compression

    def __post_init__(self) -> None:
        built = [len(stage.blocks) for stage in self.architecture.stages]
        for part in ("mixer", "mlp"):
            given = [len(getattr(stage, part)) for stage in self.compression.stages]
            if given != built:
                raise SpaceError(
                    f"compression needs one {part} policy a block: the stages have "
                    f"{built} blocks, got policies for {given}"
                )

    @classmethod
    def uncompressed(cls, architecture: Architecture) -> Candidate:
        """The architecture in float32 with nothing pruned."""
        stages = tuple(
            StagePolicy((Policy(),) * len(s.blocks), (Policy(),) * len(s.blocks))
            for s in architecture.stages
        )
        return cls(architecture, Compression(stages))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that name this candidate everywhere."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and scalars, without defaults."""
        stages = [
            _without_defaults(stage) | {"blocks": [_block_dict(b) for b in stage.blocks]}
            for stage in self.architecture.stages
        ]
        policies = [_stage_policy_dict(stage) for stage in self.compression.stages]
        compression = _without_defaults(self.compression)
        return {
            "version": FORMAT_VERSION,
            "architecture": _without_defaults(self.architecture) | {"stages": stages},
            "compression": compression | ({"stages": policies} if any(policies) else {}),
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted names, no spaces, no defaults."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_dict`; a "key" beside it is ignored.

        Raises:
            SpaceError: an unknown name, a wrong type or a newer format version.
        """
        if not isinstance(data, Mapping) or "architecture" not in data:
            raise SpaceError(f"a candidate needs the name 'architecture', got {_short(data)}")
        version = data.get("version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise SpaceError(
                f"candidate format version must be {FORMAT_VERSION}, got {version!r}: "
                "it was written by another release of vitpareto"
            )
        architecture = _build(
            Architecture, data["architecture"], "architecture", stages=lambda v: _stages(v)
        )
        raw = dict(data.get("compression", {}))
        empty = [{} for _ in architecture.stages]
        policies = raw.pop("stages", empty)
        if len(policies) != len(empty):
            raise SpaceError(
                f"compression.stages: need {len(empty)} stages as in the architecture, "
                f"got {len(policies)}"
            )
        stages = tuple(
            _stage_policy(policy, len(stage.blocks), f"compression.stages[{index}]")
            for index, (policy, stage) in enumerate(
                zip(policies, architecture.stages, strict=True)
            )
        )
        parts = {
            name: _build(Policy, raw.pop(name), f"compression.{name}")
            for name in ("stem", "head")
            if name in raw
        }
        if raw:
            raise _unknown(next(iter(raw)), ("stages", "stem", "head"), "compression")
        return cls(architecture, Compression(stages, **parts))

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """Inverse of `to_json`.

        Raises:
            SpaceError: not JSON, or not a candidate.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpaceError(f"a candidate must be JSON: {error}") from error
        return cls.from_dict(data)


T = TypeVar("T")
_CHOICES = {
    "stem": STEMS,
    "pos_embed": POS_EMBEDS,
    "global_pool": GLOBAL_POOLS,
    "norm": NORMS,
    "act": ACTS,
    "downsample": DOWNSAMPLES,
    "token_reduction": TOKEN_REDUCTIONS,
    "weight_bits": BITS,
    "act_bits": BITS,
}


def allowed(name: str) -> Sequence[str | int] | None:
    """The values that a field may take, or None where any of its type will do."""
    return list(mixers.MIXERS) if name == "mixer" else _CHOICES.get(name)


@lru_cache(maxsize=1 << 16)
def _block_dict(block: Block) -> dict[str, Any]:
    return _without_defaults(block) | {"mixer": block.mixer}


@lru_cache(maxsize=1 << 16)
def _policy_dict(policy: Policy) -> dict[str, Any]:
    return _without_defaults(policy)


def _stage_policy_dict(stage: StagePolicy) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("mixer", "mlp"):
        policies = [_policy_dict(policy) for policy in getattr(stage, part)]
        if any(policies):
            found[part] = policies
    if downsample := _policy_dict(stage.downsample):
        found["downsample"] = downsample
    return found


@lru_cache(maxsize=None)
def _defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


def _without_defaults(value: Any) -> dict[str, Any]:
    """Scalar fields and policies of a dataclass that differ from their defaults."""
    found: dict[str, Any] = {}
    for name, default in _defaults(type(value)).items():
        field = getattr(value, name)
        if field != default and not isinstance(field, tuple):
            found[name] = _policy_dict(field) if isinstance(field, Policy) else field
    return found


def _build(kind: type[T], data: object, where: str, **convert: Any) -> T:
    """Build a dataclass from a dict, naming the place of whatever does not fit."""
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where}: need a mapping of names to values, got {_short(data)}")
    values: dict[str, Any] = {}
    defaults = _defaults(kind)
    for name, value in cast("Mapping[str, Any]", data).items():
        if name not in defaults:
            raise _unknown(name, defaults, where)
        if name in convert:
            values[name] = convert[name](value)
            continue
        default = defaults[name]
        wanted = int if not isinstance(default, str | bool | float) else type(default)
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise SpaceError(f"{where}.{name}: need {wanted.__name__}, got {value!r}")
        options = allowed(name)
        if options is not None and value not in options:
            hint = did_you_mean(str(value), map(str, options))
            raise SpaceError(f"{where}.{name}: no such value {value!r}. {hint}")
        values[name] = value
    try:
        return kind(**values)
    except TypeError:
        missing = [n for n, d in defaults.items() if n not in values and not _has_default(d)]
        raise SpaceError(f"{where}: needs {', '.join(missing)}") from None


def _has_default(default: object) -> bool:
    return isinstance(default, str | int | float | tuple | Policy)


def _stages(data: object) -> tuple[Stage, ...]:
    return tuple(
        _build(
            Stage,
            stage,
            f"architecture.stages[{i}]",
            blocks=lambda blocks, i=i: tuple(
                _build(Block, block, f"architecture.stages[{i}].blocks[{j}]")
                for j, block in enumerate(_list(blocks, f"architecture.stages[{i}].blocks"))
            ),
        )
        for i, stage in enumerate(_list(data, "architecture.stages"))
    )


def _stage_policy(data: object, depth: int, where: str) -> StagePolicy:
    def policies(value: object) -> tuple[Policy, ...]:
        return tuple(_build(Policy, p, where) for p in _list(value, where))

    raw = {"mixer": [{}] * depth, "mlp": [{}] * depth}
    if isinstance(data, Mapping):
        raw |= cast("Mapping[str, Any]", data)
    return _build(
        StagePolicy,
        raw,
        where,
        mixer=policies,
        mlp=policies,
        downsample=lambda value: _build(Policy, value, f"{where}.downsample"),
    )


def _list(data: object, where: str) -> list[Any]:
    if not isinstance(data, list) or not data:
        raise SpaceError(f"{where}: need a list with at least one item, got {_short(data)}")
    return data


def _unknown(name: object, known: Mapping[str, Any] | Sequence[str], where: str) -> SpaceError:
    return SpaceError(f"{where}: unknown name {name!r}. {did_you_mean(str(name), known)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_plain(architecture: Architecture) -> dict[str, Any]:
    """Every field of an architecture, defaults included, for people to read."""
    return asdict(architecture)
