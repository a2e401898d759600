"""Times that no calendar of Dataverse has, such as .NET's year 1, which imports leave behind."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from copies import Copy, entities
from sqlalchemy import text

from igh_sync_core.sandbox import Organisation, health_organisation
from igh_sync_core.store.dialect import given_instant

ENTITY, TABLE = "vin_rdpriority", "vin_rdpriorities"
NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture
def organisation() -> Organisation:
    """One table without change tracking, every record of which was last modified in the year 1."""
    made = health_organisation(2000)
    for key in made.keys(ENTITY):
        made.update(ENTITY, key, {"modifiedon": NEVER})
    return made


def in_every_run(copy: Copy) -> None:
    """Read whole, read by time, changed, read again: nothing is in the way."""
    organisation, everything = copy.organisation, len(copy.organisation.keys(ENTITY))
    assert copy.sync_one().added == everything
    assert copy.sync_one().updated == 0
    organisation.update(ENTITY, organisation.keys(ENTITY)[0], {"vin_name": "renamed", "modifiedon": NEVER})
    assert copy.sync_one().updated == 1
    assert copy.sync_one().updated == 0
    years = {given_instant(start).year for (start,) in copy.rows(TABLE, "valid_from")}  # type: ignore[union-attr]
    assert years == {1753, organisation.clock.now().year}


def test_records_of_the_year_1_are_synced_run_after_run(copy_of: Callable[..., Copy]) -> None:
    in_every_run(copy_of(ENTITY))


def test_a_year_stored_without_its_zeros_blocks_no_table(organisation: Organisation, tmp_path: Path) -> None:
    copy = Copy(organisation, {"sqlite_db_path": str(tmp_path / "copy.db")}, entities(ENTITY))
    copy.sync_one()
    unpadded = NEVER.removeprefix("000")
    with copy.database.writing() as conn:
        times = {"of": TABLE, "time": unpadded}
        conn.execute(
            text("UPDATE _sync_state SET last_timestamp=:time, read_latest=:time WHERE entity_name=:of"), times
        )
        conn.execute(text(f"UPDATE {TABLE} SET valid_from=:time"), {"time": unpadded})  # noqa: S608 - a constant

    organisation.update(ENTITY, organisation.keys(ENTITY)[0], {"vin_name": "renamed"})
    assert copy.sync_one().updated == 1
    assert copy.sync_one().updated == 0
    assert copy.state(TABLE).last_timestamp.year > 1753  # type: ignore[union-attr]


def test_the_same_where_the_database_shows_times_of_another_zone(organisation: Organisation, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(f"ALTER DATABASE \"{name}\" SET timezone TO 'America/New_York'")

    in_every_run(Copy(organisation, {"postgres_connection_string": postgres_url}, entities(ENTITY)))
