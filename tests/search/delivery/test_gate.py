"""A stage that breaks an artifact is found, and what was before it is restored, byte by byte."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vitpareto.search.delivery.build import Build
from vitpareto.search.delivery.decompression import with_policy
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.gate import CORRECTION, DROPS, ROUNDING, STEP_BACK
from vitpareto.search.delivery.holding import COMPENSATED
from vitpareto.search.delivery.manifest import read_manifest
from vitpareto.search.delivery.terms import Terms
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.forward import predict
from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network

from ...shared import everywhere
from ..made import Made

pytestmark = pytest.mark.onnx


@dataclass(frozen=True)
class Faulty(Terms):
    """Terms of a run whose stages break what they are given, one way after the other."""

    folder: Path = Path()
    seen: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def build(self, candidate: Candidate, network: Network, compensate: bool = False) -> Build:
        build = super().build(candidate, network, compensate)
        if compensate:  # a scale that is wrong by ten
            self.seen["before"] = self.files(".before")
            with torch.no_grad():
                build.ready.get_parameter("head.weight")[:5].mul_(-10)
        return build

    def allows(self, candidate: Candidate) -> bool:
        return len(self.seen) < 4  # which ends it

    def files(self, end: str = "") -> bytes:
        found = self.folder.glob(".*/model.onnx")
        (path,) = (p for p in found if p.parent.suffix == end or (not end and not p.parent.suffix))
        return path.read_bytes() + (path.parent / "candidate.json").read_bytes()


def test_bad_stages_are_undone(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collapsed = everywhere(made.candidate, Policy(2))
    evaluation = made.evaluation(collapsed)
    network = Network(made.candidate.architecture).eval()
    network.load_state_dict(made.network.state_dict())
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    train = made.data.split("train")

    def broken(candidate: Candidate, given: Network) -> Network:
        """Shuffled labels at first, then a loss that is no number, then weights that are none."""
        assert all(v.equal(weights[name]) for name, v in given.state_dict().items()), "restored"
        number = len(terms.seen)
        terms.seen[f"stage {number}"] = terms.files()
        if number == 2:
            raise RunError("the loss is no number")
        with torch.no_grad():
            given.get_parameter("head.bias").fill_(torch.nan if number == 3 else 0.0)
        optimizer = torch.optim.AdamW(given.parameters(), lr=1e-2)
        for step in range(20 if number == 1 else 0):
            picked = slice(32 * step, 32 * step + 32)
            F.cross_entropy(given(train.images[picked]), train.labels[picked].roll(1)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return given

    plain = made.terms()
    values = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    terms = Faulty(**values | {"retrain": broken}, folder=tmp_path)
    folder = deliver(tmp_path, evaluation, network, terms)
    story = read_manifest(folder).finalists[collapsed.key]
    assert story.undone[0].what == COMPENSATED and len(story.undone) >= 2
    _, exported, corrected, stepped, *_ = story.effects
    assert corrected.undone and corrected.after < corrected.before == exported.after
    assert stepped.before == exported.after, "what is undone is not built upon"
    assert caplog.text.count("training a little more is undone") == 2
    assert len(terms.seen) == 4 and terms.seen["stage 1"] == terms.seen["before"]
    # What is left is the best there was: no accuracy fell, and the file is what was checked.
    left = (folder / "model.onnx").read_bytes()
    assert folder.name == read_manifest(folder).key
    if folder.name == collapsed.key:
        assert left + (folder / "candidate.json").read_bytes() == terms.seen["before"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_where_every_step_spoils_it_ends(made: Made, tmp_path: Path) -> None:
    """Each is tried once, and the first artifact is what is delivered."""
    small = everywhere(made.candidate, Policy())
    collapsed = with_policy(with_policy(small, "head", Policy(2)), "stem", Policy(2))
    evaluation = made.evaluation(collapsed)
    high = replace(evaluation, metrics=evaluation.metrics | {"accuracy_low": 1.0})
    network = Network(made.candidate.architecture).eval()
    network.load_state_dict(made.network.state_dict())

    def spoil(candidate: Candidate, given: Network) -> Network:
        with torch.no_grad():
            given.get_parameter("head.weight").mul_(-1)
        return given

    terms = replace(made.terms(), retrain=spoil)
    folder = deliver(tmp_path, high, network, terms)
    story = read_manifest(folder).finalists[collapsed.key]
    assert folder.name == collapsed.key and not [s for s in story.taken_back if s != COMPENSATED]
    assert sum("weight_bits 2 to 3" in effect.what for effect in story.undone) == 2


def test_each_stage_has_its_own_drop(made: Made, tmp_path: Path) -> None:
    """With room enough a bad correction stays; the next stage goes on from it."""
    collapsed = everywhere(made.candidate, Policy(2))
    plain = made.terms()
    values = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    undone: list[int] = []
    for drops in ({CORRECTION: 0.0, STEP_BACK: 0.0}, {CORRECTION: 1.0, STEP_BACK: 0.0}):
        terms = Faulty(**values | {"drops": drops}, folder=tmp_path)
        terms.seen.update(a=b"", b=b"", c=b"")  # no steps back
        folder = deliver(
            tmp_path / str(len(undone)),
            made.evaluation(collapsed),
            made.network,
            replace(terms, folder=tmp_path / str(len(undone))),
        )
        manifest = read_manifest(folder)
        undone.append(len(manifest.finalists[collapsed.key].undone))
        assert manifest.compensated == (undone[-1] == 0)
    assert undone == [1, 0]


@dataclass(frozen=True)
class Spoiled(Terms):
    """Terms of a run whose artifacts prefer a class more than the trained network does."""

    by: float = 0.0

    def build(self, candidate: Candidate, network: Network, compensate: bool = False) -> Build:
        build = super().build(candidate, network, compensate)
        with torch.no_grad():
            build.ready.get_parameter("head.bias")[0] += self.by
        return build


def test_rounding_has_a_drop_of_its_own(made: Made, tmp_path: Path) -> None:
    """Within the noise of the split an artifact holds, unless less than that is allowed."""
    split, plain = made.data.split("validation"), made.terms()
    logits = predict(made.candidate, made.network, split)
    before = accuracy(logits, split.labels)

    def share(by: float) -> float:
        return accuracy(logits + by * F.one_hot(torch.tensor(0), 10), split.labels)["accuracy"]

    low, usual = before["accuracy_low"], before["accuracy"]
    by = next(x / 10 for x in range(500) if low < share(x / 10) < usual - 0.004)
    fell, evaluation = usual - share(by), made.evaluation(made.candidate)
    values = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    refused: list[int] = []
    for allowed in ({}, {ROUNDING: 2 * fell}, {ROUNDING: fell / 2}):
        terms = Spoiled(**values | {"drops": {**DROPS, **allowed}, "by": by})
        folder = deliver(tmp_path / str(len(refused)), evaluation, made.network, terms)
        refused.append(len(read_manifest(folder).finalists[made.candidate.key].refused))
    assert refused == [0, 0, 1]
