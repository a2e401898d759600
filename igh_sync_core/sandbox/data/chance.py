"""Seeded randomness: everything invented comes from here, so that a seed means one organisation."""

from random import Random


def seeded(*path: object) -> Random:
    """A random source of its own for what *path* names; equal paths give equal sources."""
    return Random("/".join(str(part) for part in path))  # noqa: S311 - data that looks real, not a secret
