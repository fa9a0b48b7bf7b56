"""Contract: laws that every transform must keep, as tests that a plugin can run on its own.

class TestTernary(TransformContract):
    transform = TERNARY
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...cost_models.graphs.modules import randomize
from ...cost_models.units.sub_block import SubBlock
from ...cost_models.units.workload import workload
from ...spaces import Candidate, Policy, Scalar, SearchSpace, SpaceError, schema
from ...spaces.codec import policy_from_plain
from ...spaces.networks import Network
from ...spaces.transforms import TRANSFORMS, Transform
from .applied import load
from .deliver import deliverable
from .network import compressed, compressible, run
from .schedule import policy_at

SPACE: dict[str, Any] = {
    **{"name": "contract", "input_size": 16, "in_chans": 1, "num_classes": 10, "patch_size": 4},
    **{"global_pool": "avg", "mixer": "softmax", "num_heads": 4, "head_dim": 8, "mlp_ratio": 2.0},
}
STEPS = 100  # that lead from any value to the default, at most


class TransformContract:
    """Laws of one transform.

    Attributes:
        transform: under test.
        beside: other fields of a space, without which it has no effect.
    """

    transform: Transform
    beside: dict[str, Scalar] = {}  # noqa: RUF012, replaced by subclasses and never changed

    @property
    def values(self) -> Sequence[Any]:
        """Values that do something."""
        t = self.transform
        if t.values:
            return [value for value in t.values if value != t.default]
        low, high = t.range
        return [low + share * (high - low) for share in (0.25, 0.5, 0.75)]

    def space(self, value: Scalar) -> SearchSpace:
        """A space with the choice between the default and a value in both of its blocks."""
        stage = {"depth": 2, "width": 32, self.transform.name: [self.transform.default, value]}
        return SearchSpace(SPACE | self.beside | {"stages": [stage]})

    def candidates(self, value: Scalar) -> tuple[Candidate, Candidate]:
        """Candidates without and with a value."""
        space, name = self.space(value), f"stages.0.{self.transform.name}"
        return tuple(space.candidate({name: v}) for v in (self.transform.default, value))  # pyright: ignore[reportReturnType]

    def policy(self, value: Scalar) -> Policy:
        """The policy of that value."""
        fields: dict[str, Any] = {**self.beside, self.transform.name: value}
        return Policy(**fields)

    def network(self, candidate: Candidate) -> Network:
        """A network with random weights."""
        network = Network(candidate.architecture).eval()
        randomize(network)
        return network

    def weights(self, candidate: Candidate, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters as the candidate leaves them."""
        return compressed(params, compressible(self.network(candidate), candidate))

    def test_it_is_registered_under_its_field(self) -> None:
        """The name is that of the entry, and of nothing else in a space file."""
        name = self.transform.name
        assert TRANSFORMS.find(name) is self.transform
        assert name.isidentifier()
        assert name not in {*schema.NETWORK, *schema.STAGE, *schema.BLOCK}

    def test_it_is_known_without_torch(self) -> None:
        """Spaces and cost models read it, and load no torch."""
        assert not _errors_without_torch()[self.transform.name]

    def test_the_default_does_nothing(self) -> None:
        """It is no part of a policy, and the network stays as it is."""
        assert self.policy(self.transform.default) == Policy(**self.beside)  # pyright: ignore[reportArgumentType]
        if self.transform.ops:
            assert self.transform.ops([], self.transform.default) == []

    def test_other_values_are_refused(self) -> None:
        """In one line that names the key, what was given and what is allowed."""
        t = self.transform
        wrong = ["no such value"] if t.values else [t.range[0] - 1, t.range[1] + 1]
        for value in (*wrong, None, [t.default]):
            try:
                policy_from_plain({t.name: value}, "policy")
            except SpaceError as error:
                assert str(error).startswith(f"policy.{t.name}: ")
                assert "\n" not in str(error)
            else:
                raise AssertionError(f"{t.name} takes {value!r}")
        for value in (t.default, *self.values):
            assert policy_from_plain({t.name: value}, "policy") == Policy(**{t.name: value})  # pyright: ignore[reportArgumentType]

    def test_candidates_and_units_keep_it(self) -> None:
        """Through JSON, the key of a sub-block, and the choices of a space."""
        for value in self.values:
            plain, chosen = self.candidates(value)
            assert plain.key != chosen.key
            assert Candidate.from_json(chosen.to_json()) == chosen
            space = self.space(value)
            assert {c.key for c in space.sample(50)} == {plain.key, chosen.key}
            assert space.candidate(space.assignment(chosen)) == chosen
            assert space.largest() == plain, "the largest network is the least compressed"
            for unit in workload(chosen).sub_blocks:
                assert SubBlock.parse(unit.key).policy == unit.policy

    def test_it_never_adds(self) -> None:
        """Neither parameters, nor operations, nor bytes."""
        for value in self.values:
            plain, chosen = (workload(candidate) for candidate in self.candidates(value))
            for count in ("params", "macs", "weight_bytes"):
                assert getattr(chosen, count) <= getattr(plain, count), count

    def test_weights_keep_their_shapes(self) -> None:
        """The result is the same each time, and what was given is not changed."""
        changed = False
        for value in self.values:
            _, chosen = self.candidates(value)
            params = self.network(chosen).state_dict()
            before = {name: p.clone() for name, p in params.items()}
            once, again = self.weights(chosen, params), self.weights(chosen, params)
            for name, p in params.items():
                assert p.equal(before[name]), f"{name} was changed"
                assert once[name].shape == p.shape and once[name].dtype == p.dtype, name
                assert once[name].isfinite().all() and once[name].equal(again[name]), name
            changed |= any(not once[name].equal(p) for name, p in params.items())
        assert changed or not self.transform.apply, "no weight is changed"

    def test_gradients_flow(self) -> None:
        """Every weight can be trained through it."""
        for value in self.values:
            _, chosen = self.candidates(value)
            params = dict(self.network(chosen).named_parameters())
            weights = self.weights(chosen, params)  # pyright: ignore[reportArgumentType]
            torch.stack([weights[name].square().sum() for name in params]).sum().backward()
            for name, p in params.items():
                assert p.grad is not None and p.grad.isfinite().all(), name
                assert p.ndim < 2 or p.grad.any(), name

    def test_it_is_delivered_as_trained(self) -> None:
        """The folded network computes what training saw; what is left is rounding."""
        for value in self.values:
            _, chosen = self.candidates(value)
            network = self.network(chosen)
            shape = (4, 1, chosen.architecture.input_size, chosen.architecture.input_size)
            images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            exact = Candidate.uncompressed(chosen.architecture)
            with torch.no_grad():
                delivered = deliverable(network, chosen)
                wanted = run(network, network.state_dict(), chosen, images)
                if self.transform.on == "rounding":
                    wanted = run(network, network.state_dict(), exact, images)
                assert (delivered(images) - wanted).norm() < 1e-3 * wanted.norm()

    def test_it_grows_in_training(self) -> None:
        """A ramp begins where nothing is done and ends at the value; without, it is all on."""
        for value in self.values:
            assert policy_at(self.policy(value), 1.0) == self.policy(value)
            way = [self.transform.at(value, step / STEPS) for step in range(STEPS + 1)]
            assert way[0] == self.transform.default or set(way) == {value}
            assert {type(at) for at in way} == {type(value)}
            assert not self.transform.values or set(way) <= set(self.transform.values)

    def test_it_can_be_taken_back(self) -> None:
        """In a few steps, each of which needs no less than the one before."""
        for value in self.values:
            way = [value]
            while (back := self.transform.less(way[-1])) is not None:
                way.append(back)
                assert len(way) < STEPS, f"{way[:5]} leads nowhere"
            if self.transform.on == "numbers":
                continue
            assert way[-1] == self.transform.default
            made = [workload(self.candidates(v)[1]) for v in way[:-1]]
            made.append(workload(self.candidates(value)[0]))
            for count in ("params", "macs", "weight_bytes"):
                sizes = [getattr(one, count) for one in made]
                assert sizes == sorted(sizes), count

    def test_its_function_is_there(self) -> None:
        """The function that `apply` names can be loaded."""
        assert not self.transform.apply or callable(load(self.transform))


@cache
def _errors_without_torch() -> dict[str, str]:
    """Of every transform, why it cannot be read; one process tries them all."""
    program = """if True:
        import json, sys
        sys.modules["torch"] = None  # to import it is an error
        from vitpareto.spaces.transforms import TRANSFORMS
        errors = {}
        for name in TRANSFORMS:
            errors[name] = ""
            try:
                TRANSFORMS[name]
            except ImportError as error:
                errors[name] = str(error)
        print(json.dumps(errors))
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout)
