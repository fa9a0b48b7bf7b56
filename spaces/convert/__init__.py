"""Converters of foreign networks, a family a file."""

from .families import from_timm

__all__ = ["from_timm"]
