"""Running a network with its candidate's compression applied to weights and activations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ...cost_models.build import locate
from ...cost_models.folding import folded
from ...cost_models.precision import Book, recipe_for
from ...spaces import Candidate, Policy
from ...spaces.networks import Network
from ...spaces.ops import rank
from .low_rank import directions, factorised, factors
from .observe import Observer, Range, min_max
from .quantise import quantise_blocks, quantise_dynamic, quantise_range, quantise_weight
from .scheme import Scheme, scheme_of
from .sparsity import sparsify

# What a precision means where no device has been measured: no calibration, so usable in training.
DEFAULT_RECIPES = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")
SECOND = ".1"  # after the name of a factored layer, for its left factor
Weights = Mapping[str, Tensor]


class Layer(NamedTuple):
    """A linear layer or dense convolution, and what is done to it."""

    module: nn.Module
    policy: Policy
    scheme: Scheme

    @property
    def rank(self) -> int:
        """Rank of its factors; 0 where it is not factored."""
        if not isinstance(self.module, nn.Linear) or self.policy.rank_ratio >= 1:
            return 0
        return rank(self.module.in_features, self.module.out_features, self.policy.rank_ratio)


Layers = Mapping[str, Layer]
Touch = Callable[[str, Tensor], Tensor]
Thin = Mapping[str, Tensor | None]  # layers by name, those that are factored with right factor


@dataclass(frozen=True)
class Calibration:
    """What calibration images said of the activations that enter each layer, by name.

    Attributes:
        before: in the float network, where they weigh low-rank factors.
        after: with factors and zeros in place, where ranges are taken. What enters the second
            factor of a layer has the name of that factor once it is a layer, NAME.1.
        choose: how a range is chosen from what was seen.
    """

    before: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    after: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    choose: Range = min_max

    def gram(self, name: str) -> Tensor | None:
        """Second moments of what enters a layer; None if it was not watched."""
        return self.before[name].gram if name in self.before else None


UNCALIBRATED = Calibration()


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
        network: of the candidate's architecture, in the mode (train or eval) that is wanted.
        params: its parameters and buffers by name, in float.
        candidate: its compression is applied.
        images: at the candidate's input size.
        recipes: what the device runs each precision with, `CostModel.recipes`: logits are then
            those of the artifact. Dynamic ranges per image by default.
        calibration: for static recipes and low rank; without it ranges are taken from each
            image, and factors from the weights alone.

    Raises:
        CostError: a precision that the device cannot run.
    """
    layers = compressible(network, candidate, recipes)
    weights, thin = compressed(params, layers, calibration)
    enter, leave = roundings(layers, calibration, len(images))
    return call(network, weights, thin, images, enter, leave)


def compressible(
    network: Network, candidate: Candidate, recipes: Book | Sequence[str] = DEFAULT_RECIPES
) -> dict[str, Layer]:
    """Every linear layer and dense convolution by name, with what its sub-block does to it.

    Raises:
        CostError: a precision that the device cannot run.
    """
    found: dict[str, Layer] = {}
    for prefix, unit in locate(candidate).items():
        recipe = recipe_for(unit, recipes)
        for name, module in network.get_submodule(prefix).named_modules(prefix=prefix):
            conv = isinstance(module, nn.Conv2d) and module.groups == 1
            if conv or isinstance(module, nn.Linear):
                scheme = scheme_of(recipe, unit.policy.weight_bits, conv)
                found[name] = Layer(module, unit.policy, scheme)
    return found


def compressed(
    params: Weights, layers: Layers, calibration: Calibration = UNCALIBRATED
) -> tuple[dict[str, Tensor], Thin]:
    """The weights of all layers as their policies leave them.

    A matrix that is factored keeps its factors dense: zeros in a matrix would not be zeros in
    them.

    Returns:
        All parameters by name, of a factored layer the left factor in place of its weight; and
        every layer by name, with its right factor if it has one.
    """
    found, thin = dict(params), dict[str, Tensor | None]()
    for name, layer in layers.items():
        key, grid = f"{name}.weight", layer.scheme.weights
        if layer.rank:
            left, right = factors(found[key], layer.rank, calibration.gram(name))
            found[key], thin[name] = quantise_weight(left, grid), quantise_weight(right, grid)
        else:
            sparse = sparsify(found[key], layer.policy.sparsity)
            found[key], thin[name] = quantise_weight(sparse, grid), None
    return found, thin


def roundings(layers: Layers, calibration: Calibration, images: int) -> tuple[Touch, Touch]:
    """What rounds the activations that enter and that leave layers, for `call`.

    Args:
        layers: from `compressible`.
        calibration: for static ranges.
        images: in the batch, each of which has its own dynamic range.
    """

    def enter(name: str, x: Tensor) -> Tensor:
        acts, seen = layers[name.removesuffix(SECOND)].scheme.acts, calibration.after.get(name)
        if acts == "float":
            return x
        if acts == "blocks":
            return quantise_blocks(x)
        if acts == "static" and seen is not None:
            return quantise_range(x, *calibration.choose(seen))
        return quantise_dynamic(x, images)

    def leave(name: str, y: Tensor) -> Tensor:
        layer, seen = layers[name], calibration.after.get(name)
        if layer.scheme.acts != "static" or seen is None or isinstance(layer.module, nn.Linear):
            return y
        return quantise_range(y, *seen.left)  # convolutions with static ranges write integers

    return enter, leave


@torch.no_grad()
def calibrate(
    network: Network,
    params: Weights,
    candidate: Candidate,
    images: Tensor,
    choose: Range = min_max,
) -> Calibration:
    """Watch the activations of a network in evaluation mode.

    Args:
        network: of the candidate's architecture.
        params: its parameters and buffers by name, in float.
        candidate: its compression.
        images: train images at the candidate's input size.
        choose: how ranges of static recipes are chosen, one of `observe.RANGES`.
    """
    layers = {
        name: layer._replace(scheme=Scheme())
        for name, layer in compressible(network.eval(), candidate).items()
    }
    whole: Thin = dict.fromkeys(layers)
    before = _watch(network, params, whole, images, layers)
    if all(not layer.rank and not layer.policy.sparsity for layer in layers.values()):
        return Calibration(before, before, choose)
    weights, thin = compressed(params, layers, Calibration(before))
    return Calibration(before, _watch(network, weights, thin, images, layers), choose)


@torch.no_grad()
def deliverable(
    network: Network, candidate: Candidate, calibration: Calibration = UNCALIBRATED
) -> Network:
    """A folded copy for export: zeros in place, factored matrices as two linear layers.

    Rounding is the exporter's. Scales are folded into whole matrices, which keeps their rank,
    and factored after.
    """
    network = copy.deepcopy(network)
    reads: dict[str, Tensor] = {}
    for name, layer in compressible(network, candidate).items():
        weight = network.get_parameter(f"{name}.weight")
        if layer.rank:
            reads[name], right = directions(weight, layer.rank, calibration.gram(name))
            weight.copy_(weight @ reads[name] @ right)
        else:
            weight.copy_(sparsify(weight, layer.policy.sparsity))
    network = folded(network)
    for name, read in reads.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        network.set_submodule(name, factorised(layer, read))
    return network


def _watch(
    network: Network, weights: Weights, thin: Thin, images: Tensor, layers: Layers
) -> dict[str, Observer]:
    seen = {name: Observer(layer.module) for name, layer in layers.items()}
    seen |= {
        f"{n}{SECOND}": Observer(layers[n].module) for n, right in thin.items() if right is not None
    }

    def enter(name: str, x: Tensor) -> Tensor:
        seen[name].see(x)
        return x

    def leave(name: str, y: Tensor) -> Tensor:
        seen[name].see_result(y)
        return y

    call(network, weights, thin, images, enter, leave)
    return seen


def call(
    network: Network, weights: Weights, thin: Thin, images: Tensor, enter: Touch, leave: Touch
) -> Tensor:
    """Logits, with what enters and leaves each layer passed through two functions.

    Args:
        network: what is run.
        weights: from `compressed`.
        thin: likewise.
        images: (B, C, S, S).
        enter: (name, activation) -> what goes on; once more, with `SECOND` after the name, for
            what is between two factors.
        leave: (name, result) -> what goes on.
    """

    def hooks(name: str, right: Tensor | None) -> Iterator[RemovableHandle]:
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            x = enter(name, inputs[0])
            return x if right is None else enter(f"{name}{SECOND}", F.linear(x, right))

        def after(_: nn.Module, inputs: object, y: Tensor) -> Tensor:
            return leave(name, y)

        module = network.get_submodule(name)
        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)

    handles = [handle for name, right in thin.items() for handle in hooks(name, right)]
    try:
        return functional_call(network, dict(weights), (images,))
    finally:
        for handle in handles:
            handle.remove()
