"""Rewrites: parts of a network replaced by others that a target runs better or at all.

Each has a label. An exact one leaves the logits as they are up to rounding. Its lossy twin, the
naive swap that is often made instead, is here to show its loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...cost_models.graphs.folding import folded
from ...spaces.errors import SpaceError
from ...spaces.mixers import find
from ...spaces.mixers.common import QKV
from ...spaces.networks import Network
from ...spaces.networks.block import ResidualBlock
from ...spaces.networks.norms import GroupNorm, LayerNorm2d, LayerScale, RmsNorm
from ...spaces.networks.window import WindowAttention


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rewrite of a network in evaluation mode.

    Attributes:
        replaces: the modules that it takes out.
        exact: whether the logits stay the same up to rounding.
        apply: network -> a rewritten copy. It raises SpaceError where the rewrite cannot be
            applied, with the reason.
        summary: what it does, for people.
    """

    replaces: type[nn.Module]
    exact: bool
    apply: Callable[[Network], Network]
    summary: str

    def changes(self, network: Network) -> bool:
        """Whether a network has what it replaces."""
        return any(isinstance(module, self.replaces) for module in network.modules())


class InstanceGroupNorm(nn.Module):
    """Group norm in operators that every runtime has: reshape, instance norm, scale and shift."""

    def __init__(self, norm: nn.GroupNorm, groups: int) -> None:
        super().__init__()
        self.groups, self.eps = groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        grouped = x.reshape(x.shape[0], self.groups, -1)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        x = F.instance_norm(grouped, eps=self.eps).view(x.shape)
        return x * self.weight.view(shape) + self.bias.view(shape)


class InstanceGroupNormTokens(InstanceGroupNorm):
    """Group norm of tokens in operators that every runtime has."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class HardswishForm(nn.Module):
    """Hardswish as x * ReLU6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * F.relu6(x + 3) / 6


def group_to_instance(network: Network) -> Network:
    """Every group norm as an instance norm over its groups: exact."""
    return _replaced(network, nn.GroupNorm, lambda norm: _instance(norm, norm.num_groups))


def group_to_instance_naive(network: Network) -> Network:
    """Every group norm as an instance norm over single channels: lossy."""
    return _replaced(network, nn.GroupNorm, lambda norm: _instance(norm, norm.num_channels))


def hardswish_to_relu6(network: Network) -> Network:
    """Every hardswish in terms of ReLU6: exact."""
    return _replaced(network, nn.Hardswish, lambda _: HardswishForm())


def hardswish_to_relu6_naive(network: Network) -> Network:
    """Every hardswish as a bare ReLU6: lossy."""
    return _replaced(network, nn.Hardswish, lambda _: nn.ReLU6())


def layer_to_rms(network: Network) -> Network:
    """Every layer norm as an RMS norm, with the mean taken out of the stream: exact.

    In a pre-norm network each layer norm subtracts the mean over channels from the residual
    stream. It is zero already where all that write to the stream have theirs removed: patch
    embedding, class tokens, positions and the last layer of every branch; shifts go into the
    layers that read (Jiang et al., Pre-RMSNorm, arXiv:2305.14858).

    Raises:
        SpaceError: something reads or writes the stream in a way that cannot be centered.
    """
    _check_stream(network)
    network = folded(network)
    for path, scale in list(network.named_modules()):
        if isinstance(scale, LayerScale):
            raise SpaceError(f"layer_to_rms: {path} could not be folded into a linear layer")
    with torch.no_grad():
        for writer in _writers(network):
            weight, bias = writer.get_parameter("weight"), writer.get_parameter("bias")
            weight -= weight.mean(0, keepdim=True)
            bias -= bias.mean()
        for table in (network.pos_embed, network.cls_token, network.dist_token, network.reg_token):
            if table is not None:
                table -= table.mean(-1, keepdim=True)
        for path, readers in _readers(network):
            norm = network.get_submodule(path)
            assert isinstance(norm, nn.LayerNorm)
            for reader in readers:
                bias = reader.get_parameter("bias")
                bias += reader.weight @ norm.bias
    return _with_rms(network)


def layer_to_rms_naive(network: Network) -> Network:
    """Every layer norm as an RMS norm of the same scale, nothing else changed: lossy."""
    return _with_rms(copy.deepcopy(network))


REWRITES: dict[str, Rewrite] = {
    "layer_to_rms": Rewrite(
        nn.LayerNorm, True, layer_to_rms, "layer norm as RMS norm of a centered stream"
    ),
    "layer_to_rms_naive": Rewrite(
        nn.LayerNorm, False, layer_to_rms_naive, "layer norm as RMS norm"
    ),
    "group_to_instance": Rewrite(
        *(nn.GroupNorm, True, group_to_instance),
        "group norm as reshape, instance norm, scale and shift",
    ),
    "group_to_instance_naive": Rewrite(
        *(nn.GroupNorm, False, group_to_instance_naive),
        "group norm as instance norm of single channels",
    ),
    "hardswish_to_relu6": Rewrite(
        nn.Hardswish, True, hardswish_to_relu6, "hardswish as x * ReLU6(x + 3) / 6"
    ),
    "hardswish_to_relu6_naive": Rewrite(
        nn.Hardswish, False, hardswish_to_relu6_naive, "hardswish as ReLU6"
    ),
}


def rewritten(network: Network, name: str) -> Network:
    """A copy with one of `REWRITES` made; the network itself without a name.

    Raises:
        SpaceError: the rewrite cannot be applied, with the reason.
    """
    return REWRITES[name].apply(network) if name else network


def _replaced(network: Network, kind: type[nn.Module], make: Callable[..., nn.Module]) -> Network:
    """A copy with every module of a kind replaced."""
    network = copy.deepcopy(network)
    for path, module in list(network.named_modules()):
        if isinstance(module, kind):
            network.set_submodule(path, make(module))
    return network.eval()


def _instance(norm: nn.GroupNorm, groups: int) -> nn.Module:
    tokens = isinstance(norm, GroupNorm)
    return (InstanceGroupNormTokens if tokens else InstanceGroupNorm)(norm, groups)


def _with_rms(network: Network) -> Network:
    """Layer norms replaced in place by RMS norms with their scale."""
    for path, norm in list(network.named_modules()):
        if isinstance(norm, nn.LayerNorm):
            axis = 1 if isinstance(norm, LayerNorm2d) else -1
            rms = RmsNorm(len(norm.weight), norm.eps, axis)
            rms.weight = norm.weight
            network.set_submodule(path, rms)
    return network.eval()


def _check_stream(network: Network) -> None:
    a = network.architecture
    if a.norm != "layer":
        raise SpaceError(f"layer_to_rms: needs norm 'layer', got {a.norm!r}")
    if a.stem in ("convs", "mobile"):
        raise SpaceError("layer_to_rms: the end of the stem is no layer that can be centered")
    if a.stem_norm:
        raise SpaceError("layer_to_rms: the norm after the stem writes to the stream")
    if a.post_norm:
        raise SpaceError("layer_to_rms: norms after mixers and MLPs write to the stream")
    if a.pre_norm:
        raise SpaceError("layer_to_rms: the norm before the blocks writes to the stream")
    heads = not a.num_classes or a.head_hidden
    if a.final_norm != "tokens" or a.global_pool == "map" or heads:
        raise SpaceError("layer_to_rms: needs a linear head that reads the norm of all tokens")
    if a.mlp_norm or not a.mlp_bias or not a.stem_bias:
        raise SpaceError("layer_to_rms: needs biases, and no norms inside MLPs")
    if len(a.stages) > 1:  # a convolution reads it unnormed, a merge norms four tokens together
        raise SpaceError("layer_to_rms: downsampling needs the mean of every token")
    for block in a.blocks():
        if find(block.mixer).readers != QKV:
            raise SpaceError(f"layer_to_rms: mixer {block.mixer!r} writes what cannot be centered")
        if block.no_bias or block.qk_norm or block.out_norm:
            raise SpaceError("layer_to_rms: needs biases, and no norms inside attention")
        routed = min(block.mixer_capacity, block.mlp_capacity) < 1
        if routed and a.token_routing == "learned":
            raise SpaceError("layer_to_rms: the scores of routers need the mean of every token")
    for path, module in network.named_modules():
        if isinstance(module, WindowAttention) and module.padded != tuple(module.grid):
            raise SpaceError(f"layer_to_rms: {path} pads its windows with zeros after the norm")


def _writers(network: Network) -> Iterator[nn.Module]:
    """All that adds to the residual stream, class tokens and positions aside."""
    yield network.patch_embed.get_submodule("proj")
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            yield module.get_submodule(module.mixer_name).get_submodule("proj")
            if module.mlp is not None:
                yield module.mlp.fc2


def _readers(network: Network) -> Iterator[tuple[str, list[nn.Linear]]]:
    """Every norm by name, and the linear layers that read it."""
    for path, module in network.named_modules():
        by_norm: dict[str, list[nn.Module]] = {}
        if isinstance(module, ResidualBlock):
            mixer = module.get_submodule(module.mixer_name)
            by_norm["norm1"] = [mixer.get_submodule(name) for name in "qkv"]
            if module.mlp is not None:
                by_norm["norm2"] = [module.mlp.get_submodule(n) for n in module.mlp.readers]
        elif module is network:
            heads = (network.head, network.head_dist)
            by_norm["norm"] = [head for head in heads if head is not None]
        for name, readers in by_norm.items():
            linear = [reader for reader in readers if isinstance(reader, nn.Linear)]
            yield f"{path}.{name}".lstrip("."), linear
