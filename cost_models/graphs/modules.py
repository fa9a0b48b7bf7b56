"""Modules: a sub-block as a torch module, made of the modules of its network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...spaces import Architecture, Block, Candidate, Place, Policy, Stage
from ...spaces.architecture import FINAL_NORMS
from ...spaces.exits import exits_of
from ...spaces.mixers import attribute_of
from ...spaces.networks import Network
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.network import to_grid, to_tokens
from ...spaces.networks.stems import make_downsample
from ...spaces.ops import linear
from ...spaces.transforms import policy_transforms
from ..units.operations import transformed
from ..units.sub_block import SubBlock
from ..units.workload import has_mlp, workload
from .folding import folded

EPS = 1e-6


class Part(nn.Module):
    """One part of a module's forward pass."""

    def __init__(self, module: nn.Module, method: str = "forward") -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, x: Tensor) -> Tensor:
        """Same as the method of the wrapped module."""
        return getattr(self.module, self.method)(x)


class Stem(nn.Module):
    """Stem and embedding of a network, out as tokens or grid as the next block wants."""

    def __init__(self, network: Network, tokens: bool) -> None:
        super().__init__()
        self.network, self.tokens = network, tokens

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, prefix + N, C) or (B, C, H, W)."""
        network = self.network
        x = network.patch_embed(x)
        if not network.embeds:
            return to_tokens(x) if self.tokens else x
        x = network.embed(to_tokens(x))
        return x if self.tokens else to_grid(x)


class Head(nn.Module):
    """Last norm, pooling and classifiers of a network."""

    def __init__(self, network: Network, tokens: bool) -> None:
        super().__init__()
        self.network, self.tokens = network, tokens

    def forward(self, x: Tensor) -> Tensor:
        """(B, prefix + N, C) or (B, C, H, W) -> (B, classes)."""
        x = x if self.tokens else to_tokens(x)
        return self.network.forward_head(self.network.norm(x))


def input_shape(candidate: Candidate, batch: int) -> tuple[int, int, int, int]:
    """Input shape of one run of a whole network."""
    a = candidate.architecture
    return batch, a.in_chans, a.input_size, a.input_size


def build(unit: SubBlock, batch: int = 1) -> tuple[nn.Module, tuple[int, ...]]:
    """A sub-block with random weights, folded as for export, and the shape of its input.

    Args:
        unit: what to build.
        batch: images of one run.
    """
    with torch.random.fork_rng(devices=[]):  # modules start with numbers of torch's own generator
        return _build(unit, batch)


def _build(unit: SubBlock, batch: int) -> tuple[nn.Module, tuple[int, ...]]:
    place = unit.place
    tokens = unit.layout == "tokens"
    rows, width = place.prefix + place.tokens, place.width
    shape: tuple[int, ...] = (batch, rows, width) if tokens else (batch, width, *place.grid)
    if unit.kind == "stem":
        side = place.grid[0] * unit.patch_size
        shape = (batch, unit.inputs, side, side)
        module: nn.Module = Stem(_network(unit), tokens)
    elif unit.kind == "head":
        module = Head(_network(unit), tokens)
    elif unit.kind == "downsample":
        grid = (unit.side_before, unit.side_before)
        module = make_downsample(_stage(unit), unit.inputs, grid, unit.norm, EPS, place.act)
        merges = module.layout == "tokens"
        shape = (batch, grid[0] * grid[1], unit.inputs) if merges else (batch, unit.inputs, *grid)
    else:
        block = ResidualBlock(_built_place(unit), _architecture(unit))
        module = Part(block, "mix" if unit.kind == "mixer" else "feed")
        if unit.kind == "mlp":
            block.norm1 = block.ls1 = nn.Identity()
            block.add_module(block.mixer_name, nn.Identity())
    randomize(module)
    module = folded(module)
    factorize(module, unit.policy)
    return module, shape


def network(candidate: Candidate, seed: int = 0) -> Network:
    """A whole network with random weights, folded and factored as for export."""
    with torch.random.fork_rng(devices=[]):
        built = Network(candidate.architecture)
        randomize(built, seed)
        built = folded(built)
        for prefix, unit in locate(candidate).items():
            factorize(built.get_submodule(prefix), unit.policy)
            thin(built.get_submodule(prefix), unit.policy)
    return built


def locate(candidate: Candidate) -> dict[str, SubBlock]:
    """Module path -> the sub-block that it belongs to; the heads of exits have no policy, and none.

    >>> from vitpareto.spaces import SearchSpace
    >>> blocks = locate(SearchSpace.from_yaml("digits").largest())
    >>> list(blocks)[:3]
    ['patch_embed', 'stages.0.blocks.0.attn', 'stages.0.blocks.0.mlp']
    """
    units = iter(workload(candidate).sub_blocks)
    blocks = {"patch_embed": next(units)}
    for i, stage in enumerate(candidate.architecture.stages):
        if i:
            blocks[f"stages.{i}.downsample"] = next(units)
        for j, block in enumerate(stage.blocks):
            unit = next(units)
            blocks[f"stages.{i}.blocks.{j}.{attribute_of(block.mixer)}"] = unit
            if has_mlp(block):
                blocks[f"stages.{i}.blocks.{j}.mlp"] = next(units)
            if j + 1 in exits_of(stage.exits):
                next(units)
    blocks["head"] = next(units)
    if candidate.architecture.head_hidden:
        blocks["pre_logits"] = blocks["head"]
    if candidate.architecture.heads > 1:
        blocks["head_dist"] = blocks["head"]
    if candidate.architecture.global_pool == "map":
        blocks["attn_pool"] = blocks["head"]
    return blocks


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Weights that keep activations in their usual range; all different, so that none is shared."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if not value.is_floating_point() or name.endswith("mask"):
                continue
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                value.copy_(noise * value[0].numel() ** -0.5)
            else:
                positive = name.endswith(("weight", "gamma", "running_var"))
                value.copy_(noise.abs() * 0.1 + 0.9 if positive else noise * 0.02)


def factorize(module: nn.Module, policy: Policy) -> None:
    """Replace every linear layer by two of lower rank where the policy counts two.

    Singular values are cut at the rank; the root of each goes into both factors.
    """
    if not policy.others:
        return
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                counted = transformed([linear(1, layer.in_features, layer.out_features)], policy)
                if len(counted) == 2:
                    setattr(parent, name, _factors(layer, counted[0].shape[2]))


def thin(module: nn.Module, policy: Policy) -> None:
    """Set as many weights to zero as the policy does, evenly spaced: which ones takes no bytes."""
    known = policy_transforms()
    for name, value in policy.others:
        if not (keep := known[name].kept):
            continue
        for layer in module.modules():
            conv = isinstance(layer, nn.Conv2d) and layer.groups == 1
            if conv or isinstance(layer, nn.Linear):
                weight = layer.get_parameter("weight").data
                rows, run = weight.flatten(1), known[name].run
                inputs = rows.shape[1]
                whole, left = inputs // run, keep(inputs, value) - inputs % run
                stay = torch.arange(whole) * (left // run) % whole < left // run
                rows[:, : whole * run] *= stay.repeat_interleave(run)
                weight.copy_(rows.view_as(weight))


def _factors(layer: nn.Linear, kept: int) -> nn.Sequential:
    first = nn.Linear(layer.in_features, kept, bias=False)
    second = nn.Linear(kept, layer.out_features, bias=_has_bias(layer))
    with torch.no_grad():
        left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
        root = values[:kept].sqrt()
        first.weight.copy_(root[:, None] * right[:kept])
        second.weight.copy_(left[:, :kept] * root)
        if _has_bias(layer):
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


def _has_bias(layer: nn.Linear) -> bool:
    return "bias" in dict(layer.named_parameters())


def _built_place(unit: SubBlock) -> Place:
    """The place with a block that can be built.

    It drops tokens where fewer leave it than enter, and chooses some for a part of it, of which a
    key tells how many; and it has a mixer, which an MLP's sub-block does not settle.
    """
    block = _choosing(unit.place)
    if unit.kind != "mixer":
        block = replace(block, num_heads=1, head_dim=1)
    return replace(unit.place, block=block)


def _choosing(place: Place) -> Block:
    """The block with some share below 1 where tokens are chosen; the place says how many."""
    return replace(
        place.block,
        token_keep=0.5 if place.kept != place.tokens else 1.0,
        mixer_capacity=0.5 if place.mixed else 1.0,
        mlp_capacity=0.5 if place.routed else 1.0,
    )


def _architecture(unit: SubBlock) -> Architecture:
    place, flags = unit.place, unit.flags
    return Architecture(
        (Stage(place.width, (_choosing(place),)),),
        norm=unit.norm,
        norm_eps=EPS,
        act=place.act,
        global_pool="token" if place.prefix > place.registers else "avg",
        registers=place.registers,
        mlp="glu" if unit.variant in ("glu", "glu_conv") else "plain",
        mlp_norm="mlp_norm" in flags,
        mlp_bias="no_bias" not in flags,
        layer_scale="scale" in flags,
        post_norm="post_norm" in flags,
        token_reduction=unit.reduction or "evit",
        token_routing=unit.routing or "learned",
    )


def _stage(unit: SubBlock) -> Stage:
    """The stage that a downsampling leads to, as far as that matters."""
    block, stride = unit.place.block, 1 if "stride_1" in unit.flags else 2
    inner = block.mlp_hidden, block.kernel_size, block.se_hidden, block.head_dim
    return Stage(unit.place.width, (), unit.variant, stride, "", *inner)


def _ratio(hidden: int, width: int) -> float:
    """A ratio that makes this number of hidden units."""
    return (hidden + 0.5) / width if hidden else 4.0


def _network(unit: SubBlock) -> Network:
    """The smallest network with this stem or head."""
    place, stem = unit.place, unit.kind == "stem"
    pooling = {0: "avg", 1: "token", 2: "distill"}[place.prefix - place.registers]
    positions = {"pos": "learned", "patch_pos": "patches"}
    patch = unit.patch_size or 1
    return Network(
        Architecture(
            (Stage(place.width, (Block(num_heads=1, head_dim=8),)),),
            input_size=place.grid[0] * patch,
            in_chans=unit.inputs or 1,
            num_classes=unit.outputs,
            stem=unit.variant if stem else "patch",
            patch_size=patch,
            stem_bias="no_bias" not in unit.flags,
            stem_norm="norm" in unit.flags,
            registers=place.registers,
            pos_embed=next((positions[f] for f in unit.flags if f in positions), "none"),
            pre_norm="pre_norm" in unit.flags,
            global_pool=pooling if stem else unit.variant,
            pool_registers="pool_registers" in unit.flags,
            pool_heads=unit.pool_heads or 8,
            pool_mlp_ratio=_ratio(unit.pool_hidden, place.width),
            head_hidden=0 if stem else place.block.mlp_hidden,
            head_norm="head_norm" in unit.flags,
            final_norm=next((where for where in FINAL_NORMS if where in unit.flags), "tokens"),
            norm=unit.norm,
            norm_eps=EPS,
            act=place.act,
        )
    )
