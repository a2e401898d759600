"""The database: engine, connections, transactions and bulk loading, for SQLite and PostgreSQL alike.

One connection serves one entity; temporary tables are gone when it is given back. SQLite has one writer at a time, so
transactions of one process queue here fairly instead of polling the file's lock.
"""

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql as pg
from sqlalchemy import Connection, Engine, Table, create_engine, event, func, insert, select
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from igh_sync_core.config import Config
from igh_sync_core.errors import ConfigError, StoreError, StoreUnavailable

BUSY_TIMEOUT_S = 60
_QUEUE = 7_021_953
"""Number of the advisory lock that those who make tables queue at; any number nobody else uses."""

_LASTING = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_TOOBIG", "53100", "42")
"""Starts of error names and SQLSTATEs that drivers count as operational, but that waiting does not mend."""

_ROWS_TOGETHER, _VALUES_TOGETHER = 50, 10_000
"""Rows and values of one INSERT at most, in SQLite; a prepared statement grows with them."""

_APART = "igh_sync_apart"
_TEMPORARY = "igh_sync_temporary"
_ENGINE: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 32, "max_overflow": -1, "hide_parameters": True}
"""At most so many idle connections; whoever needs more at once opens them."""

_SQLITE_HEADER = b"SQLite format 3\0"
_writers: dict[str, threading.RLock] = {}
_writers_guard = threading.Lock()


class Database:
    """One database, chosen by the settings; PostgreSQL wins when both are set.

    Safe to share between threads; every connection belongs to the thread that opened it.

    Raises:
        ConfigError: The SQLite file cannot be created or written.
    """

    def __init__(self, config: Config) -> None:
        self.kind = config.get_db_type()
        self.is_postgres = self.kind == "postgresql"
        if self.is_postgres:
            self.engine = _postgres_engine(config.postgres_connection_string or "")
        else:
            self.engine = _sqlite_engine(Path(config.sqlite_db_path or "dataverse.db"))
        event.listen(self.engine, "checkin", self._given_back)
        self._writer = _writer_lock(str(self.engine.url)) if not self.is_postgres else None
        self._keepers = 0
        self._keepers_guard = threading.Lock()

    @contextlib.contextmanager
    def keeping_connections(self) -> Iterator[None]:
        """Until the block ends, connections given back are kept for the next user instead of being closed.

        Opening a SQLite file with hundreds of tables means reading all their definitions.
        """
        with self._keepers_guard:
            self._keepers += 1
        try:
            yield
        finally:
            with self._keepers_guard:
                self._keepers -= 1
                is_last = not self._keepers
            if is_last:
                self.engine.dispose()

    def _given_back(self, _connection: object, record: ConnectionPoolEntry) -> None:
        if not self._keepers:
            record.close()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a connection of its own, closed at the end.

        Raises:
            StoreUnavailable: The database cannot be reached.
            StoreError: It refused a statement.
        """
        with store_errors(), self.engine.connect() as conn:
            try:
                yield conn
            except BaseException:
                if not (conn.closed or conn.invalidated):
                    conn.invalidate()  # nobody else is to find what a fault left in it
                raise
            self._drop_temporary(conn)

    def create_temporary(self, conn: Connection, tables: Sequence[Table]) -> None:
        """Make temporary tables, which are gone when the connection is given back."""
        for table in tables:
            conn.execute(CreateTable(table))
            for index in table.indexes:
                conn.execute(CreateIndex(index))
        conn.info.setdefault(_TEMPORARY, []).extend(tables)

    def _drop_temporary(self, conn: Connection) -> None:
        if (tables := conn.info.pop(_TEMPORARY, None)) and self._keepers:
            with self.transaction(conn):
                for table in tables:
                    conn.execute(DropTable(table, if_exists=True))

    @contextlib.contextmanager
    def transaction(self, conn: Connection) -> Iterator[None]:
        """Commit everything written inside, or nothing of it (law 1)."""
        with self._writer or contextlib.nullcontext(), conn.begin():
            yield

    @contextlib.contextmanager
    def apart(self, conn: Connection) -> Iterator[None]:
        """Do something that writes to temporary tables at most, in a transaction that waits for no writer."""
        conn.execution_options(**{_APART: True})
        try:
            with conn.begin():
                yield
        finally:
            conn.execution_options(**{_APART: False})

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a connection with one transaction around everything done with it."""
        with self.connection() as conn, self.transaction(conn):
            yield conn

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection with one transaction that only reads: it waits for no writer."""
        with self.connection() as conn, self.apart(conn):
            yield conn

    def queue(self, conn: Connection) -> None:
        """Wait until no other transaction that asked for the same is under way.

        PostgreSQL lets two transactions find a table missing and both make it; SQLite has one writer anyway.
        """
        if self.is_postgres:
            conn.execute(select(func.pg_advisory_xact_lock(_QUEUE)))

    def load(self, conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Append *rows* to *table* in bulk, consuming them once.

        Args:
            conn: A connection inside a transaction.
            table: Any table; columns not named take their defaults.
            columns: Names of the *n* columns given.
            rows: Sequences of *n* values each, already of the engine's types.

        Raises:
            sqlalchemy.exc.IntegrityError: A unique index refused a row, on both engines.
            sqlalchemy.exc.DataError: PostgreSQL refused a value that its column cannot hold.
            sqlalchemy.exc.DBAPIError: Whatever else the driver says.
        """
        if self.is_postgres:
            _copy(conn, table, columns, rows)
        else:
            _insert_all(conn, table, columns, rows)


def _insert_all(conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Several rows a statement, and those left over one by one.

    After each statement the driver must get Python's lock back, which takes milliseconds while another thread
    computes; and all the while no other thread can write to the file.
    """
    one = _insert_text(table, tuple(columns))
    head, _values, group = one.rpartition(" VALUES ")
    together = max(1, min(_ROWS_TOGETHER, _VALUES_TOGETHER // len(columns)))
    many = f"{head} VALUES {', '.join([group] * together)}"
    cursor, remaining = conn.connection.cursor(), iter(rows)
    try:
        with _driver_errors(one, sqlite3.Error):
            while len(part := list(islice(remaining, together))) == together:
                cursor.execute(many, tuple(chain.from_iterable(part)))
            cursor.executemany(one, part)
    finally:
        cursor.close()


@lru_cache(maxsize=1024)
def _insert_text(table: Table, columns: tuple[str, ...]) -> str:
    return str(insert(table).compile(dialect=sqlite_dialect.dialect(), column_keys=list(columns)))


def _copy(conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    statement = pg.SQL("COPY {} ({}) FROM STDIN").format(
        pg.Identifier(table.name), pg.SQL(", ").join(pg.Identifier(table.c[name].name) for name in columns)
    )
    cursor: psycopg.Cursor[Any] = conn.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy's pooled proxy
    with _driver_errors("COPY", psycopg.Error), cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


@contextlib.contextmanager
def _driver_errors(statement: str, base: type[Exception]) -> Iterator[None]:
    """SQLAlchemy's errors in place of the driver's, as for statements that go through SQLAlchemy."""
    try:
        yield
    except base as exc:
        raise DBAPIError.instance(statement, None, exc, base, hide_parameters=True) from exc


def _sqlite_engine(path: Path) -> Engine:
    path = path.expanduser().absolute()
    if fault := _why_unwritable(path):
        msg = f"SQLITE_DB_PATH: {path} {fault}; name a file in a folder you may write to"
        raise ConfigError([msg])
    patience = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "cached_statements": 32}
    engine = create_engine(f"sqlite:///{path}", connect_args=patience, **_ENGINE)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _why_unwritable(path: Path) -> str:
    """What stops SQLite from writing there, without making the file: nothing is written before the source answers."""
    if path.is_dir():
        return "is a folder"
    if path.exists():
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
        if header and header != _SQLITE_HEADER:
            return "is no SQLite database"
        return "" if os.access(path, os.W_OK) else "may not be written"
    if not path.parent.is_dir():
        return "lies in a folder that does not exist"
    return "" if os.access(path.parent, os.W_OK) else "lies in a folder that may not be written"


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy, not the driver, begins and ends transactions: the driver's own habit leaves DDL outside.
    connection.isolation_level = None
    # Records are a few KB each; larger pages hold them with fewer overflow pages. Files that exist keep their size.
    connection.execute("PRAGMA page_size = 8192")
    _keep_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA temp_store = FILE")


def _is_busy(exc: BaseException) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@retry(
    retry=retry_if_exception(_is_busy), wait=wait_random(0.01, 0.1), stop=stop_after_delay(BUSY_TIMEOUT_S), reraise=True
)
def _keep_log(connection: sqlite3.Connection) -> None:
    # Processes that make a new file WAL at the same moment refuse each other at once, whatever the timeout says.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN" if conn.get_execution_options().get(_APART) else "BEGIN IMMEDIATE")


def _postgres_engine(connection_string: str) -> Engine:
    url = make_url(connection_string).set(drivername="postgresql+psycopg")
    return create_engine(url, **_ENGINE)


def _writer_lock(url: str) -> threading.RLock:
    with _writers_guard:
        return _writers.setdefault(url, threading.RLock())


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
        if _may_pass(exc):
            msg = f"the database is not available: {_first_line(exc)}"
            raise StoreUnavailable(msg) from exc
        msg = f"the database refused a statement: {_first_line(exc)}"
        raise StoreError(msg) from exc


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
