"""What people read: labels, all choices of a multi-select, targets of lookups; on both engines."""

from datetime import timedelta

import pytest
from shaping import ENGLISH, FRENCH, MULTI, NOON, PICK, Store, key, spec_of, text_column
from sqlalchemy import MetaData, Table, inspect, text

from igh_sync_core.history import choices
from igh_sync_core.model import Column, Kind, LogicalName, Lookup, Option, OptionKind, TableSpec
from igh_sync_core.schema.tables import open_index_name
from igh_sync_core.store.database import Database

SAMPLE = LogicalName("sample")
LATER = NOON + timedelta(hours=1)
GRADE, TAGS = Column("grade", Kind.INT32, option=PICK), Column("tags", Kind.STRING, option=MULTI)


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def option(field: str, code: int, label: str, language: int = ENGLISH) -> Option:
    return Option(SAMPLE, field, code, language, label)


def record(store: Store, *options: Option, language: int = ENGLISH) -> None:
    with store.database.writing() as conn:
        choices.record(conn, [SAMPLE], options, now=NOON, language=language)


def columns_of(store: Store, view: str) -> list[str]:
    with store.database.writing() as conn:
        return list(Table(view, MetaData(), autoload_with=conn).columns.keys())


def test_each_choice_stands_beside_its_label_and_each_lookup_beside_its_target(store: Store) -> None:
    spec = spec_of(
        GRADE,
        Column("flag", Kind.BOOLEAN, option=OptionKind.BOOLEAN),
        Column("_ownerid_value", Kind.GUID),
        Column("_accountid_value", Kind.GUID),
        Column("managed", Kind.COMPLEX),
        lookups=[
            Lookup("_ownerid_value", (LogicalName("systemuser"), LogicalName("team")), is_polymorphic=True),
            Lookup("_accountid_value", (LogicalName("account"),)),
        ],
    )
    store.become(spec)
    record(store, option("grade", 1, "Good"), option("flag", 1, "Allowed"))
    owner = {"_ownerid_value": key(5), "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "team"}
    store.write(spec, {"sampleid": key(1), "grade": 1, "flag": True, "_accountid_value": key(6), **owner})
    store.write(spec, {"sampleid": key(2), "grade": 8})

    assert columns_of(store, "samples_current") == [
        "sampleid",
        "grade",
        "grade_label",
        "flag",
        "flag_label",
        "_ownerid_value",
        "_ownerid_type",
        "_accountid_value",
        "_accountid_type",
        "sync_time",
        "valid_from",
    ]
    shown = "SELECT grade, grade_label, flag_label, _ownerid_type, _accountid_type FROM samples_current ORDER BY 1"
    assert store.rows(shown) == [(1, "Good", "Allowed", "team", "account"), (8, "8", None, None, None)]


def test_the_history_shows_every_version_and_the_current_view_one_per_key(store: Store) -> None:
    spec = spec_of(text_column("name"), TAGS)
    store.become(spec)
    record(store, option("tags", 1, "One"), option("tags", 2, "Two; and more"))
    store.write(spec, {"sampleid": key(1), "name": "a", "tags": "2,1"})
    store.write(spec, {"sampleid": key(1), "name": "b", "tags": "2"}, now=LATER)
    store.write(spec, {"sampleid": key(1), "name": "c"}, now=LATER + timedelta(hours=1))

    assert store.rows("SELECT name, tags, tags_label, closed_reason FROM samples_history ORDER BY row_id") == [
        ("a", "1,2", "One; Two; and more", "updated"),
        ("b", "2", "Two; and more", "updated"),
        ("c", None, None, None),
    ]
    assert store.rows("SELECT name, tags FROM samples_current") == [("c", None)]


def test_labels_are_in_the_base_language_or_the_next_best(store: Store) -> None:
    spec = spec_of(GRADE)
    store.become(spec, language=FRENCH)
    record(store, option("grade", 1, "Good"), option("grade", 1, "Bon", FRENCH), option("grade", 2, "Only English"))
    store.write(spec, *({"sampleid": key(code), "grade": code} for code in (1, 2)))

    french = store.rows("SELECT grade_label FROM samples_current ORDER BY grade")
    store.become(spec, language=ENGLISH)

    assert french == [("Bon",), ("Only English",)]
    assert store.rows("SELECT grade_label FROM samples_current ORDER BY grade") == [("Good",), ("Only English",)]


def test_a_removed_option_keeps_its_last_label(store: Store) -> None:
    spec = spec_of(GRADE)
    store.become(spec)
    record(store, option("grade", 1, "Good"))
    store.write(spec, {"sampleid": key(1), "grade": 1})
    with store.database.writing() as conn:
        choices.record(conn, [SAMPLE], [], now=LATER, language=ENGLISH)

    assert store.rows("SELECT grade_label FROM samples_current") == [("Good",)]


def test_views_are_built_again_when_columns_change_and_left_alone_otherwise(store: Store) -> None:
    store.become(spec_of(text_column("name")))
    mark = "CREATE VIEW samples_current AS SELECT 1 AS marker"
    store.run("DROP VIEW samples_current")
    store.run(mark)

    store.become(spec_of(text_column("name")))
    untouched = columns_of(store, "samples_current")
    store.become(spec_of(text_column("name"), GRADE))

    assert untouched == ["marker"]
    assert columns_of(store, "samples_current")[:4] == ["sampleid", "name", "grade", "grade_label"]


@pytest.mark.parametrize("name", ["samples_current", "samples_history"])
def test_a_view_that_was_dropped_comes_back(store: Store, name: str) -> None:
    store.become(spec_of())
    store.run(f"DROP VIEW {name}{' CASCADE' if store.database.is_postgres else ''}")

    store.become(spec_of())

    assert "row_id" in columns_of(store, "samples_history")
    assert store.rows("SELECT count(*) FROM samples_current") == [(0,)]


def test_a_current_record_is_looked_up_by_the_index_on_current_records(store: Store) -> None:
    """Though the view is built on the history; PostgreSQL reads a table whole where that is cheaper."""
    spec = spec_of(GRADE, TAGS)
    store.become(spec)
    explain = "EXPLAIN" if store.database.is_postgres else "EXPLAIN QUERY PLAN"
    found = text(f"{explain} SELECT grade_label FROM samples_current WHERE sampleid = :key")  # noqa: S608 - no input

    with store.database.writing() as conn:
        if store.database.is_postgres:
            conn.execute(text("SET LOCAL enable_seqscan = off"))
        plan = conn.execute(found, {"key": key(1)}).all()

    assert [step for step in plan if open_index_name(spec) in str(step)]


@pytest.mark.parametrize("clash", ["samples_current", "samples_history"])
@pytest.mark.parametrize("then", [("sample", "clash"), ("clash", "sample")], ids="-".join)
@pytest.mark.parametrize("first", [("sample", "clash"), ("clash", "sample"), ("sample",), ("clash",)], ids="-".join)
def test_an_entity_set_named_like_a_view_gets_its_table(
    store: Store, first: tuple[str, ...], then: tuple[str, ...], clash: str
) -> None:
    """Whichever comes first, also when the view was there before; and whichever comes first later."""
    specs = {"sample": spec_of(), "clash": spec_of(entity="clash", entity_set=clash)}
    both = [specs[name] for name in then]
    store.become(*(specs[name] for name in first))

    applied = [store.become(*both), store.become(*reversed(both))]
    store.write(specs["clash"], {"clashid": key(1)})
    store.write(specs["sample"], {"sampleid": key(2)})

    names = store.views_of(specs["sample"])
    assert [one.failed for one in applied] == [(), ()]
    assert store.judge(*both).findings == ()
    assert set(names) == {"samples_current", "samples_history", f"{clash}_2"} - {clash}
    for name in names:
        assert store.rows(f"SELECT count(*) FROM {name}") == [(1,)]  # noqa: S608 - our own names


@pytest.mark.parametrize("clash", ["samples_current", "samples_history"])
@pytest.mark.parametrize("then", [("sample", "clash"), ("clash", "sample")], ids="-".join)
def test_an_entity_that_fails_takes_nothing_from_the_others(store: Store, then: tuple[str, ...], clash: str) -> None:
    """Neither the name that another needs nor the table of a choice they share (law 9)."""
    specs = {"sample": spec_of(), "clash": spec_of(GRADE, entity="clash", entity_set=clash)}
    store.become(specs["sample"])
    store.run("CREATE TABLE theirs (x INTEGER)")
    store.run("CREATE INDEX uq_bads_open ON theirs (x)")

    applied = store.become(spec_of(GRADE, entity="bad"), *(specs[name] for name in then))
    store.write(specs["clash"], {"clashid": key(1), "grade": 1})

    assert [name for name, _why in applied.failed] == ["bad"]
    assert [len(store.views_of(spec)) for spec in specs.values()] == [2, 2]
    assert store.rows("SELECT code FROM _optionset_grade") == [(1,)]


@pytest.mark.parametrize(("clash", "left"), [("samples_current", ["samples_history"]), ("samples_history", [])])
def test_a_view_makes_way_alone_where_none_is_built_on_it(store: Store, clash: str, left: list[str]) -> None:
    """Its entity is not among those that a run looks after."""
    store.become(spec_of())
    store.become(spec_of(entity="clash", entity_set=clash))

    with store.database.writing() as conn:
        standing = set(inspect(conn).get_view_names())
    assert sorted(standing & {"samples_current", "samples_history"}) == left


def test_columns_named_like_keywords_are_shown(store: Store) -> None:
    words = ["lateral", "nothing", "window", "Select", "returning", "filter"]
    spec = spec_of(*(Column(word, Kind.STRING, option=MULTI) for word in words))

    assert store.become(spec).failed == ()
    store.write(spec, {"sampleid": key(1), "lateral": "2,1"})
    assert store.rows('SELECT "lateral", "Select" FROM samples_current') == [("1,2", None)]


def test_a_view_of_somebody_else_is_left_alone(store: Store) -> None:
    store.run("CREATE VIEW samples_current AS SELECT 1 AS theirs")

    store.become(spec_of())

    assert columns_of(store, "samples_current") == ["theirs"]
    assert store.views_of(spec_of())[0] == "samples_current_2"


def test_a_column_named_like_a_label_keeps_its_name(store: Store) -> None:
    store.become(spec_of(GRADE, text_column("grade_label")))

    assert columns_of(store, "samples_current")[1:4] == ["grade", "grade_label_2", "grade_label"]


def test_more_choices_than_a_join_can_take_are_shown(store: Store) -> None:
    """SQLite joins 64 tables at most."""
    fields = [Column(f"c{at:03}", Kind.INT32, option=PICK) for at in range(120)]
    spec: TableSpec = spec_of(*fields, *(Column(f"m{at}", Kind.STRING, option=MULTI) for at in range(5)))
    store.become(spec)
    record(store, option("c119", 7, "Seven"), option("m4", 7, "Sieben"))
    store.write(spec, {"sampleid": key(1), "c119": 7, "m4": "7"})

    assert store.rows("SELECT c119_label, m4_label FROM samples_current") == [("Seven", "Sieben")]


def test_views_that_fit_again_are_made_again(store: Store) -> None:
    wide = spec_of(*(Column(f"c{at}", Kind.INT32, option=OptionKind.PICKLIST) for at in range(900)))
    applied = [store.become(wide), store.become(wide)]
    assert [(one.made, one.failed) for one in applied] == [(("samples",), ()), ((), ())]
    assert [[entity for entity, _why in one.unseen] for one in applied] == [
        ["sample"] * store.database.is_postgres,
        ["sample"] * store.database.is_postgres,
    ]

    assert store.become(spec_of(*wide.columns[1:5])).unseen == ()

    assert store.views_of(wide) == ("samples_current", "samples_history")
    assert store.rows("SELECT count(*) FROM samples_current") == [(0,)]
