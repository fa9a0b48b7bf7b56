"""Finishing: bits go down step by step, a kill loses little, and the best weights are kept."""

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitpareto.search.config import DistillConfig, FinishConfig
from vitpareto.search.data.dataset import Split
from vitpareto.search.executors import ProcessExecutor
from vitpareto.search.pareto.objectives import MAXIMIZED
from vitpareto.search.training import finetune as finish
from vitpareto.search.training.accuracy import accuracy
from vitpareto.search.training.checkpoint import State
from vitpareto.search.training.finalists import retrain, train_finalists
from vitpareto.search.training.finetune import Best, Finalist, FineTuning
from vitpareto.search.training.forward import predict
from vitpareto.search.training.teacher import Lessons, make_lessons
from vitpareto.spaces import Candidate, Policy
from vitpareto.spaces.errors import RunError
from vitpareto.spaces.networks import Network

from ...shared import everywhere
from ..made import Made

CONFIG = FinishConfig(epochs=4, batch_size=128, lr=1e-3, ema=0.9)
LOW = Policy(4, 8, sparsity=0.5)


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # sums of more are not the same to the last bit


@pytest.fixture(scope="module")
def lessons(made: Made) -> Lessons:
    return make_lessons(made.data, made.network, 2)


def copy(made: Made) -> Network:
    network = Network(made.candidate.architecture)
    network.load_state_dict(made.network.state_dict())
    return network


def train(
    made: Made, lessons: Lessons, kept: Path, policy: Policy = LOW, config: FinishConfig = CONFIG
) -> dict[str, Tensor]:
    candidate = everywhere(made.candidate, policy)
    finalist = Finalist(candidate, copy(made), kept)
    train_finalists([finalist], tuning(made, lessons, config))
    assert not finalist.network.training
    return finalist.network.state_dict()


def tuning(made: Made, lessons: Lessons, config: FinishConfig = CONFIG) -> FineTuning:
    return FineTuning(lessons, made.data.split("validation"), config, 0)


def test_a_killed_training_ends_as_if_it_had_not_been(
    made: Made, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, go_on = train(made, lessons, tmp_path / "whole"), FineTuning.__call__
    steps = lessons.steps(CONFIG.batch_size, CONFIG.epochs)
    deaths = {3, steps // 2, steps - 1}

    def mortal(self: FineTuning, candidate: Candidate, state: State) -> State:
        if state.step in deaths:
            deaths.remove(state.step)
            raise Killed
        return go_on(self, candidate, state)

    monkeypatch.setattr(finish, "SLICES_S", (0.0,))  # a step
    monkeypatch.setattr(FineTuning, "__call__", mortal)
    while deaths:
        with pytest.raises(Killed):
            train(made, lessons, tmp_path / "killed")
    resumed = train(made, lessons, tmp_path / "killed")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


class Mortal(FineTuning):
    """Whoever trains the first slice dies with it."""

    def __call__(self, candidate: Candidate, state: State) -> State:
        found = super().__call__(candidate, state)
        if state.step == 0 and (flag := Path(os.environ["VITPARETO_TEST_FLAG"])).exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return found


@pytest.mark.slow
def test_processes_train_what_is_trained_here(
    made: Made, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one of them is lost: its slice is done again by another one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))  # workers find this file
    monkeypatch.setenv("VITPARETO_TEST_FLAG", str(tmp_path / "flag"))
    (tmp_path / "flag").touch()
    wanted = [everywhere(made.candidate, policy) for policy in (LOW, Policy())]
    finalists = [Finalist(c, copy(made), tmp_path / c.key) for c in wanted]
    mortal = Mortal(lessons, made.data.split("validation"), CONFIG, 0)
    with ProcessExecutor(2, 1) as executor:
        trained = train_finalists(finalists, mortal, executor, 2)
    assert {one.key for one in trained} == {one.key for one in finalists}
    assert not (tmp_path / "flag").exists()
    for finalist, policy in zip(finalists, (LOW, Policy()), strict=True):
        here, found = train(made, lessons, tmp_path / "here", policy), finalist.network.state_dict()
        (tmp_path / "here").unlink()
        assert all(torch.equal(value, found[name]) for name, value in here.items())


def test_one_that_diverges_does_not_keep_the_others(
    made: Made, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, broken = FineTuning.__call__, everywhere(made.candidate, LOW)

    def diverging(self: FineTuning, candidate: Candidate, state: State) -> State:
        if candidate == broken:
            raise RunError("the loss is nan")
        return go_on(self, candidate, state)

    monkeypatch.setattr(FineTuning, "__call__", diverging)
    bad, good = (Finalist(c, copy(made), tmp_path / c.key) for c in (broken, made.candidate))
    assert train_finalists([bad, good], tuning(made, lessons)) == [good]
    with pytest.raises(RunError, match=f"{broken.key} is not delivered: the loss is nan"):
        train_finalists([bad], tuning(made, lessons))


def test_answers_that_are_no_numbers_cost_one_finalist(
    made: Made, lessons: Lessons, tmp_path: Path
) -> None:
    bad, good = (Finalist(made.candidate, copy(made), tmp_path / name) for name in ("bad", "good"))
    with torch.no_grad():
        bad.network.head.bias.fill_(float("inf"))
    assert train_finalists([bad, good], tuning(made, lessons)) == [good]
    wild = tuning(made, lessons, FinishConfig(epochs=1, batch_size=2000, lr=1e6, ramp=0.0))
    other = Finalist(made.candidate, copy(made), tmp_path / "other")
    with pytest.raises(RunError, match=r"training .*: the logits are not .*; try a smaller lr"):
        train_finalists([other], wild)


def test_another_training_is_not_continued(made: Made, lessons: Lessons, tmp_path: Path) -> None:
    train(made, lessons, tmp_path / "kept")
    with pytest.raises(RunError, match="is a checkpoint of another"):
        train(made, lessons, tmp_path / "kept", config=CONFIG.model_copy(update={"lr": 0.1}))


def test_bits_go_down_and_zeros_come_in_steps(
    made: Made, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Policy] = []
    compressible = finish.compressible

    def watched(network: Network, candidate: Candidate) -> object:
        seen.append(candidate.compression.head)
        return compressible(network, candidate)

    monkeypatch.setattr(finish, "compressible", watched)
    train(made, lessons, tmp_path / "kept")
    bits = [policy.weight_bits for policy in seen]
    assert list(dict.fromkeys(bits)) == [32, 8, 6, 4]
    zeros = [policy.sparsity for policy in seen]
    assert zeros == sorted(zeros)
    assert zeros[0] == 0 and zeros[-1] == 0.5


def test_the_best_weights_are_kept_and_training_stops_when_nothing_gains(
    made: Made, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, weights = [0.5, 0.9, 0.6, 0.7, 0.99], list[dict[str, Tensor]]()

    def scripted(candidate: Candidate, network: Network, split: object) -> Tensor:
        weights.append({name: value.clone() for name, value in network.state_dict().items()})
        return torch.zeros(len(made.data.split("validation")), 10)

    monkeypatch.setattr(finish, "PATIENCE", (1, 0.4))  # two of five passes
    monkeypatch.setattr(finish, "predict", scripted)
    monkeypatch.setattr(finish, "accuracy", lambda *_: {"accuracy": scores[len(weights) - 1]})
    config = FinishConfig(epochs=5, batch_size=128, ema=0.9, ramp=0.1)
    state = train(made, lessons, tmp_path / "kept", Policy(), config)
    assert len(weights) == 4  # two passes after the best one
    assert all(torch.equal(value, weights[1][name]) for name, value in state.items())


@pytest.mark.parametrize("goal", MAXIMIZED)
def test_the_best_weights_are_those_by_the_accuracy_that_the_run_maximizes(
    made: Made, lessons: Lessons, goal: str
) -> None:
    """One network says the frequent class whatever it sees, the other is right now and then."""
    split = made.data.split("validation")
    rare = (split.labels > 0).nonzero().flatten()[:9]
    thin = Split(
        torch.cat([split.images[split.labels == 0], split.images[rare]]),
        torch.cat([split.labels[split.labels == 0], split.labels[rare]]),
    )
    always, fair = copy(made), copy(made)
    with torch.no_grad():
        always.head.weight.zero_()
        always.head.bias.copy_(torch.arange(10, 0, -1))
        fair.head.bias[0] -= 1e3  # knows all classes but the frequent one
    thinned = replace(tuning(made, lessons), goal=goal, validation=thin)
    judge = partial(thinned.judge, made.candidate)
    best = Best()
    for network in (always, fair, always):
        best.offer(network, {}, judge)
    wanted = always if goal == "accuracy" else fair
    assert best.weights["head.bias"].equal(wanted.head.bias)


def test_training_on_is_never_for_the_worse(made: Made, lessons: Lessons, tmp_path: Path) -> None:
    split, kept = made.data.split("validation"), tmp_path / "kept"

    def after(epochs: int, lr: float) -> tuple[Network, float]:
        config = FinishConfig(batch_size=128, lr=lr, retrain_epochs=epochs)
        network = copy(made)
        finalist = Finalist(made.candidate, network, kept)
        found = retrain(finalist, tuning(made, lessons, config))
        assert found is network and not kept.exists()
        logits = predict(made.candidate, network, split)
        return network, accuracy(logits, split.labels)["accuracy"]

    _, before = after(0, 1e-3)
    spoilt, found = after(1, 10.0)  # a rate that destroys everything
    assert found == before
    state = made.network.state_dict()
    assert all(value.equal(state[name]) for name, value in spoilt.state_dict().items())


def test_what_a_training_begins_with_may_stay_the_best(
    made: Made, lessons: Lessons, tmp_path: Path
) -> None:
    config = FinishConfig(epochs=1, batch_size=128, lr=1.0, ramp=0.5)
    state = train(made, lessons, tmp_path / "kept", Policy(), config)
    begun = made.network.state_dict()
    assert all(value.equal(begun[name]) for name, value in state.items())


def test_averaged_weights_are_judged_and_kept(made: Made, lessons: Lessons, tmp_path: Path) -> None:
    """The last ones go on; after a kill the average does, too."""
    config = CONFIG.model_copy(update={"epochs": 1, "ramp": 0.0, "ema": 0.99})
    fine, split = tuning(made, lessons, config), made.data.split("validation")
    finalist = Finalist(made.candidate, copy(made), tmp_path / "kept")
    with torch.no_grad():
        finalist.network.head.bias.zero_()
        finalist.network.head.weight.zero_()  # whatever comes is better
    state = fine(made.candidate, fine.start(finalist))
    best, now, average = (finish._part(state.tensors, p) for p in ("best.", "now.", "average."))
    assert all(best[name].equal(value) for name, value in average.items())
    assert not best["head.weight"].equal(now["head.weight"])
    finalist.network.load_state_dict(best)
    found = accuracy(predict(made.candidate, finalist.network, split), split.labels)
    assert found["accuracy"] == state.notes["score"]


def test_checkpoints_from_before_layers_were_compared_are_continued(
    made: Made, lessons: Lessons
) -> None:
    assert tuning(made, lessons).recipe == CONFIG.recipe("layers")
    other = CONFIG.model_copy(update={"layers": 1.0})
    assert '"layers":1.0' in tuning(made, lessons, other).recipe


@pytest.mark.parametrize("other", [DistillConfig(loss="hard"), DistillConfig(features=1.0)])
def test_a_training_on_other_losses_is_not_continued(
    made: Made, lessons: Lessons, tmp_path: Path, other: DistillConfig
) -> None:
    finalist = Finalist(made.candidate, copy(made), tmp_path / "kept")
    first = tuning(made, lessons)
    first.checkpoint(finalist).save(first.start(finalist))
    assert first.checkpoint(finalist).load()
    with pytest.raises(RunError, match="is a checkpoint of another"):
        tuning(made, replace(lessons, config=other)).checkpoint(finalist).load()


def test_low_bits_recover_what_rounding_lost(made: Made, lessons: Lessons, tmp_path: Path) -> None:
    candidate = everywhere(made.candidate, Policy(3))
    split = made.data.split("validation")

    def score(network: Network) -> float:
        return accuracy(predict(candidate, network, split), split.labels)["accuracy"]

    before = score(copy(made))
    network = copy(made)
    network.load_state_dict(train(made, lessons, tmp_path / "kept", Policy(3)))
    assert score(network) > before + 0.05
