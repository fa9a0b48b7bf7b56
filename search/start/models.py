"""Models of others by name or folder: timm, Hugging Face, torchvision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spaces.convert import converter_of
from ...spaces.errors import RunError, SpaceError
from ..training.checkpoint_file import OBJECTS, holds_objects, one_line, read_weights
from ..training.hub import fetching
from ..training.jax_weights import jax_outline
from ..training.timm_models import FOREIGN, check_name, load_foreign
from .weights import check_loaded, check_weights, classes_in

TORCHVISION = "torchvision:"
PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:", TORCHVISION)


def open_model(
    name: str,
    *,
    checkpoint: str = "",
    random_weights: bool = False,
    classes: int | None = None,
    input_size: int | None = None,
    section: str = "",
) -> nn.Module:
    """A foreign model in evaluation mode.

    Args:
        name: timm's, `hf-hub:ORG/NAME`, `local-dir:PATH`, a Hugging Face folder, or
            `torchvision:NAME`.
        checkpoint: file with weights, in place of those that belong to the name.
        random_weights: whether none are read; nothing is fetched then.
        classes: of its head; those of its weights by default.
        input_size: side of its images in pixels; its own by default.
        section: of a configuration that names model and checkpoint, for messages; those of the
            command line by default.

    Raises:
        RunError: no such model, or weights that cannot be had or do not fit.
    """
    if checkpoint and random_weights:
        raise RunError("--checkpoint and --random-weights: give one of them")
    weights, key = dict[str, Tensor](), f"{section}.checkpoint" if section else "--checkpoint"
    file, foreign = Path(checkpoint), Path(checkpoint).suffix.lower() in FOREIGN
    if checkpoint:
        weights = jax_outline(file) if foreign else read_weights(file, key)
    if weights:
        held = classes_in(weights)
        if classes is not None and held not in (None, classes):
            raise RunError(
                f"--checkpoint: {checkpoint} has a head of {held} classes, --classes says {classes}"
            )
        classes = (_headless(name) if held is None else held) if classes is None else classes
    own = not checkpoint and not random_weights  # the weights that belong to the name
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        options = _options(name, classes, weights)
        model = _made(name, own, options, f"{section}.model" if section else "model", key)
        _fit_size(model, weights)
        if foreign:
            _load_foreign(model, checkpoint, key)
        elif checkpoint:
            check_weights(model, weights, f"{key}: {checkpoint}: {name}")
            model.load_state_dict(weights)
        if random_weights:
            _wake(model)
    if classes is not None and (found := classes_of(model)) != classes:
        raise RunError(f"--classes: {name} has {found} classes and takes no other head here")
    if input_size is not None:
        _resize(model, name, input_size)
    return model.eval()


def classes_of(model: Any) -> int:
    """Outputs of a model's head; 0 without one."""
    if hasattr(model, "num_classes"):
        return int(model.num_classes)
    return int(model.config.num_labels) if "Classification" in type(model).__name__ else 0


def _headless(name: str) -> int | None:
    """Classes of a model whose weights have no head: none where its library makes it without."""
    import timm  # takes seconds

    return 0 if timm.is_model(name) else None


def _options(name: str, classes: int | None, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Classes and channels with which a model is made, as far as they are not its own."""
    import timm  # takes seconds

    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    first = timm.models.get_pretrained_cfg_value(name, "first_conv") if timm.is_model(name) else ""
    if (kernel := weights.get(f"{first}.weight")) is not None and kernel.ndim == 4:
        options["in_chans"] = kernel.shape[1]
    return options


def _made(name: str, own: bool, options: dict[str, Any], key: str, weights_key: str) -> Any:
    import timm  # takes seconds

    if name.startswith(TORCHVISION):
        return _of_torchvision(name.removeprefix(TORCHVISION), own, options, key)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _of_folder(folder, own, options, f"{key}: {folder}")
    if not name.startswith(PREFIXES):
        check_name(name, key, weights_key)
        _check_kind(name, key)  # before anything is fetched
    with fetching(f"{key}: {name}") if own else nullcontext():
        return timm.create_model(name, pretrained=own, **options)


def _check_kind(name: str, key: str) -> None:
    """Check that a model of timm is one of those that are converted.

    Raises:
        RunError: it is not.
    """
    import timm  # takes seconds

    with torch.device("meta"):
        model = timm.create_model(name)
    try:
        converter_of(model)
    except SpaceError as error:
        raise RunError(f"{key}: {name}: {error}") from error


def _of_folder(folder: Path, own: bool, options: dict[str, Any], where: str) -> Any:
    """A model that transformers or timm saved."""
    import timm  # takes seconds

    config = folder / "config.json"
    if not config.is_file():
        raise RunError(f"{where}: no config.json in it: need a folder of transformers or timm")
    try:
        about = json.loads(config.read_text("utf-8"))
    except ValueError as error:
        raise RunError(f"{where}: config.json: not JSON: {one_line(error)}") from error
    try:
        if "architecture" in about:  # timm's
            return timm.create_model(f"local-dir:{folder}", pretrained=own, **options)
        return _of_transformers(folder, about, own, where)
    except ImportError as error:
        raise RunError(f"{where}: needs transformers: pip install transformers") from error
    except RunError:
        raise
    except Exception as error:  # each library has errors of its own
        about = f"it is damaged, {OBJECTS}" if holds_objects(error) else one_line(error)
        raise RunError(f"{where}: {about}") from error


def _of_transformers(folder: Path, about: dict[str, Any], own: bool, where: str) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # of what is missing, it has a table
    kinds = [str(kind) for kind in about.get("architectures") or ()]
    classifies = any(kind.endswith(("ForImageClassification", "WithTeacher")) for kind in kinds)
    named = getattr(transformers, kinds[0], None) if kinds else None
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    if own:
        model, loaded = (named or auto).from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to tell which
            dtype=torch.float32,  # half precision, too, whose numbers it holds exactly
        )
        check_loaded(model, loaded, where)
        return model
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    config.dtype = torch.float32
    return auto.from_config(config) if named is None else named(config)


def _of_torchvision(name: str, own: bool, options: dict[str, Any], key: str) -> Any:
    from torchvision import models

    known = [known for known in models.list_models(models) if known.startswith("vit_")]
    if name not in known:
        raise RunError(f"{key}: torchvision has no vit named {name!r}; it has {', '.join(known)}")
    try:
        return models.get_model(name, **({"weights": "DEFAULT"} if own else options))
    except Exception as error:  # of the network
        raise RunError(
            f"{key}: {TORCHVISION}{name}: its weights cannot be had: {one_line(error)}"
        ) from error


def _load_foreign(model: Any, checkpoint: str, key: str) -> None:
    """Weights of JAX, which some models of timm read themselves."""
    if not Path(checkpoint).is_file():
        raise RunError(f"{key}: {checkpoint}: no such file")
    if not hasattr(model, "load_pretrained"):
        raise RunError(f"{key}: {checkpoint}: {type(model).__name__} reads no .npz")
    load_foreign(model, checkpoint, key)


def _fit_size(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Let a model take images of the size at which weights were trained, as their table tells."""
    own, given = getattr(model, "pos_embed", None), weights.get("pos_embed")
    if own is None or given is None or own.ndim != 3 or given.ndim != 3:
        return
    others = own.shape[1] - model.patch_embed.num_patches
    side = isqrt(max(given.shape[1] - others, 0))
    patch = model.patch_embed.patch_size[0]
    if given.shape[1] != own.shape[1] and side**2 == given.shape[1] - others:
        model.set_input_size(img_size=(side * patch, side * patch))


def _resize(model: Any, name: str, size: int) -> None:
    """Let a model take images of another size; its positions are interpolated."""
    if not hasattr(model, "set_input_size"):
        if getattr(getattr(model, "config", None), "image_size", None) == size:
            return
        raise RunError(f"--input-size: {name} takes images of no other size")
    try:
        model.set_input_size(img_size=(size, size))
    except Exception as error:
        raise RunError(f"--input-size: {name}: {one_line(error)}") from error


@torch.no_grad()
def _wake(model: nn.Module) -> None:
    """Give layers that start at zero, such as some heads, weights: zeros would prove nothing."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.trunc_normal_(module.weight, std=0.02)
