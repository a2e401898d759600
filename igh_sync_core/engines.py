"""Engines: how this program opens either kind of database."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from igh_sync_core.errors import ConfigError

BUSY_TIMEOUT_S = 60
APART = "igh_sync_apart"
"""Execution option of a transaction that takes no part in the queue of writers."""

_OPTIONS: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 32, "max_overflow": -1, "hide_parameters": True}
"""At most so many idle connections; whoever needs more at once opens them."""

_SQLITE_HEADER = b"SQLite format 3\0"


def sqlite_engine(path: Path) -> Engine:
    """An engine for a file, which is made on first use.

    Raises:
        ConfigError: It could not be created or written.
    """
    path = path.expanduser().absolute()
    if fault := _why_unwritable(path):
        msg = f"SQLITE_DB_PATH: {path} {fault}; name a file in a folder you may write to"
        raise ConfigError([msg])
    patience = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "cached_statements": 32}
    engine = create_engine(f"sqlite:///{path}", connect_args=patience, **_OPTIONS)
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
    conn.exec_driver_sql("BEGIN" if conn.get_execution_options().get(APART) else "BEGIN IMMEDIATE")


def postgres_engine(connection_string: str) -> Engine:
    """An engine for a server; nothing is asked before the first connection."""
    url = make_url(connection_string).set(drivername="postgresql+psycopg")
    # A connection that was kept may have died with the server meanwhile; a new one takes its place then.
    return create_engine(url, pool_pre_ping=True, **_OPTIONS)
