"""RunConfig: the YAML file of a run, checked key by key before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..spaces.errors import ConfigError, did_you_mean
from ..spaces.safe_yaml import dump_yaml, line_of, parse_as_typed, parse_yaml, read_text
from ..spaces.space import find_file, is_file_name
from .durations import duration_text, parse_duration
from .pareto.objectives import MAXIMIZED, METRICS, Objective, goal
from .samplers import SAMPLERS
from .yaml_paths import check_comments, make_absolute

PRESETS = Path(__file__).parents[1] / "configs" / "runs"

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

Balance = Literal["none", "weight", "sample"]

GONE = ("memory_mb", "workers")  # keys of `data` in 0.2, when images were decoded in training
GONE_START = "pretrained"  # key of `supernet` in 0.2
OLD_BROKEN = 0.01  # default of `data.broken` then, which their run folders hold
BUDGET = "25min"  # of a job whose lengths nobody gave
NO_BUDGET = "none"
LENGTHS = frozenset(
    {
        *(f"{name}.epochs" for name in ("start.adapt", "teacher", "supernet", "finish")),
        *(f"forecast.{name}" for name in ("candidates", "steps")),
    }
)  # of trainings
CUT_EXAMPLES = 20  # short trainings beside a start where nothing else is asked for
FEWEST_EXAMPLES = 8  # short trainings from which anything can be learned


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
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
    seed: int = 0
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


class DeviceConfig(_Section):
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


class TrainConfig(_Section):
    """One training: passes over the train split, images a step, AdamW and a cosine schedule.

    Attributes:
        ema: decay of the average of the weights over the steps, which is kept; 0 keeps the last
            weights.
    """

    epochs: Positive = 30
    batch_size: Positive = 64
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TeacherConfig(TrainConfig):
    """The teacher: trained here on labels alone, or one of timm's as it is.

    Attributes:
        model: timm's name of a model; empty trains a small one here.
        checkpoint: file with its weights; empty takes timm's pretrained ones.
        img_size: pixels of the images that it sees; 0 takes timm's.
    """

    model: str = ""
    checkpoint: str = ""
    img_size: Annotated[int, Field(ge=0)] = 0

    @field_validator("checkpoint", "img_size")
    @classmethod
    def _of_a_model(cls, value: str | int, info: ValidationInfo) -> str | int:
        if value and not info.data.get("model"):
            what = "weights" if info.field_name == "checkpoint" else "pixels"
            raise ValueError(f"{what} of which model? Name it in teacher.model")
        return value


class AdaptConfig(TrainConfig):
    """Adaptation of a start to the images: a linear probe, then fine-tuning of all of it.

    Attributes:
        epochs: passes of fine-tuning; 0 takes the start as it is, which then knows the classes.
        layer_decay: factor of the learning rate from each block to the one below it.
        probe_epochs: passes over the frozen features that fit the head; 0 for none.
        mixup: parameter of the Beta distribution by which images are blended; 0 for none.
        label_smoothing: share of each label that goes to all classes. It makes a teacher say less
            about which classes are alike (Mueller et al., arXiv:1906.02629).
    """

    epochs: Annotated[int, Field(ge=0)] = 10
    lr: Annotated[float, Field(gt=0)] = 5e-4
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    probe_epochs: Annotated[int, Field(ge=0)] = 100
    mixup: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class StartConfig(_Section):
    """The network that a search starts from: teacher, reference and donor of all weights.

    Attributes:
        model: a vision transformer by its name in timm, hf-hub:ORG/NAME, local-dir:FOLDER, a
            folder of Hugging Face, or torchvision:NAME; empty starts from scratch.
        checkpoint: file with its weights; empty takes those that come with the model.
        classes: file with the names of its classes, one a line, in the order of its outputs;
            empty takes them to be those of the data if there are as many.
        mean: of its pixels in [0, 1], one a channel; empty takes what comes with the model.
        std: likewise.
        adapt: how it is adapted to the images.
    """

    model: str = ""
    checkpoint: str = ""
    classes: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()
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


class DistillConfig(_Section):
    """Losses of students on the answers of the teacher, beside that on labels.

    Attributes:
        loss: "soft" its probabilities, "hard" its decision, "token" its decision on a head of
            its own (with global_pool: distill).
        features: weight of the loss on which images it finds alike.
        attention: weight of the loss on where it looks.
    """

    loss: Literal["soft", "hard", "token"] = "soft"
    features: Annotated[float, Field(ge=0)] = 0.0
    attention: Annotated[float, Field(ge=0)] = 0.0

    @property
    def looks_inside(self) -> bool:
        """Whether more than the teacher's logits is needed."""
        return self.features > 0 or self.attention > 0


class SupernetConfig(TrainConfig):
    """Training of the shared weights; those of a start are not trained.

    Attributes:
        epochs: passes; 0 for no shared weights, so that finalists start anew and only a forecast
            can score.
        sampling: "sandwich" trains the largest candidate, and the smallest and random ones on its
            answers; "uniform" trains random ones as if alone.
        random: random candidates a step.
        project_conflicts: take out of the largest network's gradient the part that works against
            the gradients of the others.
        alone: share of the steps in which only the largest candidate is trained, before all are.
        curriculum: share of the other steps over which the axes of the space open one by one.
        workers: processes of a Ray cluster that share the training, each with `batch_size` images
            a step; several need the extra "train".
    """

    epochs: Annotated[int, Field(ge=0)] = 40
    lr: Annotated[float, Field(gt=0)] = 1e-3
    sampling: Literal["sandwich", "uniform"] = "sandwich"
    random: Positive = 2
    project_conflicts: bool = False
    alone: Annotated[float, Field(ge=0, lt=1)] = 0.0
    curriculum: Annotated[float, Field(ge=0, le=1)] = 0.0
    workers: Positive = 1


class ProxyConfig(TrainConfig):
    """Training of single candidates from scratch, against which scores are checked.

    Attributes:
        seeds: number of seeds with which some candidates are trained, to measure chance.
        repeat_every: one in this many candidates is trained with all seeds.
        short_steps: lengths of the short trainings that are checked as scores, too.
    """

    epochs: Positive = 15
    batch_size: Positive = 32
    seeds: Positive = 3
    repeat_every: Positive = 4
    short_steps: tuple[Positive, ...] = (40, 80)


class ForecastConfig(_Section):
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


class SearchConfig(_Section):
    """The search: sampler, objectives, limits and length.

    Attributes:
        sampler: name in `SAMPLERS` of the one that proposes candidates.
        trials: proposals, those outside the limits included.
        objectives: metrics to trade against each other.
        limits: metric -> limit of a candidate, the least accuracy or the highest cost.
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
    limits: dict[str, float] = {}
    seed: int = 0

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
            if name not in METRICS:
                raise ValueError(f"no such metric {name!r}. {did_you_mean(name, METRICS)}")
        if len(set(names)) != len(names):
            raise ValueError(f"an objective is given twice: {', '.join(names)}")
        if isinstance(names, Mapping):
            for name, limit in names.items():
                if not limit > 0:
                    raise ValueError(f"limit of {name} must be above 0, got {limit!r}")
                if name in MAXIMIZED and limit > 1:
                    raise ValueError(f"limit of {name} {_as_share(limit)}")
        return names

    def resolve(self) -> list[Objective]:
        """The objectives, then the metrics that only have a limit."""
        names = dict.fromkeys((*self.objectives, *self.limits))
        return [Objective(n, self.limits.get(n), n in self.objectives) for n in names]

    @property
    def goal(self) -> str:
        """Name of the accuracy that the run maximizes."""
        return goal(self.resolve())


class ExecutorConfig(_Section):
    """Processes that compute.

    Attributes:
        kind: "local" trains and scores on this machine, "ray" on a Ray cluster.
        workers: processes or Ray actors; a single local one is this process itself.
        threads: of torch in this process and in each worker; 0 is every core in this process,
            and one in a worker.
        address: of a running Ray cluster; empty starts one here.
        gpus: that Ray reserves for each actor.
    """

    kind: Literal["local", "ray"] = "local"
    workers: Positive = 1
    threads: Annotated[int, Field(ge=0)] = 0
    address: str = ""
    gpus: Annotated[float, Field(ge=0)] = 0.0


class FinishConfig(TrainConfig):
    """Fine-tuning of the models that will be delivered.

    Attributes:
        finalists: models taken from the front.
        inherit: whether they start with weights of the supernet. New ones do better where a long
            training follows: digits reached 98.6 and 99.0% in 80 passes, inherited 98.2 and 98.7%.
        ramp: share of the steps over which bits go down and zeros come in; 0 trains the model as
            it will be from the start.
        retrain_epochs: passes after each step back of a model that did not hold; 0 for none.
        layers: weight of the loss on how far what each block leaves is from what the start's has
            there, only beside a start; 0 for none. On answers the losses have 1 together, and
            CoFi gives layers 1 to 9 times their weight (Xia et al., arXiv:2204.00408). The start
            runs in each step, which takes 1.6 times as long: 93 steps on digits with a weight of
            1 reached 76.3%, and in the same time 150 without it 79.0%.
    """

    epochs: Positive = 10
    lr: Annotated[float, Field(gt=0)] = 3e-4
    finalists: Positive = 4
    inherit: bool = True
    ramp: Annotated[float, Field(ge=0, lt=1)] = 0.5
    retrain_epochs: Annotated[int, Field(ge=0)] = 4
    layers: Annotated[float, Field(ge=0)] = 0.0


class ExportConfig(_Section):
    """Calibration of the delivered models.

    Attributes:
        calibration_images: train images from which activation ranges are taken; from fewer than
            8 the ranges are too narrow for most images.
    """

    calibration_images: Annotated[int, Field(ge=8)] = 64


class RunConfig(_Section):
    """Everything a run needs to know.

    Attributes:
        space: file or preset, preset@pixels for images of another size, or "auto" for the space
            that is derived from the start.
        budget: wall time of the whole job, such as 15min, from which every length follows that
            is not given; "none" keeps the lengths as they are. Where no training has a length,
            images other than digits have one of `BUDGET`.
    """

    space: str
    budget: str = ""
    data: DataConfig = DataConfig()
    device: DeviceConfig = DeviceConfig()
    start: StartConfig = StartConfig()
    teacher: TeacherConfig = TeacherConfig()
    distill: DistillConfig = DistillConfig()
    supernet: SupernetConfig = SupernetConfig()
    proxy: ProxyConfig = ProxyConfig()
    forecast: ForecastConfig = ForecastConfig()
    search: SearchConfig = SearchConfig()
    executor: ExecutorConfig = ExecutorConfig()
    finish: FinishConfig = FinishConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, raw: Any) -> Any:
        """`supernet.pretrained` of files and run folders before 0.3 is `start.model` now."""
        supernet = raw.get("supernet") if isinstance(raw, Mapping) else None
        if not isinstance(supernet, Mapping) or GONE_START not in supernet:
            return raw
        left = {key: value for key, value in supernet.items() if key != GONE_START}
        start = {"start": {"model": supernet[GONE_START]}} if supernet[GONE_START] else {}
        return start | {**raw, "supernet": left}

    @field_validator("budget")
    @classmethod
    def _duration(cls, text: str) -> str:
        return text if text in ("", NO_BUDGET) else duration_text(parse_duration(text))

    @field_validator("search")
    @classmethod
    def _check_rungs(cls, value: SearchConfig, info: ValidationInfo) -> SearchConfig:
        forecast, start = info.data.get("forecast"), info.data.get("start")
        if value.rungs and forecast and forecast.candidates and start and not start.model:
            raise ValueError(
                "rungs are shares of images, at which a forecast does not look: set "
                "forecast.candidates=0"
            )
        return value

    @model_validator(mode="after")
    def _colors_of_ready_models(self) -> RunConfig:
        """Images are shown in color to a ready model, which has learned from colors."""
        ready = self.teacher.model or self.start.model
        if ready and not self.data.channels and not self.data.is_digits:
            colored = self.data.model_copy(update={"channels": 3})
            object.__setattr__(self, "data", colored)  # the section is frozen for all others
        return self

    @model_validator(mode="after")
    def _examples_beside_a_start(self) -> RunConfig:
        """A forecast beside a start has enough with fewer examples, unless they are given."""
        if self.start.model and self.open_keys(["forecast.candidates"]):
            values = self.forecast.model_dump() | {"candidates": CUT_EXAMPLES}
            fewer = ForecastConfig.model_construct(self.forecast.model_fields_set, **values)
            object.__setattr__(self, "forecast", fewer)
        return self

    @model_validator(mode="after")
    def _nothing_to_inherit(self) -> RunConfig:
        """Without shared weights, finalists start anew and a forecast scores."""
        if self.has_supernet or self.start.model:
            return self
        if not self.forecast.candidates:
            raise ValueError(
                "nothing could score: supernet.epochs and forecast.candidates are both 0"
            )
        if self.finish.inherit and not self.open_keys(["finish.inherit"]):
            raise ValueError(
                "finish.inherit: there is nothing to inherit where supernet.epochs is 0: give it "
                "passes, or set finish.inherit=false"
            )
        if self.finish.inherit:
            rate = {"lr": self.proxy.lr} if self.open_keys(["finish.lr"]) else {}
            anew = self.finish.model_copy(update={"inherit": False} | rate)
            object.__setattr__(self, "finish", anew)  # the section is frozen for all others
        return self

    @model_validator(mode="after")
    def _layers_of_a_start(self) -> RunConfig:
        """Only a network that others are cut from has the same layers as they."""
        if self.finish.layers and not self.start.model:
            raise ValueError(
                "finish.layers: there are no layers to learn from without a start: name one in "
                "start.model, or set finish.layers=0"
            )
        return self

    @model_validator(mode="after")
    def _length_of_the_job(self) -> RunConfig:
        """A job on images of one's own ends in time, unless something says how long it takes."""
        if not self.budget:
            lengths = self.data.is_digits or LENGTHS - set(self.open_keys(LENGTHS))
            object.__setattr__(self, "budget", NO_BUDGET if lengths else BUDGET)
        return self

    @property
    def budget_s(self) -> float:
        """Wall time of the whole job; 0 where it may take any."""
        return 0.0 if self.budget == NO_BUDGET else parse_duration(self.budget)

    def open_keys(self, keys: Iterable[str]) -> list[str]:
        """Those of some keys that were not given."""
        return [key for key in keys if not self._is_given(key)]

    def _is_given(self, key: str) -> bool:
        section: Any = self
        for name in key.split("."):
            if name not in section.model_fields_set:
                return False
            section = getattr(section, name)
        return True

    def value_of(self, key: str) -> Any:
        """The value of a key."""
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def with_values(self, values: Mapping[str, Any]) -> RunConfig:
        """The same with other values, by key.

        Raises:
            ConfigError: they contradict each other.
        """
        raw: dict[str, Any] = self.model_dump(exclude_unset=True)
        for key, value in values.items():
            *sections, name = key.split(".")
            section = raw
            for part in sections:
                section = section.setdefault(part, {})
            section[name] = value
        try:
            return RunConfig.model_validate(raw | {"budget": self.budget})
        except ValidationError as error:
            raise ConfigError(_one_line(error)) from None

    @property
    def has_supernet(self) -> bool:
        """Whether shared weights are trained; those of a start are its own."""
        return not self.start.model and self.supernet.epochs > 0

    def to_yaml(self) -> str:
        """Every key with its value, defaults included."""
        return dump_yaml(self.model_dump(mode="json"))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file, or a preset by its name.

    What the schema takes as text stays as it was typed, be it 01 or no. Relative paths of a file
    start at its folder, those of presets and of overrides at the current one; all are absolute in
    the result.

    Args:
        path: file or preset.
        overrides: "section.key=value", the value in YAML; of a text, as it is.

    Raises:
        ConfigError: names file, line and key or the override, the rule, and what was given.
    """
    file = find_file(path, PRESETS, "run")
    text, source = read_text(file), str(file)
    folder = Path.cwd() if file.parent.resolve() == PRESETS.resolve() else file.parent
    raw = _as_meant(parse_yaml(text, source), parse_as_typed(text, source), RunConfig)
    check_comments(raw, text, source, folder)
    make_absolute(raw, folder)
    overridden = {_set(raw, override): f"--set {override}" for override in overrides}
    make_absolute(raw, Path.cwd())
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        keys = [str(part) for part in error.errors()[0]["loc"]]
        set_here = [
            option
            for key, option in overridden.items()
            if all(a == b for a, b in zip(key, keys, strict=False))
        ]
        line = f"{file}: line {line_of(text, keys)}"
        raise ConfigError(f"{[line, *set_here][-1]}: {_one_line(error)}") from None


def _set(raw: dict[str, Any], override: str) -> tuple[str, ...]:
    """Change a key of a mapping and return its path."""
    key, sign, text = override.partition("=")
    *sections, last = keys = key.split(".")
    if not sign or not all(keys):
        raise ConfigError(f"--set {override}: need key=value, such as search.trials=300")
    value = _value(text.strip(), f"--set {override}", _kind_at(keys))
    for section in sections:
        below = raw.setdefault(section, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {section!r} holds no keys")
        raw = below
    raw[last] = value
    return tuple(keys)


def _value(text: str, source: str, kind: Any) -> Any:
    """The value of an override: where a text is asked for, what was typed; else YAML.

    Quotes around a text are YAML's all the same.
    """
    if _takes_text(kind) and text[:1] not in ("'", '"'):
        return None if kind is not str and text in ("", "~", "null") else text
    text = f"value: {text}"
    return _as_meant(parse_yaml(text, source)["value"], parse_as_typed(text, source)["value"], kind)


def _as_meant(value: Any, typed: Any, kind: Any) -> Any:
    """A value from YAML, with what its type takes as text as it was typed.

    Args:
        value: numbers, booleans and null included.
        typed: the same, all of it text.
        kind: type that the schema asks for.
    """
    if isinstance(value, dict) and _has_fields(kind):
        return {k: _as_meant(v, typed.get(k), _kind_at([k], kind)) for k, v in value.items()}
    if _takes_text(kind) and isinstance(typed, str) and (value is not None or kind is str):
        return typed
    return value


def _kind_at(keys: Sequence[str], kind: Any = None) -> Any:
    """Type that the schema, or one of its sections, asks for at a key; None where it has none."""
    kind = kind or RunConfig
    for key in keys:
        field = kind.model_fields.get(key) if _has_fields(kind) else None
        kind = field.annotation if field else None
    return kind


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _takes_text(kind: Any) -> bool:
    return kind in (str, str | None)


def _as_share(value: float) -> str:
    """The rule that a share above 1 breaks, and what was probably meant.

    >>> _as_share(95)
    'is a share: 0.95, not 95'
    """
    if value > 100:
        return f"is a share of at most 1, got {value:g}"
    return f"is a share: {value / 100:g}, not {value:g}"


def _one_line(error: ValidationError) -> str:
    """The first problem: key, rule, and what was given."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *sections, last = problem["loc"]
        known = _keys(RunConfig, [str(section) for section in sections])
        return f"unknown key {where!r}. {did_you_mean(str(last), known)}"
    if problem["type"] == "missing":
        return f"needs the key {where!r}"
    if problem["type"] == "literal_error" and isinstance(given := problem["input"], str):
        allowed = re.findall("'([^']*)'", problem.get("ctx", {}).get("expected", ""))
        if allowed:
            return f"{where}: no such value {given!r}. {did_you_mean(given, filter(None, allowed))}"
    bounded = problem["type"] in ("less_than", "less_than_equal")
    if bounded and 1 in problem.get("ctx", {}).values() and float(problem["input"]) > 1:
        return f"{where}: {_as_share(float(problem['input']))}"  # no other key has that bound
    rule = problem["msg"].removeprefix("Value error, ")
    if problem["type"].startswith("model_"):
        keys = [str(key) for key in problem["loc"]]
        first, value = _keys(RunConfig, keys)[0], problem["input"]
        meant = f"={value}" if first == "name" and isinstance(value, str) else ""
        rule = f"needs keys of its own below it, such as {where}.{first}{meant}"
    given = "" if problem["type"] == "value_error" else f", got {problem['input']!r:.80}"
    return f"{where}: {rule}{given}" if where else rule


def _keys(model: type[BaseModel], sections: Sequence[str]) -> list[str]:
    for section in sections:
        kind = model.model_fields[section].annotation
        model = next(k for k in (kind, *get_args(kind)) if isinstance(k, type))
    return list(model.model_fields)
