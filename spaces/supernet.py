"""Supernet: the weights of the largest network, from which every candidate is cut.

A candidate's network is built without memory (on the `meta` device); each of its parameters is
a leading slice of the shared parameter of the same name, and `torch.func.functional_call` runs
it, so that gradients flow back through the views. See `networks/sharing.py` for the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from .architecture import Architecture
from .candidate import Candidate
from .errors import SpaceError
from .networks import Network, Shared, shared_of
from .networks.branches import branches_of, merged
from .space import SearchSpace

SORTED_AXES = ("heads", "hidden")
_DRAWING = (nn.init.kaiming_uniform_, nn.init.uniform_)  # of layers, given `tensor` by its name


class Supernet:
    """Shared weights for all candidates of a space.

    Args:
        space: the space; its largest values give the shapes.
        seed: of the initial weights.

    Attributes:
        params: name -> shared parameter, shaped by named axes.
        buffers: name -> shared running statistics.

    Raises:
        SpaceError: its networks have heads that cannot be shared.
    """

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self.space = space
        self.params: dict[str, nn.Parameter] = {}
        self.buffers: dict[str, Tensor] = {}
        shapes: dict[str, torch.Size] = {}
        starts: dict[str, float] = {}
        self._axes: dict[str, str] = {}
        for architecture in dict.fromkeys(c.architecture for c in space.covering()):
            network, rules = blueprint(architecture)
            buffers = {name for name, _ in network.named_buffers()}
            for name, (rule, _) in rules.items():
                shared = shared_name(name, rule)
                old = shapes.get(shared, (0,) * len(rule.shape))
                if len(old) != len(rule.shape):
                    raise SpaceError(
                        f"space {space.name!r}: its networks cannot share {shared}, which has "
                        "other axes in some: global_pool 'token_avg' goes with no other one"
                    )
                sizes = [max(a, b) for a, b in zip(old, rule.shape, strict=True)]
                shapes[shared] = torch.Size(sizes)
                self._axes[shared] = rule.axes
                if rule.start is not None:
                    starts[shared] = rule.start
                if name in buffers:
                    self.buffers[shared] = torch.empty(0)
        for axis in SORTED_AXES:  # as long in all that is sorted alike, whichever mixer has most
            for members in _by_module(self._axes, axis).values():
                length = max(shapes[name][place] for name, place in members)
                for name, place in members:
                    shape = shapes[name]
                    shapes[name] = torch.Size([*shape[:place], length, *shape[place + 1 :]])
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            value = _initial(name, shape, generator)
            if name in starts:  # drawn all the same, so that what follows starts as ever
                value.fill_(starts[name])
            if name in self.buffers:
                self.buffers[name] = value
            else:
                self.params[name] = nn.Parameter(value)

    @classmethod
    def from_network(cls, space: SearchSpace, network: Network, seed: int = 0) -> Supernet:
        """A supernet whose shared weights start as those of a pretrained network.

        Heads and hidden units are sorted by importance, so that a shorter slice keeps the
        most. Weights that the network does not have (other mixers) start at random.
        """
        supernet = cls(space, seed)
        supernet.load_network(network)
        supernet.sort_by_importance(whose=network.architecture)
        return supernet

    def parameters(self) -> Iterator[nn.Parameter]:
        """All shared parameters, for an optimizer."""
        yield from self.params.values()

    def to(self, device: torch.device | str) -> Supernet:
        """Move all shared tensors, in place."""
        for parameter in self.params.values():
            parameter.data = parameter.data.to(device)
        self.buffers = {name: value.to(device) for name, value in self.buffers.items()}
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Names and tensors, for safetensors."""
        return {name: p.detach() for name, p in self.params.items()} | self.buffers

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state_dict`.

        Raises:
            SpaceError: names or shapes of another space.
        """
        own = self.state_dict()
        for name in sorted(own.keys() | state.keys()):
            shapes = [tuple(d[name].shape) if name in d else None for d in (own, state)]
            if shapes[0] != shapes[1]:
                raise SpaceError(
                    f"weights of another space: {name} needs shape {shapes[0]}, got {shapes[1]}"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    # Cutting candidates out.

    def inherit(self, candidate: Candidate) -> dict[str, Tensor]:
        """Parameters and buffers of a candidate's network, as views where possible.

        Raises:
            SpaceError: the candidate is larger than the supernet, or not of its space.
        """
        tensors: dict[str, Tensor] = {}
        for name, (rule, shape) in blueprint(candidate.architecture)[1].items():
            shared = shared_name(name, rule)
            source = self.params.get(shared, self.buffers.get(shared))
            if source is None or not rule.fits(source.shape):
                raise SpaceError(
                    f"the supernet of space {self.space.name!r} has no {name} of shape "
                    f"{tuple(shape)}: the candidate is not in its space"
                )
            tensors[name] = rule.cut(source, shape)
        return tensors

    def __call__(self, candidate: Candidate, x: Tensor, train: bool = False) -> Tensor:
        """Logits of a candidate with inherited weights: (B, in_chans, S, S) -> (B, classes)."""
        network, _ = blueprint(candidate.architecture)
        network.train(train)
        # Masks and indices are constants of the blueprint, which stays where it was built.
        constants = {n: b.to(x.device) for n, b in network.named_buffers() if not b.is_meta}
        return functional_call(network, self.inherit(candidate) | constants, (x,))

    def extract(self, candidate: Candidate) -> Network:
        """The candidate's network with its own copy of the weights."""
        with torch.random.fork_rng(devices=[]):  # its initial weights are never used
            network = Network(candidate.architecture)
        inherited = {
            name: value.detach().clone() for name, value in self.inherit(candidate).items()
        }
        network.load_state_dict(network.state_dict() | inherited)
        return network.eval()

    # Filling from a network, and sorting.

    @torch.no_grad()
    def load_network(self, network: Network) -> None:
        """Copy a network's weights into the slices that it would inherit.

        Raises:
            SpaceError: the supernet has no place for one of them.
        """
        # What is trained in branches says all that it does by the weights of the plain network.
        state = merged(branches_of(network), network.state_dict())
        for name, (rule, _) in shared_of(network).items():
            shared = shared_name(name, rule)
            target = self.params.get(shared, self.buffers.get(shared))
            if target is None or not rule.fits(target.shape):
                raise SpaceError(
                    f"the supernet of space {self.space.name!r} has no place for {name} of shape "
                    f"{tuple(state[name].shape)}: the network is larger than its networks"
                )
            view = target[rule.index()]
            view.copy_(
                rule.unfold(state[name], view.shape)
                if rule.unfold
                else state[name].reshape(view.shape)
            )

    @torch.no_grad()
    def sort_by_importance(
        self,
        scores: Mapping[str, Tensor] | None = None,
        alike: Sequence[Mapping[str, Tensor]] = (),
        whose: Architecture | None = None,
    ) -> None:
        """Permute heads and hidden units of every block, the most important first.

        The function of one network does not change: all tensors that share an axis are permuted
        alike, and heads that share keys and values in it stay together.

        Args:
            scores: elementwise importance of shared parameters, such as |weight x gradient|
                (Taylor, Molchanov et al., arXiv:1906.10771); squared weights by default.
            alike: other tensors by the names of parameters that follow them, such as the moments
                of an optimizer.
            whose: the network whose function stays; the largest by default.
        """
        together = {
            (_module_of(name), "heads"): rule.together
            for name, (rule, _) in blueprint(whose or self.space.largest().architecture)[1].items()
            if rule.together > 1
        }
        for axis in SORTED_AXES:
            for module, members in _by_module(self._axes, axis).items():
                total = sum(
                    _along(scores[name] if scores else self.params[name].square(), position)
                    for name, position in members
                    if name in self.params
                )
                assert isinstance(total, Tensor)
                order = _order(total, together.get((module, axis), 1))
                for name, position in members:
                    for tensors in (self.params, self.buffers, *alike):
                        if name in tensors:
                            tensor = tensors[name]
                            tensor.copy_(tensor.index_select(position, order))


def shared_name(name: str, rule: Shared) -> str:
    """Name of the shared parameter: branches that share nothing have names of their own."""
    return f"{name}@{rule.branch}" if rule.branch else name


@lru_cache(maxsize=512)
def blueprint(architecture: Architecture) -> tuple[Network, dict[str, tuple[Shared, torch.Size]]]:
    """A network without memory for its parameters, and how each is shared."""
    with torch.device("meta"), _Undrawn():
        network = Network(architecture).requires_grad_(False)
    return network, shared_of(network)


class _Undrawn(TorchFunctionMode):
    """Leaves out the drawing of initial weights, which takes most of the time without memory."""

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        return given["tensor"] if func in _DRAWING else func(*args, **given)


def _by_module(axes: Mapping[str, str], axis: str) -> dict[str, list[tuple[str, int]]]:
    """Tensors that must be permuted together: those of one module with the axis."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, names in axes.items():
        places = [(name, place) for place, own in enumerate(names.split()) if own == axis]
        if places:
            groups.setdefault(_module_of(name), []).extend(places)
    return groups


def _module_of(name: str) -> str:
    """Path of the part of a block that has a tensor, such as "stages.0.blocks.1.attn"."""
    module = re.match(r".*blocks\.\d+\.\w+", name)
    assert module, f"{name} has an axis that is sorted, but is in no block"
    return module[0]


def _order(scores: Tensor, together: int) -> Tensor:
    """Units by their scores, the best first, those that stay together by their sum.

    >>> _order(torch.tensor([1.0, 2.0, 9.0, 0.0]), 1), _order(torch.tensor([1.0, 2.0, 9.0, 0.0]), 2)
    (tensor([2, 1, 0, 3]), tensor([2, 3, 1, 0]))
    """
    group = torch.arange(len(scores), device=scores.device) // together
    sums = scores.new_zeros(len(scores)).index_add(0, group, scores)
    rank = sums.argsort(descending=True, stable=True).argsort()
    order = scores.argsort(descending=True, stable=True)
    return order[rank[group[order]].argsort(stable=True)]


def _along(value: Tensor, axis: int) -> Tensor:
    """Sum over all axes but one."""
    return value.movedim(axis, 0).reshape(value.shape[axis], -1).sum(1)


def _initial(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Timm's initialization by the kind of parameter, which its name tells."""
    last = name.partition("@")[0].rpartition(".")[2]
    module = name.partition("@")[0].rpartition(".")[0].rpartition(".")[2]
    if last in ("bias", "running_mean", "bias_table", "point"):
        return torch.zeros(shape)
    if last in ("gamma", "running_var") or "norm" in module or len(shape) == 1:
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) * 0.02
