"""Parameters: the finite sets from which a candidate's fields are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import SpaceError

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Choice:
    """An unordered finite set of scalars.

    >>> patch = Choice("patch_size", (8, 16))
    >>> 16 in patch, 32 in patch
    (True, False)
    """

    name: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        # Optuna looks choices up by equality: 1, 1.0 and True would be one choice.
        if not self.values or len(set(self.values)) != len(self.values):
            raise SpaceError(
                f"{self.name}: need at least one value, all different, got {self.values!r}"
            )

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def nearest(self, value: Scalar) -> tuple[Scalar, ...]:
        """All values, the closest to `value` first; numbers by distance, others as listed.

        >>> Choice("width", (64, 128, 192)).nearest(120)
        (128, 64, 192)
        """
        if isinstance(value, str):
            return tuple(sorted(self.values, key=lambda v: v != value))
        return tuple(
            sorted(self.values, key=lambda v: abs(v - value) if not isinstance(v, str) else 0)
        )
