"""The shared weights of the supernet, trained or of a start, and one network on its own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError
from ...spaces.networks import Network
from ...spaces.supernet import Supernet, blueprint, shared_name
from ..compress.importance import taylor
from ..compress.network import compressible
from ..config import SupernetConfig, TrainConfig
from ..console import progress, stop_request
from .checkpoint import Checkpoint, State
from .forward import answer, ask
from .loss_curves import Health
from .losses import Lesson
from .optimizer import Optimizer, check_finite, finite, torch_device
from .pace import Limit, Schedule
from .parts import Parts
from .sandwich import ALONE, Draw, Sandwich, Workers
from .teacher import Lessons

FOREVER = 1_000_000  # passes of a training that ends by the clock
SCORED = 10, 64  # batches and their images that tell the importance of weights
POSITION_STD = 0.5  # tokens start with unit variance; a weaker table takes long to be noticed


def train_supernet(
    space: SearchSpace,
    lessons: Lessons,
    config: SupernetConfig,
    seed: int,
    start: Supernet | None = None,
    checkpoint: Checkpoint | None = None,
    workers: Workers = ALONE,
    health: Health | None = None,
    limit: Limit | None = None,
) -> Supernet:
    """Shared weights that serve every candidate of a space.

    With `config.sampling` "sandwich", each step trains the largest candidate on labels and
    teacher, then the smallest and some random ones on what the largest just said: the sandwich
    rule with in-place distillation (Yu et al., BigNAS, arXiv:2003.11142). With "uniform" all are
    random and learn from labels and teacher, as they would alone. Candidates bring their
    compression with them. When the largest has learned alone, its heads and hidden units are
    sorted by importance, so that a smaller one inherits those that matter.
    Everything random is a function of seed and step, so that a training goes on from a
    checkpoint as if it had never stopped, and all workers draw the same candidates. Where a limit
    cuts or stretches what is left, it depends on the clock.

    Args:
        space: whose candidates are served.
        lessons: images, labels and the teacher's answers.
        config: recipe; `config.batch_size` images a worker and step.
        seed: of candidates, order and initial weights.
        start: weights to start from, changed in place; from scratch without.
        checkpoint: where the training is kept as it goes; it is continued if it is there.
        workers: who shares the work.
        health: gets the curves.
        limit: keeps the training of a single worker to a time; without one it makes the passes
            of the recipe.

    Raises:
        RunError: a loss is no number, or memory does not suffice for a single image.
        KeyboardInterrupt: as asked, after the checkpoint was written.
    """
    supernet = (start or from_scratch(space, seed)).to(torch_device())
    batch_size = config.batch_size * workers.count
    state, steps = checkpoint and checkpoint.load(), lessons.steps(batch_size, config.epochs)
    if state:
        steps = state.notes.get("steps", steps)
    schedule = Schedule(steps, lessons.steps(batch_size, 1), limit, state.step if state else 0)
    optimizer = Optimizer(supernet.params.items(), config, steps)
    health = health or Health()
    if state:
        supernet.load_state_dict({n: state.tensors[n] for n in supernet.state_dict()})
        optimizer.load_state_dict(state.tensors, state.step)
        health.restore(state.notes)
    sandwich = Sandwich(supernet, lessons, config, workers)
    draw = Draw(space, config, steps, seed)
    is_sorted = not config.alone or optimizer.done > math.ceil(config.alone * steps)

    def keep() -> None:
        if checkpoint and workers.rank == 0:
            tensors = supernet.state_dict() | optimizer.state_dict()
            notes = {**health.notes(), "steps": schedule.steps}
            checkpoint.save(State(optimizer.done, tensors, notes))

    begun, seen = time.perf_counter(), 0
    with progress(steps, "supernet") as bar, stop_request() as asked:
        bar.update(optimizer.done)
        for lesson in lessons.batches(batch_size, FOREVER, seed, optimizer.done):
            if not is_sorted and optimizer.done >= config.alone * schedule.steps:
                is_sorted = True
                scores = importance(supernet, lessons, seed)
                workers.add(list(scores.values()))  # the same to the last bit everywhere
                supernet.sort_by_importance(scores, optimizer.followers())
            names, candidates = zip(*draw(optimizer.done), strict=True)
            losses = sandwich.step(candidates, lesson)
            try:
                check_finite(losses.sum(), "supernet", optimizer.done)
                optimizer.step()
            except (RunError, ArithmeticError) as error:
                raise _stopped(error, optimizer.done, checkpoint) from None
            health.observe(optimizer.done, dict(zip(names, losses.tolist(), strict=True)))
            schedule.follow(optimizer)
            draw.steps = schedule.steps
            seen += len(lesson.labels)
            rate = seen / (time.perf_counter() - begun)
            bar.set_postfix(health.latest() | {"images/s": f"{rate:.0f}"}, refresh=False)
            bar.update(schedule.share(optimizer.done) - bar.n)
            if asked.is_set():
                keep()
                raise KeyboardInterrupt
            if optimizer.done >= schedule.steps:
                break
            if checkpoint and checkpoint.due():
                keep()
    if optimizer.average:
        supernet.load_state_dict(supernet.state_dict() | optimizer.average)
    return supernet.to("cpu")


def importance(
    supernet: Supernet, lessons: Lessons, seed: int, candidate: Candidate | None = None
) -> dict[str, Tensor]:
    """How much the loss of a candidate, by default the largest, depends on each parameter (Taylor).

    In two trainings on digits, slices with half of the heads and hidden units were right in 80% of
    the images in this order, in 74% sorted by squared weights; with a quarter of the heads in 59
    and 25%. Fewer images are not enough: with 128 hidden units were sorted worse than by weights.
    """
    batches = islice(lessons.batches(SCORED[1], 1, seed), SCORED[0])
    asked = candidate or supernet.space.largest()
    losses = (lessons.loss(ask(supernet, asked, lesson.images), lesson) for lesson in batches)
    return taylor(supernet.params, losses)


def _stopped(error: Exception, step: int, checkpoint: Checkpoint | None) -> RunError:
    kept = checkpoint.load() if checkpoint else None
    where = f"; step {kept.step} is kept in {checkpoint.path}" if kept and checkpoint else ""
    return RunError(f"supernet: stopped at step {step}: {error}{where}; try a smaller lr")


def shared_from(start: Network, space: SearchSpace, lessons: Lessons, seed: int) -> Supernet:
    """Shared weights that are those of a start, its heads and hidden units sorted by importance.

    Nothing is trained; what the start does not have, such as other mixers, is random.

    Args:
        start: the largest network of the space.
        space: whose candidates are cut from it.
        lessons: images, labels and the teacher's answers, which tell the importance.
        seed: of random weights, and of the images.

    Raises:
        SpaceError: the start is larger than the space.
    """
    supernet = from_scratch(space, seed)
    supernet.load_network(start)
    supernet.to(torch_device())
    candidate = Candidate.uncompressed(start.architecture)
    scores = importance(supernet, lessons, seed, candidate)
    supernet.sort_by_importance(scores, whose=start.architecture)
    return supernet.to("cpu")


@torch.no_grad()
def from_scratch(space: SearchSpace, seed: int) -> Supernet:
    """Shared weights to start from: every layer keeps the variance of what enters it.

    With timm's standard deviation of 0.02, made for widths of several hundred, narrow networks
    pass on almost nothing. One candidate of `digits` had learned 47% after 150 steps from that
    start, 81% from this one.
    """
    supernet = Supernet(space, seed)
    fan_in: dict[str, int] = {}
    for candidate in space.covering():
        for name, (rule, shape) in blueprint(candidate.architecture)[1].items():
            if name.endswith("weight") and len(shape) > 1:
                shared = shared_name(name, rule)
                fan_in[shared] = max(fan_in.get(shared, 0), shape[1:].numel())
    _randomize(supernet.params, fan_in, seed)
    return supernet


@torch.no_grad()
def fresh(candidate: Candidate, seed: int) -> Network:
    """A candidate's network before any training, started as a supernet is."""
    with torch.random.fork_rng(devices=[]):  # for what keeps torch's own start
        torch.default_generator.manual_seed(seed)
        network = Network(candidate.architecture)
    params = dict(network.named_parameters())
    weights = {n: p for n, p in params.items() if n.endswith("weight") and p.ndim > 1}
    _randomize(params, {n: p.shape[1:].numel() for n, p in weights.items()}, seed)
    return network.to(torch_device())


def _randomize(params: Mapping[str, Tensor], fan_in: Mapping[str, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in params.items():
        if name in fan_in:
            parameter.normal_(std=fan_in[name] ** -0.5, generator=generator)
        elif name == "pos_embed":
            parameter.normal_(std=POSITION_STD, generator=generator)


def training_steps(
    candidate: Candidate,
    network: Network,
    lessons: Lessons,
    config: TrainConfig,
    seed: int,
    steps: int,
) -> Iterator[float]:
    """Train a network on its own, with its compression in the loop (QAT), in place.

    At the end it is in eval mode; its weights are float, rounding is the export's.

    Args:
        candidate: what it is.
        network: its weights, inherited or fresh.
        lessons: images, labels and the teacher's answers.
        config: recipe; its schedule is stretched or shortened to the steps.
        seed: of the order of the images.
        steps: how long.

    Yields:
        The loss of each step.

    Raises:
        RunError: the loss or a gradient is no number.
    """
    epochs = -(-steps // lessons.steps(config.batch_size, 1))
    optimizer = Optimizer(network.named_parameters(), config, steps)
    network.train()
    params = dict(network.named_parameters()) | dict(network.named_buffers())
    layers = compressible(network, candidate)
    batches = lessons.batches(config.batch_size, epochs, seed)
    parts = Parts(f"training {candidate.key}")

    def loss(some: Lesson) -> Tensor:
        found = answer(network, params, layers, some.images, lessons.looks_inside)
        return lessons.loss(found, some)

    for step, lesson in enumerate(islice(batches, steps)):
        mean = parts.learn(lesson, loss, optimizer)
        value = check_finite(mean, f"training {candidate.key}", step)
        with finite(f"training {candidate.key}"):
            optimizer.step()
        yield value
    network.load_state_dict(network.state_dict() | optimizer.average)
    network.eval()
