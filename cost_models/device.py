"""Device: the machine and settings that run a model, and the identity of its numbers.

A latency means nothing without the runtime, its version, the provider, the threads, the batch
and the processor. The file says what is wanted; `identity` adds what this machine has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..spaces import ConfigError
from ..spaces.errors import CostError, did_you_mean
from ..spaces.safe_yaml import read_yaml
from ..spaces.space import find_file
from .runtime_spec import RUNTIMES, find_runtime
from .standalone.energy_meter import PROCESSOR
from .standalone.gpu import gpu_name, on_gpu
from .standalone.runner import THREAD, WALL, machine
from .units.precision_recipes import RECIPES

PRESETS = Path(__file__).parents[1] / "configs" / "devices"


@dataclass(frozen=True)
class Device:
    """One way to run a model on one machine.

    Attributes:
        name: of the device file.
        runtime: name of `runtime_spec.RUNTIMES`.
        provider: what the runtime calls its back end.
        threads: threads inside an operator.
        recipes: precisions to try, names of `precision_recipes.RECIPES`.
        batch: images of one run.
        affinity: cores on which to run, empty for any.
        compiled: for torch, whether inductor compiles the module.
        options: of the runtime, by name; what it does by itself where they are not given.
    """

    name: str
    runtime: str
    provider: str
    threads: int
    recipes: tuple[str, ...]
    batch: int = 1
    affinity: tuple[int, ...] = ()
    compiled: bool = False
    options: tuple[tuple[str, bool | int | str], ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Device:
        """Read a device file, or a preset by its name.

        Raises:
            ConfigError: naming the file, the key, the rule and what was given.
        """
        file = find_file(path, PRESETS, "device")
        raw = read_yaml(file)
        raw.setdefault("name", file.stem)
        try:
            return cls.from_dict(raw)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Device:
        """A device from plain data, as in a file.

        Raises:
            ConfigError: a key that is unknown, missing or of another type.
        """
        known = {field.name: field for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in known:
                raise ConfigError(f"unknown key {key!r}. {did_you_mean(str(key), known)}")
            values[key] = _checked(key, value)
        for key in ("runtime", "provider", "threads", "recipes"):
            if key not in values:
                raise ConfigError(f"{key}: must be given")
        values["options"] = _options(values)
        if known_recipes := find_runtime(values["runtime"]).recipes:
            for name in values["recipes"]:
                _one_of("recipes", name, known_recipes, f" of {values['runtime']}")
        return cls(**values)

    @classmethod
    def of_identity(
        cls, identity: Mapping[str, Any], name: str, recipes: Collection[str]
    ) -> Device:
        """The device that an identity is of.

        Args:
            identity: as `identity` gives it.
            name: of the device.
            recipes: that are known to run on it, beside float.

        Raises:
            ConfigError: the identity lacks a setting, or has one that is not known here.
        """
        settings = {f.name: identity[f.name] for f in fields(cls) if f.name in identity}
        known = [recipe for recipe in RECIPES if recipe in {"float", *recipes}]
        return cls.from_dict({**settings, "name": name, "recipes": known})

    @property
    def chip(self) -> str:
        """Chip that it runs on, in the words of `energy_meter`; the provider where unknown."""
        return find_runtime(self.runtime).chips.get(self.provider, self.provider)

    @property
    def clock(self) -> str:
        """Name in `standalone.runner.CLOCKS` of the clock that sees the least of other processes.

        One thread on a processor works exactly as long as its run takes on an idle machine,
        however often the system gives the core to other processes in between; several threads, or
        another chip, can only be timed from outside.
        """
        alone = self.threads == 1 and self.chip == PROCESSOR
        return THREAD if alone and find_runtime(self.runtime).in_caller else WALL

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        # Numbers of a device with no options are those from before there were any.
        given = {"options": dict(self.options)} if self.options else {}
        return {**{k: v for k, v in plain.items() if k != "options"}, **given}

    def identity(self) -> dict[str, Any]:
        """Wanted settings with what this machine has: processor, GPU and versions."""
        wanted = {k: v for k, v in self.to_dict().items() if k not in ("name", "recipes")}
        spec = find_runtime(self.runtime)
        host = {"host": spec.host(self.provider)} if spec.host else {}
        gpu = on_gpu(spec.gpu(self) if spec.gpu else gpu_name(self.chip))
        return wanted | {"version": spec.version} | host | gpu | machine()

    def fingerprint(self) -> str:
        """Eight hexadecimal digits of the identity; numbers of different ones never mix."""
        return fingerprint(self.identity())


def fingerprint(identity: dict[str, Any]) -> str:
    """Eight hexadecimal digits of an identity."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_settings(device: Device, identity: Mapping[str, Any], source: str) -> None:
    """Check that measurements are of a device with the same settings, perhaps on another machine.

    Args:
        device: that is named.
        identity: of the device that was measured.
        source: where the measurements come from.

    Raises:
        CostError: a setting is another one.
    """
    there = {"options": {}, **identity}  # which neither says where there are none
    for name, wanted in {"options": {}, **device.to_dict()}.items():
        if name in there and there[name] != wanted:
            raise CostError(
                f"{source}: was measured with {name} {there[name]!r}, device {device.name!r} "
                f"has {wanted!r}"
            )


def presets() -> list[str]:
    """Names of the device files that come with the package."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def _checked(key: str, value: object) -> Any:
    if key in ("name", "runtime", "provider"):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{key}: need a name, got {value!r}")
        return _one_of(key, value, RUNTIMES) if key == "runtime" else value
    if key in ("threads", "batch"):
        if type(value) is not int or not 1 <= value <= 1024:
            raise ConfigError(f"{key}: need a whole number from 1 to 1024, got {value!r}")
        return value
    if key == "compiled":
        if not isinstance(value, bool):
            raise ConfigError(f"{key}: need true or false, got {value!r}")
        return value
    if key == "options":
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: need a mapping of names to values, got {value!r}")
        return dict(value)
    if not isinstance(value, list | tuple) or (key == "recipes" and not value):
        raise ConfigError(f"{key}: need a list, got {value!r}")
    if key == "recipes":
        return tuple(_one_of(key, name, RECIPES) for name in value)
    if not all(type(core) is int and core >= 0 for core in value):
        raise ConfigError(f"{key}: need core numbers, got {value!r}")
    return tuple(value)


def _options(values: Mapping[str, Any]) -> tuple[tuple[str, bool | int | str], ...]:
    """Options of a device that its runtime and its provider have, in the order of their names."""
    spec, provider = find_runtime(values["runtime"]), values["provider"]
    known = {
        name: option
        for name, option in spec.options.items()
        if not option.providers or provider in option.providers
    }
    for name, value in values.get("options", {}).items():
        key, of = f"options.{name}", f"{spec.name} on {provider}"
        if name not in known:
            hint = did_you_mean(str(name), known) if known else "It has none."
            raise ConfigError(f"{key}: no such option of {of}. {hint}")
        allowed = known[name].allowed
        if isinstance(allowed, tuple):
            _one_of(key, value, allowed)
        elif type(value) is not allowed or (allowed is int and value < 1) or value == "":
            wanted = {bool: "true or false", int: "a whole number from 1", str: "a text"}[allowed]
            raise ConfigError(f"{key}: need {wanted}, got {value!r}")
    return tuple(sorted(values.get("options", {}).items()))


def _one_of(key: str, value: object, known: Collection[str], of: str = "") -> str:
    if value not in known:
        raise ConfigError(f"{key}: no such value{of} {value!r}. {did_you_mean(str(value), known)}")
    return str(value)
