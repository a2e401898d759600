"""Connections for looking at a database, of any age or not there yet, in use or not: nothing of it is changed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event

from igh_sync_core.config import Config
from igh_sync_core.store.database import Database
from igh_sync_core.store.driver import store_errors
from igh_sync_core.store.engines import log_of, looking_engine


@contextlib.contextmanager
def reading(config: Config, *, with_temporaries: bool = False) -> Iterator[Connection]:
    """A connection that cannot write; an empty database stands in for a SQLite file that is not there yet.

    Args:
        config: Where the database is.
        with_temporaries: Whether temporary tables may be made on it; then nothing but the caller keeps it from writing.

    Raises:
        StoreUnavailable: The database cannot be reached, or is locked.
        StoreError: It refused a statement, or its file is damaged.
        ConfigError: The file is none of SQLite's, keeps its texts in UTF-16, or lies where none can be written.
    """
    database = Database(config)  # refuses what a run could not write to
    if database.is_postgres:
        with database.connection() as conn:
            yield conn if with_temporaries else conn.execution_options(postgresql_readonly=True)
        return
    path = Path(config.sqlite_db_path or "dataverse.db").expanduser().absolute()
    engine = _engine_of(path, with_temporaries=with_temporaries)
    try:
        with store_errors(), engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()


def _engine_of(path: Path, *, with_temporaries: bool) -> Engine:
    if not path.exists():
        return create_engine("sqlite://")
    return looking_engine(path) if with_temporaries else _unwriting_engine(path)


def _unwriting_engine(path: Path) -> Engine:
    """An engine that leaves a file as it is, to the byte.

    Where a killed run left a log beside the file, closing it would move the log's pages into it; a connection opened
    for reading alone does not, but it leaves a log behind where there is none.
    """
    engine = looking_engine(path, is_read_only=log_of(path).exists())
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only = ON"))
    return engine
