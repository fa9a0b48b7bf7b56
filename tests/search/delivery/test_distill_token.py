"""Distillation tokens learn from the teacher alone, and are delivered fused or dropped."""

from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from vitpareto.cost_models import workload
from vitpareto.search.config import DistillConfig, load_config
from vitpareto.search.config.trainings import TrainConfig
from vitpareto.search.delivery.artifact import load_network, read_candidate
from vitpareto.search.delivery.deliver import deliver
from vitpareto.search.delivery.distill_token import settle, without_token
from vitpareto.search.delivery.manifest import read_manifest
from vitpareto.search.report.models import _distill_token
from vitpareto.search.run.opening import open_space
from vitpareto.search.store.run_folder import RunPaths
from vitpareto.search.training.supernet import fresh, training_steps
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import Candidate
from vitpareto.spaces.errors import ConfigError
from vitpareto.spaces.networks import Network

from ..made import Made

STEPS = 150


@pytest.fixture(scope="module")
def taught(made: Made) -> tuple[Candidate, Network]:
    """A network whose teacher says the next digit, so that its heads must disagree."""
    architecture = replace(made.candidate.architecture, global_pool="distill")
    candidate = Candidate.uncompressed(architecture)
    wrong = torch.nn.functional.one_hot((made.data.train_labels + 1) % 10, 10) * 9.0
    lessons = Lessons.of(made.data, wrong[None], DistillConfig(loss="token"))
    network, recipe = fresh(candidate, 0), TrainConfig(lr=4e-3)
    for _ in training_steps(candidate, network, lessons, recipe, 0, STEPS):
        pass
    return candidate, network


def heads(network: Network, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return network.forward_heads(network.forward_features(images))


def test_token_and_head_learn_what_the_teacher_says(
    made: Made, taught: tuple[Candidate, Network]
) -> None:
    split, (_, network) = made.data.split("validation"), taught
    of_class, of_token = heads(network, split.images)
    assert (of_class.argmax(1) == split.labels).float().mean() > 0.6
    assert (of_token.argmax(1) == (split.labels + 1) % 10).float().mean() > 0.6
    with torch.no_grad():
        assert torch.equal(network(split.images), (of_class + of_token) / 2)


@pytest.mark.onnx
@pytest.mark.parametrize("wanted", ["fused", "dropped"])
def test_both_forms_are_told_and_the_wanted_one_is_delivered(
    made: Made, taught: tuple[Candidate, Network], tmp_path: Path, wanted: str
) -> None:
    (candidate, network), split = taught, made.data.split("validation")
    modest = made.evaluation(made.candidate).metrics | {"accuracy_low": 0.0}
    evaluation = replace(made.evaluation(made.candidate), candidate=candidate, metrics=modest)
    retrained = list[Candidate]()

    def retrain(candidate: Candidate, network: Network) -> Network:
        retrained.append(candidate)
        return network

    terms = replace(made.terms(), distill_token=wanted, retrain=retrain)
    folder = deliver(tmp_path, evaluation, network, terms)
    manifest, told = read_manifest(folder), read_manifest(folder).distill_token
    assert {name: form.delivered for name, form in told.items()} == {
        name: name == wanted for name in ("fused", "dropped")
    }
    assert told["dropped"].accuracy > told["fused"].accuracy + 0.1  # without what was wrong
    assert manifest.trained.accuracy == told[wanted].accuracy
    assert list(manifest.finalists) == [candidate.key]
    assert f"{told['dropped'].accuracy:.1%}" in "".join(_distill_token(manifest))

    delivered = read_candidate(folder)
    assert retrained == [delivered] * (wanted == "dropped")
    assert delivered == (candidate if wanted == "fused" else without_token(candidate))
    counted, built = workload(delivered), load_network(folder)
    assert counted.params == sum(p.numel() for p in built.parameters())
    logits = ort.InferenceSession(folder / "model.onnx").run(
        None, {"images": split.images[:1].numpy()}
    )[0]
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(logits), built(split.images[:1]), atol=1e-4)


def test_a_network_without_the_token_stays_as_it_is(made: Made) -> None:
    split = made.data.split("validation")
    same = settle(made.candidate, made.network, "dropped", split)
    assert same.candidate is made.candidate and same.network is made.network and not same.forms


def test_a_space_without_the_token_has_nothing_to_drop(tmp_path: Path) -> None:
    config = load_config("digits", ["export.distill_token=dropped"])
    with pytest.raises(ConfigError, match=r"'dropped' is for networks with such a token, of which"):
        open_space(config, RunPaths(tmp_path))
