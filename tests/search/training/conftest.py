"""A space and lessons so small that a training takes a second."""

from ..small import data, lessons, space

__all__ = ["data", "lessons", "space"]
