"""Chosen options of multi-selects: one row per option and version, in the junction table of each column.

A snapshot tied to each version of its record: opened with it, closed with it. Runs inside the caller's transaction.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, Table, exists, insert, select, update

from igh_sync_core.database import Database
from igh_sync_core.rows import Batch, Values
from igh_sync_core.tables import EntityTables

_COLUMNS = ("entity_id", "option_code", "valid_from")


def insert_straight(database: Database, conn: Connection, tables: EntityTables, batch: Batch, starts: Values) -> None:
    """Store the options of a page whose records were all new.

    Args:
        database: Where they are kept.
        conn: Inside a transaction.
        tables: The entity's.
        batch: *n* records.
        starts: ``valid_from`` of each of the *n* versions.
    """
    for field, table in tables.junctions.items():
        database.load(conn, table, _COLUMNS, batch.picks_from(field, starts))


def close_marked(conn: Connection, tables: EntityTables) -> None:
    """Close the options of the versions on the list of those about to be closed."""
    closing = tables.closing
    for table in tables.junctions.values():
        conn.execute(
            update(table)
            .where(table.c.entity_id == closing.c.key, table.c.valid_to.is_(None))
            .values(valid_to=closing.c.boundary)
        )


def open_new(conn: Connection, tables: EntityTables, *, after: int) -> None:
    """Store the options of versions just opened from the staged page: those with a ``row_id`` beyond *after*."""
    for field, table in tables.junctions.items():
        _insert(conn, tables, field, table, tables.main.c.row_id > after)


def fill(conn: Connection, tables: EntityTables, fields: Iterable[str]) -> None:
    """Give open versions the options of multi-selects that they were stored without."""
    for field in fields:
        table = tables.junctions[field]
        is_stored = exists().where(
            table.c.entity_id == tables.picks.c.key,
            table.c.option_code == tables.picks.c.code,
            table.c.valid_to.is_(None),
        )
        _insert(conn, tables, field, table, ~is_stored)


def _insert(conn: Connection, tables: EntityTables, field: str, table: Table, condition: ColumnElement[bool]) -> None:
    main, picks = tables.main, tables.picks
    chosen = (
        select(picks.c.key, picks.c.code, main.c.valid_from)
        .join_from(picks, main, main.c[tables.spec.key] == picks.c.key)
        .where(picks.c.field == field, main.c.valid_to.is_(None), condition)
    )
    conn.execute(insert(table).from_select(_COLUMNS, chosen))
