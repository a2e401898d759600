"""The database: connections and transactions, for SQLite and PostgreSQL alike.

A connection serves one entity at a time, with temporary tables that nobody else sees. SQLite has one writer at a
time, so transactions of one process queue here instead of polling the file's lock.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Delete, Table, delete, event, func, select
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from igh_sync_core.config import Config
from igh_sync_core.store import bulk, driver
from igh_sync_core.store.driver import TEMPORARY, Prepared, store_errors
from igh_sync_core.store.engines import APART, open_engine
from igh_sync_core.store.log_mover import LogMover

_QUEUE = 7_021_953
"""Number of the advisory lock that those who make tables queue at; any number nobody else uses."""

_writers: dict[str, threading.RLock] = {}
_writers_guard = threading.Lock()


class Database:
    """One database, chosen by the settings; PostgreSQL wins when both are set.

    Safe to share between threads; a connection belongs to one of them at a time.

    Raises:
        ConfigError: The SQLite file cannot be created or written. The first connection says so of one that keeps its
            texts in UTF-16.
    """

    def __init__(self, config: Config) -> None:
        self.kind = config.get_db_type()
        self.is_postgres = self.kind == "postgresql"
        self.engine = open_engine(config)
        event.listen(self.engine, "checkin", self._given_back)
        self._writer = _writer_lock(str(self.engine.url)) if not self.is_postgres else None
        self._keepers = 0
        self._keepers_guard = threading.Lock()
        self._mover: LogMover | None = None

    @contextlib.contextmanager
    def keeping_connections(self) -> Iterator[None]:
        """Until the block ends, connections given back are kept for the next user instead of being closed.

        Opening a SQLite file with hundreds of tables means reading all their definitions. As long, what is committed
        moves from the file's log into the file in a thread of its own.
        """
        with self._keepers_guard:
            self._keepers += 1
            if not (self.is_postgres or self._mover):
                self._mover = LogMover(Path(self.engine.url.database or ""), self.connection)
        try:
            yield
        finally:
            with self._keepers_guard:
                self._keepers -= 1
                is_last, mover = not self._keepers, self._mover
                if is_last:
                    self._mover = None
            if is_last:
                self._let_go(mover)

    def _let_go(self, mover: LogMover | None) -> None:
        try:
            if mover:
                mover.close()
        finally:
            self.engine.dispose()

    def _given_back(self, _connection: object, record: ConnectionPoolEntry) -> None:
        if not self._keepers:
            record.close()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Get a connection of its own, given back at the end.

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

    @contextlib.contextmanager
    def lease(self) -> Iterator["Lease"]:
        """Give the right to a connection of its own whenever one is needed.

        Raises:
            StoreUnavailable: The database cannot be reached.
            StoreError: It refused a statement.
        """
        with contextlib.ExitStack() as stack:
            yield Lease(self, stack)

    def empty_temporary(self, conn: Connection, table: Table) -> None:
        """See that a temporary table of this connection is there and empty.

        Whoever had the connection before may have left it, or another of that name: one is made only where it must be.
        """
        kept: dict[str, Table] = conn.info.setdefault(TEMPORARY, {})
        if kept.get(table.name) is table:
            self._empty(conn, table)
            return
        if table.name in kept:
            conn.execute(DropTable(kept.pop(table.name)))
        conn.execute(CreateTable(table))
        for index in table.indexes:
            conn.execute(CreateIndex(index))
        kept[table.name] = table

    def _empty(self, conn: Connection, table: Table) -> None:
        if self.is_postgres:
            # Not DELETE: nobody clears the deleted rows of a temporary table away, and each pass would read them all.
            driver.execute(conn, f"TRUNCATE {conn.dialect.identifier_preparer.format_table(table)}")
        else:
            _clear.execute(conn, table)

    @contextlib.contextmanager
    def transaction(self, conn: Connection) -> Iterator[None]:
        """Commit everything written inside, or nothing of it (law 1)."""
        with self.turn():
            with conn.begin():
                yield
            if mover := self._mover:
                mover.note_commit()

    @contextlib.contextmanager
    def apart(self, conn: Connection) -> Iterator[None]:
        """Do something that writes to temporary tables at most, in a transaction that waits for no writer."""
        conn.execution_options(**{APART: True})
        try:
            with conn.begin():
                yield
        finally:
            conn.execution_options(**{APART: False})

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a connection with one transaction around everything done with it."""
        # The turn first: who waits for it needs no connection yet, and takes the one that was used before.
        with self.turn(), self.connection() as conn, self.transaction(conn):
            yield conn

    def turn(self) -> contextlib.AbstractContextManager[object]:
        """Wait until nobody else in this process has the turn, where the engine has one writer; may be nested."""
        return self._writer or contextlib.nullcontext()

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
        bulk.load(conn, table, columns, rows)


class Line(Protocol):
    """Whatever has a connection for the present transaction."""

    @property
    def conn(self) -> Connection:
        """The connection."""


class Lease:
    """A connection whenever there is something to do, that nobody else uses meanwhile, see ``Database.lease``.

    Who waits for the network, or for a turn, has none: each of them keeps megabytes, and to open one costs SQLite more
    than to write a page without news, since it reads the definitions of all tables.
    """

    def __init__(self, database: Database, stack: contextlib.ExitStack) -> None:
        self._database, self._stack = database, stack
        self._conn: Connection | None = None

    @property
    def conn(self) -> Connection:
        """The connection, from when it is first asked for until the next transaction of this lease has ended.

        What temporary tables hold is there as long.
        """
        if self._conn is None:
            self._conn = self._stack.enter_context(self._database.connection())
        return self._conn

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Commit everything written inside, or nothing of it (law 1)."""
        # The turn first, and all of it: the next writer takes the connection of the one before.
        with self._database.turn(), self._given_back() as conn, self._database.transaction(conn):
            yield conn

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Only read, in a transaction that stops no other process from writing."""
        # In turn all the same, since the connection that was used before is given back by then.
        with self._database.turn(), self._given_back() as conn, self._database.apart(conn):
            yield conn

    @contextlib.contextmanager
    def _given_back(self) -> Iterator[Connection]:
        conn = self.conn
        try:
            with self._stack.pop_all():
                yield conn
        finally:
            self._conn = None


@Prepared
def _clear(table: Table) -> Delete:
    return delete(table)


def _writer_lock(url: str) -> threading.RLock:
    with _writers_guard:
        return _writers.setdefault(url, threading.RLock())
