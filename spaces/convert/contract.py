"""ConverterContract: laws that every converter keeps, as tests for plugins too."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..networks import Network
from . import answer_of, from_model

TOLERANCE = 1e-4


class ConverterContract:
    """Laws of a converter; a subclass gives models that it takes, and pytest finds its tests.

    Attributes:
        models: each makes a foreign model, the smaller the better; its weights do not matter.
        unused: names of parameters that the network does without: no answer depends on them, or
            others take them in, as a norm the bias before it.
    """

    unused: tuple[str, ...] = ()
    models: tuple[Callable[[], nn.Module], ...]

    @classmethod
    @cache
    def converted(cls) -> list[tuple[nn.Module, Network]]:
        """Each model in evaluation mode, none of its weights 0, and its network; both only read."""
        models = [with_noise(make().eval()) for make in cls.models]
        return [(model, from_model(model)) for model in models]

    def test_logits_are_those_of_the_original(self) -> None:
        """On images that the conversion has not seen, with weights none of which is 0."""
        for index, (model, network) in enumerate(self.converted()):
            a = network.architecture
            generator = torch.Generator().manual_seed(1)
            x = torch.randn(2, a.in_chans, a.input_size, a.input_size, generator=generator)
            with torch.no_grad():
                given = model(x)
                expected = answer_of(given)
                difference = (network(x) - expected).abs().max() / expected.abs().max()
            assert expected.std() > 0, "these logits prove nothing"
            assert difference < TOLERANCE, f"number {index}: {difference:.1e}"

    def test_parameters_are_as_many(self) -> None:
        """None is lost, none is made up."""
        for model, network in self.converted():
            left_out = [p for name, p in model.named_parameters() if name.endswith(self.unused)]
            assert _count(network) == _count(model) - sum(p.numel() for p in left_out)

    def test_work_is_the_same(self) -> None:
        """Multiply-accumulates of one image, as torch counts them in both."""
        for model, network in self.converted():
            less = deepcopy(model)
            for path, module in list(less.named_modules()):
                if isinstance(module, nn.Linear) and f"{path}.weight".endswith(self.unused):
                    less.set_submodule(path, nn.Identity())
            assert macs_of(network, network) == macs_of(less, network)

    def test_the_original_stays_as_it_is(self) -> None:
        """Its mode and its weights, which the network has a copy of."""
        for make in self.models:
            model = with_noise(make().train())
            before = {key: value.clone() for key, value in model.state_dict().items()}
            with torch.no_grad():
                for parameter in from_model(model).parameters():
                    parameter.zero_()
            assert all(module.training for module in model.modules())
            after = model.state_dict()
            assert all(torch.equal(value, after[key]) for key, value in before.items())


def with_noise(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with something added to each of its weights, so that none is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def macs_of(model: nn.Module, network: Network) -> int:
    """Multiply-accumulates of a model for one image of the size that a network takes."""
    a = network.architecture
    x = torch.zeros(1, a.in_chans, a.input_size, a.input_size)
    model.requires_grad_(False)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused attention is not counted
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
