"""Exception tree.

VitParetoError
├── SpaceError           a search space or candidate breaks its own rules
│   ├── SizeError            its image size does not suit its patches, windows or stages
│   └── ChoiceError          a choice of which no candidate can have some value, or any
├── ConfigError          a run or device file is not what its schema asks for
├── RunError             a run cannot go on: its folder, data or an artifact is not as it must be
│   ├── FailedError          what was tried in a run failed, and nothing given tells why
│   └── WriteError           a file cannot be written, or not whole
├── CostError            a device, table or cost model cannot give what was asked
│   └── MissingRuntimeError  a runtime or provider is not installed here
├── MissingPackageError  a package that an extra installs is not installed here
└── UnknownNameError     a registry has no entry of that name
"""

import difflib
from collections.abc import Iterable
from textwrap import shorten

LISTED = 800  # characters of known names at most
CLOSE = 0.7  # of difflib's ratio, from which two names are one with a typo: executorch is not torch


class VitParetoError(Exception):
    """Base of every error this project raises on purpose."""


class SpaceError(VitParetoError, ValueError):
    """A search space or candidate breaks its own rules."""


class SizeError(SpaceError):
    """The image size of a search space does not suit its patches, windows or stages."""


class ChoiceError(SpaceError):
    """A choice of which no candidate can have some value, or for which none has a use.

    Attributes:
        choice: its name in the space.
        value: that no candidate can have; None where all of them are meant.
    """

    def __init__(
        self, text: str, choice: str = "", value: bool | int | float | str | None = None
    ) -> None:
        super().__init__(text)
        self.choice, self.value = choice, value


class ConfigError(VitParetoError, ValueError):
    """A run or device file is not what its schema asks for."""


class RunError(VitParetoError, RuntimeError):
    """A run cannot go on: its folder, data or an artifact is not as it must be."""


class FailedError(RunError):
    """What was tried in a run failed, such as every training; nothing that was given tells why."""


class WriteError(RunError):
    """A file cannot be written, or not whole, as on a full disk."""


class CostError(VitParetoError, ValueError):
    """A device, table or cost model cannot give what was asked."""


class MissingRuntimeError(CostError):
    """A runtime or provider is not installed here."""


class MissingPackageError(VitParetoError, ImportError):
    """A package that an extra installs is not installed here."""


class UnknownNameError(VitParetoError, KeyError):
    """A registry has no entry of that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)

    def __str__(self) -> str:
        return f"unknown {self.kind} {self.name!r}. {did_you_mean(self.name, self.known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """One sentence that leads from a misspelled name to the right one.

    >>> did_you_mean("sofmax", ["softmax", "window"])
    "Did you mean 'softmax'?"
    >>> did_you_mean("zzz", ["b", "a"])
    'Known: a, b.'
    >>> did_you_mean("executorch", ["onnxruntime", "torch"])
    'Known: onnxruntime, torch.'
    >>> did_you_mean("valid", ["train", "validation"])
    "Did you mean 'validation'?"
    """
    known = sorted(known)
    begun = [full for full in known if len(name) > 2 and full.startswith(name)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=CLOSE) or begun
    listed = shorten(", ".join(known), LISTED, placeholder=" ...")
    return f"Did you mean {close[0]!r}?" if close else f"Known: {listed}."


def first_line(told: Exception | str) -> str:
    r"""What stands first in a message of others, or of an error; its kind where it says nothing.

    >>> first_line(ValueError("a is not b\n  at line 3"))
    'a is not b'
    >>> first_line(ValueError()), first_line("")
    ('ValueError', 'no message')
    """
    return (str(told).strip().splitlines() or [_kind(told)])[0]


def last_line(told: Exception | str) -> str:
    r"""What stands last, as in what a program prints before it fails.

    >>> last_line("Traceback\n  ...\nKeyError: 'a'\n")
    "KeyError: 'a'"
    """
    return (str(told).strip().splitlines() or [_kind(told)])[-1]


def _kind(told: Exception | str) -> str:
    return "no message" if isinstance(told, str) else type(told).__name__
