"""Ingredients: what candidates are made and judged from; `ensure_...` makes what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import copy
from functools import cached_property, partial, wraps
from typing import Any, Self, TypeVar

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from ...cost_models import CostModel, Device, calibrate
from ...cost_models.tables.latency_table import different
from ...spaces import Candidate, SearchSpace
from ...spaces.errors import RunError, VitParetoError
from ...spaces.networks import Network
from ...spaces.supernet import Supernet
from ..config import RunConfig, load_config
from ..console import share_bar
from ..data.dataset import Data
from ..data.loading import load_data, record_images
from ..data.splits import SPLITS
from ..executors import open_executor
from ..library.making import make_library
from ..library.parts import Library
from ..library.repair import assemble
from ..library.start import Start
from ..pareto.by_device import at
from ..pareto.objectives import Price
from ..scoring.predicted_costs import CostPredictor, TogetherPredictor
from ..start.adapt import Adaptation
from ..start.fitted import Start as Foreign
from ..start.fitted import (
    check_start,
    fit,
    load_network,
    norm_for,
    open_start,
    save_network,
    teacher_of,
    typical_images,
)
from ..start.patches import patch_sizes
from ..store.atomic_files import read_json, write_atomic
from ..store.run_folder import RunFolder
from ..training.accuracy import accuracy
from ..training.checkpoint import Checkpoint
from ..training.distribute import train_shared
from ..training.finetune import CALIBRATION
from ..training.loss_curves import Health
from ..training.optimizer import finite
from ..training.pace import Limit
from ..training.ready_teacher import check_teacher
from ..training.supernet import fresh, shared_from
from ..training.teacher import Lessons, logits_on, make_lessons, open_teacher, train_teacher
from .devices import given_model, load_device
from .opening import require_energy
from .progress import stopped_s
from .rates import Rates, measure_rates, views_of
from .stage import Stage
from .stages import running
from .targeting import recorded

TRAINED_FROM = ("space", "data", "teacher", "distill", "supernet")  # sections behind a supernet

T = TypeVar("T")
R = TypeVar("R", bound="Ingredients")

log = logging.getLogger("vitpareto")


def once(ensure: Callable[[R], T]) -> Callable[[R], T]:
    """Cache the result of a method of a run while the run is open."""

    @wraps(ensure)
    def remembered(run: R) -> T:
        made = run.made
        if ensure.__name__ not in made:
            made[ensure.__name__] = ensure(run)
        return made[ensure.__name__]

    return remembered


class Ingredients:
    """A run folder and all that comes before the first candidate, each made in a stage of its own.

    Seen on one of several devices, from `on` or made with the folder `of` that device, it is like a
    run for it alone.

    Attributes:
        begun: when it was opened, by `time.monotonic`.
        before_s: seconds of the stages that had ended by then, and of the one that was stopped.
        limit: of the stage that is to begin; none where nothing but its lengths says how long it
            takes.
        made: what this process has loaded or made so far, by the name of the method.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.config = load_config(folder.config).on(folder.device)
        self.made: dict[str, Any] = {}
        self.begun = time.monotonic()
        self.limit: Limit | None = None
        kept = read_json(folder.stages) if folder.stages.exists() else {}
        ended = sum(facts.get("seconds", 0.0) for facts in kept.values())
        self.before_s: float = ended + sum(stopped_s(folder).values())

    @cached_property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return SearchSpace.from_yaml(self.folder.space)

    def on(self, device: str) -> Self:
        """The run as if it were for one of its devices alone; what either makes serves both."""
        if not device:
            return self
        other = copy(self)
        other.folder, other.config = self.folder.of(device), self.config.on(device)
        other.__dict__.pop("device", None)
        return other

    @property
    def sides(self) -> dict[str, Self]:
        """The run on each of its devices, by name; of one device it is the run itself, by ""."""
        return {name: self.on(name) for name in self.config.by_device}

    @cached_property
    def device(self) -> Device:
        """Device that will run the models; of several the first."""
        return load_device(self.config.devices[0], self.folder.cost_model)

    @property
    def data(self) -> Data:
        """The images; a new run reads them now."""
        return self.ensure_data()

    @property
    def calibration(self) -> Tensor:
        """Train images by which matrices of low rank are cut."""
        return self.data.split("train").some(CALIBRATION).images

    @once
    def ensure_data(self) -> Data:
        """The images, read into the folder now if they were not yet."""
        config, folder = self.config.data, self.folder
        size = self.space.largest().architecture.input_size
        if folder.is_open and not folder.catalog.exists() and not folder.teacher.exists():
            try:
                with running(folder, Stage.DATA) as facts:
                    start = open_start(self.config.start) if self.config.start.model else None
                    norm = norm_for(start, self.space)
                    catalog = record_images(config, size, folder, norm)
                    facts |= {split: len(catalog.rows_of(split)) for split in SPLITS}
                    self._check_ready(load_data(config, size, None, folder), start)
            except VitParetoError:
                if not folder.begun:
                    folder.discard()  # another start would end here, too
                raise
            if self.space.description:
                log.info("space: %s", self.space.description)
            if line := recorded(folder):
                log.info("%s", line)
            for line in (*catalog.decided, *catalog.warnings):
                log.info("data: %s", line)
        return load_data(config, size, folder.test_seal, folder)

    def change(self, config: RunConfig) -> None:
        """Go on with another configuration, which is kept."""
        write_atomic(self.folder.config, config.to_yaml())
        self.config = config

    def _keep_passes(self, key: str) -> None:
        """Keep the passes that a training has made, if the time and not they ended it."""
        if self.limit and self.limit.made:
            self.change(self.config.with_values({key: max(1, round(self.limit.made))}))

    def ensure_rates(self) -> Rates:
        """Durations of steps on this machine, timed now if they were not yet."""
        kept, data = self.folder.rates, self.data
        if not kept.exists():
            stages = read_json(self.folder.stages) if self.folder.begun else {}
            reading_s = stages.get(Stage.DATA, {}).get("seconds", 0.0)
            log.info("timing some steps of every stage")
            with torch.random.fork_rng(devices=[]):
                measure_rates(self.config, self.space, data, reading_s).save(kept)
        return Rates.load(kept, self.config)

    def _check_ready(self, data: Data, start: Foreign | None) -> None:
        """Look at a ready start and a ready teacher before anything rests on them."""
        if start and (found := check_start(start, self.config.start, self.space, data)):
            log.info("start: %s %s", start.name, found)
        if name := self.config.teacher.model:
            log.info(
                "teacher: %s %s", name, check_teacher(open_teacher(data, self.config.teacher), data)
            )

    def ensure_cost_model(self) -> CostModel:
        """Cost model of the device; of several that of the first."""
        return next(iter(self.ensure_cost_models().values()))

    def ensure_cost_models(self) -> dict[str, CostModel]:
        """Cost models of the devices by name: kept ones, given ones, or calibrated now."""
        sides = self.sides
        for side in sides.values():
            given = given_model(side.config.devices[0])
            if given and not side.folder.cost_model.exists():
                CostModel.load(given).save(side.folder.cost_model)
        waiting = [side for side in sides.values() if not side.folder.cost_model.exists()]
        if waiting:
            with running(self.folder, Stage.CALIBRATION) as facts:
                for side in waiting:
                    side.calibrate()
                for name, side in sides.items():
                    figures = CostModel.load(side.folder.cost_model).validation
                    facts |= {at(figure, name): value for figure, value in figures.items()}
        return {name: side.load_cost_model() for name, side in sides.items()}

    def calibrate(self) -> None:
        """Measure the device, and keep its cost model."""
        budget_s, seed = self.config.devices[0].calibrate_s, self.config.search.seed
        with share_bar(f"calibrating {self.device.name}") as bar:
            kept = self.folder.cost_model
            calibrate(self.device, self.space, budget_s, seed, out=kept, progress=bar)

    def load_cost_model(self) -> CostModel:
        """The cost model of the device, which is there."""
        kept = self.folder.cost_model
        if (model := self.made.get(str(kept))) is not None:
            return model
        model = self.made[str(kept)] = CostModel.load(kept)
        require_energy(self.config, model)
        if model.identity != self.device.identity():
            log.warning(
                "%s is not this machine (%s): models are predicted for it, until a kit has "
                "measured them there: vitpareto export %s --kit DIR%s",
                self.config.devices[0].label,
                different(self.device.identity(), model.identity, "here", "there"),
                self.folder.path,
                self.folder.device and f" --device {self.folder.device}",
            )
        return model

    @property
    def is_here(self) -> bool:
        """Whether this machine is the device that was calibrated, for which models are made."""
        return self.device.identity() == self.ensure_cost_model().identity

    @property
    def costs(self) -> CostPredictor:
        """Predicted and exact costs of candidates on the device."""
        return CostPredictor(self.ensure_cost_model())

    @property
    def price(self) -> Price:
        """Function that gives the costs of candidates on all devices."""
        by_device = {n: CostPredictor(model) for n, model in self.ensure_cost_models().items()}
        return TogetherPredictor(by_device).all

    @once
    def ensure_start(self) -> Network | None:
        """The network that the run starts from, adapted now if it was not yet.

        None where the configuration names none.

        Raises:
            RunError: the run was made before there were starts; or as `open_start` and `fit`.
        """
        config, folder, seed = self.config, self.folder, self.config.search.seed
        if not config.start.model:
            return None
        if not folder.start.exists():
            if folder.supernet.exists():
                raise RunError(
                    f"{folder.path}: its weights were made by a release without `start`, and "
                    "others would not fit them: name another folder with --run-dir"
                )
            checkpoint = Checkpoint(folder.start_checkpoint, *self._about_start())
            adapt = Adaptation(
                self.data,
                config.start.adapt,
                seed,
                config.search.goal,
                config.data.balance,
                patch_sizes(self.space),
            )
            with running(folder, Stage.START) as facts:
                network, knows = fit(open_start(config.start), config.start, self.space, self.data)
                facts |= adapt(network, checkpoint, knows)
                save_network(folder.start, network)
            checkpoint.delete()
        return load_network(folder.start)

    def _about_start(self) -> tuple[str, ...]:
        """What a start depends on, and answers to the images of the run."""
        config = self.config
        values = repr(config.data), repr(config.start), str(config.search.seed)
        return (self.space.to_yaml(), *values)

    @once
    def ensure_lessons(self) -> Lessons:
        """Answers of the teacher on the train images; it is trained now if it was not yet."""
        config, balance = self.config, self.config.data.balance
        if not self.folder.teacher.exists():
            start = None if config.teacher.model else self.ensure_start()
            # One that is trained now is trained again by a run that was stopped, and may differ.
            is_ready = bool(start or config.teacher.model)
            kept = Checkpoint(self.folder.teacher_checkpoint, *self._about_start())
            with running(self.folder, Stage.TEACHER) as facts:
                teacher = (
                    teacher_of(start)
                    if start
                    else train_teacher(
                        self.data, config.teacher, config.search.seed, balance, self.limit
                    )
                )
                validation = self.data.split("validation")
                views = views_of(config, len(self.data.train_labels))
                with finite("teacher"):
                    facts |= accuracy(logits_on(teacher, validation), validation.labels)
                answers = make_lessons(self.data, teacher, views, kept if is_ready else None)
                weights = {f"network.{name}": v for name, v in teacher.state_dict().items()}
                write_atomic(self.folder.teacher, save(weights | {"logits": answers.teacher}))
            kept.delete()
            self._keep_passes("teacher.epochs")
        state = load_file(self.folder.teacher)
        logits, teacher = state.pop("logits"), None
        if config.distill.looks_inside:
            start = None if config.teacher.model else self.ensure_start()
            teacher = teacher_of(start) if start else open_teacher(self.data, config.teacher).eval()
            teacher.load_state_dict({n.removeprefix("network."): v for n, v in state.items()})
        return Lessons.of(self.data, logits, config.distill, teacher, balance)

    @once
    def ensure_library(self) -> Library | None:
        """Parts that imitate those of the start, made now if they were not yet.

        None where the run has no start.
        """
        network, config = self.ensure_start(), self.config
        if network is None:
            return None
        start = Start.of(network, typical_images(self.data, network.architecture))
        with running(self.folder, Stage.LIBRARY) as facts, open_executor(config.executor) as pool:
            library = make_library(start, self.space, pool, self.folder.library)
            facts |= {"options": len(library.options), "dropped": library.dropped}
        return library

    @property
    def inherited(self) -> Callable[[Candidate], Network]:
        """Makes a candidate's network before its training: assembled from the library, or a slice.

        Without shared weights it is a new one. It travels to workers, and raises SpaceError for no
        candidate of the space.
        """
        if library := self.ensure_library():
            return partial(assemble, library, recipes=self.ensure_cost_model().recipes)
        if not self.config.has_supernet:
            return partial(fresh, seed=self.config.search.seed)
        return self.ensure_supernet().extract

    @once
    def ensure_supernet(self) -> Supernet:
        """Shared weights, trained now if they were not yet; or those of the start, sorted.

        Raises:
            RunError: the run does without.
        """
        lessons, config, folder = self.ensure_lessons(), self.config, self.folder
        if not (config.has_supernet or config.start.model):
            raise RunError(f"{folder.path}: has no shared weights, as supernet.epochs is 0")
        if not folder.supernet.exists() and (start := self.ensure_start()):
            with running(folder, Stage.SUPERNET):
                cut = shared_from(start, self.space, lessons, config.search.seed)
                write_atomic(folder.supernet, save(cut.state_dict()))
        if not folder.supernet.exists():
            checkpoint = Checkpoint(
                folder.supernet_checkpoint,
                self.space.to_yaml(),
                *(repr(getattr(config, name)) for name in TRAINED_FROM),
                str(config.search.seed),
            )
            with running(folder, Stage.SUPERNET) as facts:
                health = Health()
                trained = train_shared(
                    self.space,
                    lessons,
                    config.supernet,
                    config.search.seed,
                    config.executor,
                    checkpoint,
                    health,
                    self.limit,
                )
                facts |= health.latest() | {"alarms": health.alarms}
                write_atomic(folder.supernet, save(trained.state_dict()))
            self._keep_passes("supernet.epochs")
            checkpoint.delete()
        supernet = Supernet(self.space)
        supernet.load_state_dict(load(folder.supernet.read_bytes()))
        return supernet
