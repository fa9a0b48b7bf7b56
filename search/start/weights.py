"""Weights from a file beside the model that they are for: which fit, and whose they look like."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from ...spaces.errors import RunError
from ..training.checkpoint_file import check_fits

HEADS = (  # by which families of the libraries call it
    *("head", "classifier", "heads.head", "head.fc", "cls_classifier"),
    *("head.linear", "head.classifier.4"),  # LeViT and EfficientViT of MSRA; EfficientViT of MIT
)
UNUSED = ("pooler.", "mask_token")  # in transformers' names, on which no answer depends
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


def check_loaded(model: nn.Module, loaded: Mapping[str, Collection[Any]], where: str) -> None:
    """Check that transformers, which makes up what a file lacks, had nothing to make up.

    Args:
        model: as it was made.
        loaded: what `from_pretrained` tells of the tensors.
        where: file and model, for the message.

    Raises:
        RunError: the file lacks parameters on which answers depend, or has them in other sizes.
    """
    missing = {*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}
    missing = {name for name in missing if not any(part in name for part in UNUSED)}
    if missing:
        unknown = loaded["unexpected_keys"]
        held = f", and {len(unknown)} are unknown, such as {min(unknown)}" if unknown else ""
        raise RunError(
            f"{where}: its weights are of another model: {len(missing)} of "
            f"{len(model.state_dict())} tensors are missing or of another size, such as "
            f"{min(missing)}{held}"
        )


def looks_like(weights: Mapping[str, Tensor]) -> str:
    """The plain vision transformer of timm that has tensors of these shapes; empty if unknown."""
    import timm  # takes seconds

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
