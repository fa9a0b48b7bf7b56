"""The whole job: from images and a device to a verified front, each stage kept as it ends.

A stage whose file is in the run folder is not run again; that is all there is to resuming.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Generator
from concurrent.futures import Executor
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save

from ..cost_models import CostModel, Device, calibrate
from ..cost_models.runner import machine
from ..spaces import SearchSpace
from ..spaces.errors import RunError
from ..spaces.supernet import Supernet
from .checkpoint import Checkpoint
from .config import RunConfig, load_config
from .costs import Costs
from .data import Data, load_data
from .deliver import Terms, deliver, delivered
from .distill import train_supernet
from .evaluate import Evaluation, Evaluator, accuracy, evaluate
from .executors import open_executor
from .fidelity import Halving, part
from .files import write_atomic, write_json
from .finish import extracted, train_finalist
from .health import Health
from .objectives import pareto_front, spread
from .progress import share_bar
from .proposer import Task
from .report import build_report
from .sampler import Sampler
from .scores import Scores
from .store import EvaluationLog, RunFolder
from .study import Scoring, Study, Until, window
from .teacher import Lessons, make_lessons, open_teacher, predict, train_teacher
from .verify import test_once, verify_new

VIEWS = 12  # augmented views of every train image, for which the teacher's logits are kept
FIXED = (
    "space",
    "data",
    "device",
    "teacher",
    "distill",
    "supernet",
)  # sections that a resumed run keeps
VERSIONS = ("vitpareto", "torch", "onnx", "onnxruntime", "optuna", "ray", "numpy", "scikit-learn")

log = logging.getLogger("vitpareto")


def open_run(config: RunConfig, path: Path, resume: bool) -> RunFolder:
    """Make a run folder, or continue one.

    Raises:
        RunError: there is one and `resume` is false, or it belongs to another space or data set.
    """
    space = SearchSpace.from_yaml(config.space)
    data = load_data(config.data, space.largest().architecture.input_size)
    space = space.replace(in_chans=data.in_chans, num_classes=data.num_classes)
    if not (resume and (path / "config.yaml").exists()):
        folder = RunFolder.create(path, config.to_yaml(), space.to_yaml())
        write_json(folder.environment, environment())
        return folder
    folder = RunFolder(path)
    before = load_config(folder.config)
    changed = [name for name in FIXED if getattr(before, name) != getattr(config, name)]
    if before.search.seed != config.search.seed:
        changed.append("search.seed")
    if not changed and SearchSpace.from_yaml(folder.space) != space:
        changed.append(f"the contents of {config.space}")
    if changed:
        folder.close()
        raise RunError(
            f"{path}: cannot be resumed with another {', '.join(changed)}: what it holds would "
            "not fit; name another folder with --run-dir"
        )
    write_atomic(folder.config, config.to_yaml())
    return folder


class Run:
    """A run folder with what its stages need, each loaded or made when it is first asked for.

    Args:
        folder: from `open_run`.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.config = load_config(folder.config)
        torch.set_num_threads(self.config.executor.threads or len(os.sched_getaffinity(0)))

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return SearchSpace.from_yaml(self.folder.space)

    @cached_property
    def device(self) -> Device:
        """Where the models will run."""
        return Device.load(self.config.device.name)

    @cached_property
    def data(self) -> Data:
        """The images."""
        size = self.space.largest().architecture.input_size
        return load_data(self.config.data, size, self.folder.test_seal)

    @cached_property
    def lessons(self) -> Lessons:
        """What the teacher says, trained now if it is not yet."""
        config = self.config
        if not self.folder.teacher.exists():
            with stage(self.folder, "teacher") as facts:
                teacher = train_teacher(self.data, config.teacher, config.search.seed)
                validation = self.data.split("validation")
                facts |= accuracy(predict(teacher, validation.images), validation.labels)
                logits = make_lessons(self.data, teacher, VIEWS).teacher
                weights = {f"network.{name}": v for name, v in teacher.state_dict().items()}
                write_atomic(self.folder.teacher, save(weights | {"logits": logits}))
        state = load_file(self.folder.teacher)
        logits, teacher = state.pop("logits"), None
        if config.distill.looks_inside:
            teacher = open_teacher(self.data, config.teacher).eval()
            teacher.load_state_dict({n.removeprefix("network."): v for n, v in state.items()})
        return Lessons.of(self.data, logits, config.distill, teacher)

    @cached_property
    def cost_model(self) -> CostModel:
        """The device's cost model, calibrated now if it is not yet."""
        wanted = self.config.device
        if not self.folder.cost_model.exists():
            if wanted.cost_model:
                CostModel.load(Path(wanted.cost_model)).save(self.folder.cost_model)
            else:
                label = f"calibrating {self.device.name}"
                with stage(self.folder, "calibration") as facts, share_bar(label) as bar:
                    model = calibrate(
                        self.device,
                        self.space,
                        wanted.calibrate_s,
                        self.config.search.seed,
                        out=self.folder.cost_model,
                        progress=bar,
                    )
                    facts |= model.validation
        return CostModel.load(self.folder.cost_model)

    @cached_property
    def supernet(self) -> Supernet:
        """The shared weights, trained now if they are not yet."""
        lessons, config = self.lessons, self.config
        if not self.folder.supernet.exists():
            checkpoint = Checkpoint(
                self.folder.path / "supernet.checkpoint",
                self.space.to_yaml(),
                *(repr(getattr(config, name)) for name in FIXED),
                str(config.search.seed),
            )
            with stage(self.folder, "supernet") as facts:
                health = Health()
                trained = train_supernet(
                    self.space,
                    lessons,
                    config.supernet,
                    config.search.seed,
                    checkpoint=checkpoint,
                    health=health,
                )
                facts |= health.latest() | {"alarms": health.alarms}
                write_atomic(self.folder.supernet, save(trained.state_dict()))
            checkpoint.delete()
        supernet = Supernet(self.space)
        supernet.load_state_dict(load(self.folder.supernet.read_bytes()))
        return supernet

    def study(self) -> list[Evaluation]:
        """Search to the end; the front."""
        config, search = self.config, self.config.search
        costs = Costs(self.cost_model)
        task = Task(self.space, search.resolve(), costs, search.seed, search.trials)
        _ = self.evaluators  # trained in stages of their own, before this one
        with stage(self.folder, "search") as facts, open_executor(config.executor) as executor:
            sampler = Sampler(search.sampler, task, self.folder.journal, search.storage)
            study = Study(
                task, sampler, self.scoring(executor, self.folder.evaluations), window(config)
            )
            ending = study.run(Until(search.trials, seconds=search.max_s, patience=search.patience))
            facts |= {
                "ended by": ending,
                "trials": study.told,
                "scored": len(study.scoring.log),
                "hypervolume": study.archive.volume,
            }
        return study.front()

    @cached_property
    def evaluators(self) -> dict[float, Evaluator]:
        """Share of the search split -> what scores a candidate on it; all of it comes last."""
        search, train = self.data.split("search"), self.data.split("train")
        return {
            share: Evaluator(self.supernet, part(search, share), train)
            for share in (*sorted(self.config.search.rungs), 1.0)
        }

    def scoring(self, executor: Executor, evaluations: Path) -> Scoring:
        """Scores candidates, and keeps what came of them in a file, or one a rung."""
        rungs: list[Scores] = []
        for share, evaluator in self.evaluators.items():
            stem = evaluations.stem if share == 1 else f"{evaluations.stem}-{share:g}"
            log = EvaluationLog(evaluations.with_stem(stem))
            rungs.append(Scores(partial(evaluate, evaluator), executor, log))
        return Halving(rungs, self.config.search.resolve()) if len(rungs) > 1 else rungs[0]

    def finalists(self, front: list[Evaluation]) -> list[Evaluation]:
        """Those to deliver: spread over the front of the first two objectives, ends included."""
        plane = [o for o in self.config.search.resolve() if o.traded][:2]
        return spread(pareto_front(front, plane), self.config.finish.finalists, plane[-1].name)

    def finish(self, evaluation: Evaluation) -> None:
        """Train a finalist on its own and make its artifact."""
        config, candidate = self.config, evaluation.candidate
        seed = config.search.seed
        terms = Terms(
            self.data,
            self.device,
            Costs(self.cost_model),
            config.search.resolve(),
            config.export.calibration_images,
            {"search.seed": seed, "data.seed": config.data.seed},
        )
        kept = self.folder.pareto / f".{evaluation.key}.safetensors"
        network = extracted(self.supernet, candidate, self.data)
        train_finalist(candidate, network, self.lessons, self.data, config.finish, seed, kept)
        deliver(self.folder.pareto, evaluation, network, terms)
        kept.unlink(missing_ok=True)

    def all(self) -> list[dict[str, Any]]:
        """Everything; the manifests of the delivered models.

        Raises:
            RunError: no candidate keeps the limits.
        """
        front = self.study()
        if not front:
            raise RunError(
                f"{self.folder.path}: none of {self.config.search.trials} trials kept the limits "
                f"{self.config.search.limits!r}: loosen them, or search longer"
            )
        folder = self.folder
        with stage(folder, "finishing"):
            for evaluation in self.finalists(front):
                if not delivered(folder.pareto, evaluation.key):
                    self.finish(evaluation)
        with stage(folder, "verification"):
            verify_new(folder, self.device, self.data)
            manifests = test_once(folder, self.device, self.data)
        build_report(folder)
        return manifests


@contextlib.contextmanager
def stage(folder: RunFolder, name: str) -> Generator[dict[str, Any]]:
    """Log a stage, and keep its time, the process's peak memory and whatever facts it adds."""
    log.info("%s: started", name)
    start = time.perf_counter()
    facts: dict[str, Any] = {}
    yield facts
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    facts = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak)} | facts
    folder.record_stage(name, facts)
    log.info("%s: %s", name, ", ".join(f"{key} {_short(value)}" for key, value in facts.items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def logging_to(path: Path) -> Generator[None]:
    """Send what happens to standard error and, with the time, to a file."""
    console, file = logging.StreamHandler(sys.stderr), logging.FileHandler(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [console, file]
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        file.close()


def environment() -> dict[str, Any]:
    """What the run depends on and does not choose."""
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine(),
        "versions": {name: metadata.version(name) for name in VERSIONS},
    }
