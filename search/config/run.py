"""RunConfig: everything that a run file says, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ...spaces.errors import ConfigError
from ...spaces.safe_yaml import dump_yaml
from ..durations import duration_text, parse_duration
from .messages import one_line
from .section import Section
from .sections import (
    DataConfig,
    DeviceConfig,
    Devices,
    ExecutorConfig,
    ExportConfig,
    ForecastConfig,
    SearchConfig,
    StartConfig,
)
from .trainings import (
    DistillConfig,
    FinishConfig,
    ProxyConfig,
    SupernetConfig,
    TeacherConfig,
)

GONE_START = "pretrained"  # key of `supernet` in 0.2
BUDGET = "25min"  # of a job whose lengths nobody gave
NO_BUDGET = "none"
AUTO = "auto"  # the space that is derived from the start
LENGTHS = frozenset(
    {
        *(f"{name}.epochs" for name in ("start.adapt", "teacher", "supernet", "finish")),
        *(f"forecast.{name}" for name in ("candidates", "steps")),
    }
)  # of trainings
CUT_EXAMPLES = 20  # short trainings beside a start where nothing else is asked for


class RunConfig(Section):
    """Everything a run needs to know.

    Attributes:
        space: file or preset, or "auto" for the space that is derived from the start; preset or
            auto@pixels is one for images of another size. `{from: MODEL, search: [...]}` in a file
            names the start and the only choices of its space, and `input_size` the pixels.
        budget: wall time of the whole job, such as 15min, from which every length follows that
            is not given; "none" keeps the lengths as they are. Where no training has a length,
            images other than digits have one of `BUDGET`.
        device: one, or several that a search is for together.
    """

    space: str
    budget: str = ""
    data: DataConfig = DataConfig()
    device: Devices = DeviceConfig()
    start: StartConfig = StartConfig()
    teacher: TeacherConfig = TeacherConfig()
    distill: DistillConfig = DistillConfig()
    supernet: SupernetConfig = SupernetConfig()
    proxy: ProxyConfig = ProxyConfig()
    forecast: ForecastConfig = ForecastConfig()
    search: SearchConfig = Field(SearchConfig(), validate_default=True)
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

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, raw: Any) -> Any:
        """A space from a model is `auto`, and the model is the start."""
        if not isinstance(raw, Mapping) or not isinstance(space := raw.get("space"), Mapping):
            return raw
        known = {"from", "search", "input_size"}
        if space.keys() - known or not isinstance(space.get("from"), str):
            raise ValueError(
                "space: is a name, a file, or {from: MODEL, search: [...], input_size: PIXELS}, "
                f"got {dict(space)!r}"
            )
        size = f"@{space['input_size']}" if "input_size" in space else ""
        start = raw.get("start") or {}
        given = {"model": space["from"]} | {k: v for k, v in space.items() if k == "search"}
        if isinstance(start, Mapping) and start.get("model", space["from"]) != space["from"]:
            raise ValueError(
                f"space.from: is the start, got {space['from']!r} beside start.model "
                f"{start['model']!r}"
            )
        if isinstance(start, Mapping) and "search" in start and "search" in space:
            raise ValueError(
                f"space.search: is start.search, got {space['search']!r} beside {start['search']!r}"
            )
        return {**raw, "space": AUTO + size, "start": {**start, **given}}

    @field_validator("budget")
    @classmethod
    def _duration(cls, text: str) -> str:
        return text if text in ("", NO_BUDGET) else duration_text(parse_duration(text))

    @field_validator("search")
    @classmethod
    def _costs_by_device(cls, value: SearchConfig, info: ValidationInfo) -> SearchConfig:
        """Costs are named by device where there are several, and plainly otherwise."""
        device = info.data.get("device")
        listed = device if isinstance(device, tuple) else [device] if device else []
        return value.named([d.label for d in listed]) if listed else value

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

    @model_validator(mode="after")
    def _choices_of_a_derived_space(self) -> RunConfig:
        """Only a space that is derived here can be told what to search."""
        if self.start.search and not self.derives_space:
            raise ValueError(
                f"start.search: is about the space that is derived from the start: set "
                f"space={AUTO}, or name its choices in {self.space!r}"
            )
        return self

    @property
    def derives_space(self) -> bool:
        """Whether the space is derived from the start."""
        return self.space.partition("@")[0] == AUTO

    @property
    def devices(self) -> tuple[DeviceConfig, ...]:
        """The device, or all of several."""
        return self.device if isinstance(self.device, tuple) else (self.device,)

    @property
    def by_device(self) -> dict[str, DeviceConfig]:
        """Devices by the name that folders and costs have of each; that of a single one is ""."""
        if not isinstance(self.device, tuple):
            return {"": self.device}
        return {device.label: device for device in self.device}

    @property
    def device_label(self) -> str:
        """Names of all devices."""
        return ", ".join(device.label for device in self.devices)

    def on(self, device: str) -> RunConfig:
        """The configuration as if the run were for one of its devices alone; as it is with ""."""
        if not device:
            return self
        seen = {"device": self.by_device[device], "search": self.search.on(device)}
        return self.model_copy(update=seen)

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
            if isinstance(section, tuple):  # several devices, which say it each for itself
                return True
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
            raise ConfigError(one_line(error, RunConfig)) from None

    @property
    def has_supernet(self) -> bool:
        """Whether shared weights are trained; those of a start are its own."""
        return not self.start.model and self.supernet.epochs > 0

    def to_yaml(self) -> str:
        """Every key with its value, defaults included."""
        return dump_yaml(self.model_dump(mode="json"))
