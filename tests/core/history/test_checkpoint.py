"""What is remembered between runs, and that only the holder of the database writes it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from loads import NOON, SPEC, A, B, Loader, at, loading, record
from msgspec import structs
from shaping import state_of
from sqlalchemy import Connection, insert, select

from igh_sync_core.errors import StoreError
from igh_sync_core.history import checkpoint
from igh_sync_core.report import EntityReport
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.control import SyncLock, SyncLog, SyncState
from igh_sync_core.store.database import Database

LOCK = SyncLock.metadata.tables["_sync_lock"]
LOG = SyncLog.metadata.tables["_sync_log"]
REPORT = EntityReport(entity="sample", table="samples", strategy="delta", added=3, seconds=60.0)


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    """A transaction of the run ``mine``, which holds the database."""
    create_control_tables(database)
    with database.writing() as conn:
        held = {"name": "run", "token": "mine", "host": "here", "pid": 1, "since": NOON, "heartbeat": NOON}
        conn.execute(insert(LOCK).values(held))
        yield conn


def lines(conn: Connection, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in conn.execute(select(*(LOG.c[name] for name in names)).order_by(LOG.c.id))]


def test_an_entity_never_met_is_pending(conn: Connection) -> None:
    assert state_of(conn, SPEC) == SyncState(entity_name="samples")
    assert state_of(conn, SPEC).state == "pending"


def test_what_is_written_is_read_again(conn: Connection) -> None:
    state = SyncState(
        entity_name="samples", state="in_progress", next_link="https://x/?$skiptoken=%3c", read_started=NOON
    )
    for records in (1, 2):
        state.records_count = records
        checkpoint.write(conn, state)

    assert state_of(conn, SPEC).model_dump() == state.model_dump()


def test_times_keep_whole_seconds_of_utc(conn: Connection) -> None:
    local = (NOON + timedelta(microseconds=999_999)).astimezone(tz=None)
    checkpoint.write(conn, SyncState(entity_name="samples", last_timestamp=local))

    assert state_of(conn, SPEC).last_timestamp == NOON


def test_a_failure_keeps_the_place_to_go_on_from(conn: Connection) -> None:
    checkpoint.write(conn, SyncState(entity_name="samples", next_link="link"))
    checkpoint.mark_failed(conn, SPEC)

    assert (state_of(conn, SPEC).state, state_of(conn, SPEC).next_link) == ("failed", "link")


def test_a_failure_of_an_entity_never_met_is_on_record(conn: Connection) -> None:
    checkpoint.mark_failed(conn, SPEC)

    assert state_of(conn, SPEC).state == "failed"


def test_a_run_has_one_line_per_entity(conn: Connection) -> None:
    checkpoint.log_start(conn, SPEC, run_id="mine", now=NOON)
    assert lines(conn, "status", "end_time") == [("in_progress", None)]
    checkpoint.log_end(conn, (REPORT, at(1)), run_id="mine")

    assert lines(conn, "entity_name", "start_time", "end_time", "records_added", "status", "error_message") == [
        ("samples", NOON, at(1), 3, "completed", None)
    ]


def test_an_entity_began_when_its_turn_came(conn: Connection) -> None:
    checkpoint.log_start(conn, SPEC, run_id="mine", now=NOON)
    checkpoint.log_end(conn, (structs.replace(REPORT, seconds=20.0), at(1)), run_id="mine")

    assert lines(conn, "start_time", "end_time") == [(at(1) - timedelta(seconds=20), at(1))]


def test_what_an_earlier_try_did_stays_on_record(conn: Connection) -> None:
    for report in (REPORT, structs.replace(REPORT, added=0)):
        checkpoint.log_start(conn, SPEC, run_id="mine", now=NOON)
        checkpoint.log_end(conn, (report, at(1)), run_id="mine")

    assert lines(conn, "records_added") == [(3,), (0,)]


def test_the_line_of_a_killed_run_is_closed_by_the_next(conn: Connection) -> None:
    killed = {"entity_name": "samples", "start_time": NOON, "status": "in_progress", "run_id": "killed"}
    none = dict.fromkeys(["records_added", "records_updated", "records_closed", "records_unchanged", "requests"], 0)
    conn.execute(insert(LOG).values(**killed, **none))
    checkpoint.log_start(conn, SPEC, run_id="mine", now=at(1))
    checkpoint.end_killed(conn, run_id="mine", now=at(1))

    [(status, ended, error), mine] = lines(conn, "status", "end_time", "error_message")
    assert (status, ended, mine) == ("failed", at(1), ("in_progress", None, None))
    assert "the run ended before this entity did" in error


def test_a_run_without_the_database_writes_no_line(conn: Connection) -> None:
    with pytest.raises(StoreError, match="run lost lost the database"):
        checkpoint.log_start(conn, SPEC, run_id="lost", now=NOON)
    with pytest.raises(StoreError, match="run lost lost the database"):
        checkpoint.log_end(conn, (REPORT, at(1)), run_id="lost")

    assert lines(conn, "status") == []


@pytest.fixture
def load(database: Database) -> Iterator[Loader]:
    create_control_tables(database)
    with loading(database) as loader:
        yield loader


def test_keys_met_by_a_complete_read_are_remembered_until_it_ends(load: Loader) -> None:
    load.write(record(A), record(B))
    is_seen = select(load.tables.main.c.sampleid).where(checkpoint.was_seen(load.tables))
    of = {"of": SPEC.entity_set}
    with load.database.transaction(load.conn):
        load.history.staging.list_keys([A])
        for _ in range(2):
            checkpoint.note_seen(load.conn, load.tables)
        assert [str(key) for key in load.conn.scalars(is_seen, of)] == [A]
        checkpoint.forget_seen(load.conn, SPEC)
        assert load.conn.scalars(is_seen, of).all() == []


def test_open_rows_are_counted(load: Loader) -> None:
    load.write(record(A), record(B))
    load.delete(A)

    with load.database.transaction(load.conn):
        assert checkpoint.count_open(load.conn, load.tables) == 1
