"""Fitting: layers of a candidate, in float and as its compression leaves them, moved together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...spaces.networks import Network
from ..compress.applied import NOTHING, projected
from ..compress.network import CompressedLayer, compressed
from ..compress.scheme import Scheme
from .ridge import ridge_step

TINY = 1e-6  # a channel that is scaled by less cannot be moved


class Twins:
    """A candidate's network twice.

    Args:
        network: in float, which is kept.
        layers: its layers with their compression.

    Attributes:
        network: the same.
        running: another one with weights as the compression leaves them; the same where there is
            none.
        layers: those that are compressed.
    """

    def __init__(self, network: Network, layers: Mapping[str, CompressedLayer]) -> None:
        self.network = network
        self.layers = {
            name: layer
            for name, layer in layers.items()
            if layer.passes != NOTHING or layer.scheme.weights != Scheme().weights
        }
        self.running = deepcopy(network) if self.layers else network

    def compress(
        self,
        path: str,
        inputs: Callable[[], Tensor] | None = None,
        readers: Collection[str] = (),
    ) -> None:
        """Compress a sub-block of the twin.

        Args:
            path: of the sub-block.
            inputs: gives those of its first layers (B, N, C), for which low rank then keeps what
                matters.
            readers: names of these layers in it.
        """
        layers = self._layers(path)
        cut = [name for reader in readers if (name := f"{path}.{reader}") in layers]
        cut = [name for name in cut if layers[name].passes.inputs]
        if inputs is not None and cut:
            gram = _gram(inputs())
            for name in cut:
                self._lower(name, gram)
        self._write(path)

    def _layers(self, path: str) -> dict[str, CompressedLayer]:
        """The compressed layers of a sub-block."""
        return {n: v for n, v in self.layers.items() if v.branch[0] == path}

    def state(self, path: str) -> list[dict[str, Tensor]]:
        """Copies of what a module holds, in both networks."""
        return [
            {n: v.clone() for n, v in network.get_submodule(path).state_dict().items()}
            for network in (self.network, self.running)
        ]

    def restore(self, path: str, states: list[dict[str, Tensor]]) -> None:
        """Inverse of `state`."""
        for network, state in zip((self.network, self.running), states, strict=True):
            network.get_submodule(path).load_state_dict(state)

    def settle(self, path: str, run: Callable[[], object]) -> None:
        """Take the statistics of batch norms from the candidate's own activations.

        Args:
            path: of the modules that may have some.
            run: passes all activations through them.
        """
        norms = {
            name: module
            for name, module in self.running.get_submodule(path).named_modules(prefix=path)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        }
        if not norms:
            return
        momenta = [module.momentum for module in norms.values()]
        for module in norms.values():
            module.train().momentum = 1.0  # statistics of this pass alone
        run()
        for (name, module), momentum in zip(norms.items(), momenta, strict=True):
            module.eval().momentum = momentum
            self.network.get_submodule(name).load_state_dict(module.state_dict())

    def fit(
        self, name: str, inputs: Tensor, wanted: Tensor, weights: Tensor, scale: Tensor
    ) -> Tensor:
        """Move a layer so that `scale` times its outputs comes closest to what is wanted.

        It stays where it is if that does not bring it closer, compression included.

        Args:
            name: of a linear layer or 1x1 convolution.
            inputs: (B, N, in).
            wanted: (B, N, out).
            weights: of the tokens (B, N).
            scale: of the outputs (out,).

        Returns:
            Outputs of the compressed layer (B, N, out), before they are scaled.
        """
        movable = scale.abs() > TINY
        goal = torch.where(movable, wanted / torch.where(movable, scale, 1.0), 0.0)
        kept, layer = self.state(name), self.network.get_submodule(name)
        biased = "bias" in layer.state_dict()
        before = self._outputs(name, inputs)
        rows, row_weights = inputs.flatten(0, -2), weights.flatten()
        exact = _apply(layer, inputs) if name in self.layers else before
        errors = (goal - exact).flatten(0, -2) * movable
        change, shift = ridge_step(rows, errors, row_weights, biased)
        self._matrix(name).add_(change)
        if biased:
            layer.state_dict()["bias"].add_(shift)
        if name in self.layers:
            if self.layers[name].passes.inputs:
                self._lower(name, _gram(inputs))
            self._write(self.layers[name].branch[0])
        elif self.running is not self.network:  # others are compressed, this layer is not
            self.running.get_submodule(name).load_state_dict(layer.state_dict())
        after = self._outputs(name, inputs)
        if name in self.layers and biased:  # what rounding has moved on average
            left = row_weights @ ((goal - after).flatten(0, -2) * movable) / row_weights.sum()
            after = after + left
            for network in (self.network, self.running):
                network.get_submodule(name).state_dict()["bias"].add_(left)

        def loss(outputs: Tensor) -> Tensor:
            return row_weights @ ((outputs - goal) * scale).flatten(0, -2).square().sum(1)

        if loss(after) < loss(before):
            return after
        self.restore(name, kept)
        return before

    def _matrix(self, name: str) -> Tensor:
        """The float weight of a layer as a matrix (out, in), a view."""
        return self.network.get_submodule(name).state_dict()["weight"].flatten(1)

    def _lower(self, name: str, gram: Tensor) -> None:
        """Give a layer the rank that it will have, where its inputs lose least."""
        matrix = self._matrix(name)
        weight = self.network.get_submodule(name).state_dict()["weight"]
        if found := projected(weight, self.layers[name].passes, gram):
            read, right = found
            matrix.copy_(matrix @ read @ right)

    def _write(self, path: str) -> None:
        """Bring what the compression makes of a sub-block into the twin."""
        if not (layers := self._layers(path)):
            return
        params, own = (
            network.get_submodule(path).state_dict(prefix=f"{path}.")
            for network in (self.network, self.running)
        )
        for name, value in compressed(params, layers).items():
            own[name].copy_(value)

    def _outputs(self, name: str, inputs: Tensor) -> Tensor:
        return _apply(self.running.get_submodule(name), inputs)


def _apply(layer: nn.Module, inputs: Tensor) -> Tensor:
    """A linear layer or 1x1 convolution on tokens (B, N, in)."""
    state = layer.state_dict()
    return F.linear(inputs, state["weight"].flatten(1), state.get("bias"))


def _gram(inputs: Tensor) -> Tensor:
    """Mean product of every two channels (C, C)."""
    rows = inputs.flatten(0, -2)
    return rows.T @ rows / len(rows)
