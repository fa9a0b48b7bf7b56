"""Registry: the entries that names in files stand for, the product's own and those of plugins.

An entry is written as "module:attribute" and loaded when it is first asked for, so that listing
names is free and a library is imported only when it is used. A plugin adds entries with an
entry point of the registry's group (Python Packaging User Guide, "Creating and discovering
plugins"); nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from .errors import ConfigError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> entry, those of the product first and then those of plugins, by name.

    Args:
        kind: what an entry is, for messages, such as "mixer".
        own: name -> "module:attribute" of the product's own, the module relative to `package`.
        package: where these modules are, usually `__package__`.

    """

    def __init__(self, kind: str, own: Mapping[str, str], package: str | None) -> None:
        self.kind, self._own, self._package = kind, dict(own), package
        self._loaded: dict[str, T] = {}

    @property
    def group(self) -> str:
        """The group of entry points by which plugins add to it."""
        return f"vitpareto.{self.kind}s"

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            self._loaded[name] = cast("T", self._load(name))
        return self._loaded[name]

    def find(self, name: str) -> T:
        """The entry of that name.

        Raises:
            UnknownNameError: there is none; the message names the closest one.
            ConfigError: a plugin's entry cannot be loaded.
        """
        try:
            return self[name]
        except (KeyError, TypeError):
            raise UnknownNameError(self.kind, name, self) from None

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._plugins()

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from sorted(self._plugins().keys() - self._own.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load(self, name: str) -> Any:
        if name in self._own:
            return loaded(self._own[name], self._package)
        point = self._plugins()[name]
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self.kind} {name!r}: its plugin cannot be loaded: {error} ({point.value})"
            ) from error

    def _plugins(self) -> Mapping[str, EntryPoint]:
        return _points(self.group)


def loaded(entry: str, package: str | None) -> Any:
    """What "module:attribute" stands for.

    Args:
        entry: the two, the module relative to `package`.
        package: where the module is.
    """
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module, package), attribute)


@cache
def _points(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name; looking through all packages takes milliseconds."""
    return {point.name: point for point in entry_points(group=group)}
