"""Tables made, extended and widened, and what that does to the rows already there; on both engines."""

import json
from datetime import timedelta
from typing import Any

import pytest
from shaping import MULTI, NOON, PICK, Store, key, spec_of, text_column
from sqlalchemy import MetaData, Table, select

from igh_sync_core import errors
from igh_sync_core.model import Column, Kind, Lookup
from igh_sync_core.schema.tables import identifier
from igh_sync_core.store.database import Database

WIDEST = 448
KEYWORDS = ("order", "group", "select", "from", "user", "table", "check", "limit", "default", "offset", "end", "desc")
LONG = "vin_" + "averylongcolumnname" * 5


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def values_of(kind: Kind) -> object:
    return {
        Kind.STRING: "some text",
        Kind.GUID: key(7),
        Kind.INT16: 7,
        Kind.INT32: 2_000_000_000,
        Kind.INT64: 9_000_000_000_000_000_000,
        Kind.BOOLEAN: True,
        Kind.DECIMAL: 5,
        Kind.DOUBLE: 1.5,
        Kind.DATETIME: "2024-04-07T21:59:01Z",
        Kind.DATE: "2024-04-07",
        Kind.BINARY: "AAEC",
        Kind.COMPLEX: {"Value": True, "CanBeChanged": False, "ManagedPropertyLogicalName": "iscustomizable"},
    }[kind]


# What the database must take: names and shapes


@pytest.mark.parametrize("names", [KEYWORDS, ("Name", "MixedCase", "camelCase"), (LONG,)])
def test_any_name_is_kept_and_filled(store: Store, names: tuple[str, ...]) -> None:
    spec = spec_of(*map(text_column, names), entity="order")
    store.become(spec)
    store.write(spec, {"orderid": key(1), **dict.fromkeys(names, "x")}, new=True)
    store.write(spec, {"orderid": key(1), **dict.fromkeys(names, "y")}, now=NOON + timedelta(hours=1))

    with store.database.writing() as conn:
        stored = Table("orders", MetaData(), autoload_with=conn)
        rows = conn.execute(select(*(stored.c[identifier(name)] for name in names)).order_by(stored.c.row_id)).all()

    assert rows == [("x",) * len(names), ("y",) * len(names)]


def test_long_names_differ_still_when_they_are_shortened(store: Store) -> None:
    spec = spec_of(
        text_column(f"{LONG}_one"),
        text_column(f"{LONG}_two"),
        Column(f"{LONG}_tags", Kind.STRING, option=MULTI),
        Column(f"_{LONG}_value", Kind.GUID),
        entity="e" * 61,
        lookups=[Lookup(f"_{LONG}_value", (), is_polymorphic=True)],
    )
    applied = store.become(spec)
    store.write(spec, {spec.key: key(1), f"{LONG}_one": "1", f"{LONG}_two": "2", f"{LONG}_tags": "4,5"})

    assert applied.failed == ()
    current, _history = store.views_of(spec)
    with store.database.writing() as conn:
        view = Table(current, MetaData(), autoload_with=conn)
        [row] = conn.execute(select(view.c[identifier(f"{LONG}_one")], view.c[identifier(f"{LONG}_two")])).all()

    assert row == ("1", "2")


def test_a_table_of_448_columns_of_every_kind_is_made_filled_and_compared(store: Store) -> None:
    kinds = list(Kind)
    columns = [Column(f"c{at:03}", kinds[at % len(kinds)]) for at in range(WIDEST - 2)]
    spec = spec_of(*columns, Column("flag", Kind.COMPLEX))
    record: dict[str, Any] = {"sampleid": key(1)} | {column.name: values_of(column.kind) for column in columns}
    store.become(spec)

    counts = [
        store.write(spec, record, new=True),
        store.write(spec, record),
        store.write(spec, record | {"c000": "another"}, now=NOON + timedelta(hours=1)),
    ]

    assert [(one.added, one.updated, one.unchanged) for one in counts] == [(1, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert store.rows("SELECT count(*) FROM samples_history") == [(2,)]


def test_managed_properties_are_kept_as_their_json(store: Store) -> None:
    spec = spec_of(Column("iscustomizable", Kind.COMPLEX))
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "iscustomizable": values_of(Kind.COMPLEX)}, new=True)

    [(kept,)] = store.rows("SELECT iscustomizable FROM samples")

    assert (json.loads(kept) if isinstance(kept, str) else kept) == values_of(Kind.COMPLEX)


# Extending what is stored


def test_a_new_column_is_filled_into_open_rows_without_versions(store: Store) -> None:
    before, after = spec_of(text_column("name")), spec_of(text_column("name"), Column("grade", Kind.INT32))
    store.become(before)
    store.write(before, {"sampleid": key(1), "name": "a"}, new=True)
    store.begin(before)

    store.become(after)
    counts = store.write(after, {"sampleid": key(1), "name": "a", "grade": 7}, now=NOON + timedelta(days=1))

    assert (counts.added, counts.updated, counts.unchanged) == (0, 0, 1)
    assert store.rows("SELECT name, grade, valid_to FROM samples") == [("a", 7, None)]
    assert store.rows("SELECT fresh_columns, columns_digest FROM _sync_state") == [("grade", None)]


def test_a_new_multiselect_reaches_open_rows_and_their_junction(store: Store) -> None:
    before, after = (
        spec_of(text_column("name")),
        spec_of(text_column("name"), Column("tags", Kind.STRING, option=MULTI)),
    )
    store.become(before)
    store.write(before, *({"sampleid": key(n), "name": "a"} for n in (1, 2)), new=True)
    store.begin(before)
    store.become(after)

    for _again in range(2):
        store.write(
            after, {"sampleid": key(1), "name": "a", "tags": "5,6"}, {"sampleid": key(2), "name": "a", "tags": "9"}
        )

    assert store.rows("SELECT tags, valid_to FROM samples ORDER BY sampleid") == [(None, None), ("9", None)]
    picks = store.rows("SELECT option_code, valid_to FROM _junction_samples_tags ORDER BY option_code")
    assert picks == [(5, None), (6, None), (9, None)]


def test_a_text_found_to_be_a_multiselect_makes_no_versions(store: Store) -> None:
    """As when the right to read definitions is given later."""
    before, after = spec_of(text_column("tags")), spec_of(Column("tags", Kind.STRING, option=MULTI))
    store.become(before)
    store.write(before, {"sampleid": key(1), "tags": "5,6"}, new=True)
    store.begin(before)
    store.become(after)

    counts = store.write(after, {"sampleid": key(1), "tags": "5,6"})

    assert counts.unchanged == 1
    assert store.rows("SELECT tags FROM samples") == [(None,)]
    assert store.rows("SELECT option_code FROM _junction_samples_tags ORDER BY 1") == [(5,), (6,)]


def test_a_number_found_to_be_a_choice_is_read_whole_for_its_codes(store: Store) -> None:
    store.become(spec_of(Column("grade", Kind.INT32)))
    store.begin(spec_of(Column("grade", Kind.INT32)))

    store.become(spec_of(Column("grade", Kind.INT32, option=PICK)))

    assert store.rows("SELECT fresh_columns, columns_digest FROM _sync_state") == [("grade", None)]


def test_a_removed_column_stays_and_comes_back(store: Store) -> None:
    with_it, without = spec_of(text_column("name"), text_column("note")), spec_of(text_column("name"))
    store.become(with_it)
    store.write(with_it, {"sampleid": key(1), "name": "a", "note": "old"}, new=True)
    store.begin(with_it)

    store.become(without)
    unchanged = store.write(without, {"sampleid": key(1), "name": "a"}).unchanged
    held = store.rows("SELECT note FROM samples")
    store.become(with_it)
    back = store.write(with_it, {"sampleid": key(1), "name": "a", "note": "new"})

    assert (unchanged, held) == (1, [("old",)])
    assert (back.updated, store.rows("SELECT note FROM samples")) == (0, [("new",)])


def test_the_stored_column_renamed_by_hand_makes_way_for_the_new_type(store: Store) -> None:
    """The remedy that the error names: the old values stay under the old type."""
    before, after = spec_of(Column("c", Kind.INT32)), spec_of(Column("c", Kind.BOOLEAN))
    store.become(before)
    store.write(before, {"sampleid": key(1), "c": 5}, new=True)
    store.begin(before)
    store.run("ALTER TABLE samples RENAME COLUMN c TO c_old")

    applied = store.become(after)
    store.write(after, {"sampleid": key(1), "c": True})

    assert applied.failed == ()
    assert store.rows("SELECT c_old, c FROM samples") == [(5, True)]


def test_a_table_that_somebody_dropped_is_made_again_and_read_whole(store: Store) -> None:
    spec = spec_of(text_column("name"))
    store.become(spec)
    store.begin(spec)
    for statement in ("DROP VIEW samples_current", "DROP VIEW samples_history", "DROP TABLE samples"):
        store.run(statement)

    applied = store.become(spec)

    assert applied.made == ("samples",)
    assert store.rows("SELECT columns_digest FROM _sync_state") == [(None,)]


# Widening


def types_of(store: Store, table: str = "samples") -> dict[str, str]:
    with store.database.writing() as conn:
        stored = Table(table, MetaData(), autoload_with=conn)
        return {column.name: str(column.type.compile(dialect=conn.dialect)) for column in stored.columns}


def test_numbers_and_texts_are_widened_under_their_views(store: Store) -> None:
    store.become(spec_of(Column("n", Kind.INT32), text_column("t", 10), text_column("u", 10)))
    wide = spec_of(Column("n", Kind.INT64), text_column("t", 20), text_column("u"))

    applied = store.become(wide)
    store.write(wide, {"sampleid": key(1), "n": 2**40, "t": "x" * 20, "u": "x" * 99}, new=True)

    assert applied.failed == ()
    expected = ("BIGINT", "VARCHAR(20)", "TEXT") if store.database.is_postgres else ("INTEGER", "TEXT", "TEXT")
    assert tuple(types_of(store)[name] for name in "ntu") == expected
    assert store.rows("SELECT n FROM samples_current") == [(2**40,)]


def test_a_length_that_shrinks_keeps_the_wider_column_and_loses_nothing(store: Store) -> None:
    store.become(spec_of(text_column("t", 20)))
    narrow = spec_of(text_column("t", 5))
    store.become(narrow)

    for new in (True, False):
        store.write(narrow, {"sampleid": key(1 + new), "t": "x" * 20}, new=new)

    assert store.rows("SELECT t FROM samples_current") == [("x" * 20,), ("x" * 20,)]


@pytest.mark.parametrize("new", [True, False], ids=["first read", "later read"])
def test_a_text_longer_than_metadata_says_finds_room(store: Store, *, new: bool) -> None:
    spec = spec_of(text_column("t", 5), text_column("u", 5), Column("tags", Kind.STRING, option=MULTI))
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "t": "short"}, new=True)

    counts = store.write(spec, {"sampleid": key(2), "t": "x" * 500, "tags": "1,2"}, new=new)

    assert counts.added == 1
    assert store.rows("SELECT t, tags_label FROM samples_current ORDER BY sampleid") == [
        ("short", None),
        ("x" * 500, "1; 2"),
    ]
    if store.database.is_postgres:
        assert (types_of(store)["t"], types_of(store)["u"]) == ("TEXT", "VARCHAR(5)")
    assert store.judge(spec).findings == ()


def test_a_foreign_view_that_keeps_a_text_short_is_named(store: Store) -> None:
    if not store.database.is_postgres:
        pytest.skip("SQLite has no lengths")
    spec = spec_of(text_column("t", 5))
    store.become(spec)
    store.run("CREATE VIEW theirs AS SELECT t FROM samples")

    with pytest.raises(errors.DataError, match=r"sample: t must be widened to text, but .* theirs"):
        store.write(spec, {"sampleid": key(1), "t": "x" * 9}, new=True)
    applied = store.become(spec_of(text_column("t", 50)))

    [(entity, note)] = applied.unseen
    assert (entity, applied.failed) == ("sample", ())
    assert "view theirs depends on" in note
