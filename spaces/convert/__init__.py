"""Converters of foreign networks, one family a file; every result is compared with its original.

An entry of `CONVERTERS` is named by the library and the class whose models it takes, and is a
function from such a model to a `Network` with its weights, a copy of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpaceError
from ..networks import Network
from ..networks.norms import LayerScale
from ..registry import Registry
from .missing import MISSING

__all__ = ["CONVERTERS", "answer_of", "converter_of", "from_model", "from_timm"]

TRANSFORMERS = (
    *("ViTForImageClassification", "ViTModel", "DeiTForImageClassification", "DeiTModel"),
    *("DeiTForImageClassificationWithTeacher", "Dinov2ForImageClassification", "Dinov2Model"),
    *("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersModel", "DINOv3ViTModel"),
)
CONVERTERS: Registry[Callable[[Any], Network]] = Registry(
    "converter",
    {
        "timm.VisionTransformer": ".vision_transformer:convert",
        "timm.Eva": ".vision_transformer:convert",
        "timm.MlpMixer": ".mlp_mixer:convert",
        "timm.SwinTransformer": ".swin:convert",
        "timm.TinyVit": ".tiny_vit:convert",
        "timm.SwinTransformerV2": ".swin_v2:convert",
        "timm.ConvNeXt": ".convnext:convert",
        "timm.Levit": ".levit:convert",
        "timm.MetaFormer": ".metaformer:convert",
        "timm.EfficientFormer": ".efficientformer:convert",
        "timm.EfficientFormerV2": ".efficientformer_v2:convert",
        "timm.ByobNet": ".mobilevit:convert",
        "timm.EfficientNet": ".mobilenet:convert",
        "timm.MobileNetV3": ".mobilenet:convert",
        "timm.EfficientVit": ".efficientvit_mit:convert",
        "timm.EfficientVitMsra": ".efficientvit_msra:convert",
        "torchvision.VisionTransformer": ".torchvision_vit:convert",
        **{f"transformers.{name}": ".transformers_vit:convert" for name in TRANSFORMERS},
        "transformers.SwinForImageClassification": ".transformers_swin:convert",
        "transformers.SwinModel": ".transformers_swin:convert",
    },
    __name__,
)
TOLERANCE = 1e-4  # of the largest logit
FAINT = 0.1  # a layer scale below it hides what its branch does
LOUD_TOLERANCE = 1e-3  # numbers that no training has seen round worse
_STRANGE = "a variant that the vocabulary does not have"


def from_model(model: nn.Module) -> Network:
    """Convert a model of timm, transformers or torchvision, or one that a plugin converts.

    Args:
        model: with float32 weights; it is left as it is.

    Returns:
        A network in evaluation mode with a copy of the weights, which answers alike.

    Raises:
        SpaceError: a model or a variant that the vocabulary does not have, with the reason; or
            one that would give other logits.
    """
    convert, name = converter_of(model), _name(type(model))
    if others := {p.dtype for p in model.parameters()} - {torch.float32}:
        raise SpaceError(f"{name}: weights must be float32, got {min(map(str, others))}")
    network = _converted(convert, name, model)
    _compare(name, model, network, TOLERANCE)
    if scales := _faint(network):
        louder = _with_ones(model, scales)
        _compare(name, louder, _converted(convert, name, louder), LOUD_TOLERANCE)
    return network


def converter_of(model: nn.Module) -> Callable[[Any], Network]:
    """The converter for the class of a model.

    Raises:
        SpaceError: there is none.
    """
    names = [_name(kind) for kind in type(model).__mro__]
    for name in names:
        if name in CONVERTERS:
            return CONVERTERS[name]
        if name in MISSING:
            raise SpaceError(f"{name} does not convert: the vocabulary lacks {MISSING[name]}")
    raise SpaceError(f"no converter for {names[0]}; there are some for {', '.join(CONVERTERS)}")


from_timm = from_model  # its name in releases that knew no other library


def answer_of(given: Any) -> Tensor:
    """Logits (B, K) of what a foreign model returns, or features (B, C) of one without a head."""
    if hasattr(given, "logits"):
        return given.logits
    if hasattr(given, "reshaped_hidden_states"):  # a hierarchy, which has no class token
        return given.pooler_output
    if hasattr(given, "last_hidden_state"):
        return given.last_hidden_state[:, 0]
    return given


def _name(kind: type) -> str:
    """Library and class of a model, whatever the module of the class."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _converted(convert: Callable[[Any], Network], name: str, model: nn.Module) -> Network:
    """The network of a model, not compared with it yet.

    Raises:
        SpaceError: a model or a variant that the vocabulary does not have.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            return convert(model).eval()
    except AttributeError as error:
        raise SpaceError(f"{name}: {_STRANGE}: {error}") from error


def _faint(network: Network) -> list[Tensor]:
    """The layer scales (C,) so small that logits say next to nothing of what they scale."""
    scales = [m.gamma.detach() for m in network.modules() if isinstance(m, LayerScale)]
    return [scale for scale in scales if scale.abs().max() < FAINT]


def _with_ones(model: nn.Module, scales: list[Tensor]) -> nn.Module:
    """A copy of a model with ones where it has one of some scales, whatever their names."""
    louder = deepcopy(model)
    for parameter in louder.parameters():
        value = parameter.detach().cpu().flatten()
        if any(value.equal(scale) for scale in scales):
            nn.init.ones_(parameter)
    return louder


def _compare(name: str, model: nn.Module, network: Network, tolerance: float) -> None:
    """Compare the logits of both on one random image.

    Raises:
        SpaceError: their logits differ, or prove nothing.
    """
    a, generator = network.architecture, torch.Generator().manual_seed(0)
    image = torch.randn(1, a.in_chans, a.input_size, a.input_size, generator=generator)
    with torch.no_grad(), _evaluating(model):
        given = model(image.to(next(model.parameters()).device))
        wanted = answer_of(given).cpu()
        logits = network(image)
    if logits.shape != wanted.shape:
        raise SpaceError(f"{name}: logits {tuple(wanted.shape)} become {tuple(logits.shape)}")
    size = float(wanted.abs().max())
    if size == 0:
        raise SpaceError(f"{name}: all logits are 0, which proves nothing: train its head first")
    error = float((logits - wanted).abs().max()) / size
    if not error <= tolerance:
        raise SpaceError(f"{name}: {_STRANGE}: its logits would change by {error:.1%}")


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """Put a module into evaluation mode; restore the mode of each submodule afterward."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
