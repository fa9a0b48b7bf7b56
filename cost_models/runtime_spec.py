"""RuntimeSpec: description of a runtime without importing it, and the registry of all.

An adapter, one file in `runtimes/` or of a plugin, states a `SPEC`. Device files, identities, cost
models and deliveries ask it; only `open` imports the runtime's library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import metadata
from typing import Any, NamedTuple

from ..spaces.registry import Registry

ONNX = "onnx"  # the format of graphs that can be measured in processes of their own


class Option(NamedTuple):
    """An option of a runtime, that device files may give a value.

    Attributes:
        allowed: values that it takes, or a type: `bool`, `int` of at least 1, or `str`.
        providers: that have it; empty for all.
        tried: values that a sweep tries, first what the runtime does by itself; empty for none.
    """

    allowed: type | tuple[str, ...]
    providers: tuple[str, ...] = ()
    tried: tuple[bool | str, ...] = ()


@dataclass(frozen=True)
class RuntimeSpec:
    """Description of a runtime.

    Attributes:
        name: as in device files.
        distributions: packages that hold it, of which one is installed; its version belongs to
            the identity of every number.
        install: what pip installs where there is none.
        format: of the files that it loads, such as "onnx" or "torchscript".
        chips: provider -> what it runs on, as `standalone.energy_meter` calls it. Providers that
            are not here are used too, timed from outside, with no counter of energy.
        open: device -> `runtimes.Runtime`. Raises ModuleNotFoundError where the library is not
            installed, MissingRuntimeError where it has no such provider.
        in_caller: whether one thread means the caller's, whose own clock then tells what a run
            takes, however often the system gives its core to others.
        folds_constants: whether what follows from constants is computed once, when a graph is
            loaded, so that a weight that is only stored in another form takes no time afterward.
        packs_zeros: whether its files hold sparse weights without their zeros, which it puts in
            when it loads them; see `graphs.zeros`.
        integer_kernels: names of kernels that multiply integers, with wildcards as in `fnmatch`.
        half_kernels: of those that multiply floats of 16 bits.
        converts: whether it makes files of its format of ONNX graphs, and of the weights that a
            recipe stores.
        recipes: names of `precision_recipes.RECIPES` that its files can hold; empty for all.
        channels_last: whether its files take images with their channels last, so that those that
            lie so in memory need no copy.
        installer: what installs `install`.
        find_version: tells the version of a library that is no package of Python; "" where it is
            not installed.
        host: provider -> name and version of the program that runs the library, if it is another
            one than Python; it belongs to identities.
        gpu: device -> name of the GPU that executes its models, where that is not NVIDIA's, which
            `standalone.gpu` names; "" for none. It belongs to identities.
        outside: whether graphs run in a process that it keeps beside this one, so that nobody
            else has to start one to measure them.
        kernel_times: providers with which it tells how long each kernel takes.
        stand_in: what computes answers here in place of the runtime, which only runs elsewhere;
            nothing is timed with it, and no model is verified by it. Empty for runtimes that run.
        hands_over: whether networks with exits run in it, in ONNX files that hand over: what it
            compiles has `outputs` beside `run`.
        tested: first and last release with which it was tested, such as ("2.1", "2.3"), each with
            all its corrections: what follows the numbers that are given; empty for any.
        options: by their names in device files.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    format: str
    chips: Mapping[str, str]
    open: Callable[[Any], Any]
    in_caller: bool = True
    folds_constants: bool = False
    packs_zeros: bool = False
    integer_kernels: tuple[str, ...] = ()
    half_kernels: tuple[str, ...] = ()
    converts: bool = False
    recipes: tuple[str, ...] = ()
    channels_last: bool = False
    installer: str = "pip"
    find_version: Callable[[], str] | None = None
    host: Callable[[str], str] | None = None
    gpu: Callable[[Any], str] | None = None
    outside: bool = False
    kernel_times: tuple[str, ...] = ()
    stand_in: str = ""
    hands_over: bool = False
    tested: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])

    @property
    def from_graphs(self) -> bool:
        """Whether its files are made of ONNX graphs, so that recipes have something to change."""
        return self.format == ONNX or self.converts

    @property
    def untested(self) -> str:
        """Why its version is not one of the tested ones; empty where it is."""
        if not self.tested:
            return ""
        first, last, here = map(_release, (self.tested[0], self.tested[-1], self.version))
        if first <= here and here[: len(last)] <= last:
            return ""
        return (
            f"{self.distributions[0]} {self.version} is untested, {' to '.join(self.tested)} are "
            f"tested: {self.command}"
        )

    @property
    def command(self) -> str:
        """Command line that installs it."""
        return f"{self.installer} install {self.install!r}"

    @property
    def version(self) -> str:
        """Version that is installed; empty where none is."""
        if self.find_version:
            return self.find_version()
        for name in self.distributions:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return ""

    def integers(self, executed: Mapping[str, int]) -> int:
        """Number of executed kernels that multiply integers."""
        return _count(executed, self.integer_kernels)

    def rounds(self, executed: Mapping[str, int]) -> bool:
        """Whether any executed kernel computes with fewer bits than float32.

        By our choice, or by its own: OpenVINO computes float32 graphs in bfloat16 where the
        processor can.
        """
        return _count(executed, (*self.integer_kernels, *self.half_kernels)) > 0


def _release(version: str) -> tuple[int, ...]:
    """Numbers of a version, of which "2.3rc1" has 2, 3 and 1."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _count(executed: Mapping[str, int], patterns: tuple[str, ...]) -> int:
    return sum(
        count
        for name, count in executed.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    )


RUNTIMES: Registry[RuntimeSpec] = Registry(
    "runtime",
    {
        "onnxruntime": ".runtimes.onnxruntime:SPEC",
        "openvino": ".runtimes.openvino:SPEC",
        "litert": ".runtimes.litert:SPEC",
        "ncnn": ".runtimes.ncnn:SPEC",
        "executorch": ".runtimes.executorch:SPEC",
        "mnn": ".runtimes.mnn:SPEC",
        "coreml": ".runtimes.coreml:SPEC",
        "qnn": ".runtimes.qnn:SPEC",
        "torch": ".runtimes.torch:SPEC",
        "onnxruntime-web": ".runtimes.onnxruntime_web:SPEC",
        "litert-web": ".runtimes.litert_web:SPEC",
    },
    __package__ or "",
)


def find_runtime(name: str) -> RuntimeSpec:
    """The runtime of that name.

    Raises:
        UnknownNameError: there is none.
        ConfigError: a plugin's cannot be loaded.
    """
    return RUNTIMES.find(name)
