"""Where pages are decoded and written: a few places for all tables of the process, however many are read at once."""

from threading import Condition
from types import TracebackType


class Workbench:
    """Places that threads take by turns, each a page at a time; a context manager.

    Args:
        places: How many pages are worked on at once.
    """

    def __init__(self, places: int) -> None:
        self._free, self._waiting = places, 0
        self._turn = Condition()

    def __enter__(self) -> None:
        """Wait for a place."""
        with self._turn:
            self._waiting += 1
            try:
                self._turn.wait_for(lambda: self._free)
            finally:
                self._waiting -= 1
            self._free -= 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        with self._turn:
            self._free += 1
            self._turn.notify()

    def keeps_up(self) -> bool:
        """Whether no page waits for a place."""
        return not self._waiting


_WORKBENCHES = {"sqlite": Workbench(1), "postgresql": Workbench(2)}


def workbench_of(engine: str) -> Workbench:
    """The one of all tables of this process that are copied into databases of one kind.

    While PostgreSQL takes one page, another is decoded; a third would only wait for Python's lock. SQLite works in this
    process, so that the second would already: a first load is as quick with one place, and holds a page less in memory.
    Nor is a page asked for before it is wanted while others wait for a place: it would wait in memory, too, and there
    is work enough without it.

    Args:
        engine: ``sqlite`` or ``postgresql``.
    """
    return _WORKBENCHES[engine]
