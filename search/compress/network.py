"""Running a network with its candidate's compression applied to weights and activations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from ...cost_models.graphs.modules import locate
from ...cost_models.graphs.quantize import Limits
from ...cost_models.units.precision_recipes import Book, recipe_for
from ...spaces import Candidate
from ...spaces.networks import Network
from ...spaces.networks.branches import BranchedConv2d, branches_of, merged
from .applied import NOTHING, Passes, branched, passes_of, projected, transformed
from .observe import RANGES, Observer, min_max
from .quantize import (
    quantize_bias,
    quantize_blocks,
    quantize_dynamic,
    quantize_range,
    quantize_weight,
    straight_through,
)
from .ranges import Choose, Reader, closest
from .scheme import Scheme, scheme_of

# Recipes where no device was measured; none needs calibration, so that training can use them. As a
# book of no group, beside which any recipe serves a policy that these do not.
_CHANNELS = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")
_TENSORS = (f"{name}_tensor" for name in _CHANNELS[2:])
DEFAULT_RECIPES: Book = {name: name for name in (*_CHANNELS, *_TENSORS)}
Weights = Mapping[str, Tensor]


class CompressedLayer(NamedTuple):
    """A linear layer or dense convolution with its compression.

    Attributes:
        module: the layer.
        passes: change its weights before they are rounded.
        scheme: how they are rounded.
        branch: path and module of its sub-block.
    """

    module: nn.Module
    passes: Passes
    scheme: Scheme
    branch: tuple[str, nn.Module]

    @property
    def fixes_output(self) -> bool:
        """Whether it writes integers: convolutions with static ranges do."""
        return isinstance(self.module, nn.Conv2d) and self.scheme.acts == "static"


Layers = Mapping[str, CompressedLayer]
Touch = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Calibration:
    """Statistics of the activations around each layer over calibration images, by name.

    Attributes:
        before: activations of the float network, which weigh low-rank factors.
        entering: lowest and highest input (2,) that is kept, with all compression but rounding.
        leaving: lowest and highest output, likewise.
        observers: of `observe.RANGES`, by which fixed ranges of inputs were chosen.
    """

    before: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    entering: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    leaving: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    observers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def limits(self) -> dict[str, Limits]:
        """Ranges as graphs are quantized by."""
        return {
            name: Limits(_array(ends), _array(torch.tensor(self.leaving[name])))
            for name, ends in self.entering.items()
        }

    def gram(self, name: str) -> Tensor | None:
        """Second moments of the inputs of a layer; None if it was not observed."""
        return self.before[name].gram if name in self.before else None


UNCALIBRATED = Calibration()


def _array(ends: Tensor) -> NDArray[np.float32]:
    return ends.cpu().numpy().astype(np.float32)


def run(
    network: Network,
    params: Weights,
    candidate: Candidate,
    images: Tensor,
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    calibration: Calibration = UNCALIBRATED,
) -> Tensor:
    """Logits of a candidate: (B, C, S, S) -> (B, K).

    Args:
        network: of the candidate's architecture, in the mode (train or eval) that is wanted;
            plain, or with layers that are factored already.
        params: its parameters and buffers by name, in float.
        candidate: its compression is applied.
        images: at the candidate's input size.
        recipes: how the device runs each precision, as `CostModel.recipes`. By default
            activations are rounded by the range of each image.
        calibration: for static ranges, by default those of each image, and for low rank, by
            default chosen from the weights alone.

    Raises:
        CostError: a precision that the device cannot run.
    """
    return run_batches(network, params, candidate, [images], recipes, calibration)


def run_batches(
    network: Network,
    params: Weights,
    candidate: Candidate,
    batches: Iterable[Tensor],
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    calibration: Calibration = UNCALIBRATED,
) -> Tensor:
    """Logits of all batches (N, K); as `run`, but weights are compressed once."""
    layers = compressible(network, candidate, recipes)
    return run_layers(network, params, layers, batches, calibration)


def run_layers(
    network: Network,
    params: Weights,
    layers: Layers,
    batches: Iterable[Tensor],
    calibration: Calibration = UNCALIBRATED,
) -> Tensor:
    """As `run_batches`, for callers that keep the result of `compressible`."""
    return torch.cat([*run_each(network, params, layers, batches, calibration)])


def run_each(
    network: Network,
    params: Weights,
    layers: Layers,
    batches: Iterable[Tensor],
    calibration: Calibration = UNCALIBRATED,
) -> Iterator[Tensor]:
    """As `run_layers`, what the network gives for each batch."""
    weights = compressed(params, layers, calibration)
    rounded = {name: layer for name, layer in layers.items() if layer.scheme.acts != "float"}
    for images in batches:
        touch = roundings(layers, calibration, len(images))
        yield call(network, weights, images, rounded, *touch)


def compressible(
    network: Network, candidate: Candidate, recipes: Book | Sequence[str] = DEFAULT_RECIPES
) -> dict[str, CompressedLayer]:
    """Every linear layer and dense convolution by name, with the compression of its sub-block.

    Raises:
        CostError: a precision that the device cannot run.
    """
    layers: dict[str, CompressedLayer] = {}
    for prefix, unit in locate(candidate).items():
        recipe, policy = recipe_for(unit, recipes), unit.policy
        passes = NOTHING if network.compressed or not policy.others else passes_of(policy)
        branch = network.get_submodule(prefix)
        constant = {f"{prefix}.{name}" for name in getattr(branch, "constant", ())}
        for name, module in branch.named_modules(prefix=prefix):
            conv = isinstance(module, nn.Conv2d) and module.groups == 1
            if (conv or isinstance(module, nn.Linear)) and name not in constant:
                scheme = scheme_of(recipe, policy.weight_bits, conv)
                layers[name] = CompressedLayer(module, passes, scheme, (prefix, branch))
    return layers


def compressed(
    params: Weights, layers: Layers, calibration: Calibration = UNCALIBRATED
) -> dict[str, Tensor]:
    """All parameters by name, the weights of layers as their policies leave them.

    A matrix of low rank is the product of two, each transformed and rounded as it will be stored.
    Biases change where a convolution adds them to integers. Of convolutions that are trained in
    branches the sum is the weight, as it will run.
    """
    in_branches = [n for n, v in layers.items() if isinstance(v.module, BranchedConv2d)]
    with torch.autocast(next(iter(params.values())).device.type, enabled=False):
        changed = merged(in_branches, params)
        for passes, (path, branch) in branches(layers):
            for name, value in branched(changed, path, branch, passes).items():
                changed[name] = straight_through(changed[name], value)
        for name, layer in layers.items():
            weight, bias = f"{name}.weight", f"{name}.bias"
            ends = calibration.entering.get(name)
            rounds = layer.fixes_output and not layer.scheme.symmetric
            if rounds and ends is not None and bias in changed:
                changed[bias] = quantize_bias(
                    changed[bias], changed[weight], layer.scheme.weights, *ends
                )
            changed[weight] = _compressed(changed[weight], layer, calibration.gram(name))
    return changed


def branches(layers: Layers) -> Iterable[tuple[Passes, tuple[str, nn.Module]]]:
    """Sub-blocks that are transformed as a whole: passes, path and module."""
    return dict.fromkeys((v.passes, v.branch) for v in layers.values() if v.passes.branch)


def _compressed(weight: Tensor, layer: CompressedLayer, gram: Tensor | None) -> Tensor:
    passes, grid = layer.passes, layer.scheme.weights
    if passes.inputs and (projection := projected(weight, passes, gram)):
        # Training moves the matrix inside the space that is kept: the right factor is constant.
        read, right = projection
        left = quantize_weight(transformed(weight @ read, passes), grid)
        return left @ quantize_weight(transformed(right, passes), grid)
    return quantize_weight(transformed(weight, passes), grid)


def roundings(layers: Layers, calibration: Calibration, images: int) -> tuple[Touch, Touch]:
    """Functions that round the activations entering and leaving layers, for `call`.

    Args:
        layers: from `compressible`.
        calibration: for static ranges.
        images: in the batch, each of which has its own dynamic range.
    """
    last: tuple[Tensor, Scheme, Tensor] | None = None

    def enter(name: str, x: Tensor) -> Tensor:
        nonlocal last
        scheme, ends = layers[name].scheme, calibration.entering.get(name)
        acts = scheme.acts
        if acts == "float":
            return x
        if acts == "static" and ends is not None:
            return quantize_range(x, *scheme.ends(*ends))
        if last is None or last[0] is not x or last[1] != scheme:  # q, k and v read the same
            if acts == "blocks":
                rounded = quantize_blocks(x, scheme.weights.block)
            else:
                rounded = quantize_dynamic(x, images)
            last = x, scheme, rounded
        return last[2]

    def leave(name: str, y: Tensor) -> Tensor:
        ends = calibration.leaving.get(name)
        layer = layers[name]
        return quantize_range(y, *layer.scheme.ends(*ends)) if ends and layer.fixes_output else y

    return enter, leave


@torch.no_grad()
def calibrate(
    network: Network,
    params: Weights,
    candidate: Candidate,
    images: Tensor,
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    choose: Choose = closest,
) -> Calibration:
    """Observe the activations of a network in evaluation mode.

    Args:
        network: of the candidate's architecture.
        params: its parameters and buffers by name, in float.
        candidate: its compression.
        images: train images at the candidate's input size.
        recipes: as for `run`; they say which layers take fixed ranges.
        choose: the observer of each of these ranges, named in `observe.RANGES`. Others reach
            from the smallest to the largest value.

    Raises:
        CostError: a precision that the device cannot run.
    """
    rounded = compressible(network.eval(), candidate, recipes)
    layers = {name: layer._replace(scheme=Scheme()) for name, layer in rounded.items()}
    params = merged(branches_of(network), params)
    weights, (after, first) = params, _watch(network, params, images, layers)
    before = after
    if any(layer.passes != NOTHING for layer in layers.values()):
        weights = compressed(params, layers, Calibration(before))
        after, first = _watch(network, weights, images, layers)
    entering = {name: min_max(seen) for name, seen in after.items()}
    leaving = {name: seen.left for name, seen in after.items()}
    static = {name for name, layer in rounded.items() if layer.scheme.acts == "static"}
    observers: dict[str, str] = {}
    if static:
        stored = compressed(params, rounded, Calibration(before))
        for lead in dict.fromkeys(first[name] for name in static):
            names = [name for name in rounded if name in static and first[name] == lead]
            readers = [
                Reader(rounded[n].module, weights[f"{n}.weight"], stored[f"{n}.weight"], after[n])
                for n in names
            ]
            chosen = choose(readers)
            ends = RANGES[chosen](readers[0].seen)
            observers |= dict.fromkeys(names, chosen)
            entering |= dict.fromkeys(names, ends)
    return Calibration(before, entering, leaving, observers)


def _watch(
    network: Network, weights: Weights, images: Tensor, layers: Layers
) -> tuple[dict[str, Observer], dict[str, str]]:
    """Statistics of every layer, and the first layer that read what each of them reads."""
    seen = {name: Observer(layer.module) for name, layer in layers.items()}
    first: dict[str, str] = {}
    read: dict[int, tuple[weakref.ref[Tensor], str]] = {}  # others may get the id of a dead tensor

    def enter(name: str, x: Tensor) -> Tensor:
        known = read.get(id(x))
        if known is None or known[0]() is not x:
            known = read[id(x)] = weakref.ref(x), name
        first[name] = known[1]
        seen[name].see(x)
        return x

    def leave(name: str, y: Tensor) -> Tensor:
        seen[name].see_result(y)
        return y

    call(network, weights, images, layers, enter, leave)
    return seen, first


def call(
    network: Network,
    weights: Weights,
    images: Tensor,
    layers: Iterable[str],
    enter: Touch,
    leave: Touch,
) -> Tensor:
    """Logits, with the inputs and outputs of some layers passed through two functions.

    Args:
        network: to run.
        weights: its parameters and buffers by name.
        images: (B, C, S, S).
        layers: names of layers.
        enter: (name, input) -> the input to use.
        leave: (name, output) -> the output to use.
    """

    def hooks(name: str) -> Iterator[RemovableHandle]:
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            return enter(name, inputs[0])

        def after(_: nn.Module, inputs: object, y: Tensor) -> Tensor:
            return leave(name, y)

        module = network.get_submodule(name)
        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)

    handles = [handle for name in layers for handle in hooks(name)]
    try:
        return functional_call(network, dict(weights), (images,))
    finally:
        for handle in handles:
            handle.remove()
