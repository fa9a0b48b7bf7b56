"""Lessons so small that a training takes a second, and a table of what scoring would say."""

from ..small import data, lessons, space
from ..table import table

__all__ = ["data", "lessons", "space", "table"]
