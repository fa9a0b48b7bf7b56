"""Distribute: shared weights are trained in this process, or by several of a Ray cluster."""

from __future__ import annotations

from importlib import import_module

from ...spaces import SearchSpace
from ...spaces.errors import RunError
from ...spaces.supernet import Supernet
from ..config import ExecutorConfig, SupernetConfig
from .checkpoint import Checkpoint
from .loss_curves import Health
from .pace import Limit
from .supernet import train_supernet
from .teacher import Lessons


def check_workers(workers: int) -> None:
    """Check that several processes can be started.

    Raises:
        RunError: Ray Train is not installed.
    """
    if workers == 1:
        return
    try:
        import_module("ray.train")
    except ImportError as error:
        raise RunError(
            f"supernet.workers: {workers} processes need Ray Train, which is not installed: "
            'pip install "vitpareto[train]", or set supernet.workers=1'
        ) from error


def train_shared(
    space: SearchSpace,
    lessons: Lessons,
    config: SupernetConfig,
    seed: int,
    cluster: ExecutorConfig,
    checkpoint: Checkpoint,
    health: Health,
    limit: Limit | None = None,
) -> Supernet:
    """Run `train_supernet` in `config.workers` processes.

    Only a single process keeps checkpoints; a training by several starts again after a kill.

    Args:
        space: whose candidates are served.
        lessons: images, labels and the teacher's answers.
        config: recipe; `config.batch_size` images a worker and step.
        seed: of everything random.
        cluster: where several processes run, and their threads and GPUs.
        checkpoint: where the training is kept as it goes.
        health: gets the curves.
        limit: keeps the training to a time; several processes make the passes of the recipe.

    Raises:
        RunError: as `check_workers` and `train_supernet`; no cluster answers; a worker failed.
    """
    if config.workers == 1:
        return train_supernet(
            space, lessons, config, seed, checkpoint=checkpoint, health=health, limit=limit
        )
    check_workers(config.workers)
    from .ray_train import train_in_parallel

    supernet, seen = train_in_parallel(space, lessons, config, seed, cluster)
    health.restore(seen.notes())
    return supernet
