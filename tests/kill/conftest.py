"""A second empty database of the same engine, for the copy that nobody disturbs."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


@pytest.fixture
def other_settings(
    request: pytest.FixtureRequest, database_settings: dict[str, str], tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The setting that selects it."""
    if "sqlite_db_path" in database_settings:
        yield {"sqlite_db_path": str(tmp_path / "undisturbed.db")}
        return
    server: str = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{name}"')
    yield {"postgres_connection_string": server.replace("/postgres?", f"/{name}?")}
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
