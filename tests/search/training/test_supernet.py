"""Supernet training: the same whether interrupted, shared, halved or not."""

import math
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitpareto.search.config import DistillConfig, SupernetConfig, TrainConfig
from vitpareto.search.data.dataset import Data
from vitpareto.search.training import pace, sandwich
from vitpareto.search.training.checkpoint import Checkpoint, State
from vitpareto.search.training.loss_curves import LARGEST, Health
from vitpareto.search.training.optimizer import Optimizer
from vitpareto.search.training.pace import Limit
from vitpareto.search.training.sandwich import Draw, Sandwich, Workers
from vitpareto.search.training.supernet import (
    fresh,
    from_scratch,
    importance,
    train_supernet,
    training_steps,
)
from vitpareto.search.training.teacher import Lessons, Teacher, teacher_architecture
from vitpareto.spaces import SearchSpace
from vitpareto.spaces.errors import RunError

from ..small import TEXT

SHORT = SupernetConfig(epochs=2, batch_size=128, lr=2e-3, ema=0.9)


def gradients(
    space: SearchSpace, lessons: Lessons, workers: Workers, config: SupernetConfig = SHORT
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    supernet = from_scratch(space, 0)
    lesson = next(lessons.batches(64, 1, seed=0))
    candidates = [candidate for _, candidate in Draw(space, config, 10, 0)(0)]
    losses = Sandwich(supernet, lessons, config, workers).step(candidates, lesson)
    return {n: p.grad for n, p in supernet.params.items() if p.grad is not None}, losses


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float) -> bool:
    assert a.keys() == b.keys()
    scale = max(float(value.abs().max()) for value in a.values())
    return all(float((a[name] - b[name]).abs().max()) < tolerance * scale for name in a)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bfloat16, whose rounding depends on the batch."""
    from contextlib import nullcontext

    monkeypatch.setattr(
        "vitpareto.search.training.forward.fast_matmul", lambda device: nullcontext()
    )


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("count", [2, 3])
def test_the_gradients_of_all_workers_add_up_to_those_of_one(space, lessons, count: int) -> None:
    whole, losses = gradients(space, lessons, Workers())
    parts = [gradients(space, lessons, Workers(rank, count)) for rank in range(count)]
    total = {name: sum(found[name] for found, _ in parts) for name in whole}
    assert close(whole, total, 1e-5)
    assert torch.allclose(losses, sum(found for _, found in parts), atol=1e-5)


@pytest.mark.usefixtures("exact")
def test_out_of_memory_halves_the_batch_as_often_as_needed_and_says_so(
    space, lessons, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, losses = gradients(space, lessons, Workers())
    ask = sandwich.ask

    def tight(room: int, supernet, candidate, images):
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ask(supernet, candidate, images)

    for room, parts in ((32, 2), (7, 16), (1, 60)):
        caplog.clear()
        monkeypatch.setattr(sandwich, "ask", partial(tight, room))
        in_parts, again = gradients(space, lessons, Workers())
        assert close(whole, in_parts, 1e-5) and torch.allclose(losses, again, atol=1e-5)
        assert f"worked off in {parts} parts" in caplog.messages[-1]
    monkeypatch.setattr(sandwich, "ask", partial(tight, 0))
    with pytest.raises(RunError, match=r"supernet: out of memory at a single image.*smaller"):
        gradients(space, lessons, Workers())


def test_subnetworks_learn_what_the_largest_says(space, lessons) -> None:
    """In-place distillation flows: another answer of the largest, other gradients of the rest."""
    whole, _ = gradients(space, lessons, Workers())
    shifted = Lessons(lessons.views, (lessons.labels + 1) % 10, lessons.teacher.roll(1, -1))
    other, _ = gradients(space, shifted, Workers())
    assert not close(whole, other, 1e-3)


def test_uniform_candidates_learn_as_if_alone(space, lessons) -> None:
    """The gradients of a step are the sum of those of each candidate by itself."""
    config = SHORT.model_copy(update={"sampling": "uniform", "random": 3})
    draw = Draw(space, config, 10, 0)
    assert [name for name, _ in draw(0)] == ["largest", "smallest", "random"]
    assert [name for name, _ in draw(1)] == ["random"] * 3
    lesson = next(lessons.batches(64, 1, seed=0))

    def step(candidates) -> dict[str, torch.Tensor]:
        supernet = from_scratch(space, 0)
        Sandwich(supernet, lessons, config, Workers()).step(candidates, lesson)
        return {n: p.grad for n, p in supernet.params.items() if p.grad is not None}

    candidates = [candidate for _, candidate in draw(1)]
    alone = [step([candidate]) for candidate in candidates]
    total = {name: sum(g[name] for g in alone if name in g) for g in alone for name in g}
    assert close(step(candidates), total, 1e-3)


def test_projection_changes_conflicting_gradients_only_for_the_better(space, lessons) -> None:
    config = SHORT.model_copy(update={"project_conflicts": True})
    plain, _ = gradients(space, lessons, Workers())
    projected, _ = gradients(space, lessons, Workers(), config)
    changed = [name for name in plain if not torch.allclose(plain[name], projected[name])]
    assert 0 < len(changed) < len(plain)


class Stop(Exception):
    """Ends a training between two steps."""


class Interrupting(Checkpoint):
    """Keeps every step, and stops the training after one of them."""

    def __init__(self, path: Path, *about: str, when: Callable[[State], bool]) -> None:
        super().__init__(path, *about)
        self._when = when

    def due(self) -> bool:
        return True

    def save(self, state: State) -> None:
        super().save(state)
        if self._when(state):
            raise Stop


@pytest.mark.parametrize("alone", [0.0, 0.4], ids=["", "stopped before it is sorted"])
def test_a_stopped_training_goes_on_as_if_it_had_not(
    space, lessons, tmp_path: Path, alone: float
) -> None:
    config = SHORT.model_copy(update={"alone": alone})

    whole = train_supernet(space, lessons, config, 0)
    kept = Interrupting(tmp_path / "c", "a", when=lambda state: state.step == 5)
    with pytest.raises(Stop):
        train_supernet(space, lessons, config, 0, checkpoint=kept)
    health = Health(every=1)
    again = train_supernet(
        space, lessons, config, 0, checkpoint=Checkpoint(tmp_path / "c", "a"), health=health
    )
    assert len(health.curves[LARGEST]) == lessons.steps(128, 2) - 5
    a, b = whole.state_dict(), again.state_dict()
    assert all(a[name].equal(b[name]) for name in a)


def test_a_supernet_ends_in_time_also_when_it_was_stopped(
    space, lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LOOK_S", 0.2)
    config = SHORT.model_copy(update={"epochs": 500, "alone": 0.2, "curriculum": 0.5})

    path, begun = tmp_path / "c", time.monotonic()
    stopped = Interrupting(path, "a", when=lambda state: time.monotonic() > begun + 2)
    with pytest.raises(Stop):
        limit = Limit(begun + 4, 500)
        train_supernet(space, lessons, config, 0, checkpoint=stopped, limit=limit)
    kept = Checkpoint(path, "a").load()
    assert kept and kept.step < kept.notes["steps"] < lessons.steps(128, 500)
    begun, health = time.monotonic(), Health()
    limit = Limit(begun + 2, 500)
    again = train_supernet(
        space, lessons, config, 0, checkpoint=Checkpoint(path, "a"), health=health, limit=limit
    )
    assert time.monotonic() - begun < 16, "500 passes take minutes"
    assert all(value.isfinite().all() for value in again.state_dict().values())


SCRIPT = f"""
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from safetensors.torch import save_file
from vitpareto.search.training import checkpoint
from vitpareto.search.config import DataConfig, SupernetConfig
from vitpareto.search.data.loading import load_data
from vitpareto.search.training.supernet import train_supernet
from vitpareto.search.training.teacher import Lessons
from vitpareto.spaces import SearchSpace
checkpoint.EVERY_S, checkpoint.SHARE = 0.0, 1e9
data = load_data(DataConfig(), 16)
lessons = Lessons.of(data, torch.randn(1, len(data.train_labels), 10,
                     generator=torch.Generator().manual_seed(0)))
trained = train_supernet(SearchSpace.from_text('''{TEXT}'''), lessons,
    SupernetConfig(epochs=4, batch_size=64), 0, checkpoint=checkpoint.Checkpoint(Path(sys.argv[1])))
save_file({{n: t.contiguous() for n, t in trained.state_dict().items()}}, sys.argv[2])
"""


def start(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", SCRIPT, str(folder / f"{name}.checkpoint"), str(folder / name)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_a_random_step_the_weights_end_up_bit_equal(tmp_path: Path, number) -> None:
    assert start(tmp_path, "whole").wait() == 0
    victim, kept = start(tmp_path, "again"), tmp_path / "again.checkpoint"
    while not kept.exists():
        assert victim.poll() is None
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1.5))
    victim.send_signal(number)
    assert victim.wait() != 0, "it ended before it was killed"
    state = Checkpoint(kept).load()
    assert state is not None and 0 < state.step < 56
    assert start(tmp_path, "again").wait() == 0
    a, b = load_file(tmp_path / "whole"), load_file(tmp_path / "again")
    assert a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_state(
    space, lessons, tmp_path: Path
) -> None:
    class Always(Checkpoint):
        def due(self) -> bool:
            return True

    class Poisoned(Lessons):
        def batches(self, batch_size: int, epochs: int, seed: int, start: int = 0):
            for step, lesson in enumerate(super().batches(batch_size, epochs, seed, start)):
                if step == 3:
                    lesson.images.fill_(float("nan"))
                yield lesson

    poisoned = Poisoned(lessons.views, lessons.labels, lessons.teacher)
    path = tmp_path / "supernet.checkpoint"
    with pytest.raises(
        RunError, match=r"stopped at step 3: .*nan.*; step 3 is kept in .*smaller lr"
    ):
        train_supernet(space, poisoned, SHORT, 0, checkpoint=Always(path))
    state = Checkpoint(path).load()
    assert state is not None and state.step == 3
    assert all(torch.isfinite(value).all() for value in state.tensors.values())


def test_a_gradient_that_is_no_number_is_one_line(space, lessons) -> None:
    candidate = space.smallest()
    network = fresh(candidate, 0)
    network.head.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(RunError, match=r"training .*: the gradient is .*; try a smaller lr"):
        list(training_steps(candidate, network, lessons, TrainConfig(), 0, 2))


def test_a_checkpoint_of_something_else_is_refused(space, lessons, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"rubbish")
    with pytest.raises(RunError, match="cannot be read"):
        Checkpoint(tmp_path / "c", "one").load()
    checkpoint = Checkpoint(tmp_path / "c", "one")
    checkpoint.path.unlink()
    train_supernet(space, lessons, SHORT.model_copy(update={"epochs": 1}), 0, checkpoint=checkpoint)
    assert not checkpoint.due()
    from vitpareto.search.training.checkpoint import State

    checkpoint.save(State(1, {"a": torch.zeros(1)}, {}))
    with pytest.raises(RunError, match="another space, recipe, seed or data set"):
        Checkpoint(tmp_path / "c", "two").load()


def test_axes_open_one_by_one(space) -> None:
    draw = Draw(space, SHORT.model_copy(update={"curriculum": 0.5}), 100, 0)
    largest = space.largest()
    axes = list(dict.fromkeys(c.name.rpartition(".")[2] for c in space.parameters))
    seen: list[set[str]] = []
    for step in range(100):
        first, *others = (candidate for _, candidate in draw(step))
        assert first == largest
        changed: set[str] = set()
        for candidate in others:
            assert candidate in space
            base, own = space.assignment(largest), space.assignment(candidate)
            changed |= {n.rpartition(".")[2] for n in base.keys() & own.keys() if base[n] != own[n]}
        seen.append(changed)
    opened = set(axes[:1])
    assert set().union(*seen[:5]) <= opened
    assert set().union(*seen[:25]) <= set(axes[: 1 + len(axes) // 2])
    assert set().union(*seen[50:]) == set(axes) - {"act_bits"}


def test_the_largest_learns_alone_first(space) -> None:
    config = SHORT.model_copy(update={"alone": 0.3, "curriculum": 0.5})
    draw = Draw(space, config, 100, 0)
    assert all(draw(step) == [("largest", space.largest())] for step in range(30))
    plain = Draw(space, SHORT.model_copy(update={"curriculum": 0.5}), 70, 0)
    assert [len(draw(step)) for step in range(30, 100)] == [len(plain(0))] * 70
    assert any(c != space.largest() for _, c in draw(30 + 34))


def test_what_the_largest_learned_alone_is_sorted_and_goes_on(space, lessons) -> None:
    """Sorting moves weights with their moments: the largest learns on as if it had not happened."""
    config = SHORT.model_copy(update={"epochs": 1, "alone": 0.5})
    first = Health(every=1)
    train_supernet(space, lessons, config, 0, health=first)
    second, still = Health(every=1), SHORT.model_copy(update={"epochs": 1, "alone": 0.99})
    trained = train_supernet(space, lessons, still, 0, health=second)
    steps = lessons.steps(128, 1)
    sorted_at = math.ceil(steps / 2)
    curves = first.curves[LARGEST], second.curves[LARGEST]
    assert curves[0][: sorted_at + 1] == pytest.approx(curves[1][: sorted_at + 1], rel=1e-2)
    scores = importance(trained, lessons, 0)
    before = {name: p.detach().clone() for name, p in trained.params.items()}
    trained.sort_by_importance(scores, [before])
    assert all(before[name].equal(p) for name, p in trained.params.items())


def test_the_average_is_that_of_the_weights() -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = Optimizer(layer.named_parameters(), TrainConfig(ema=0.8, lr=0.1), 30)
    expected = layer.weight.detach().clone()
    for step in range(1, 31):
        layer(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    assert torch.allclose(optimizer.average["weight"], expected, atol=1e-6)


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = Optimizer(layer.named_parameters(), TrainConfig(), 10)
    before = layer.weight.detach().clone()
    (layer.weight.sum() * float("inf")).backward()
    with pytest.raises(ArithmeticError, match="gradient is"):
        optimizer.step()
    assert layer.weight.equal(before) and optimizer.done == 0


def test_alone_a_network_learns_and_repeats(space, data: Data, lessons) -> None:
    candidate, recipe = space.largest(), TrainConfig(epochs=3, batch_size=64, lr=3e-3)
    first, second = fresh(candidate, 0), fresh(candidate, 0)
    for network in (first, second):
        losses = list(training_steps(candidate, network, lessons, recipe, 0, lessons.steps(64, 3)))
        assert losses[-1] < losses[0]
    a, b = first.state_dict(), second.state_dict()
    assert all(a[name].equal(b[name]) for name in a)
    split = data.split("search")
    with torch.inference_mode():
        assert (first(split.images).argmax(1) == split.labels).float().mean() > 0.5


def test_features_and_attention_come_from_the_teacher(space, data: Data, lessons) -> None:
    torch.manual_seed(0)
    teacher = Teacher(teacher_architecture(1, 10, 16)).eval()
    inner = Lessons.of(data, lessons.teacher, DistillConfig(features=1, attention=1), teacher)
    lesson = next(inner.batches(32, 1, 0))
    assert lesson.tokens is not None and lesson.tokens.shape == (len(lesson.labels), 4, 128)
    sent = pickle.loads(pickle.dumps(inner)).tokens(lesson.images)  # as to a worker
    assert lesson.tokens.equal(sent)
    plain, _ = gradients(space, lessons, Workers())
    looking, _ = gradients(space, inner, Workers())
    assert not close(plain, looking, 1e-3)
