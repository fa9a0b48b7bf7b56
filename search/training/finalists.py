"""Finalists: several networks trained on their own, a slice of each by whatever worker is idle."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import replace

from ...spaces.errors import FailedError, RunError
from ...spaces.networks import Network
from ..console import progress
from ..executors import LocalExecutor
from .checkpoint import State
from .finetune import Finalist, FineTuning
from .pace import Pace, resized

log = logging.getLogger("vitpareto")
LONGEST = 100  # passes, where time and not the recipe says how many
RETRAIN_LR = 0.25  # of the usual learning rate, for weights that are nearly right


def train_finalists(
    finalists: Sequence[Finalist],
    tuning: FineTuning,
    executor: Executor | None = None,
    at_once: int = 1,
    label: str = "finishing",
    pace: Pace | None = None,
) -> list[Finalist]:
    """Train networks in place; at the end they are in eval mode and have their best weights.

    The weights are float, rounding is the export's.

    Args:
        finalists: with different checkpoints; put the slowest one first.
        tuning: recipe and images.
        executor: runs the slices; this thread does by default.
        at_once: trainings under way at a time.
        label: of the progress, before the names of those under way.
        pace: keeps them to a time; without one each makes the passes of the recipe.

    Returns:
        Finalists that were trained to the end, in any order; the log names the others.

    Raises:
        FailedError: no training ended.
        RunError: a checkpoint is of another training or cannot be written.
    """
    executor = executor or LocalExecutor()
    waiting, running = deque(finalists), dict[Future[State], Finalist]()
    steps, trained, failed = dict[str, int](), list[Finalist](), list[str]()
    left = {f.key: tuning.steps for f in finalists}
    with progress(len(finalists) * tuning.steps, label) as bar:
        while waiting or running:
            if waiting and len(running) < at_once:
                finalist, future = waiting.popleft(), None
                state = tuning.checkpoint(finalist).load()
            else:
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
                finalist, state = running.pop(future), None
            try:
                state = state or (future.result() if future else tuning.start(finalist))
            except (RunError, BrokenExecutor) as error:
                failed.append(f"{finalist.candidate.key} is not delivered: {error}")
                log.warning(failed[-1])
                left[finalist.key] = 0
                continue
            if future:
                if pace and not tuning.ended(state):
                    state = _paced(finalist, state, tuning, pace, left, waiting, at_once)
                tuning.checkpoint(finalist).save(state)
            key, ended = finalist.key, tuning.ended(state)
            whole = tuning.steps_of(state)
            left[key] = 0 if ended else whole - state.step
            steps[key] = tuning.steps if ended else round(tuning.steps * state.step / whole)
            bar.update(sum(steps.values()) - bar.n)
            if ended:
                tuning.finish(finalist, state)
                tuning.fit_exits(finalist)
                trained.append(finalist)
            else:
                running[executor.submit(tuning, finalist.candidate, state)] = finalist
                names = [f.name for f in running.values() if f.name]
                bar.set_description_str(f"{label} {'; '.join(names)}".strip(), refresh=False)
    if not trained:
        raise FailedError(failed[0])
    return trained


def _paced(
    finalist: Finalist,
    state: State,
    tuning: FineTuning,
    pace: Pace,
    left: Mapping[str, int],
    waiting: Iterable[Finalist],
    at_once: int,
) -> State:
    """The state with as many steps left as there is time for."""
    key, steps = finalist.key, tuning.steps_of(state)
    pace.seen[key] = state.notes["step_s"]
    later = {f.key: left[f.key] for f in waiting}
    others = {k: n for k, n in left.items() if n and k not in later and k != key}
    factor = pace.factor({**others, key: steps - state.step}, later, at_once)
    if factor == 1:
        return state
    size = tuning.config.batch_size
    each, most = tuning.lessons.steps(size, 1), tuning.lessons.steps(size, LONGEST)
    return resized(state, factor, steps, each, most)


def retrain(finalist: Finalist, tuning: FineTuning) -> Network:
    """Train a network a little more after a step back, in place; it never gets worse.

    Args:
        finalist: the candidate after the step, with the weights from before it; its checkpoint
            is removed at the end.
        tuning: of the first training; `config.retrain_epochs` says how long.

    Raises:
        FailedError: it failed; or RunError, as `train_finalists`.
    """
    config = tuning.config
    if config.retrain_epochs:
        changes = {"epochs": config.retrain_epochs, "lr": config.lr * RETRAIN_LR, "ramp": 0.0}
        again = replace(tuning, config=config.model_copy(update=changes))
        train_finalists([finalist], again, label="training after a step back")
        finalist.kept.unlink(missing_ok=True)
    return finalist.network
