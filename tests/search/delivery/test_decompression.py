"""Stepping back: every step takes something back, and a collapse is caught and undone."""

import copy
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpareto.search.config import FinishConfig
from vitpareto.search.delivery import verify
from vitpareto.search.delivery.artifact import Artifact
from vitpareto.search.delivery.claims import Story
from vitpareto.search.delivery.decompression import policies, ranked, steps_back, with_policy
from vitpareto.search.delivery.deliver import deliver, delivered
from vitpareto.search.delivery.holding import COMPENSATED, COMPRESSED, EXPORTED
from vitpareto.search.delivery.manifest import read_manifest, write_manifest
from vitpareto.search.pareto.objectives import Objective
from vitpareto.search.store.run_folder import RunFolder
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.finalists import retrain
from vitpareto.search.training.finetune import Finalist, FineTuning
from vitpareto.search.training.teacher import make_lessons
from vitpareto.spaces import Candidate, Policy, SearchSpace
from vitpareto.spaces.networks import Network

from ...shared import everywhere
from ..made import Made

SPACES = {name: SearchSpace.from_yaml(name) for name in ("digits", "mobile_hybrid")}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 1000))
def test_every_step_takes_back_one_thing_of_one_sub_block(name: str, seed: int) -> None:
    (candidate,) = SPACES[name].sample(1, seed)
    for step in steps_back(candidate):
        after = step.apply(candidate)
        assert after.architecture == candidate.architecture
        old, new = policies(candidate), policies(after)
        assert [place for place in old if old[place] != new[place]] == [step.path]
        a, b = old[step.path], new[step.path]
        assert b.weight_bits >= a.weight_bits and b.act_bits >= a.act_bits
        assert b.sparsity <= a.sparsity and b.rank_ratio >= a.rank_ratio
        assert Candidate.from_json(after.to_json()) == after


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_stepping_back_ends_where_nothing_is_compressed(seed: int) -> None:
    (candidate,) = SPACES["digits"].sample(1, seed)
    for _ in range(1000):
        steps = steps_back(candidate)
        if not steps:
            break
        candidate = steps[seed % len(steps)].apply(candidate)
    unpruned = {p.prune_ratio for p in policies(candidate).values()}
    assert {Policy(prune_ratio=r) for r in unpruned} == set(policies(candidate).values())


def test_the_cheapest_step_for_what_it_regains_comes_first() -> None:
    candidate = everywhere(SPACES["digits"].smallest(), Policy(2))
    places = list(policies(candidate))
    gains = {place: 0.1 * (i + 1) for i, place in enumerate(places)}
    prices = {place: float(i + 1) ** 2 for i, place in enumerate(places)}
    prices[places[-1]] = 0.0  # loses no latency: before all others

    def total(values: dict[str, float], candidate: Candidate) -> float:
        changed = [p for p, policy in policies(candidate).items() if policy != Policy(2)]
        return sum(values[place] for place in changed)

    steps = ranked(candidate, lambda c: total(gains, c), lambda c: total(prices, c), lambda c: True)
    assert [step.path for step in steps] == [places[-1], *places[:-1]]
    forbidden = with_policy(candidate, "head", steps[0].after)
    assert steps[0].path == "head"
    left = ranked(candidate, lambda c: 0.0, lambda c: 0.0, lambda c: c != forbidden)
    assert {step.path for step in left} == set(places[:-1])


@pytest.mark.onnx
def test_a_collapse_to_two_bits_is_refused_and_rolled_back(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collapsed = everywhere(made.candidate, Policy(2))
    with caplog.at_level(logging.INFO, "vitpareto"):
        folder = made.deliver(tmp_path, collapsed)
    assert f"{collapsed.key} does not hold: accuracy of the artifact is" in caplog.text
    assert "takes back" in caplog.text
    manifest = read_manifest(folder)
    story = manifest.finalists[collapsed.key]
    assert story.taken_back
    first = {check.name: check.holds for check in story.refused[0].checks}
    assert first["logits against torch"]  # what was refused is what the candidate is
    assert not first["accuracy of the artifact"]
    artifact = Artifact.load(folder, made.device)
    assert artifact.candidate != collapsed
    split = made.data.split("validation")
    right = accuracy(artifact.logits(split), split.labels)["accuracy"]
    assert right > 0.9
    # What costs nothing was tried first and kept, then one step at a time until it held.
    tried = [(r.key, r.compensated) for r in story.refused]
    assert tried[:2] == [(collapsed.key, False), (collapsed.key, True)]
    assert story.taken_back[-1] == COMPENSATED and manifest.compensated
    rounded, *artifacts = story.effects
    assert rounded.what == COMPRESSED and rounded.before > 0.9 > rounded.after
    assert [effect.what for effect in artifacts[:2]] == [EXPORTED, COMPENSATED]
    assert len(artifacts) == len(story.refused) + 1 and not story.undone  # the last one holds
    assert all(now.before == before.after for before, now in pairwise(story.effects))
    assert all(f": {effect}" in caplog.text for effect in story.effects)
    assert artifacts[-1].after == pytest.approx(right)
    assert len(dict(tried)) == len(tried) - 1 == len(story.taken_back) - 1
    assert delivered(tmp_path, collapsed.key)
    assert not delivered(tmp_path, made.candidate.key)
    assert [p.name for p in tmp_path.iterdir()] == [artifact.candidate.key]


@pytest.mark.onnx
def test_what_norms_and_biases_make_up_for_is_not_given_back(made: Made, tmp_path: Path) -> None:
    candidate = everywhere(made.candidate, Policy(3))
    evaluation = made.evaluation(candidate)
    modest = replace(evaluation, metrics={**evaluation.metrics, "accuracy_low": 0.65})
    folder = deliver(tmp_path / "pareto", modest, made.network, made.terms())
    manifest = read_manifest(folder)
    story = manifest.finalists[candidate.key]
    assert manifest.key == candidate.key and manifest.compensated
    assert (len(story.refused), story.taken_back) == (1, (COMPENSATED,))
    (tmp_path / "config.yaml").write_text("")
    (report,) = verify.verify_again(RunFolder(tmp_path, lock=False), made.device, made.data)
    found = {check.name: check.holds for check in report.checks}
    assert found["logits against torch"] and found["accuracy of the artifact"]


@pytest.mark.slow
@pytest.mark.onnx
def test_training_after_a_step_back_saves_steps(made: Made, tmp_path: Path) -> None:
    candidate = everywhere(made.candidate, Policy(3))
    lessons = make_lessons(made.data, made.network, 1)
    config = FinishConfig(batch_size=64, lr=2e-3, retrain_epochs=2)
    tuning = FineTuning(lessons, made.data.split("validation"), config, 0)
    trained: list[str] = []

    def train_on(candidate: Candidate, network: Network) -> Network:
        trained.append(candidate.key)
        return retrain(Finalist(candidate, network, tmp_path / "kept"), tuning)

    steps: list[int] = []
    plain = made.terms()
    for name, terms in (("without", plain), ("with", replace(plain, retrain=train_on))):
        network = copy.deepcopy(made.network)
        folder = deliver(tmp_path / name, made.evaluation(candidate), network, terms)
        back = read_manifest(folder).finalists[candidate.key].taken_back
        steps.append(sum(what != COMPENSATED for what in back))
    assert steps[1] == len(trained) < steps[0]
    assert not (tmp_path / "kept").exists()


@pytest.mark.onnx
def test_no_step_back_breaks_a_limit(made: Made, tmp_path: Path) -> None:
    collapsed = everywhere(made.candidate, Policy(2))
    size = made.evaluation(collapsed).metrics["size_mb"]
    folder = made.deliver(tmp_path, collapsed, Objective("size_mb", 1.05 * size))
    story = read_manifest(folder).finalists[collapsed.key]
    assert not story.refused[-1].checks[-1].holds  # nothing was left to take back
    assert read_manifest(folder).promised.size_mb <= 1.05 * size


@pytest.mark.onnx
def test_two_finalists_that_become_one_model(made: Made, tmp_path: Path) -> None:
    one, other = (everywhere(made.candidate, Policy(bits)) for bits in (8, 2))
    folder = made.deliver(tmp_path, one)
    assert folder.name == one.key
    before = (folder / "model.onnx").read_bytes()
    stories = read_manifest(folder).finalists
    manifest = replace(read_manifest(folder), finalists={other.key: Story()})
    write_manifest(folder, manifest)  # as if another finalist had become this model
    assert made.deliver(tmp_path, one) == folder
    assert (folder / "model.onnx").read_bytes() == before
    assert read_manifest(folder).finalists == {other.key: Story(), **stories}
