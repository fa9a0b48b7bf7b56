"""Models of timm as teachers and as starts."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...spaces.errors import RunError, did_you_mean
from ..data.augment import Norm

IMAGENET = 1000  # classes unless told otherwise


class Expert(nn.Module):
    """A trained timm model that takes images as the students do, at their size and scale.

    Args:
        model: timm's.
        norm: of the students' images.
    """

    def __init__(self, model: Any, norm: Norm) -> None:
        super().__init__()
        self.model = model
        about: dict[str, Any] = model.pretrained_cfg
        own = Norm(tuple(about["mean"]), tuple(about["std"]))
        # (x * std + mean - own mean) / own std, in one step.
        pairs = zip(norm.mean, norm.std, own.mean, own.std, strict=True)
        steps = [((m - om) / os, s / os) for m, s, om, os in pairs]
        shift, scale = (torch.tensor(v)[:, None, None] for v in zip(*steps, strict=True))
        self.shift, self.scale, self.size = shift, scale, int(about["input_size"][-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, K)."""
        return self.model(self._prepared(x))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, N, D)."""
        tokens = self.model.forward_features(self._prepared(x))
        if tokens.ndim == 4:
            channels_first = tokens.shape[1] == self.model.num_features
            return tokens.flatten(2).mT if channels_first else tokens.flatten(1, 2)
        return tokens[:, getattr(self.model, "num_prefix_tokens", 0) :]

    def _prepared(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        return self.scale.to(x.device) * x + self.shift.to(x.device)


def load_model(name: str, in_chans: int, num_classes: int | None, checkpoint: str = "") -> Any:
    """A trained timm model in evaluation mode.

    Args:
        name: timm's.
        in_chans: channels of its input.
        num_classes: classes that it must have; None allows any.
        checkpoint: file with its weights; timm's pretrained ones otherwise.

    Raises:
        RunError: no such model, weights that do not fit or cannot be loaded, or other classes.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
        raise RunError(f"no timm model is named {name!r}. {did_you_mean(name, near)}")
    try:
        if checkpoint:
            model: Any = timm.create_model(
                name, in_chans=in_chans, num_classes=num_classes or IMAGENET
            )
            timm.models.load_checkpoint(model, checkpoint, weights_only=True)
        else:
            model = timm.create_model(name, pretrained=True, in_chans=in_chans)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        about = str(error).splitlines()[0]
        raise RunError(f"{name}: weights {checkpoint or 'of timm'}: {about}") from error
    if num_classes is not None and model.num_classes != num_classes:
        raise RunError(
            f"{name} knows {model.num_classes} classes, the data has {num_classes}: name a model "
            "that was trained on the same classes, or its checkpoint"
        )
    return model.eval()
