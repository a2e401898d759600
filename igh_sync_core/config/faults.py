"""Faults of several things that are read one after another, gathered so that all of them are told at once."""

from collections.abc import Callable
from typing import TypeVar

from igh_sync_core.errors import ConfigError

T = TypeVar("T")


class Faults:
    """What is wrong so far.

    Attributes:
        found: One text per fault, in the order they were met.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, load: Callable[[], T]) -> T | None:
        """What *load* gives; None where it raises ``ConfigError``, whose faults are kept."""
        try:
            return load()
        except ConfigError as exc:
            self.found.extend(exc.faults)
            return None

    def add(self, *faults: str) -> None:
        """Keep some more; empty ones are none."""
        self.found.extend(filter(None, faults))

    def tell(self) -> None:
        """Let the reader go on where nothing is wrong.

        Raises:
            ConfigError: Lists all that was found.
        """
        if self.found:
            raise ConfigError(self.found)
