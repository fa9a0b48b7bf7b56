"""Ray Train: a supernet trained by processes of a cluster, each on its part of a batch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.base_trainer import TrainingFailedError
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from ...spaces import SearchSpace
from ...spaces.errors import RunError
from ...spaces.supernet import Supernet
from ..config import ExecutorConfig, SupernetConfig
from ..executors import open_cluster
from .loss_curves import Health
from .sandwich import Workers
from .supernet import train_supernet
from .teacher import Lessons

WEIGHTS = "supernet.safetensors"


def train_in_parallel(
    space: SearchSpace,
    lessons: Lessons,
    config: SupernetConfig,
    seed: int,
    cluster: ExecutorConfig,
) -> tuple[Supernet, Health]:
    """Run `train_supernet` in several processes, as if in one with that many times the batch.

    All draw the same candidates and add up their gradients (Ray Train sets up the process
    group), so that weights stay alike without being sent.

    Args:
        space: whose candidates are served.
        lessons: images, labels and the teacher's answers; they go to each node once.
        config: recipe; `config.workers` processes, `config.batch_size` images each and step.
        seed: of everything random.
        cluster: its address, and threads and GPUs of each process.

    Raises:
        RunError: no cluster answers, or a worker failed.
    """
    threads = max(1, cluster.threads)
    opened = open_cluster(cluster.address, config.workers * threads)
    try:
        return _train(space, lessons, config, seed, threads, cluster.gpus)
    finally:
        if opened:
            ray.shutdown()


def _train(
    space: SearchSpace,
    lessons: Lessons,
    config: SupernetConfig,
    seed: int,
    threads: int,
    gpus: float,
) -> tuple[Supernet, Health]:
    reserved = {"CPU": threads, **({"GPU": gpus} if gpus else {})}
    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            _work,
            train_loop_config={
                "space": space.to_yaml(),
                "lessons": ray.put(lessons),
                "config": config,
                "seed": seed,
                "threads": threads,
            },
            scaling_config=ScalingConfig(
                num_workers=config.workers, use_gpu=gpus > 0, resources_per_worker=reserved
            ),
            run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=0)),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            raise RunError(f"supernet: a worker failed: {error}") from error
        assert result.checkpoint is not None
        with result.checkpoint.as_directory() as directory:
            weights = load_file(Path(directory) / WEIGHTS)
    supernet, health = Supernet(space), Health()
    supernet.load_state_dict(weights)
    assert result.metrics is not None
    health.restore(result.metrics["health"])
    return supernet, health


def _work(config: dict[str, Any]) -> None:
    torch.set_num_threads(config["threads"])
    context, health = train.get_context(), Health()
    workers = Workers(context.get_world_rank(), context.get_world_size(), _add)
    trained = train_supernet(
        SearchSpace.from_text(config["space"]),
        ray.get(config["lessons"]),
        config["config"],
        config["seed"],
        workers=workers,
        health=health,
    )
    if workers.rank > 0:
        train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        tensors = {name: value.contiguous() for name, value in trained.state_dict().items()}
        save_file(tensors, Path(folder) / WEIGHTS)
        train.report({"health": health.notes()}, checkpoint=Checkpoint.from_directory(folder))


def _add(tensors: Sequence[Tensor]) -> None:
    """Sum tensors over all workers, in place and in one message."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(summed.view_as(tensor))
