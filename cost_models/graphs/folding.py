"""Folding: layer scale, batch norm, affine and branches absorbed by layers beside them, exactly.

Training needs these as separate parameters; at inference they only take time. Called on a
copy before export and before measurement, so that both see the same graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...spaces.architecture import INNER
from ...spaces.mixers import find
from ...spaces.networks import Network
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.branches import unbranch
from ...spaces.networks.levit import AttentionDownsample
from ...spaces.networks.norms import Affine, LayerScale
from ...spaces.networks.stems import ConvDownsample, PatchDownsample, PatchMerging
from ...spaces.networks.window import WindowAttention

M = TypeVar("M", bound=nn.Module)


def folded(module: M) -> M:
    """A copy in evaluation mode, every scale, batch norm and branch folded that can be.

    The outputs are the same up to rounding.
    """
    module = copy.deepcopy(module).eval()
    unbranch(module)
    with torch.no_grad():
        for part in list(module.modules()):
            if isinstance(part, ResidualBlock):
                _fold_block(part)
            elif isinstance(part, nn.Sequential):
                _fold_sequence(part)
            elif isinstance(part, ConvDownsample):
                _after(part.conv, *_affine(part.bn))
                part.add_module("bn", nn.Identity())
            elif isinstance(part, AttentionDownsample):
                _fold_norms(part.attention, find(INNER["attention"]).batch_norms)
            elif isinstance(part, PatchMerging) and _is_affine(part.norm):
                _before([part.reduction], *_affine(part.norm))
                part.norm = nn.Identity()
            elif isinstance(part, PatchDownsample) and _is_affine(part.norm_in):
                _before([part.proj], *_affine(part.norm_in))
                part.norm_in = nn.Identity()
            elif isinstance(part, Network):
                _fold_heads(part)
    return module


def _fold_heads(network: Network) -> None:
    """Norms of tokens or of what is pooled, into the layers that read them."""
    heads = (network.pre_logits,) if network.pre_logits else (network.head, network.head_dist)
    own = {"fc_norm": heads[:1], "fc_norm_dist": heads[1:]}
    if network.fc_norm_dist is None:
        own = {"fc_norm": heads}
    for name, parts in {"norm": heads, **own}.items():
        norm, readers = getattr(network, name), [p for p in parts if isinstance(p, nn.Linear)]
        if _is_affine(norm) and readers:
            _before(readers, *_affine(norm))
            setattr(network, name, nn.Identity())


def _fold_block(block: ResidualBlock) -> None:
    mixer, traits = block.get_submodule(block.mixer_name), find(block.mixer)
    _fold_norms(mixer, traits.batch_norms)
    last = _layers(mixer, traits.last)
    if isinstance(block.ls1, LayerScale) and last:
        _scale(last[0], block.ls1.gamma)
        block.ls1 = nn.Identity()
    if isinstance(block.ls2, LayerScale) and block.mlp is not None:
        _scale(block.mlp.fc2, block.ls2.gamma)
        block.ls2 = nn.Identity()
    # Padded windows hold zeros after the norm, which a folded shift would not.
    padded = isinstance(mixer, WindowAttention) and mixer.padded != tuple(mixer.grid)
    readers = _layers(mixer, *traits.readers)
    if _is_affine(block.norm1) and readers and not padded:
        _before(readers, *_affine(block.norm1))
        block.norm1 = nn.Identity()
    if block.norm2 is not None and _is_affine(block.norm2) and block.mlp is not None:
        _before(_layers(block.mlp, *block.mlp.readers), *_affine(block.norm2))
        block.norm2 = nn.Identity()


def _fold_norms(module: nn.Module, batch_norms: Mapping[str, str]) -> None:
    """Batch norms of a module, each into the layer before it."""
    for bn, layer in batch_norms.items():
        _after(module.get_submodule(layer), *_affine(module.get_submodule(bn)))
        module.add_module(bn, nn.Identity())


def _layers(mixer: nn.Module, *names: str) -> list[nn.Module]:
    """Layers of a mixer that can take something in; a measured MLP has no mixer."""
    layers = [getattr(mixer, name, None) for name in names if name]
    return [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]


def _fold_sequence(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        conv, bn = layers[index], layers[index + 1]
        if isinstance(conv, nn.Conv2d) and _is_batch_norm(bn):
            _after(conv, *_affine(bn))
            layers[index + 1] = nn.Identity()


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)


def _is_affine(module: nn.Module) -> bool:
    """Whether a norm is scale and shift alone at inference."""
    return _is_batch_norm(module) or isinstance(module, Affine)


def _affine(bn: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift that a norm of `_is_affine` applies at inference."""
    if isinstance(bn, Affine):
        return bn.weight, bn.bias
    assert isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d)
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    return scale, bn.bias - bn.running_mean * scale


def _scale(layer: nn.Module, scale: Tensor) -> None:
    _after(layer, scale, torch.zeros_like(scale))


def _after(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """layer, then x * scale + shift."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        shift = layer.bias * scale + shift
    elif not shift.any():
        return
    layer.bias = nn.Parameter(shift)


def _before(layers: Sequence[nn.Module], scale: Tensor, shift: Tensor) -> None:
    """X * scale + shift, then each of the layers: linear, or convolutions without a border."""
    for layer in layers:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        weight = layer.weight.flatten(2).sum(2) if layer.weight.ndim > 2 else layer.weight
        extra = weight @ shift
        layer.bias = nn.Parameter(extra if layer.bias is None else layer.bias + extra)
        layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 2)))
