"""The temporary tables of an entity's connection: lists that statements work through.

Everything here runs inside the caller's transaction.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.exc import DataError, OperationalError

from igh_sync_core.history.batch import Batch
from igh_sync_core.history.refusals import named, tell, too_big
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.database import Database, Line
from igh_sync_core.store.driver import attempt

Condition = Callable[[EntityTables], ColumnElement[bool]]
"""Which versions are meant; made once for all tables, with the parameter ``of`` where an entity set is named."""


def is_listed(tables: EntityTables) -> ColumnElement[bool]:
    """Whether a version's key is on the list of keys."""
    # Values of an IN are looked up in the index of open rows; a search for each open row would read them all.
    return tables.main.c[tables.spec.key].in_(select(tables.keys.c.key))


class _TriedError(Exception):
    """Takes back what was only tried."""


def _take_back() -> NoReturn:
    raise _TriedError


class Staging:
    """The temporary tables of one entity.

    Args:
        database: Where they are kept.
        line: Has a connection that nobody else uses.
        tables: The entity's.
    """

    def __init__(self, database: Database, line: Line, tables: EntityTables) -> None:
        self._database, self._line, self._tables = database, line, tables

    def empty(self, table: Table) -> None:
        """See that one of the temporary tables is there and empty."""
        self._database.empty_temporary(self._line.conn, table)

    def fill(self, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Replace what one of the temporary tables holds."""
        self.empty(table)
        self._database.load(self._line.conn, table, columns, rows)

    def load_records(self, table: Table, names: Sequence[str], rows: Iterable[Sequence[Any]], batch: Batch) -> None:
        """Append the records of *batch*, as *rows*, to a table with columns of theirs.

        Raises:
            DataError: The database refused a value; names record and column.
        """
        try:
            self._database.load(self._line.conn, table, names, rows)
        except DataError as exc:
            tell(named(self._tables.spec, batch.keys, exc), exc)

    def too_big(self, batch: Batch, refusal: OperationalError, stamp: Any) -> Exception:  # noqa: ANN401 - by engine
        """The error to raise for a page that was too much for the database; see ``refusals.too_big``.

        Args:
            batch: The page.
            refusal: What the database said, taken back already.
            stamp: A time as the driver takes it.
        """
        return too_big(self._tables, batch, refusal, lambda part: self._fits(part, stamp))

    def _fits(self, batch: Batch, stamp: Any) -> bool:  # noqa: ANN401
        """Whether the database takes records, tried with versions that are closed and meet no others; none stays."""
        names, times = (*batch.names, "sync_time", "valid_from", "valid_to"), repeat(stamp)
        try:
            with attempt(self._line.conn):
                rows = zip(*batch.columns, times, times, times, strict=False)
                self._database.load(self._line.conn, self._tables.main, names, rows)
                _take_back()
        except _TriedError:
            return True
        except OperationalError:
            return False

    def list_keys(self, keys: Iterable[str]) -> None:
        """Replace the list of keys."""
        self.fill(self._tables.keys, ("key",), ((key,) for key in keys))
