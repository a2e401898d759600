"""The border to the driver: statements that go to it past SQLAlchemy, and what its errors become.

Those that go past it are so small, and so many, that SQLAlchemy's machinery would be the cost.
"""

import contextlib
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from igh_sync_core.errors import StoreError, StoreUnavailable
from igh_sync_core.store.dialect import Instant, given_instant, stored_instant

TEMPORARY = "igh_sync_temporary"
"""Where a connection's record of its temporary tables is kept, by name."""

T = TypeVar("T", bound=Hashable)

_NO_PLACES: Mapping[str, str] = MappingProxyType({})

_LASTING = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_TOOBIG", "53100", "42", "54")
"""Starts of error names and SQLSTATEs that drivers count as operational, but that waiting does not mend."""

_LOCKED = "55P03"
"""SQLSTATE of a lock that was not given in time."""


def execute(conn: Connection, statement: str) -> None:
    """Execute a statement that has no parameters and gives no rows.

    Raises:
        sqlalchemy.exc.DBAPIError: The driver's refusal.
    """
    with driver_errors(conn, statement), contextlib.closing(conn.connection.cursor()) as cursor:
        cursor.execute(statement)


class Prepared(Generic[T]):
    """A statement that SQLAlchemy builds and spells once for each table and engine; a decorator of what builds it.

    Parameters and the values in the rows that come are of the driver's own types, but for those of type ``Instant``,
    which are aware times on both engines.

    One that differs from table to table in names alone is built about a pattern, in which ``{table}`` and the like
    stand for them; *places* fills them in. To build a statement for each of many tables would take longer than to
    execute it.

    Args:
        build: Makes the statement for whatever it is about; equal arguments share a statement.
    """

    def __init__(self, build: Callable[[T], ClauseElement]) -> None:
        self._build = build
        self._spelled = lru_cache(maxsize=1024)(self._spell)

    def rows(
        self,
        conn: Connection,
        about: T,
        *,
        places: Mapping[str, str] = _NO_PLACES,
        **parameters: Any,  # noqa: ANN401 - any driver's values
    ) -> list[Any]:
        """All rows that a query gives, as tuples.

        Raises:
            sqlalchemy.exc.DBAPIError: The driver's refusal.
        """
        spelled, text = self._spelled_for(conn, about, places)
        with driver_errors(conn, text), contextlib.closing(conn.connection.cursor()) as cursor:
            cursor.execute(text, spelled.filled(parameters))
            found = list(cursor.fetchall())
        return [_with_times(row, spelled.instants) for row in found] if spelled.instants else found

    def execute(
        self,
        conn: Connection,
        about: T,
        *,
        places: Mapping[str, str] = _NO_PLACES,
        **parameters: Any,  # noqa: ANN401
    ) -> int:
        """Execute what gives no rows; gives the number of rows written.

        Raises:
            sqlalchemy.exc.DBAPIError: The driver's refusal.
        """
        spelled, text = self._spelled_for(conn, about, places)
        with driver_errors(conn, text), contextlib.closing(conn.connection.cursor()) as cursor:
            cursor.execute(text, spelled.filled(parameters))
            return cursor.rowcount

    def execute_many(
        self,
        conn: Connection,
        about: T,
        parameters: Iterable[dict[str, Any]],
        *,
        places: Mapping[str, str] = _NO_PLACES,
    ) -> None:
        """The same with several sets of parameters, in one go."""
        spelled, text = self._spelled_for(conn, about, places)
        filled = [spelled.filled(values) for values in parameters]
        if not filled:
            return
        with driver_errors(conn, text), contextlib.closing(conn.connection.cursor()) as cursor:
            if len(filled) == 1:
                cursor.execute(text, filled[0])  # psycopg opens a pipeline for several, which costs more than it saves
            else:
                cursor.executemany(text, filled)

    def _spelled_for(self, conn: Connection, about: T, places: Mapping[str, str]) -> tuple["_Spelled", str]:
        spelled = self._spelled(about, conn.dialect.name, _Unhashed(conn.dialect))
        return spelled, _named(spelled.text, places)

    def _spell(self, about: T, engine: str, dialect: "_Unhashed") -> "_Spelled":
        statement = self._build(about)
        compiled = statement.compile(dialect=dialect.it)
        binds = compiled.binds if isinstance(compiled, SQLCompiler) else {}
        order = compiled.positiontup if isinstance(compiled, SQLCompiler) else None
        times = tuple(name for name, bind in binds.items() if isinstance(bind.type, Instant))
        constants = {name: value for name, value in compiled.params.items() if not binds[name].required}
        return _Spelled(engine, str(compiled), order, times, constants, _instants(statement))


def _named(text: str, places: Mapping[str, str]) -> str:
    """The statement with names in the places that are left for them, all of which are quoted."""
    for place, name in places.items():
        text = text.replace(f"{{{place}}}", name.replace('"', '""'))
    return text


@dataclass(frozen=True)
class _Spelled:
    """A statement as one engine takes it.

    Attributes:
        engine: Its name.
        text: What goes to the driver.
        order: Names of its parameters in their order; None where the driver takes them by name.
        times: Names of those that are times.
        constants: Values of those that are part of the statement.
        instants: Places of the times in the rows that come.
    """

    engine: str
    text: str
    order: list[str] | None
    times: tuple[str, ...]
    constants: dict[str, Any]
    instants: tuple[int, ...]

    def filled(self, parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as the driver takes them
        """One set of parameters for the driver."""
        values = {**self.constants, **parameters}
        for name in self.times:
            if values[name] is not None:
                values[name] = stored_instant(values[name], self.engine)
        return values if self.order is None else [values[name] for name in self.order]


def _instants(statement: ClauseElement) -> tuple[int, ...]:
    columns = statement.selected_columns if isinstance(statement, Select) else ()
    return tuple(at for at, column in enumerate(columns) if isinstance(column.type, Instant))


def _with_times(row: Sequence[Any], instants: Sequence[int]) -> tuple[Any, ...]:
    told = list(row)
    for at in instants:
        told[at] = given_instant(told[at])
    return tuple(told)


@dataclass(frozen=True)
class _Unhashed:
    """An argument that a cache does not look at: one engine's dialects all spell alike."""

    it: Dialect = field(compare=False)


@contextlib.contextmanager
def attempt(conn: Connection) -> Iterator[None]:
    """Inside a transaction: undo what is done in the block, and no more, where it fails.

    Raises:
        StoreUnavailable: The connection is lost.
        StoreError: The database has given up the whole transaction, as on a full disk.
    """
    with store_errors():
        execute(conn, "SAVEPOINT attempt")
    temporary = dict(conn.info.get(TEMPORARY, {}))
    try:
        yield
    except BaseException:
        if _is_taken_back(conn):
            conn.info[TEMPORARY] = temporary  # those made or dropped meanwhile are so no longer
            raise
        # Nothing may be done in this transaction any more, so the first error must not pass for one that was undone.
        with store_errors():
            raise
    with store_errors():
        execute(conn, "RELEASE SAVEPOINT attempt")


def _is_taken_back(conn: Connection) -> bool:
    if conn.invalidated:
        return False
    try:
        execute(conn, "ROLLBACK TO SAVEPOINT attempt")
        execute(conn, "RELEASE SAVEPOINT attempt")
    except DBAPIError:
        return False
    return True


@contextlib.contextmanager
def driver_errors(conn: Connection, statement: str) -> Iterator[None]:
    """SQLAlchemy's errors in place of the driver's, as for statements that go through SQLAlchemy."""
    base = conn.dialect.loaded_dbapi.Error
    try:
        yield
    except base as exc:
        raise DBAPIError.instance(statement, None, exc, base, hide_parameters=True) from exc


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn what the driver raises inside into an error of ours, without the statement and its values.

    Raises:
        StoreUnavailable: The database cannot be reached, or is locked.
        StoreError: It refused a statement.
    """
    try:
        yield
    except DBAPIError as exc:
        raise store_error(exc) from exc


def store_error(exc: DBAPIError) -> StoreError:
    """The same as an error of ours."""
    if getattr(exc.orig, "sqlstate", None) == _LOCKED:
        return StoreUnavailable("another transaction keeps locked what is needed; end it, or let it end")
    if _may_pass(exc):
        return StoreUnavailable(f"the database is not available: {_first_line(exc)}")
    return StoreError(f"the database refused a statement: {_first_line(exc)}")


def _may_pass(exc: DBAPIError) -> bool:
    """Whether the same may work later: a lost connection or a lock, not a full disk or a file that is read-only."""
    if exc.connection_invalidated or isinstance(exc, InterfaceError):
        return True
    code = getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "sqlite_errorname", None) or ""
    return isinstance(exc, OperationalError) and not code.startswith(_LASTING)


def _first_line(exc: DBAPIError) -> str:
    """What the driver says, without the statement and its values (no row contents in errors)."""
    if not exc.orig:
        return type(exc).__name__
    line = str(exc.orig).strip().partition("\n")[0]
    # Class 22 of SQLSTATE is about values, and quotes them: invalid input syntax for type uuid: "..."
    is_about_value = (getattr(exc.orig, "sqlstate", None) or "").startswith("22")
    return re.sub(r':? ".*"', "", line) if is_about_value else line
