"""Weights from a file beside the model that they are for: which fit, and whose they look like."""

from __future__ import annotations

from collections.abc import Mapping

import timm
from torch import Tensor, nn

from ...spaces.errors import RunError
from ..training.checkpoint_file import check_fits

HEADS = ("head", "classifier", "heads.head", "head.fc", "cls_classifier")
SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


def classes_in(weights: Mapping[str, Tensor]) -> int | None:
    """Rows of the head in a file; None where it has no head that is known by name."""
    found = (weights.get(f"{head}.weight") for head in HEADS)
    return next((len(rows) for rows in found if rows is not None), None)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Check that weights are those of a model.

    Raises:
        RunError: naming what does not fit, and the model that they look like.
    """
    try:
        check_fits(model, weights, where, HEADS)
    except RunError as error:
        name = looks_like(weights)
        if not name:
            raise
        raise RunError(f"{error}; they look like those of {name}") from error


def looks_like(weights: Mapping[str, Tensor]) -> str:
    """The plain vision transformer of timm that has tensors of these shapes; empty if unknown."""
    kernel = weights.get("patch_embed.proj.weight")
    if kernel is None or "blocks.0.norm1.weight" not in weights:
        return ""
    size, patch = SIZES.get(kernel.shape[0], ""), kernel.shape[-1]
    scaled = "blocks.0.ls1.gamma" in weights
    named = [f"vit_{size}_patch{patch}_224", f"vit_{size}_patch{patch}_384"]
    if "dist_token" in weights:
        named = [f"deit_{size}_distilled_patch{patch}_224"]
    elif "reg_token" in weights:
        named = [f"vit_{size}_patch{patch}_reg4_dinov2"]
    elif scaled:
        named = [f"vit_{size}_patch{patch}_dinov2", f"deit3_{size}_patch{patch}_224"]
    elif "norm_pre.weight" in weights:
        named = [f"vit_{size}_patch{patch}_clip_224"]
    return next((name for name in named if timm.is_model(name)), "")
