"""A run waits for what others have locked, and not for ever; on PostgreSQL, where nothing else would end that."""

from collections.abc import Iterator

import psycopg
import pytest
from copies import Copy, at_noon, entities
from targets import config_for

from igh_sync_core.sandbox import Organisation
from igh_sync_core.schema import obstacles
from igh_sync_core.store import engines
from igh_sync_core.store.database import Database


@pytest.fixture
def organisation() -> Organisation:
    return at_noon(300)


@pytest.fixture
def somebody(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url) as conn:
        yield conn


@pytest.mark.parametrize(
    "locking",
    [
        "LOCK TABLE vin_diseases",
        "LOCK TABLE vin_diseases IN SHARE MODE",
        "UPDATE vin_diseases SET sync_time = sync_time",
    ],
)
def test_a_lock_left_open_fails_one_entity_and_the_next_run_catches_up(
    organisation: Organisation,
    postgres_url: str,
    somebody: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    locking: str,
) -> None:
    monkeypatch.setattr(engines, "PATIENCE", "200ms")
    copy = Copy(organisation, {"postgres_connection_string": postgres_url}, entities("vin_disease", "vin_product"))
    copy.sync()
    organisation.clock.advance(3600)
    for entity in ("vin_disease", "vin_product"):
        organisation.update(entity, organisation.keys(entity)[0], {"vin_name": "another"})
    somebody.execute(locking)

    beside = copy.sync()
    somebody.rollback()
    after = copy.sync()

    [(entity, why)] = beside.failed_entities
    assert (entity, "another transaction keeps locked" in why) == ("vin_disease", True)
    assert (beside.total("updated"), after.total("updated"), after.success) == (1, 1, True)


@pytest.mark.parametrize(("options", "limit"), [("", "5min"), ("&options=-c%20lock_timeout%3D7s", "7s")])
def test_a_limit_of_the_users_own_stays(postgres_url: str, options: str, limit: str) -> None:
    database = Database(config_for(postgres_connection_string=postgres_url + options))

    for connected in (database.writing, database.reading):
        with connected() as conn:
            assert conn.exec_driver_sql("SHOW lock_timeout").scalar() == limit


@pytest.mark.parametrize("options", ["", "&options=-c%20lock_timeout%3D5min"])
def test_changes_of_tables_have_less_time_and_leave_the_rest_what_it_had(postgres_url: str, options: str) -> None:
    database = Database(config_for(postgres_connection_string=postgres_url + options))

    with database.writing() as conn:
        with obstacles.limited(conn):
            within = conn.exec_driver_sql("SHOW lock_timeout").scalar()
        after = conn.exec_driver_sql("SHOW lock_timeout").scalar()

    assert (within, after) == ("5min" if options else "30s", "5min")
