"""Command line: commands and their output."""

from .commands import cli, main

__all__ = ["cli", "main"]
