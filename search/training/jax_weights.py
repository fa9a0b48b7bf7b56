"""Weights of JAX in .npz files: which network they are of, which timm does not ask.

It leaves a head of other classes at random, resamples kernels of other patches, and does not look
at blocks beyond those of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...spaces.errors import RunError
from .checkpoint_file import shape_of

STEM = "embedding/kernel"
STARTS = ("", "opt/target/", "params/", "params/img/")  # of names, as timm knows them
POSITIONS = ("Transformer/posembed_input/pos_embedding", "pos_embedding")
HEAD, BEFORE_HEAD = "head/kernel", "pre_logits/kernel"
BLOCK = re.compile(r"Transformer/encoderblock(_\d+)?/LayerNorm_0/scale")


def jax_outline(file: Path) -> dict[str, Tensor]:
    """Stem, positions, blocks and head by timm's names; nothing of a file that timm refuses.

    A head that reads a layer which timm leaves out is left out, too.
    """
    try:
        with np.load(file, allow_pickle=False) as held:
            start = next(start for start in STARTS if f"{start}{STEM}" in held.files)
            names = [n.removeprefix(start) for n in held.files if n.startswith(start)]
            return dict(_outlined({n: held[f"{start}{n}"] for n in names if _outlines(n)}))
    except Exception:  # each has its own, and timm a message for it
        return {}


def check_outline(model: nn.Module, outline: Mapping[str, Tensor], where: str) -> None:
    """Check that weights are those of a model, but for positions, which may be of another size.

    Raises:
        RunError: naming what does not fit.
    """
    own = model.state_dict()
    for name, value in outline.items():
        if name not in own:
            raise RunError(f"{where} has other tensors: {name} is unknown")
        if name != "pos_embed" and value.shape != own[name].shape:
            raise RunError(
                f"{where} has other tensors: {name} is {shape_of(value)} instead of "
                f"{shape_of(own[name])}"
            )


def _outlines(name: str) -> bool:
    return name in (STEM, *POSITIONS, HEAD, BEFORE_HEAD) or BLOCK.fullmatch(name) is not None


def _outlined(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Tensor]]:
    """Tensors by timm's names."""
    for name, array in arrays.items():
        value = torch.from_numpy(array)
        if name == STEM:
            yield "patch_embed.proj.weight", value.permute(3, 2, 0, 1)
        elif name in POSITIONS:
            yield "pos_embed", value
        elif name == HEAD and BEFORE_HEAD not in arrays:
            yield "head.weight", value.T
        elif found := BLOCK.fullmatch(name):
            scales = [value] if found[1] else value  # of all blocks in one array
            first = int(found[1][1:]) if found[1] else 0
            for index, scale in enumerate(scales, first):
                yield f"blocks.{index}.norm1.weight", scale
