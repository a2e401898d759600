"""What moves the fingerprint of the schema, and what does not."""

from sqlalchemy import text

from igh_sync_core.schema import ddl
from igh_sync_core.store import fingerprint
from igh_sync_core.store.database import Database

CHANGES = (
    "create table other (a integer, b text)",
    "alter table other add column c integer",
    "create index ix_other on other (a, b)",
    "create view seen as select a from other",
    "drop view seen",
    "alter table other rename column c to d",
    "drop index ix_other",
    "drop table other",
    "insert into _sync_shape (table_name, value) values ('others', '{}')",
)


def of_schema(database: Database) -> object:
    with database.reading() as conn:
        return fingerprint.of_schema(conn)


def execute(database: Database, statement: str) -> None:
    with database.writing() as conn:
        conn.execute(text(statement))


def test_moves_with_every_change_of_the_schema(database: Database) -> None:
    ddl.create_control_tables(database)
    before = of_schema(database)
    for statement in CHANGES:
        execute(database, statement)
        after = of_schema(database)
        assert after != before, statement
        before = after


def test_stays_while_rows_and_temporary_tables_come_and_go(database: Database) -> None:
    ddl.create_control_tables(database)
    before = of_schema(database)
    execute(database, "insert into _sync_seen (entity_name, key) values ('some', 'one')")
    with database.writing() as conn:
        conn.execute(text("create temporary table passing (a integer)"))
        assert fingerprint.of_schema(conn) == before
    assert of_schema(database) == before
