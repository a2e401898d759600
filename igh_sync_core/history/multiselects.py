"""Chosen options of multi-selects: one row per option and version, in the junction table of each column.

A snapshot tied to each version of its record: opened with it, closed with it. Runs inside the caller's transaction.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Delete,
    FromClause,
    Insert,
    MetaData,
    Table,
    Update,
    delete,
    exists,
    insert,
    select,
    tuple_,
    update,
)

from igh_sync_core.history.batch import Batch, Values
from igh_sync_core.schema.tables import EntityTables, closing_given
from igh_sync_core.store.database import Database
from igh_sync_core.store.dialect import Instant
from igh_sync_core.store.driver import Prepared

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
    for field in tables.junctions:
        _close.execute(conn, (tables, field))


def close_given(conn: Connection, tables: EntityTables, given: Mapping[str, Any]) -> None:
    """Close the options of the versions that parameters list; see ``tables.closing_given``."""
    for table in tables.junctions.values():
        places = {"table": str(table.name)}
        _close_those_given.execute(conn, (conn.dialect.name, tables.pattern), places=places, **given)


def fill(conn: Connection, tables: EntityTables, fields: Iterable[str], renewed: Table) -> None:
    """Make the options of open versions those on the list of picks, of multi-selects that are just being filled in.

    A version that was stored without them gets them. One from before the column was away for a while, or taken for a
    text, shows those alone that are chosen now: the column is filled in place, and so is its snapshot.

    Args:
        conn: Inside a transaction.
        tables: The entity's.
        fields: The multi-selects.
        renewed: Temporary; the versions in question, by ``row_id``.
    """
    for field in fields:
        _take_back.execute(conn, (tables, field, renewed))
        _fill.execute(conn, (tables, field))


@Prepared
def _close(about: tuple[EntityTables, str]) -> Update:
    tables, field = about
    return _ending(tables.junctions[field], tables.closing)


@Prepared
def _close_those_given(about: tuple[str, EntityTables]) -> Update:
    engine, tables = about
    entity = Column("entity_id", tables.closing.c.key.type)
    return _ending(Table("{table}", MetaData(), entity, Column("valid_to", Instant)), closing_given(engine, tables))


def _ending(table: Table, closing: FromClause) -> Update:
    is_marked = table.c.entity_id == closing.c.key, table.c.valid_to.is_(None)
    return update(table).where(*is_marked).values(valid_to=closing.c.boundary)


@Prepared
def _take_back(about: tuple[EntityTables, str, Table]) -> Delete:
    tables, field, renewed = about
    table, main, picks = tables.junctions[field], tables.main, tables.picks
    is_of_version = (table.c.entity_id == main.c[tables.spec.key]) & (table.c.valid_from == main.c.valid_from)
    # From the page to its options: asked for each option instead, every page would go through all of the table.
    held = select(table.c.junction_id).select_from(
        renewed.join(main, main.c.row_id == renewed.c.row_id).join(table, is_of_version)
    )
    picked = select(picks.c.key, picks.c.code).where(picks.c.field == field)
    is_other = tuple_(table.c.entity_id, table.c.option_code).not_in(picked)
    return delete(table).where(table.c.junction_id.in_(held.where(table.c.valid_to.is_(None), is_other)))


@Prepared
def _fill(about: tuple[EntityTables, str]) -> Insert:
    tables, field = about
    table, main, picks = tables.junctions[field], tables.main, tables.picks
    is_stored = exists().where(
        table.c.entity_id == picks.c.key, table.c.option_code == picks.c.code, table.c.valid_to.is_(None)
    )
    chosen = (
        select(picks.c.key, picks.c.code, main.c.valid_from)
        .join_from(picks, main, main.c[tables.spec.key] == picks.c.key)
        .where(picks.c.field == field, main.c.valid_to.is_(None), ~is_stored)
    )
    return insert(table).from_select(_COLUMNS, chosen)
