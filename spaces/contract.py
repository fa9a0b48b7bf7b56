"""Laws that every mixer keeps, for the tests of whoever adds one.

A test class inherits from `MixerContract` and says what the mixer is called:

    class TestDilated(MixerContract):
        name = "dilated"
        fields = "dilation: [1, 2]"
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .architecture import Architecture
from .block import Block, Place
from .candidate import Candidate
from .mixers import find
from .networks import Network
from .networks.block import mixer_class
from .places import places
from .safe_yaml import parse_yaml
from .space import SearchSpace
from .supernet import Supernet

T = TypeVar("T")


class MixerCase:
    """A mixer, and what its laws are tried on.

    Attributes:
        name: of the mixer in the registry.
        fields: lines of a space file, with choices for the numbers of the mixer.
        tolerance: largest difference of logits that are the same.
    """

    name: str
    fields: str = ""
    tolerance: float = 1e-4

    @classmethod
    @cache
    def space(cls) -> SearchSpace:
        """A small space of the mixer, in networks of two widths and depths."""
        return SearchSpace(cls.spec())

    @classmethod
    def spec(cls) -> dict[str, Any]:
        """What a file of the space says."""
        stage = {"depth": [1, 2], "width": [16, 24], "blocks": {"mlp_ratio": [1.0, 2.0]}}
        around = {"input_size": 28, "patch_size": 4, "num_classes": 5}
        pool = "token" if find(cls.name).takes_prefix else "avg"
        return {
            **around,
            "name": cls.name,
            "global_pool": pool,
            "mixer": cls.name,
            **(parse_yaml(cls.fields, cls.name) if cls.fields else {}),
            "stages": [stage],
        }

    @classmethod
    @cache
    def candidates(cls) -> list[Candidate]:
        """The largest, those that cover every choice, and random ones."""
        space = cls.space()
        return list(dict.fromkeys([*space.covering(), *space.sample(4)]))

    @classmethod
    @cache
    def telling(cls) -> list[Candidate]:
        """Few candidates in which every choice for a number of the mixer occurs."""

        def choices(c: Candidate) -> set[Hashable]:
            a = c.architecture
            return set[Hashable]([a.norm]).union(*map(traits, a.blocks()))

        return few_with_each([*cls.candidates(), *cls.space().sample(40, 1)], choices)

    @classmethod
    def places(cls) -> Iterator[Place]:
        """The places of the mixer in the candidates."""
        found = (stage for c in cls.candidates() for stage in places(c.architecture))
        yield from dict.fromkeys(place for stage in found for place in stage)

    @classmethod
    @cache
    def supernet(cls) -> Supernet:
        """Weights of which none is at its initial value; who changes them copies it first."""
        supernet = Supernet(cls.space())
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in supernet.state_dict().items():
                if value.ndim == 1 or "running" in name:
                    value.uniform_(0.5, 1.5, generator=generator)
                else:
                    size = value.numel() / value.shape[0]
                    value.normal_(0, size**-0.5, generator=generator)
        return supernet


class MixerContract(MixerCase):
    """Counted as traced, shared by slices, pruned by order, read back as written."""

    def test_no_torch_is_needed_for_the_space(self) -> None:
        """A space with it can be read and drawn from before torch is imported."""
        assert not errors_without_torch()[type(self)]

    def test_example(self) -> None:
        """The example is a block of this mixer, with numbers that it has."""
        mixer = find(self.name)
        assert mixer.example.mixer == self.name
        assert {name for name, _ in mixer.example.numbers} <= set(mixer.fields)

    def test_shapes(self) -> None:
        """What comes out of the module has the shape of what goes in."""
        for place in self.places():
            module, x = mixer_class(find(self.name).module)(place), entering(place)
            assert module(x).shape == x.shape
            if find(self.name).ranks_tokens:
                rows = place.prefix + place.tokens
                mixed, scores = cast("Any", module).with_scores(x)
                assert mixed.shape == x.shape and scores.shape[2:] == (rows, rows)

    def test_counts_are_those_of_the_module(self) -> None:
        """Parameters and multiply-accumulates of `ops` are those that torch counts."""
        for place in self.places():
            module = mixer_class(find(self.name).module)(place).eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                module(entering(place, 1))
            ops = find(self.name).ops(place)
            assert sum(op.macs for op in ops) == counter.get_total_flops() // 2
            params = sum(parameter.numel() for parameter in module.parameters())
            assert sum(op.weights + op.others for op in ops) == params

    def test_candidates_are_read_back(self) -> None:
        """Candidates survive JSON, and a space recognizes its own."""
        space = self.space()
        for candidate in self.candidates():
            assert Candidate.from_json(candidate.to_json()) == candidate
            assert space.repair(candidate) == candidate
            assert space.candidate(space.assignment(candidate)) == candidate
        assert space.size >= len({candidate.key for candidate in self.candidates()})

    def test_slices_are_the_extracted_network(self) -> None:
        """A candidate on shared weights gives the logits of its network with a copy of them."""
        supernet = self.supernet()
        for candidate in self.candidates():
            x = images(candidate.architecture)
            with torch.no_grad():
                logits = supernet(candidate, x)
                assert logits.std() > 1e-3
                assert differ(logits, supernet.extract(candidate)(x)) <= self.tolerance

    def test_a_network_fills_the_supernet(self) -> None:
        """Weights of a network that are written into a supernet come out of it again."""
        space = self.space()
        for candidate in self.candidates()[:4]:
            network = self.supernet().extract(candidate)
            other = Supernet(space, seed=1)
            other.load_network(network)
            x = images(candidate.architecture)
            with torch.no_grad():
                assert differ(other(candidate, x), network(x)) <= self.tolerance

    def test_shared_weights_start_as_those_of_the_module(self) -> None:
        """What is one number everywhere in a new network, as scales are, is that when shared."""
        candidate = self.space().largest()
        shared = Supernet(self.space()).extract(candidate).state_dict()
        for name, value in Network(candidate.architecture).state_dict().items():
            if value.is_floating_point() and value.numel() > 1 and value.std() == 0:
                assert shared[name].equal(value), name

    def test_sorting_changes_no_output(self) -> None:
        """Heads and hidden units can change places."""
        supernet, largest = deepcopy(self.supernet()), self.space().largest()
        x = images(largest.architecture)
        with torch.no_grad():
            before = supernet(largest, x)
            supernet.sort_by_importance()
            assert differ(supernet(largest, x), before) <= self.tolerance


@cache
def errors_without_torch() -> dict[type[MixerContract], str]:
    """Why the space of each law cannot be drawn from, if so; one process tries them all."""
    code = """if True:
        import json, sys
        sys.modules["torch"] = None  # to import it is an error
        from vitpareto.spaces import SearchSpace
        errors = []
        for spec in json.load(sys.stdin):
            errors.append("")
            try:
                SearchSpace(spec).sample(2)
            except ImportError as error:
                errors[-1] = str(error)
        print(json.dumps(errors))
    """
    laws = MixerContract.__subclasses__()
    specs = json.dumps([law.spec() for law in laws])
    done = subprocess.run(
        [sys.executable, "-c", code], input=specs, text=True, check=True, stdout=subprocess.PIPE
    )
    return dict(zip(laws, json.loads(done.stdout), strict=True))


def traits(block: Block) -> set[Hashable]:
    """The numbers of a block, and which of them it has."""
    return {*block.numbers, tuple(name for name, _ in block.numbers)}


def few_with_each(items: Iterable[T], traits: Callable[[T], set[Hashable]]) -> list[T]:
    """Items that together have every trait: at each turn the first of those that add most."""
    left = [(traits(item), item) for item in items]
    missing, found = set[Hashable]().union(*(own for own, _ in left)), list[T]()
    while missing:
        most, item = max(left, key=lambda pair: len(pair[0] & missing))
        missing -= most
        found.append(item)
    return found


def entering(place: Place, images: int = 2) -> Tensor:
    """A random input of the mixer at a place: (B, N, C) tokens or (B, C, H, W)."""
    tokens = find(place.block.mixer).layout == "tokens"
    rows = (place.prefix + place.tokens, place.width) if tokens else (place.width, *place.grid)
    return torch.randn(images, *rows, generator=torch.Generator().manual_seed(0))


def images(a: Architecture, n: int = 2) -> Tensor:
    """Random images (n, in_chans, S, S) of the size that a network takes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, a.in_chans, a.input_size, a.input_size, generator=generator)


def differ(left: Tensor, right: Tensor) -> float:
    """Largest absolute difference."""
    return (left - right).abs().max().item()
