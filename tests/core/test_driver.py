"""Part of a transaction taken back; and what is told where it cannot be."""

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError
from test_database import SEEN, kick, some

from igh_sync_core.config import Config
from igh_sync_core.database import Database
from igh_sync_core.driver import attempt, execute
from igh_sync_core.errors import StoreError, StoreUnavailable
from igh_sync_core.schema import create_control_tables

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
