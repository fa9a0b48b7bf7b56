"""Converters of foreign networks, a family a file."""
