"""Columns that pages come without: what is looked up, how often, and when it is a fault."""

from collections.abc import Iterator
from typing import Any

import pytest
from loads import A, B, Loader, loading, record
from msgspec import Raw
from sqlalchemy import Connection

from igh_sync_core.errors import SchemaError
from igh_sync_core.history import lacking
from igh_sync_core.history.lacking import Lacking
from igh_sync_core.store.database import Database

FULL = {"name": "one", "score": 1, "tags": "1,2", "versionnumber": 1}
HELD = {name: value for name, value in FULL.items() if name not in ("score", "tags")}


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Columns that the table was asked for, one query each."""
    names: list[str] = []
    held = lacking._held  # noqa: SLF001 - the query that may take the whole table

    class Looks:
        def rows(self, conn: Connection, about: tuple[Any, str]) -> list[Any]:
            names.append(about[1])
            return held.rows(conn, about)

    monkeypatch.setattr(lacking, "_held", Looks())
    return names


def page(load: Loader, watch: Lacking, version: str | None, *records: Raw) -> None:
    batch = load.codec.decode(records)
    with load.database.transaction(load.conn):
        watch.check(load.conn, batch, version)
    load.write(*records)


def test_a_column_that_is_never_sent_is_looked_for_once(load: Loader, looked: list[str]) -> None:
    watch = Lacking(load.tables, "1")
    page(load, watch, "1", record(A, **HELD))
    assert looked == []

    for number in range(3):
        page(load, watch, "2", record(B, **HELD | {"versionnumber": number}))
    assert sorted(looked) == ["score", "tags"]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("column", ["score", "tags"])
def test_once_it_is_sent_it_is_looked_for_again(load: Loader, version: str, column: str) -> None:
    watch = Lacking(load.tables, "1")
    page(load, watch, "2", record(A, **HELD))
    page(load, watch, version, record(A, **HELD), record(B, **HELD, **{column: FULL[column]}))

    with pytest.raises(SchemaError, match=f"records come without {column} now"):
        page(load, watch, "2", record(A, **HELD))


def test_without_a_known_version_the_first_page_stands_for_the_run(load: Loader) -> None:
    load.write(record(A, **FULL), record(B, **FULL))
    watch = Lacking(load.tables, "")
    page(load, watch, None, record(A, **HELD))
    page(load, watch, "1", record(A, **HELD))
    page(load, watch, "1", record(A, **HELD))

    with pytest.raises(SchemaError, match="the metadata changed during the run"):
        page(load, watch, "2", record(A, **HELD))


@pytest.mark.parametrize("version", [None, ""])
def test_a_page_that_tells_no_version_is_no_sign_of_a_change(load: Loader, version: str | None) -> None:
    load.write(record(A, **FULL), record(B, **FULL))

    page(load, Lacking(load.tables, "1"), version, record(A, **HELD))
