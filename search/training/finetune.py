"""Fine-tuning: finalists are trained on their own, starting from the supernet, as bits go down.

They are trained in slices of some seconds, each by an idle worker. The state after a slice is
kept and the next slice goes on from it, so that a kill or a lost worker costs at most one slice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...spaces import Candidate
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ..compress import calibrate, candidate_at, prepared
from ..compress.network import compressible
from ..config import FinishConfig
from ..data.dataset import Split, resized
from .accuracy import accuracy
from .checkpoint import Checkpoint, State
from .exits import fit_exits
from .forward import answer, predict
from .losses import Lesson
from .optimizer import Optimizer, check_finite, finite, torch_device
from .parts import Parts
from .supernet import fresh
from .teacher import SOFT, Lessons

SLICES_S = (10.0, 20.0, 40.0, 60.0)  # of training between two checkpoints, the last from then on
PATIENCE = 6, 0.25  # passes without a gain after which it stops: at least, and as a share of all
CALIBRATION = 64  # train images that say where low rank hurts least
BEST, NOW = "best.", "now."

log = logging.getLogger("vitpareto")


@dataclass(frozen=True)
class Finalist:
    """A candidate to be trained on its own.

    Attributes:
        candidate: its bits go down step by step, its zeros grow along a ramp.
        network: its weights, changed in place.
        kept: checkpoint file; the training goes on from it if it is there.
        name: by which progress names it, if any.
        direct: whether all of its compression is on from the first step.
    """

    candidate: Candidate
    network: Network
    kept: Path
    name: str = ""
    direct: bool = False

    @property
    def key(self) -> str:
        """Its name among those that are trained with it."""
        return self.kept.name


@dataclass(frozen=True)
class FineTuning:
    """Trains networks on their own with their compression in the loop (QAT), slice by slice.

    Attributes:
        lessons: images, labels and the teacher's answers.
        validation: images that say which weights are the best, and when training stops to gain.
        config: recipe.
        seed: of the order of the images.
        goal: name of the accuracy by which weights are compared.
        length: steps of a training, in place of the passes of the recipe.
    """

    lessons: Lessons
    validation: Split
    config: FinishConfig
    seed: int
    goal: str = "accuracy"
    length: int = 0

    @property
    def steps(self) -> int:
        """Number of steps of a whole training."""
        return self.length or self.lessons.steps(self.config.batch_size, self.config.epochs)

    @property
    def recipe(self) -> str:
        """What the configuration says of one training, in lines of JSON."""
        # What older checkpoints do not know is left out where it is as it was then.
        own = self.config.recipe(*(() if self.config.layers else ("layers",)))
        losses = self.lessons.config
        return own if losses == SOFT else f"{own}\n{losses.model_dump_json()}"

    def steps_of(self, state: State) -> int:
        """Number of steps of a training, which its pace may have changed."""
        return state.notes.get("steps", self.steps)

    def seconds(self, finalist: Finalist) -> float:
        """How long a finalist has been trained, by its checkpoint."""
        state = self.checkpoint(finalist).load()
        return state.notes.get("seconds", 0.0) if state else 0.0

    def checkpoint(self, finalist: Finalist) -> Checkpoint:
        """Checkpoint of a training."""
        about = finalist.candidate.key, self.recipe, str(self.seed), self.goal
        return Checkpoint(finalist.kept, *about, *([str(self.length)] if self.length else []))

    def start(self, finalist: Finalist) -> State:
        """The state before the first step; what a training begins with may stay the best.

        Raises:
            RunError: a logit is no number.
        """
        best, network = Best(), finalist.network
        with finite(f"training {finalist.candidate.key}", "they were so before its first step"):
            best.offer(network, {}, partial(self.judge, finalist.candidate))
        tensors = _named(network.state_dict(), NOW) | _named(best.weights, BEST)
        notes = {"score": best.score, "stale": best.stale, "slices": 0}
        return State(0, tensors, notes | ({"ramp": 0.0} if finalist.direct else {}))

    def ended(self, state: State) -> bool:
        """Whether there is nothing left to do."""
        return state.step >= self.steps_of(state) or state.notes["stale"] >= self._patience

    def __call__(self, candidate: Candidate, state: State) -> State:
        """State after one more slice.

        Raises:
            RunError: the loss, a gradient or a logit is no number.
        """
        with torch.random.fork_rng(devices=[]):
            network = Network(candidate.architecture).to(torch_device())
        network.load_state_dict(_part(state.tensors, NOW))
        steps = self.steps_of(state)
        optimizer = Optimizer(network.named_parameters(), self.config, steps)
        if state.step:
            optimizer.load_state_dict(state.tensors, state.step)
        slices = state.notes["slices"]
        kept = _part(state.tensors, BEST)
        best = Best(kept, state.notes["score"], state.notes["stale"])
        params = dict(network.named_parameters()) | dict(network.named_buffers())
        config, begun = self.config, time.monotonic()
        end = begun + SLICES_S[min(slices, len(SLICES_S) - 1)]
        share = state.notes.get("ramp", config.ramp)
        each, ramp = self.lessons.steps(config.batch_size, 1), share * steps
        passes = -(-steps // each)
        batches = self.lessons.batches(config.batch_size, passes, self.seed, state.step)
        now, layers, parts = None, {}, Parts(f"training {candidate.key}")

        def loss(some: Lesson) -> Tensor:
            inside = self.lessons.looks_inside
            found = answer(network.train(), params, layers, some.images, inside)
            return self.lessons.loss(found, some)

        for lesson in batches:
            before, now = now, candidate_at(candidate, optimizer.done / steps, share)
            layers = layers if now == before else compressible(network, now)
            mean = parts.learn(lesson, loss, optimizer)
            check_finite(mean, f"training {candidate.key}", optimizer.done)
            with finite(f"training {candidate.key}"):
                optimizer.step()
                # Before the end of the ramp the model is less compressed, and so another one.
                last = optimizer.done == steps
                if (optimizer.done % each == 0 or last) and optimizer.done >= ramp:
                    best.offer(network, optimizer.average, partial(self.judge, candidate))
            if last or best.stale >= self._patience or time.monotonic() > end:
                break
        tensors = _named(network.state_dict(), NOW) | _named(best.weights, BEST)
        tensors |= optimizer.state_dict()
        took = time.monotonic() - begun
        notes = {"score": best.score, "stale": best.stale, "slices": slices + 1}
        notes |= {"step_s": took / (optimizer.done - state.step)}
        notes |= {"seconds": state.notes.get("seconds", 0.0) + took}
        notes = {**state.notes, **notes}
        return State(optimizer.done, {n: t.detach().cpu() for n, t in tensors.items()}, notes)

    def finish(self, finalist: Finalist, state: State) -> Network:
        """Give a network the best weights of a training, in place; in eval mode."""
        finalist.network.load_state_dict(_part(state.tensors, BEST))
        return finalist.network.eval()

    def fit_exits(self, finalist: Finalist) -> None:
        """Fit the heads of exits, if any, to a network that is trained."""
        about = self.lessons, self.validation, self.config.batch_size, self.seed
        fit_exits(finalist.candidate, finalist.network, *about)

    def judge(self, candidate: Candidate, network: Network) -> float:
        """The accuracy by which its weights are compared."""
        split = self.validation
        return accuracy(predict(candidate, network, split), split.labels)[self.goal]

    @property
    def _patience(self) -> int:
        least, share = PATIENCE
        return max(least, round(share * self.config.epochs))


@dataclass
class Best:
    """The most accurate weights so far.

    Attributes:
        weights: by name.
        score: their accuracy.
        stale: number of offers since then.
    """

    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    score: float = -1.0
    stale: int = 0

    def offer(
        self, network: Network, average: Mapping[str, Tensor], judge: Callable[[Network], float]
    ) -> None:
        """Take the weights, averaged where they have an average, if they are judged better."""
        now = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(now | {**average})
        score = judge(network)
        self.stale += 1
        if score > self.score:
            averaged = {name: value.clone() for name, value in average.items()}
            self.weights, self.score, self.stale = now | averaged, score, 0
        network.load_state_dict(now)


def start_network(
    inherited: Callable[[Candidate], Network],
    candidate: Candidate,
    images: Tensor,
    tuning: FineTuning,
) -> Network:
    """A finalist before its training: inherited weights, or new ones if the recipe says so.

    Args:
        inherited: makes a network with such weights.
        candidate: whose network is made.
        images: by which matrices of low rank are cut where it hurts least.
        tuning: how it will be trained.
    """
    inherits = tuning.config.inherit
    network = inherited(candidate) if inherits else fresh(candidate, tuning.seed).cpu()
    images = resized(images[:CALIBRATION], candidate.architecture.input_size)
    seen = calibrate(network, network.state_dict(), candidate, images)
    return prepared(network, candidate, seen)


def train_alone(finalist: Finalist, tuning: FineTuning) -> Network:
    """Train one network in place, without a word; it goes on where a killed one was.

    A checkpoint of another training is written over. Its own is for the caller to remove, once
    what came of the training is kept.

    Raises:
        RunError: as `train_finalists`.
    """
    checkpoint = tuning.checkpoint(finalist)
    try:
        state = checkpoint.load()
    except RunError:  # of another recipe, or damaged
        state = None
    state = state or tuning.start(finalist)
    while not tuning.ended(state):
        state = tuning(finalist.candidate, state)
        checkpoint.save(state)
    return tuning.finish(finalist, state)


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
