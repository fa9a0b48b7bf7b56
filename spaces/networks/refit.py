"""Refit: a trained network for images of another size, other pixels, or other classes.

Each function makes a new network; the given one stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import SpaceError
from .network import Network
from .sharing import shared_of
from .stems import PatchEmbed

STEM = "patch_embed.proj"
HEADS = ("head", "head_dist")
# What follows the last block.
LEAVING = ("norm", "fc_norm", "fc_norm_dist", "attn_pool", "pre_logits", "norm_head", *HEADS)


def resized_network(network: Network, input_size: int, patch_size: int) -> Network:
    """The network for images and patches of another size.

    Patch kernels are resized as in FlexiViT and position tables interpolated, by the rules with
    which candidates share them (`sharing.py`).

    Args:
        network: of an architecture whose parts do not depend on the number of tokens.
        input_size: side of an image in pixels.
        patch_size: side of a patch in pixels.

    Raises:
        SpaceError: patches that do not fill the image, or a network that is bound to its size.
    """
    a = network.architecture
    if (a.input_size, a.patch_size) == (input_size, patch_size):
        return network
    made = emptied(network, input_size=input_size, patch_size=patch_size)
    return _filled(made, resized_state(network, made))


def resized_state(network: Network, made: Network) -> dict[str, Tensor]:
    """The weights of a network for one of other size or fewer class tokens, with their gradients.

    Raises:
        SpaceError: the network is bound to its size.
    """
    a = network.architecture
    state = network.state_dict(keep_vars=True)
    resized: dict[str, Tensor] = {}
    for name, (rule, shape) in shared_of(made).items():
        value = state[name]
        if rule.fold and value.shape != shape:  # what fits may lie otherwise in shared weights
            value = rule.cut(value, shape)
        if value.shape != shape:
            raise SpaceError(
                f"{name} of shape {tuple(value.shape)} cannot be made {tuple(shape)}: the network "
                f"only takes images of {a.input_size} pixels in patches of {a.patch_size}"
            )
        resized[name] = value
    return resized


def with_pixels(
    network: Network, scale: Sequence[float], shift: Sequence[float], in_chans: int
) -> Network:
    """The network that sees x as the given one sees scale * x + shift, channel by channel.

    The change is folded into the patch embedding, or, where that has no bias, into it and the
    positions of the patches right behind it. That is exact, as patches have no border. A network
    that is to see its own pixels stays as it is, whatever its stem.

    Args:
        network: with a patch embedding.
        scale: one number for each of its channels.
        shift: likewise.
        in_chans: of x: as many, or 1 for gray images, which all its channels then see.

    Raises:
        SpaceError: another number of channels, a stem of several layers, or one that has neither
            bias nor positions right behind it.
    """
    a = network.architecture
    if in_chans == a.in_chans and set(scale) == {1.0} and not any(shift):
        return network
    if in_chans not in (1, a.in_chans):
        raise SpaceError(f"the network takes {a.in_chans} channel(s), the images have {in_chans}")
    if not isinstance(network.patch_embed, PatchEmbed):
        raise SpaceError("only a patch embedding that sees no border can take other pixels")
    state = network.state_dict()
    kernel = state[f"{STEM}.weight"].double()
    factors, offsets = (torch.tensor(v, dtype=torch.float64) for v in (scale, shift))
    constant = (kernel * offsets[:, None, None]).sum((1, 2, 3))
    kernel = kernel * factors[:, None, None]
    if in_chans < a.in_chans:
        kernel = kernel.sum(1, keepdim=True)
    changed = {f"{STEM}.weight": kernel.float()}
    if f"{STEM}.bias" in state:
        changed[f"{STEM}.bias"] = (state[f"{STEM}.bias"].double() + constant).float()
    elif "pos_embed" in state and not a.stem_norm:  # a norm between would change the constant
        table = state["pos_embed"].clone()  # (1, prefix + N, C)
        table[:, table.shape[1] - a.grid**2 :] += constant.float()
        changed["pos_embed"] = table
    else:
        raise SpaceError(
            "its patch embedding has no bias, and there are no positions right behind it for one"
        )
    return _filled(emptied(network, in_chans=in_chans), state | changed)


def with_classes(network: Network, rows: Sequence[int | None]) -> Network:
    """The network with other heads, exits too: for each class the output that it was, or None.

    A new class starts with weights of zero, and so says nothing; as all do where the network had
    no head.
    """
    made = emptied(network, num_classes=len(rows))
    state = network.state_dict()
    kept = [(new, old) for new, old in enumerate(rows) if old is not None]
    for name, value in made.state_dict().items():
        if name.partition(".")[0] in HEADS or ".exits." in name:
            head = torch.zeros_like(value)
            for new, old in kept:
                head[new] = state[name][old]
            state[name] = head
    return _filled(made, state)


def with_branches(network: Network) -> Network:
    """The network whose convolutions are trained in branches, which says the same at first."""
    return _filled(emptied(network, reparam=True), network.state_dict())


def without_distillation(network: Network) -> Network:
    """The network without its distillation token, and the head that reads it.

    What is left no longer sees that token, so the class head answers a little differently than it
    did beside it, and has to be judged anew.

    Raises:
        SpaceError: it has no such token.
    """
    a = network.architecture
    if network.dist_token is None:
        raise SpaceError(
            f"global_pool {a.global_pool!r} has no distillation token to drop: need 'distill'"
        )
    made = emptied(network, global_pool="token")
    return _filled(made, resized_state(network, made))


def emptied(network: Network, **fields: Any) -> Network:
    """A new network of its architecture, with other fields of that where they are given."""
    with torch.random.fork_rng(devices=[]):  # its initial weights are never used
        return Network(replace(network.architecture, **fields))


def _filled(made: Network, state: Mapping[str, Tensor]) -> Network:
    made.load_state_dict(made.state_dict() | {n: v.detach().clone() for n, v in state.items()})
    return made.eval()
