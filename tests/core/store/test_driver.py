"""Part of a transaction taken back, and what is told where it cannot be; statements spelled once."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from loads import SPEC
from shaping import state_of
from sqlalchemy import (
    Column,
    Connection,
    Insert,
    Integer,
    MetaData,
    Select,
    Table,
    bindparam,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable
from test_database import SEEN, kick, some

from igh_sync_core.config import Config
from igh_sync_core.errors import StoreError, StoreUnavailable
from igh_sync_core.history import checkpoint
from igh_sync_core.model import EntitySet
from igh_sync_core.schema.ddl import create_control_tables
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.database import Database
from igh_sync_core.store.dialect import is_one_of, listed
from igh_sync_core.store.driver import Prepared, attempt, execute

STATE = SyncState.metadata.tables["_sync_state"]
NO_TABLE = text("SELECT nothing FROM nowhere")


def fail(database: Database, conn: Connection) -> None:
    """Write three rows, and meet an error."""
    with attempt(conn):
        database.load(conn, SEEN, ("entity_name", "key"), some(3, "other"))
        conn.execute(NO_TABLE)


def count(database: Database) -> int:
    with database.reading() as conn:
        return conn.execute(select(func.count()).select_from(SEEN)).scalar_one()


def test_what_an_attempt_did_is_undone_and_no_more(database: Database) -> None:
    create_control_tables(database)
    with database.writing() as conn:
        database.load(conn, SEEN, ("entity_name", "key"), some(1))
        with pytest.raises(DBAPIError):
            fail(database, conn)
        with attempt(conn):
            database.load(conn, SEEN, ("entity_name", "key"), some(2, "third"))

    assert count(database) == 3


def test_attempts_may_lie_within_each_other(database: Database) -> None:
    create_control_tables(database)
    with database.writing() as conn, attempt(conn):
        database.load(conn, SEEN, ("entity_name", "key"), some(1))
        with pytest.raises(DBAPIError):
            fail(database, conn)

    assert count(database) == 1


@pytest.mark.parametrize("is_before", [True, False])
def test_a_connection_lost_in_an_attempt_is_told_as_lost(postgres_url: str, *, is_before: bool) -> None:
    """So that it is tried again, and passes for nothing that was undone."""
    config = Config("https://org.crm.dynamics.com", "", "", "", postgres_connection_string=postgres_url)
    database, other = Database(config), Database(config)

    def lose(conn: Connection) -> None:
        with attempt(conn):
            kick(other)
            conn.execute(select(1))

    def write() -> None:
        with database.writing() as conn:
            if is_before:
                kick(other)
            try:
                lose(conn)
            except StoreUnavailable:
                told.append("in the attempt")
                raise

    told: list[str] = []
    with pytest.raises(StoreUnavailable):
        write()
    assert told, "a caller that catches refusals must not take it for one"


def test_a_transaction_that_the_database_gave_up_is_not_carried_on(database: Database) -> None:
    """As SQLite does by itself on a full disk; what follows would be committed statement by statement."""
    create_control_tables(database)

    def give_up(conn: Connection) -> None:
        with attempt(conn):
            execute(conn, "ROLLBACK")
            conn.execute(NO_TABLE)

    with database.connection() as conn, database.apart(conn), pytest.raises(StoreError):
        give_up(conn)


@pytest.fixture
def built() -> list[str]:
    """What statements were built about."""
    return []


@pytest.fixture
def keys_of(built: list[str]) -> Prepared[str]:
    @Prepared
    def keys(entity: str) -> Select[Any]:
        built.append(entity)
        return (
            select(SEEN.c.key).where(SEEN.c.entity_name == entity, is_one_of(SEEN.c.key, "keys")).order_by(SEEN.c.key)
        )

    return keys


@Prepared
def add(_: None) -> Insert:
    return insert(SEEN).values(entity_name=bindparam("entity_name"), key=bindparam("key"))


def test_a_statement_is_built_once_for_each_argument(
    database: Database, keys_of: Prepared[str], built: list[str]
) -> None:
    create_control_tables(database)
    with database.writing() as conn:
        for entity in ("some", "other", "some"):
            assert keys_of.rows(conn, entity, keys=listed(database.kind, ["a"])) == []

    assert built == ["some", "other"]


def test_a_prepared_statement_takes_several_sets_of_parameters_and_a_list(
    database: Database, keys_of: Prepared[str]
) -> None:
    create_control_tables(database)
    with database.writing() as conn:
        add.execute_many(conn, None, ({"entity_name": "some", "key": key} for key in ("a", "b%", "c'")))
        add.execute_many(conn, None, ())
        assert add.execute(conn, None, entity_name="other", key="a") == 1
        assert keys_of.rows(conn, "some", keys=listed(database.kind, ["c'", "b%", "z"])) == [("b%",), ("c'",)]
        assert keys_of.rows(conn, "some", keys=listed(database.kind, [])) == []


def test_times_are_stored_in_the_form_of_the_engine(database: Database) -> None:
    create_control_tables(database)
    moment = datetime(2024, 5, 1, 14, 0, 0, 987_654, tzinfo=timezone(timedelta(hours=2)))
    state = SyncState(entity_name="some", last_sync_time=moment, overlap_due=True)
    with database.writing() as conn:
        checkpoint.write(conn, state)
        kept = conn.execute(select(STATE.c.last_sync_time, STATE.c.read_started)).one()
        read = state_of(conn, msgspec.structs.replace(SPEC, entity_set=EntitySet("some")))

    assert tuple(kept) == (datetime(2024, 5, 1, 12, tzinfo=UTC), None)
    assert (read.last_sync_time, read.overlap_due) == (kept[0], True)


def test_what_the_driver_refuses_is_told_as_by_sqlalchemy(database: Database) -> None:
    create_control_tables(database)

    def add_twice() -> None:
        with database.writing() as conn:
            for _again in range(2):
                add.execute(conn, None, entity_name="some", key="a")

    with pytest.raises(StoreError, match="refused a statement"):
        add_twice()


def test_a_parameter_that_is_forgotten_is_not_taken_for_none(database: Database) -> None:
    create_control_tables(database)
    with database.writing() as conn, pytest.raises((KeyError, DBAPIError)):
        add.execute(conn, None, entity_name="some")


def test_times_of_control_rows_are_utc_whatever_zone_the_session_has(database: Database) -> None:
    create_control_tables(database)
    spec, moment = msgspec.structs.replace(SPEC, entity_set=EntitySet("some")), datetime(2024, 5, 1, 12, tzinfo=UTC)
    with database.writing() as conn:
        if database.is_postgres:
            conn.execute(text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))
        checkpoint.write(conn, SyncState(entity_name="some", last_sync_time=moment))
        read = state_of(conn, spec).last_sync_time

    assert (str(read), read) == ("2024-05-01 12:00:00+00:00", moment)


def test_temporary_tables_made_or_dropped_in_an_attempt_are_as_before_when_it_is_taken_back(database: Database) -> None:
    def table(*names: str) -> Table:
        return Table("_passing", MetaData(), *(Column(name, Integer) for name in names), prefixes=["TEMPORARY"])

    one, other = table("a"), table("b", "c")

    def replaced(conn: Connection) -> None:
        with attempt(conn):
            database.empty_temporary(conn, other)
            database.load(conn, other, ("b", "c"), [(1, 2)])
            conn.execute(NO_TABLE)

    with database.connection() as conn:
        for before in (None, one):
            with database.transaction(conn):
                if before is not None:
                    database.empty_temporary(conn, before)
                with pytest.raises(DBAPIError):
                    replaced(conn)
                database.empty_temporary(conn, one)
                database.load(conn, one, ("a",), [(1,)])
                assert conn.execute(select(one.c.a)).all() == [(1,)]


def test_a_statement_about_a_pattern_is_built_once_and_takes_any_name(database: Database) -> None:
    built: list[None] = []

    @Prepared
    def first(_: None) -> Select[Any]:
        built.append(None)
        return select(Table("{table}", MetaData(), Column("{key}", Integer)).c["{key}"])

    names = (("plain", "key"), ('with "quotes" inside', 'a "key"'))
    with database.writing() as conn:
        for number, (table, key) in enumerate(names):
            made = Table(table, MetaData(), Column(key, Integer))
            conn.execute(CreateTable(made))
            conn.execute(made.insert().values({key: number}))
            assert [tuple(row) for row in first.rows(conn, None, places={"table": table, "key": key})] == [(number,)]

    assert len(built) == 1
