"""Models of timm as teachers."""

from __future__ import annotations

import difflib
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...spaces.errors import RunError, did_you_mean
from ..config import TeacherConfig
from ..data.augment import Norm
from .checkpoint_file import check_fits, one_line, read_weights
from .hub import fetching
from .jax_weights import check_outline, jax_outline

COLORS = 3  # channels unless told otherwise
FOREIGN = (".npz", ".npy")  # weights of JAX, which some models of timm read themselves


class Expert(nn.Module):
    """A trained timm model that takes images as the students do, at their size and scale.

    Gray images are shown to a model for color ones as gray in three channels.

    Args:
        model: timm's.
        norm: of the students' images.

    Raises:
        RunError: color images for a model that takes gray ones.
    """

    def __init__(self, model: Any, norm: Norm) -> None:
        super().__init__()
        self.model = model
        about: dict[str, Any] = model.pretrained_cfg
        channels, given = _channels(model), len(norm.mean)
        if given not in (1, channels):
            raise RunError(
                f"{about.get('architecture', 'the model')} takes images of {channels} channel(s), "
                f"the data has {given}: name a model for color images"
            )
        own = Norm(_for_channels(about["mean"], channels), _for_channels(about["std"], channels))
        norm = Norm(_for_channels(norm.mean, channels), _for_channels(norm.std, channels))
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


def load_teacher(config: TeacherConfig, num_classes: int) -> Any:
    """A trained timm model in evaluation mode, with the channels that it was trained on.

    Args:
        config: its name, the file with its weights, and the size of the images that it sees.
        num_classes: classes that it must have.

    Raises:
        RunError: no such model, weights that do not fit or cannot be loaded, or other classes.
    """
    name, checkpoint, size = config.model, config.checkpoint, config.img_size
    check_name(name, "teacher.model", "teacher.checkpoint")
    options = _sized(name, size)
    if checkpoint:
        model = _load_file(name, checkpoint, {"num_classes": num_classes, **options})
    else:
        model = load_pretrained(name, **options)
    if size:
        model.pretrained_cfg = {
            **model.pretrained_cfg,
            "input_size": (_channels(model), size, size),
        }
    if model.num_classes != num_classes:
        raise RunError(
            f"teacher.model: {name} knows {model.num_classes} classes, the data has {num_classes}: "
            "name a model that was trained on the same classes, or its checkpoint"
        )
    return model.eval()


def _sized(name: str, size: int) -> dict[str, Any]:
    """Options for a model that sees images of a size; none where any size will do.

    Raises:
        RunError: it cannot.
    """
    import timm  # takes seconds

    if not size:
        return {}
    with torch.device("meta"):
        try:
            timm.create_model(name, img_size=size)
        except TypeError:  # networks without positions take any size
            return {}
        except (AssertionError, ValueError, RuntimeError) as error:
            raise RunError(
                f"teacher.img_size: {name} at {size} pixels: {one_line(error)}"
            ) from error
    return {"img_size": size}


def check_name(name: str, key: str, weights_key: str) -> None:
    """Check that timm has a model.

    Args:
        name: of the model.
        key: of the configuration that names it, for messages.
        weights_key: of the one that names a file with its weights.

    Raises:
        RunError: it has none.
    """
    import timm  # takes seconds

    if timm.is_model(name):
        return
    if len(Path(name).parts) > 1 or Path(name).exists() or name.startswith("~"):
        raise RunError(
            f"{key}: need the name of a timm model, got the path {name!r}: weights in a file are "
            f"for {weights_key}"
        )
    near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
    hint = did_you_mean(name, near).replace("Known:", "The nearest:")  # of more than a thousand
    raise RunError(f"{key}: no timm model is named {name!r}. {hint}")


def load_pretrained(name: str, **options: Any) -> Any:
    """A model of timm with the weights that timm has for it.

    Raises:
        RunError: there are none, or they cannot be had.
    """
    import timm  # takes seconds

    with fetching(f"teacher.model: {name}"):
        return timm.create_model(name, pretrained=True, **options)


def load_foreign(model: Any, checkpoint: str, key: str) -> None:
    """Load weights of JAX, which some models of timm read themselves.

    Raises:
        RunError: they cannot be read, or are of another network; the message names the key of the
            configuration.
    """
    import timm  # takes seconds

    name = model.pretrained_cfg.get("architecture") or type(model).__name__
    check_outline(model, jax_outline(Path(checkpoint)), f"{key}: {checkpoint}: {name}")
    try:
        timm.models.load_checkpoint(model, checkpoint)
    except Exception as error:  # each model reads in its own way
        raise RunError(f"{key}: {checkpoint}: {one_line(error)}") from error


def _load_file(name: str, checkpoint: str, options: dict[str, Any]) -> Any:
    """A model of timm, made with some options, with weights from a file.

    Raises:
        RunError: they cannot be read, or do not fit.
    """
    import timm  # takes seconds

    if Path(checkpoint).suffix.lower() in FOREIGN:
        model: Any = timm.create_model(name, **options)
        load_foreign(model, checkpoint, "teacher.checkpoint")
        return model
    weights = read_weights(Path(checkpoint))
    model = timm.create_model(name, **options)
    first = weights.get(f"{model.pretrained_cfg.get('first_conv')}.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 1:
        model = timm.create_model(name, in_chans=1, **options)
    heads = model.pretrained_cfg.get("classifier") or "head"
    heads = [heads] if isinstance(heads, str) else list(heads)
    check_fits(model, weights, f"teacher.checkpoint: {checkpoint}: {name}", heads)
    model.load_state_dict(weights)
    return model


def _channels(model: Any) -> int:
    """Channels of the images that a model takes."""
    first = dict(model.named_modules()).get(str(model.pretrained_cfg.get("first_conv")))
    return int(getattr(first, "in_channels", COLORS))


def _for_channels(values: Any, channels: int) -> tuple[float, ...]:
    """One value a channel: repeated where there is one, the mean where one is wanted."""
    values = tuple(float(value) for value in values)
    return values if len(values) == channels else (fmean(values),) * channels
