"""Running a network with its candidate's compression applied to weights and activations."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...cost_models.build import factorise, locate
from ...cost_models.folding import folded
from ...cost_models.precision import Book, recipe_for
from ...spaces import Candidate, Policy
from ...spaces.networks import Network
from ...spaces.ops import rank
from .low_rank import factors, truncated
from .observe import Observer, Range, min_max
from .quantise import quantise_blocks, quantise_dynamic, quantise_range, quantise_weight
from .scheme import Scheme, scheme_of
from .sparsity import sparsify

# What a precision means where no device has been measured: no calibration, so usable in training.
DEFAULT_RECIPES = ("float", "fp16", "dynamic8", "stored8", "dynamic4", "stored4")
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
Rounding = Callable[[Tensor], Tensor]
See = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True)
class Calibration:
    """What calibration images said of every layer, by name.

    Attributes:
        before: activations of the float network, which weigh its low-rank factors.
        after: activations with factors and zeros in place, from which ranges are taken.
        choose: how a range is chosen from what was seen.
    """

    before: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    after: Mapping[str, Observer] = field(default_factory=dict[str, Observer])
    choose: Range = min_max


NO_CALIBRATION = Calibration()


def run(
    network: Network,
    params: Weights,
    candidate: Candidate,
    images: Tensor,
    recipes: Book | Sequence[str] = DEFAULT_RECIPES,
    calibration: Calibration = NO_CALIBRATION,
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
    with _rounded_activations(layers, len(images), calibration):
        weights = rounded(shaped(params, layers, calibration), layers)
        return functional_call(network, weights, (images,))


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


def shaped(
    params: Weights, layers: Layers, calibration: Calibration = NO_CALIBRATION
) -> dict[str, Tensor]:
    """All parameters by name, matrices of low rank or with zeros where their policies say so.

    A matrix that is factored keeps its factors dense: zeros in a matrix would not be zeros in
    them.
    """
    found = dict(params)
    for name, layer in layers.items():
        weight = found[f"{name}.weight"]
        if layer.rank:
            seen = calibration.before.get(name)
            found[f"{name}.weight"] = truncated(weight, layer.rank, seen.gram if seen else None)
        else:
            found[f"{name}.weight"] = sparsify(weight, layer.policy.sparsity)
    return found


def rounded(params: Weights, layers: Layers) -> dict[str, Tensor]:
    """All parameters by name, weights on the grids of their schemes.

    Of a factored matrix both factors are rounded, as they are stored; only the activation
    between them stays exact here.
    """
    found = dict(params)
    for name, layer in layers.items():
        weight, grid = found[f"{name}.weight"], layer.scheme.weights
        if layer.rank and grid.bits < 32:
            left, right = factors(weight, layer.rank)
            found[f"{name}.weight"] = quantise_weight(left, grid) @ quantise_weight(right, grid)
        else:
            found[f"{name}.weight"] = quantise_weight(weight, grid)
    return found


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
    layers = compressible(network, candidate)
    before = _watch(network, params, layers, images)
    if all(not layer.rank and not layer.policy.sparsity for layer in layers.values()):
        return Calibration(before, before, choose)
    after = _watch(network, shaped(params, layers, Calibration(before)), layers, images)
    return Calibration(before, after, choose)


@torch.no_grad()
def deliverable(
    network: Network, candidate: Candidate, calibration: Calibration = NO_CALIBRATION
) -> Network:
    """A folded copy for export: zeros in place, factored matrices as two linear layers.

    Rounding is the exporter's. Factoring a matrix that already has the rank loses nothing, so
    that it can wait until scales are folded.
    """
    network = copy.deepcopy(network)
    layers = compressible(network, candidate)
    network.load_state_dict(shaped(network.state_dict(), layers, calibration))
    network = folded(network)
    for prefix, unit in locate(candidate).items():
        factorise(network.get_submodule(prefix), unit.policy.rank_ratio)
    return network


def _watch(
    network: Network, params: Weights, layers: Layers, images: Tensor
) -> dict[str, Observer]:
    """What enters and leaves every layer when a network in evaluation mode sees the images."""
    seen = {name: Observer(layer.module) for name, layer in layers.items()}
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            see = seen[name].see

            def hook(_: nn.Module, inputs: tuple[Tensor], result: Tensor, see: See = see) -> None:
                see(inputs[0], result)

            stack.callback(layer.module.register_forward_hook(hook).remove)
        functional_call(network.eval(), dict(params), (images,))
    return seen


@contextlib.contextmanager
def _rounded_activations(layers: Layers, images: int, calibration: Calibration) -> Generator[None]:
    """Round what enters the layers whose schemes say so, as long as the context lasts.

    Convolutions with static ranges write integers, too.
    """
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            module, acts, seen = layer.module, layer.scheme.acts, calibration.after.get(name)
            if acts == "float":
                continue
            if acts == "blocks":
                rounding: Rounding = quantise_blocks
            elif acts == "static" and seen is not None:
                low, high = calibration.choose(seen)
                rounding = partial(quantise_range, low=low, high=high)
            else:
                rounding = partial(quantise_dynamic, images=images)
            stack.callback(module.register_forward_pre_hook(_entering(rounding)).remove)
            if acts == "static" and seen is not None and isinstance(module, nn.Conv2d):
                low, high = seen.result[0].clamp_max(0), seen.result[1].clamp_min(0)
                rounding = partial(quantise_range, low=low, high=high)
                stack.callback(module.register_forward_hook(_leaving(rounding)).remove)
        yield


def _entering(rounding: Rounding) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda _, inputs: (rounding(inputs[0]),)


def _leaving(rounding: Rounding) -> Callable[[nn.Module, object, Tensor], Tensor]:
    return lambda _, inputs, result: rounding(result)
