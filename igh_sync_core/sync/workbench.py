"""Where pages are decoded and written: a few places for all tables of a database, however many are read at once."""

from threading import Condition, Lock
from types import TracebackType
from weakref import WeakKeyDictionary

from igh_sync_core.store.database import Database


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


_PLACES = {"sqlite": 1, "postgresql": 2}

_of_databases: WeakKeyDictionary[Database, Workbench] = WeakKeyDictionary()
_guard = Lock()


def workbench_of(database: Database) -> Workbench:
    """The one of all tables of this process that are copied into one database.

    While PostgreSQL takes one page, another is decoded; a third would only wait for Python's lock. SQLite works in this
    process, so that the second would already: a first load is as quick with one place, and holds a page less in memory.
    Nor is a page asked for before it is wanted while others wait for a place: it would wait in memory, too, and there
    is work enough without it. A database that keeps its writer waiting holds up none that is copied into another.

    Args:
        database: The tasks of a process that copy into one database share it.
    """
    with _guard:
        return _of_databases.setdefault(database, Workbench(_PLACES[database.kind]))
