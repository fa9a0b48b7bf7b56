"""Sections of a run file that say what is searched, of what, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...spaces.errors import did_you_mean
from ...spaces.space import is_file_name
from ..pareto.by_device import check_metric, objectives_on, on_each
from ..pareto.objectives import MAXIMIZED, Objective, goal
from ..samplers import SAMPLERS
from .section import Positive, Seconds, Section, Seed, Share, share_text
from .trainings import AdaptConfig

Balance = Literal["none", "weight", "sample"]
TokenForm = Literal["fused", "dropped"]

GONE = ("memory_mb", "workers")  # keys of `data` in 0.2, when images were decoded in training
OLD_BROKEN = 0.01  # default of `data.broken` then, which their run folders hold
FEWEST_EXAMPLES = 8  # short trainings from which anything can be learned


class DataConfig(Section):
    """The images and how they are split.

    Attributes:
        name: "digits" for scikit-learn's scans, "folder" for class folders, or a data set as
            timm's `create_dataset` names it, such as "torch/cifar10" or "hfds/user/name".
        root: folder of the images, ROOT/CLASS or ROOT/{train,validation,test}/CLASS, or a CSV or
            Parquet file with the columns path, label, and perhaps split and group.
        train_split: part of timm's data set from which all splits are cut.
        test_split: part of it that is the test split; empty cuts that out, too.
        classes: file with the names of all classes, one a line, in the order of their labels; by
            default they are in natural order.
        group_level: which folder below the class holds images that stay in one split; 0 for none.
        limit: images to use at most, the same number of each class; 0 for all.
        channels: 1 for gray, 3 for color; 0 decides by the images.
        fit: of images into a square: crop, pad or squash; empty takes what loses least.
        flip: whether left and right may be swapped when training.
        broken: share of images that may be unreadable; they are named and skipped.
        search: share of all images that scores candidates, taken from those of training.
        validation: share on which finalists are compared and checked.
        test: share that is read once, at the very end.
        seed: of the split; two runs are only comparable with the same one.
        balance: what training does about classes of few images: "weight" lets each image count
            by the inverse frequency of its class, "sample" draws all classes equally often.
    """

    name: str = "digits"
    root: str = ""
    train_split: str = "train"
    test_split: str = ""
    classes: str = ""
    group_level: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=0)] = 0
    channels: Literal[0, 1, 3] = 0
    fit: Literal["", "crop", "pad", "squash"] = ""
    flip: bool = False
    broken: Annotated[float, Field(ge=0, lt=1)] = 0.05
    search: Share = 0.17
    validation: Share = 0.17
    test: Share = 0.17
    seed: Seed = 0
    balance: Balance = "none"

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, raw: Any) -> Any:
        """With a root it is a folder, as digits have none; keys of old run folders are dropped.

        A root that was forgotten must not become a search over digits.
        """
        if not isinstance(raw, Mapping):
            return raw
        if "root" in raw and not raw["root"] and "name" not in raw:
            raise ValueError("root is empty: name a folder of images, or leave it out for digits")
        given = {key: value for key, value in raw.items() if key not in GONE}
        if len(given) < len(raw) and given.get("broken") == OLD_BROKEN:
            del given["broken"]
        is_folder = given.get("root") and given.get("name", "digits") == "digits"
        return given | ({"name": "folder"} if is_folder else {})

    @field_validator("classes")
    @classmethod
    def _of_others(cls, file: str, info: ValidationInfo) -> str:
        if file and info.data.get("name") == "digits":
            raise ValueError(f"digits have an order of their own, got {file}: name images in root")
        return file

    @property
    def is_digits(self) -> bool:
        """Whether these are scikit-learn's digits, which are no files."""
        return self.name == "digits"

    @property
    def shares(self) -> dict[str, float]:
        """Shares of all splits but the train split."""
        return {"search": self.search, "validation": self.validation, "test": self.test}

    @property
    def label(self) -> str:
        """Name of the data set."""
        return Path(self.root).stem or self.name if self.name == "folder" else self.name


class DeviceConfig(Section):
    """The device that will run the models.

    Attributes:
        name: device file or preset.
        calibrate_s: wall time for measuring it.
        cost_model: a model fitted before, which makes measuring unnecessary.
    """

    name: str = "cpu-1t"
    calibrate_s: Seconds = 40.0
    cost_model: str | None = None

    @property
    def label(self) -> str:
        """Name of the device without its folder."""
        return Path(self.name).stem if is_file_name(self.name) else self.name


def _one_or_several(value: Any) -> DeviceConfig | tuple[DeviceConfig, ...]:
    """A device, or several; a list may hold their names alone, and of one it is that device."""
    if not isinstance(value, list | tuple):
        return DeviceConfig.model_validate(value)
    listed = [{"name": item} if isinstance(item, str) else item for item in value]
    devices: list[DeviceConfig] = _SEVERAL.validate_python(listed)
    if not devices:
        raise ValueError("need at least one device")
    labels = [device.label for device in devices]
    if twice := next((label for label in labels if labels.count(label) > 1), ""):
        raise ValueError(f"{twice} is there twice; devices are told apart by their names")
    return tuple(devices) if len(devices) > 1 else devices[0]


_SEVERAL = TypeAdapter(list[DeviceConfig])
Devices = Annotated[DeviceConfig | tuple[DeviceConfig, ...], BeforeValidator(_one_or_several)]


class StartConfig(Section):
    """The network that a search starts from: teacher, reference and donor of all weights.

    Attributes:
        model: a vision transformer by its name in timm, hf-hub:ORG/NAME, local-dir:FOLDER, a
            folder of Hugging Face, or torchvision:NAME; empty starts from scratch.
        checkpoint: file with its weights; empty takes those that come with the model.
        classes: file with the names of its classes, one a line, in the order of its outputs;
            empty takes them to be those of the data if there are as many.
        mean: of its pixels in [0, 1], one a channel; empty takes what comes with the model.
        std: likewise.
        search: the only choices of the space that is derived from it, such as weight_bits or
            token_keep, each layer its own; empty takes all that suit.
        adapt: how it is adapted to the images.
    """

    model: str = ""
    checkpoint: str = ""
    classes: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()
    search: tuple[str, ...] = ()
    adapt: AdaptConfig = AdaptConfig()

    @model_validator(mode="after")
    def _of_a_model(self) -> StartConfig:
        if not self.model and self != StartConfig.model_construct():
            raise ValueError("which network? Name it in start.model")
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"start.mean and start.std need as many numbers, got {len(self.mean)} and "
                f"{len(self.std)}"
            )
        return self


class ForecastConfig(Section):
    """Short trainings, from which the accuracies of all candidates are predicted.

    From scratch their recipe is that of `proxy`, beside a start that of `finish`, with a schedule
    of its own length.

    Attributes:
        candidates: number that is trained, 60 by default and 20 beside a start, where assembled
            weights already say which is better; 0 takes the accuracies of inherited or assembled
            weights as they are.
        steps: of each; fewer favor candidates that learn fast.
    """

    candidates: Annotated[int, Field(ge=0)] = 60
    steps: Positive = 240

    @field_validator("candidates")
    @classmethod
    def _enough(cls, candidates: int) -> int:
        if 0 < candidates < FEWEST_EXAMPLES:
            raise ValueError(f"need 0 or at least {FEWEST_EXAMPLES}, got {candidates}")
        return candidates


class SearchConfig(Section):
    """The search: sampler, objectives, limits and length.

    Attributes:
        sampler: name in `SAMPLERS` of the one that proposes candidates.
        trials: proposals, those outside the limits included.
        objectives: metrics to trade against each other.
        limits: metric -> limit of a candidate, the least accuracy or the highest cost. A run for
            several devices says latency_ms@cpu-1t of one, and latency_ms of each of them.
        seed: of everything random in the run but the split.
        max_s: seconds after which a search stops, resumed or not; 0 never does.
        patience: trials without growth of the hypervolume after which it stops; 0 never does.
        rungs: shares of the search images that candidates are scored on before all; at each the
            best third goes on. Not beside a forecast without a start, which looks at no images.
        storage: shared by several drivers with one study of this space: URL of a database as
            SQLAlchemy writes it, or grpc://HOST:PORT of Optuna's proxy.
    """

    sampler: str = "surrogate"
    trials: Positive = 200
    max_s: Annotated[float, Field(ge=0)] = 0.0
    patience: Annotated[int, Field(ge=0)] = 0
    rungs: tuple[Share, ...] = ()
    storage: str = ""
    objectives: tuple[str, ...] = ("accuracy", "latency_ms", "size_mb")
    limits: dict[str, float] = Field(default_factory=dict[str, float])
    seed: Seed = 0

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in SAMPLERS:
            raise ValueError(f"no such sampler {name!r}. {did_you_mean(name, SAMPLERS)}")
        return name

    @field_validator("objectives", "limits")
    @classmethod
    def _known(cls, names: Any) -> Any:
        if not names and isinstance(names, tuple):
            raise ValueError("need at least one objective")
        for name in names:
            check_metric(name)
        if len(set(names)) != len(names):
            raise ValueError(f"an objective is given twice: {', '.join(names)}")
        if isinstance(names, Mapping):
            for name, limit in names.items():
                if not limit > 0:
                    raise ValueError(f"limit of {name} must be above 0, got {limit!r}")
                if name in MAXIMIZED and limit > 1:
                    raise ValueError(f"limit of {name} {share_text(limit)}")
        return names

    def resolve(self) -> list[Objective]:
        """The objectives, then the metrics that only have a limit."""
        names = dict.fromkeys((*self.objectives, *self.limits))
        return [Objective(n, self.limits.get(n), n in self.objectives) for n in names]

    def named(self, devices: Sequence[str]) -> SearchConfig:
        """The same with every cost named as the run for these devices has it.

        Raises:
            ValueError: one is on another device.
        """
        objectives = tuple(on_each(self.objectives, devices))
        limits = {name: self.limits[given] for name, given in on_each(self.limits, devices).items()}
        return self._with(objectives, limits)

    def on(self, device: str) -> SearchConfig:
        """What it says of one of several devices, by plain names."""
        seen = objectives_on(self.resolve(), device)
        limits = {o.name: o.limit for o in seen if o.limit is not None}
        return self._with(tuple(o.name for o in seen if o.traded), limits)

    def _with(self, objectives: tuple[str, ...], limits: dict[str, float]) -> SearchConfig:
        if (objectives, limits) == (self.objectives, self.limits):
            return self
        return self.model_copy(update={"objectives": objectives, "limits": limits})

    @property
    def goal(self) -> str:
        """Name of the accuracy that the run maximizes."""
        return goal(self.resolve())


class ExecutorConfig(Section):
    """Processes that compute.

    Attributes:
        kind: "local" trains and scores on this machine, "ray" on a Ray cluster.
        workers: processes or Ray actors; a single local one is this process itself.
        threads: of torch in this process and in each worker, whatever OMP_NUM_THREADS is; 0 is
            every core that may be used in this process, and one in a worker.
        address: of a running Ray cluster; empty starts one here.
        gpus: that Ray reserves for each actor.
    """

    kind: Literal["local", "ray"] = "local"
    workers: Positive = 1
    threads: Annotated[int, Field(ge=0)] = 0
    address: str = ""
    gpus: Annotated[float, Field(ge=0)] = 0.0


class ExportConfig(Section):
    """Calibration of the delivered models.

    Attributes:
        calibration_images: train images from which activation ranges are taken; from fewer than
            8 the ranges are too narrow for most images.
        max_drop: stage -> by how much accuracy may fall in it: in "rounding" below what training
            reached, in "correction" of norms and biases, and in a "step_back" with its training,
            below the artifact from before, which is restored otherwise.
        distill_token: form of networks whose space has `global_pool: distill`: "fused" answers with
            the mean of both heads, "dropped" does without the token and its head, which costs
            less, and is trained for `finish.retrain_epochs` more. Manifests tell the accuracy of
            both as they were trained together.
    """

    calibration_images: Annotated[int, Field(ge=8)] = 64
    max_drop: dict[
        Literal["rounding", "correction", "step_back"], Annotated[float, Field(ge=0, le=1)]
    ] = Field(default_factory=dict)
    distill_token: TokenForm = "fused"
