"""A table that its user renamed is made anew beside the old one, which keeps all that it held; on both engines."""

from collections.abc import Callable

import pytest
from copies import Copy, at_noon
from shaping import MULTI, Store, key, spec_of, text_column
from sqlalchemy import text

from igh_sync_core.model import Column, Kind
from igh_sync_core.sandbox import Organisation
from igh_sync_core.store.database import Database

TAGS = Column("tags", Kind.STRING, option=MULTI)
RENAMING = "ALTER TABLE samples RENAME TO samples_old"
PLATFORMS = "_junction_vin_candidates_vin_platforms"


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(150)


def indexes(store: Store) -> dict[str, str]:
    """Table of each index of ours, by its name."""
    query = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index'"
    if store.database.is_postgres:
        query = "SELECT indexname, tablename FROM pg_indexes WHERE schemaname = current_schema()"
    return {name: table for name, table in store.rows(query) if name.startswith(("ix_", "uq_"))}


def test_a_renamed_table_gives_up_the_names_of_its_indexes_and_nothing_else(store: Store) -> None:
    spec = spec_of(text_column("name"))
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "name": "a"}, new=True)
    store.run(RENAMING)

    applied = store.become(spec)

    assert (applied.failed, applied.made) == ((), ("samples",))
    assert indexes(store)["uq_samples_open"] == indexes(store)["ix_samples_closed"] == "samples"
    assert store.rows("SELECT name FROM samples_old") == [("a",)]
    assert store.rows("SELECT name FROM samples_current") == []


def test_an_index_of_somebody_elses_on_the_renamed_table_stays(store: Store) -> None:
    spec = spec_of(text_column("name"))
    store.become(spec)
    store.run("CREATE INDEX ix_theirs ON samples (name)")
    store.run(RENAMING)

    assert store.become(spec).failed == ()

    assert indexes(store)["ix_theirs"] == "samples_old"


def test_indexes_that_somebody_dropped_are_made_again(store: Store) -> None:
    """A table restored without them would take a second open version of a record."""
    if not store.database.is_postgres:
        pytest.skip("see test_adoption")
    spec = spec_of(TAGS)
    store.become(spec)
    before = indexes(store)
    for name in ("ix_samples_closed", "ix_junction_samples_tags", "uq_samples_open"):
        store.run(f"DROP INDEX {name}")

    assert store.become(spec).failed == ()

    assert indexes(store) == before


def test_a_table_whose_open_versions_doubled_meanwhile_is_set_aside(store: Store) -> None:
    """On PostgreSQL; a file of SQLite that came with such versions is told about in every run."""
    if not store.database.is_postgres:
        pytest.skip("see test_adoption")
    spec = spec_of(text_column("name"))
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "name": "a"}, new=True)
    store.run("DROP INDEX uq_samples_open")
    store.run("INSERT INTO samples (sampleid, json_response, sync_time) SELECT sampleid, '{}', now() FROM samples")

    [(_entity, why)] = store.become(spec).failed

    assert "could not create unique index" in why


def test_the_choices_of_a_renamed_table_are_set_apart_with_it(store: Store) -> None:
    """Their rows are tied to versions by key and start, which those of the new table may share."""
    spec = spec_of(TAGS)
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "tags": "5,6"}, {"sampleid": key(2), "tags": "7,8"}, new=True)
    store.run(RENAMING)

    assert store.become(spec).failed == ()
    store.write(spec, {"sampleid": key(1), "tags": "5,9"}, new=True)

    assert store.rows("SELECT option_code FROM _junction_samples_tags ORDER BY 1") == [(5,), (9,)]
    assert store.rows("SELECT tags FROM samples_current") == [("5,9",)]
    assert store.rows("SELECT option_code FROM _junction_samples_tags_old ORDER BY 1") == [(5,), (6,), (7,), (8,)]
    assert indexes(store)["ix_junction_samples_tags"] == "_junction_samples_tags"


def test_a_table_renamed_twice_leaves_both_sets_of_choices(store: Store) -> None:
    spec = spec_of(TAGS)
    for number in (1, 2):
        store.become(spec)
        store.write(spec, {"sampleid": key(1), "tags": f"5,{number}"}, new=True)
        store.run(f"ALTER TABLE samples RENAME TO samples_old{number}")

    assert store.become(spec).failed == ()

    kept = [
        store.rows(f"SELECT option_code FROM _junction_samples_tags{end} ORDER BY 1")  # noqa: S608 - a test's own names
        for end in ("_old", "_old_2", "")
    ]
    assert kept == [[(1,), (5,)], [(2,), (5,)], []]


def test_a_junction_renamed_with_its_table_is_in_nobodys_way(store: Store) -> None:
    spec = spec_of(TAGS)
    store.become(spec)
    store.write(spec, {"sampleid": key(1), "tags": "5,6"}, new=True)
    store.run(RENAMING)
    store.run("ALTER TABLE _junction_samples_tags RENAME TO mine")

    assert store.become(spec).failed == ()

    assert store.rows("SELECT option_code FROM mine ORDER BY 1") == [(5,), (6,)]
    assert store.rows("SELECT option_code FROM _junction_samples_tags") == []


def test_the_remedy_for_a_changed_type_leaves_one_set_of_choices_for_each_record(
    organisation: Organisation, copy_of: Callable[..., Copy]
) -> None:
    copy = copy_of("vin_candidate", "vin_disease")
    candidate = organisation.keys("vin_candidate")[0]
    organisation.update("vin_candidate", candidate, {"vin_platforms": "100000000,100000001"})
    organisation.add_column("vin_candidate", "vin_flag", "Edm.Int32", fixed=1)
    copy.sync()
    records = sorted(copy.open_rows("vin_candidates", "vin_candidateid"))
    picks = picks_of(copy, PLATFORMS)
    organisation.clock.advance(3600)
    organisation.change_type("vin_candidate", "vin_flag", "Edm.Boolean")
    [(_entity, error)] = copy.sync().failed_entities
    assert "rename the stored column, such as to vin_flag_old, or the table" in error
    with copy.database.writing() as conn:
        conn.execute(text("ALTER TABLE vin_candidates RENAME TO vin_candidates_old"))

    reports = [copy.sync() for _again in range(2)]

    assert [report.failed_entities for report in reports] == [[], []]
    assert sorted(copy.open_rows("vin_candidates", "vin_candidateid")) == records
    assert picks_of(copy, PLATFORMS) == picks_of(copy, f"{PLATFORMS}_old") == picks
    organisation.clock.advance(3600)
    organisation.update("vin_candidate", candidate, {"vin_platforms": "100000002"})
    copy.sync()
    assert [code for one, code in picks_of(copy, PLATFORMS) if one == candidate] == [100000002]


def picks_of(copy: Copy, junction: str) -> list[tuple[str, int]]:
    """Record and code of every open option."""
    query = f"SELECT CAST(entity_id AS text), option_code FROM {junction} WHERE valid_to IS NULL ORDER BY 1, 2"  # noqa: S608
    return copy.rows_of(query)
