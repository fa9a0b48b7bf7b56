"""Finish: a finalist is cut out of the supernet and trained on its own, bits going down in steps.

The training is kept as it goes and continued after a kill. It ends early where the validation
split no longer gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..spaces import Candidate
from ..spaces.errors import RunError
from ..spaces.networks import Network
from ..spaces.supernet import Supernet
from .answer import answer
from .checkpoint import Checkpoint, State
from .compress import calibrate, candidate_at, prepared
from .config import FinishConfig
from .data import Data, Split, resized
from .evaluate import accuracy, predict
from .progress import progress
from .teacher import Lessons
from .training import Optimiser, check_finite

PATIENCE = 6  # passes without a better validation accuracy after which training stops
RETRAIN_LR = 0.25  # of the usual learning rate, for weights that are nearly right
CALIBRATION = 64  # train images that say where low rank hurts least
BEST, NOW = "best.", "now."


def extracted(supernet: Supernet, candidate: Candidate, data: Data) -> Network:
    """A finalist with inherited weights, matrices of low rank cut where it hurts least."""
    network = supernet.extract(candidate)
    images = data.split("train").images[:CALIBRATION]
    images = resized(images, candidate.architecture.input_size)
    seen = calibrate(network, network.state_dict(), candidate, images)
    return prepared(network, candidate, seen)


def train_finalist(
    candidate: Candidate,
    network: Network,
    lessons: Lessons,
    data: Data,
    config: FinishConfig,
    seed: int,
    kept: Path,
) -> Network:
    """A network fine-tuned with its compression in the loop (QAT), in place.

    Args:
        candidate: what it is; its bits are reached step by step, its zeros along a ramp.
        network: its weights, inherited.
        lessons: images, labels and the teacher's answers.
        data: its validation split says when to stop, and which weights are the best.
        config: recipe.
        seed: of the order of the images.
        kept: checkpoint file; the training continues from it if it is there.

    Returns:
        The network in eval mode with the best weights, in float; rounding is the export's.

    Raises:
        RunError: the loss is no number, or the checkpoint is of another training.
    """
    steps = lessons.steps(config.batch_size, config.epochs)
    each = steps // config.epochs
    optimiser = Optimiser(network.named_parameters(), config, steps)
    checkpoint = Checkpoint(kept, candidate.key, config.model_dump_json(), str(seed), data.name)
    best, validation = Best(), data.split("validation")
    if state := checkpoint.load():
        network.load_state_dict(_part(state.tensors, NOW))
        optimiser.load_state_dict(state.tensors, state.step)
        best = Best(_part(state.tensors, BEST), **state.notes)
    elif not config.ramp:
        best.offer(candidate, network, optimiser, validation)
    params = dict(network.named_parameters()) | dict(network.named_buffers())
    batches = lessons.batches(config.batch_size, config.epochs, seed, optimiser.done)
    with progress(steps, f"training {candidate.key}") as bar:
        bar.update(optimiser.done)
        for lesson in batches:
            if best.stale >= PATIENCE:
                break
            now = candidate_at(candidate, optimiser.done / steps, config.ramp)
            loss = lessons.loss(answer(network.train(), params, now, lesson.images), lesson)
            loss.backward()
            value = check_finite(loss, f"training {candidate.key}", optimiser.done)
            bar.set_postfix(loss=value, refresh=False)
            try:
                optimiser.step()
            except ArithmeticError as error:
                raise RunError(f"training {candidate.key}: {error}; try a smaller lr") from error
            bar.update()
            # Before the ramp has ended it is another, less compressed model.
            if optimiser.done % each == 0 and optimiser.done >= config.ramp * steps:
                best.offer(candidate, network, optimiser, validation)
            if checkpoint.due():
                held = _named(network.state_dict(), NOW) | _named(best.weights, BEST)
                notes = {"score": best.score, "stale": best.stale}
                checkpoint.save(State(optimiser.done, held | optimiser.state_dict(), notes))
    network.load_state_dict(best.weights)
    return network.eval()


def retrain(
    candidate: Candidate,
    network: Network,
    lessons: Lessons,
    data: Data,
    config: FinishConfig,
    seed: int,
    kept: Path,
) -> Network:
    """A network trained on for a little after a step back, in place; never for the worse.

    Args:
        candidate: what it is after the step.
        network: its weights, trained for what it was before.
        lessons: as for `train_finalist`.
        data: as for `train_finalist`.
        config: of the first training; `config.retrain_epochs` says how long.
        seed: as for `train_finalist`.
        kept: checkpoint file, removed at the end.

    Raises:
        RunError: as `train_finalist`.
    """
    if not config.retrain_epochs:
        return network
    changes = {"epochs": config.retrain_epochs, "lr": config.lr * RETRAIN_LR, "ramp": 0.0}
    short = config.model_copy(update=changes)
    train_finalist(candidate, network, lessons, data, short, seed, kept)
    kept.unlink(missing_ok=True)
    return network


@dataclass
class Best:
    """The weights that were right most often, and since when they are.

    Attributes:
        weights: by name.
        score: their accuracy.
        stale: how often others were offered since.
    """

    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    score: float = -1.0
    stale: int = 0

    def offer(
        self, candidate: Candidate, network: Network, optimiser: Optimiser, split: Split
    ) -> None:
        """Take the averaged weights if they are better."""
        now = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(now | optimiser.average)
        score = accuracy(predict(candidate, network, split), split.labels)["accuracy"]
        self.stale += 1
        if score > self.score:
            averaged = {name: value.clone() for name, value in optimiser.average.items()}
            self.weights, self.score, self.stale = now | averaged, score, 0
        network.load_state_dict(now)


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
