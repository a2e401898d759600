"""Engines: how this program opens either kind of database."""

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from igh_sync_core.config import Config
from igh_sync_core.errors import ConfigError, StoreUnavailable
from igh_sync_core.store import driver

BUSY_TIMEOUT_S = 60
PATIENCE = "5min"
"""For a lock of somebody else's, as PostgreSQL spells it: far longer than transactions of a run wait for each other."""

_IDLE_S = 1.0
_IDLE_SINCE = "igh_sync_idle_since"
APART = "igh_sync_apart"
"""Execution option of a transaction that takes no part in the queue of writers."""

_OPTIONS: dict[str, Any] = {
    "poolclass": QueuePool,
    "max_overflow": -1,
    "pool_use_lifo": True,
    "hide_parameters": True,
}
"""The connection used last is taken first; whoever needs more than there are at once opens them."""

_OTHER_FILE = "name another file, in a folder you may write to"

_IDLE_SQLITE, _IDLE_POSTGRES = 2, 32
"""Idle connections kept at most: each of SQLite's holds all definitions, pages and statements, some 3 MB."""

LOG_PAGES = 4_000
"""Pages in SQLite's write-ahead log, of 8 kB in files of ours, from which on each commit moves them into the file.

Fewer are left to ``log_mover`` during a run.
"""


def log_of(path: Path) -> Path:
    """Where SQLite keeps the write-ahead log of a file: beside the one that a link leads to."""
    return Path(f"{path.resolve()}-wal")


def url_of(config: Config) -> URL:
    """Where the database is; PostgreSQL wins when both are set."""
    if config.get_db_type() == "postgresql":
        url = make_url(config.postgres_connection_string or "").set(drivername="postgresql+psycopg")
        # SQLAlchemy takes user and password out of their escapes, as libpq does; the database it leaves in them.
        return url.set(database=unquote(url.database)) if url.database else url
    path = Path(config.sqlite_db_path or "dataverse.db").expanduser().absolute()
    return URL.create("sqlite", database=str(path))


def open_engine(config: Config) -> Engine:
    """An engine; a SQLite file is made on first use, and no server is asked before the first connection.

    To connect to a SQLite file that keeps its texts in UTF-16 raises ``ConfigError``, too.

    Raises:
        ConfigError: The SQLite file could not be created or written.
    """
    if fault := find_fault(config):
        raise ConfigError([fault])
    url = url_of(config)
    return _sqlite_engine(url) if url.get_backend_name() == "sqlite" else _postgres_engine(url)


def find_fault(config: Config) -> str:
    """Why the database cannot be used, as far as that is seen without asking a server or making a file; "" if it can.

    Names setting, path and remedy.
    """
    if config.get_db_type() != "sqlite":
        return ""
    path = Path(url_of(config).database or "")
    fault = _why_unwritable(path)
    return f"SQLITE_DB_PATH: {path} {fault}; {_OTHER_FILE}" if fault else ""


def _sqlite_engine(url: URL) -> Engine:
    path = Path(url.database or "")
    # An insert of twenty wide rows takes a quarter of a megabyte, on every connection that ever made it.
    patience = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "cached_statements": 16}
    engine = create_engine(url, connect_args=patience, pool_size=_IDLE_SQLITE, **_OPTIONS)
    event.listen(engine, "do_connect", partial(_open_sqlite, path))
    event.listen(engine, "connect", partial(_refuse_other_encodings, path))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _why_unwritable(path: Path) -> str:
    """What stops SQLite from writing there, without making the file: nothing is written before the source answers."""
    if path.is_dir():
        return "is a folder"
    if path.exists():
        if fault := _why_unusable(path):
            return fault
        return "" if os.access(path, os.W_OK) else "may not be written"
    if path.is_symlink():
        fault = _why_unmakable(path.resolve())
        return f"is a link to {path.resolve()}, which {fault}" if fault else ""
    return _why_unmakable(path)


def _why_unmakable(path: Path) -> str:
    if not path.parent.is_dir():
        return "lies in a folder that does not exist"
    return "" if os.access(path.parent, os.W_OK) else "lies in a folder that may not be written"


def _why_unusable(path: Path) -> str:
    """What SQLite says against a file that exists; what may pass, such as a lock, is told when the file is used.

    Never looked at past SQLite: to close a file gives up every lock that this process holds on it, for its other
    connections as well, and another process may then take their log away.
    Source: https://www.sqlite.org/howtocorrupt.html
    """
    # A log that a killed run left stays where it is; without one, this way leaves none behind.
    mode = "ro" if log_of(path).exists() else "rw"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as exc:
        is_foreign = getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
        return "is no SQLite database, or a damaged one" if is_foreign else ""
    return ""


def _open_sqlite(
    path: Path, dialect: Dialect, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> DBAPIConnection:
    """Connect; SQLite's refusal to open or make a file says neither which nor whose fault that is."""
    try:
        return dialect.connect(*arguments, **options)
    except sqlite3.OperationalError as exc:
        if path.exists():  # a lack of file handles, for one, which passes
            msg = f"the database is not available: {path}: {exc}"
            raise StoreUnavailable(msg) from exc
        msg = f"SQLITE_DB_PATH: {path} cannot be made ({exc}); {_OTHER_FILE}"
        raise ConfigError([msg]) from exc


def looking_engine(path: Path, *, is_read_only: bool = False) -> Engine:
    """An engine for a SQLite file that is only looked at: to open it changes nothing of it.

    Args:
        path: An absolute path; the file exists.
        is_read_only: Whether SQLite is told so, which then leaves the log of a killed run where it is.
    """
    url = f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true" if is_read_only else f"sqlite:///{path}"
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "connect", partial(_refuse_other_encodings, path))
    return engine


def _refuse_other_encodings(path: Path, connection: sqlite3.Connection, _record: object) -> None:
    """See that a file just opened keeps its texts as records come, in UTF-8; nothing is written before.

    To tell, SQLite reads all definitions, which a connection that is used must have read anyway.
    """
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    if encoding != "UTF-8":
        connection.close()  # SQLAlchemy has not got it yet
        msg = f"SQLITE_DB_PATH: {path} keeps its texts in {encoding} instead of UTF-8; {_OTHER_FILE}"
        raise ConfigError([msg])


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # SQLAlchemy, not the driver, begins and ends transactions: the driver's own habit leaves DDL outside.
    connection.isolation_level = None
    # Records are a few KB each; larger pages hold them with fewer overflow pages. Files that exist keep their size.
    connection.execute("PRAGMA page_size = 8192")
    _keep_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute("PRAGMA temp_store = FILE")
    # Per connection, and every connection fills its own in time: what the files hold is cached by the system anyway.
    connection.execute("PRAGMA cache_size = -1000")
    connection.execute("PRAGMA temp.cache_size = -250")


def _is_busy(exc: BaseException) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


@retry(
    retry=retry_if_exception(_is_busy), wait=wait_random(0.01, 0.1), stop=stop_after_delay(BUSY_TIMEOUT_S), reraise=True
)
def _keep_log(connection: sqlite3.Connection) -> None:
    # Processes that make a new file WAL at the same moment refuse each other at once, whatever the timeout says.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(conn: Connection) -> None:
    statement = "BEGIN" if conn.get_execution_options().get(APART) else "BEGIN IMMEDIATE"
    driver.execute(conn, statement)


def _postgres_engine(url: URL) -> Engine:
    # There is no column of that type, and to ask for it would cost every run a statement. Records are sent in the
    # bytes they came in, whatever encoding the database has of its own.
    settings = {"client_encoding": "utf8"}
    # Databases and roles may have defaults of their own. Nothing is said against them in the startup packet beyond the
    # encoding: poolers refuse what they do not track there (PgBouncer "unsupported startup parameter:
    # default_transaction_isolation", RDS Proxy any ``options``), and the user's own ``options`` stay as they are.
    # The isolation is told with BEGIN, which costs nothing: entities are written side by side, and any stricter level
    # refuses one of two transactions. Schema and time zone are the user's choice; no other setting changes a result.
    engine = create_engine(
        url,
        use_native_hstore=False,
        connect_args=settings,
        isolation_level="READ COMMITTED",
        pool_size=_IDLE_POSTGRES,
        **_OPTIONS,
    )
    event.listen(engine, "connect", _prepare_postgres)
    event.listen(engine, "checkin", _note_idle)
    event.listen(engine, "checkout", partial(_ping_idle, engine.dialect))
    return engine


def _prepare_postgres(connection: psycopg.Connection, _record: object) -> None:
    """See that nothing waits for ever, and that times come in the one form that the driver reads.

    A transaction of somebody else that locks a table keeps even its readers waiting, so each connection has the limit
    from its beginning, as SQLite's have; whoever has set one of their own keeps it.
    """
    connection.autocommit = True  # or it would begin a transaction, and what is set end with it
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false) WHERE current_setting('lock_timeout') = '0'", [PATIENCE]
    )
    style = connection.info.parameter_status("DateStyle")
    if not (style is None or style.startswith("ISO")):
        connection.execute("SET DateStyle TO ISO")
    connection.autocommit = False


def _note_idle(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_IDLE_SINCE] = time.monotonic()


def _ping_idle(dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _user: object) -> None:
    """Give out no connection that died with the server while it was kept; asking each time would cost a statement.

    Raises:
        sqlalchemy.exc.InvalidatePoolError: It did; the pool makes new ones, and nobody else sees this.
    """
    idle_since = record.info.get(_IDLE_SINCE)
    if idle_since is None or time.monotonic() - idle_since < _IDLE_S:
        return
    try:
        dialect.do_ping(connection)
    except psycopg.Error as exc:
        raise InvalidatePoolError from exc
