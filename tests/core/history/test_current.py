"""A page laid beside what is stored: what counts as the same, as refreshed, and as changed."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loads import NOON, SPEC, A, B, Loader, at, loading, record
from msgspec import Raw
from sqlalchemy import select, text

from igh_sync_core.config import Config
from igh_sync_core.errors import DataError
from igh_sync_core.history import current
from igh_sync_core.history.rows import row_codec
from igh_sync_core.history.versions import History
from igh_sync_core.model import Column, Kind, TableSpec
from igh_sync_core.report import Counts
from igh_sync_core.store.database import Database

BOXED = msgspec.structs.replace(SPEC, columns=(*SPEC.columns, Column("box", Kind.COMPLEX)))
LABEL = "name@OData.Community.Display.V1.FormattedValue"


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    with loading(database) as loader:
        yield loader


@pytest.fixture
def boxed(database: Database) -> Iterator[Loader]:
    with loading(database, BOXED) as loader:
        yield loader


def of_type(loader: Loader, name: str, kind: Kind, *, fresh: bool) -> Loader:
    """The same tables, a column of which metadata gives another type now."""
    columns = tuple(msgspec.structs.replace(one, kind=kind) if one.name == name else one for one in SPEC.columns)
    later = Loader.__new__(Loader)
    later.__dict__.update(loader.__dict__, spec=msgspec.structs.replace(SPEC, columns=columns))
    tables = replace(loader.tables, spec=later.spec)
    later.history = History(loader.database, loader, tables, fresh=frozenset({name} if fresh else ()))
    later.codec = row_codec(later.spec, loader.database.kind)
    return later


def documents(loader: Loader) -> list[Any]:
    with loader.database.transaction(loader.conn):
        return [
            value if isinstance(value, dict) else json.loads(value)
            for value in loader.conn.scalars(select(loader.tables.main.c.json_response))
        ]


def met(loader: Loader, *records: Raw) -> tuple[int, int]:
    """How many records are stored exactly so, and how many of the others are changed."""
    with loader.database.transaction(loader.conn):
        found = loader.history.meet(loader.codec.decode(records))
    return found.same, len(found.changed)


def test_what_is_stored_exactly_so_is_not_looked_at_again(load: Loader) -> None:
    load.write(record(A, name="a", score=1.5), record(B, name="b"))

    assert met(load, record(A, name="a", score=1.5), record(B, name="c")) == (1, 1)


def test_postgresql_tells_the_same_in_an_order_and_form_of_its_own(load: Loader) -> None:
    load.write(Raw(b'{"sampleid": "%s", "zeta": 1.50, "name": "a", "alpha": 1e2}' % A.encode()))
    same = Raw(b'{"alpha": 100, "sampleid": "%s", "name": "a", "zeta": 1.5}' % A.encode())

    assert met(load, same) == ((1, 0) if load.database.is_postgres else (0, 0))
    assert load.write(same) == Counts(unchanged=1)
    assert load.versions("name") == [("a", NOON, None, None)]


def test_an_object_spelled_otherwise_is_no_change_and_another_one_is(boxed: Loader) -> None:
    boxed.write(Raw(b'{"sampleid": "%s", "box": {"a": 1, "b": 2}}' % A.encode()))

    assert boxed.write(Raw(b'{"sampleid": "%s", "box": {"b":2,"a":1.0}}' % A.encode()), now=at(1)).unchanged == 1
    assert boxed.write(Raw(b'{"sampleid": "%s", "box": null}' % A.encode()), now=at(2)).updated == 1
    assert boxed.write(Raw(b'{"sampleid": "%s", "box": {}}' % A.encode()), now=at(3)).updated == 1


def test_a_label_alone_is_refreshed_on_a_record_with_news_beside_it(load: Loader) -> None:
    load.write(record(A, name="a", **{LABEL: "x"}), record(B, name="b"))

    assert load.write(record(A, name="a", **{LABEL: "y"}), record(B, name="c"), now=at(1)) == Counts(
        updated=1, unchanged=1
    )

    assert [document.get(LABEL) for document in documents(load)] == ["y", None, None]


def test_what_the_present_types_cannot_tell_counts_as_changed(load: Loader) -> None:
    load.write(record(A, name="word"), record(B, name="12"))

    later = of_type(load, "score", Kind.DECIMAL, fresh=False)
    assert met(later, record(A, name="word"), record(B, name="12")) == (2, 0)
    later = of_type(load, "name", Kind.INT32, fresh=False)
    assert met(later, record(A, name=1), record(B, name=12)) == (0, 2)


def test_a_fresh_column_is_not_compared_whatever_was_received_before(load: Loader) -> None:
    load.write(record(A, name="word"))

    later = of_type(load, "name", Kind.INT32, fresh=True)

    assert met(later, record(A, name=1)) == (0, 0)


def test_a_key_that_is_no_guid_is_named_where_it_is_written(load: Loader) -> None:
    wrong = record("zzzzzzzz-0000-0000-0000-000000000001", name="a")
    if load.database.is_postgres:
        with pytest.raises(DataError, match=r"sample zzzzzzzz.*column `sampleid`"):
            load.write(wrong)
        assert load.delete("no guid at all") == 0
    else:
        assert load.write(wrong).added == 1


def test_a_version_without_a_beginning_ends_at_the_sync_time(load: Loader) -> None:
    load.write(record(A, name="a"))
    with load.database.transaction(load.conn):
        load.conn.execute(text("update samples set valid_from = null"))

    load.write(record(A, name="b", modified=at(1)), now=at(5))

    assert load.versions("name") == [("a", None, at(5), "updated"), ("b", at(5), None, None)]


def spec_keyed_by(kind: Kind) -> TableSpec:
    return msgspec.structs.replace(SPEC, columns=(Column("sampleid", kind), Column("name", Kind.STRING)))


@pytest.mark.parametrize(("kind", "keys"), [(Kind.STRING, ("a'b", 'c"d')), (Kind.INT32, (7, 8))])
def test_keys_of_other_kinds_are_found(database: Database, kind: Kind, keys: tuple[Any, Any]) -> None:
    with loading(database, spec_keyed_by(kind)) as load:
        first = [Raw(json.dumps({"sampleid": key, "name": "a"}).encode()) for key in keys]
        changed = Raw(json.dumps({"sampleid": keys[0], "name": "b"}).encode())
        load.write(*first)

        assert load.write(*first) == Counts(unchanged=2)
        assert load.write(changed, now=at(1)) == Counts(updated=1)
        assert load.snapshot(changed, now=at(2)) == 1


@pytest.mark.parametrize(("old", "new"), [("true", "1"), ("0", "false"), ('{"a": [true]}', '{"a": [1]}')])
def test_truth_values_are_no_numbers(boxed: Loader, old: str, new: str) -> None:
    boxed.write(with_box(old))

    assert boxed.write(with_box(new), now=at(1)) == Counts(updated=1)
    assert boxed.write(with_box(new), now=at(2)) == Counts(unchanged=1)


def with_box(text: str) -> Raw:
    return Raw(f'{{"sampleid": "{A}", "box": {text}}}'.encode())


def test_a_number_beyond_every_decimal_is_no_fault_of_the_comparison(boxed: Loader) -> None:
    if boxed.database.is_postgres:
        with pytest.raises(DataError, match=f"sample {A}"):
            boxed.write(with_box("1E9999999999999999999"))
        return
    boxed.write(with_box("1E9999999999999999999"))

    assert boxed.write(with_box("2E9999999999999999999"), now=at(1)) == Counts(updated=1)


def test_a_type_that_became_narrower_makes_no_versions(load: Loader) -> None:
    load.write(Raw(b'{"sampleid": "%s", "score": 10.00}' % A.encode()), record(B, score=7.5))

    later = of_type(load, "score", Kind.INT32, fresh=False)

    same, changed = met(later, record(A, modified=None, score=10, **{LABEL: "x"}), record(B, score=7))
    assert (same, changed) == (0, 1)


def test_a_stored_document_that_is_none_counts_as_changed(tmp_path: Path) -> None:
    """On SQLite: PostgreSQL keeps JSON alone."""
    file = Database(Config("https://org.crm.dynamics.com", "", "", "", sqlite_db_path=str(tmp_path / "copy.db")))
    with loading(file) as load:
        load.write(record(A, name="a"))
        with load.database.transaction(load.conn):
            load.conn.execute(text("update samples set json_response = '{'"))

        assert load.write(record(A, name="a"), now=at(1)) == Counts(updated=1)


@pytest.mark.parametrize(("limit", "most"), [("ROWS_AT_ONCE", 2), ("BYTES_AT_ONCE", 300), ("BYTES_AT_ONCE", 1)])
def test_a_page_is_looked_up_in_parts(load: Loader, monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    monkeypatch.setattr(current, limit, most)
    keys = [f"{number:08}-0000-0000-0000-000000000000" for number in range(7)]
    load.write(*(record(key, name="a") for key in keys[:6]))
    names = ["a", "b", "a", "a", "b", "a", "new"]

    counts = load.write(*(record(key, name=name) for key, name in zip(keys, names, strict=True)), now=at(1))

    assert counts == Counts(added=1, updated=2, unchanged=4)
    opened = [(str(key), name) for key, name, _start, end, _why in load.versions("sampleid", "name") if end is None]
    assert sorted(opened) == list(zip(keys, names, strict=True))


def test_keys_are_looked_up_by_the_index_of_open_rows(load: Loader) -> None:
    if load.database.is_postgres:
        pytest.skip("PostgreSQL goes through a table so small")
    load.write(record(A, name="a"), record(B, name="b"))
    load.delete(B, now=at(1))
    asked: list[str] = []
    driver: sqlite3.Connection = load.conn.connection.dbapi_connection
    driver.set_trace_callback(asked.append)
    load.write(record(A, name="c"), record(B, name="b"), now=at(2))
    driver.set_trace_callback(None)

    lookups = [text for text in asked if text.startswith("SELECT") and "json_each" in text]
    plans = [row[3] for text in lookups for row in driver.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(lookups) == 2
    assert [plan for plan in plans if plan.startswith("SEARCH samples")]
    assert not [plan for plan in plans if plan.startswith("SCAN samples")]


def with_length(name: str, length: int, kind: Kind = Kind.STRING) -> TableSpec:
    column = Column(name, kind, max_length=length)
    return msgspec.structs.replace(SPEC, columns=tuple(column if one.name == name else one for one in SPEC.columns))


def test_room_is_made_in_a_page_that_is_the_first_to_change_and_refresh(database: Database) -> None:
    with loading(database, with_length("name", 5)) as load:
        load.write(record(A, name="one"), record(B, name="two", **{LABEL: "x"}), new=True)
        page = record(A, name="far too long"), record(B, name="two", **{LABEL: "y"})

        assert load.write(*page, now=at(1)) == Counts(updated=1, unchanged=1)

        assert sorted(str(document.get(LABEL)) for document in documents(load)) == ["None", "None", "y"]


def test_keys_longer_than_declared_are_found(database: Database) -> None:
    with loading(database, with_length("sampleid", 5)) as load:
        one, other = record("abcdefgh", name="a"), record("abcde", name="a")
        load.write(one, other)

        assert load.write(one, other, now=at(1)) == Counts(unchanged=2)
        assert load.delete("abcdefgh", now=at(2)) == 1
        assert [key for key, _start, end, _why in load.versions("sampleid") if end is None] == ["abcde"]


def test_an_absent_version_without_a_beginning_ends_at_the_sync_time(load: Loader) -> None:
    load.write(record(A), record(B))
    with load.database.transaction(load.conn):
        load.conn.execute(text("update samples set valid_from = null"))

    assert load.snapshot(record(A), now=at(5)) == 1

    assert load.versions() == [(None, None, None), (None, at(5), "absent")]
