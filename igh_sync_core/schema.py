"""Tables in the database: created where they are missing, never dropped (law 11)."""

from collections.abc import Iterable

from sqlalchemy import Connection, Table, inspect

from igh_sync_core.choices import optionset_table
from igh_sync_core.control import CONTROL
from igh_sync_core.database import Database
from igh_sync_core.model import TableSpec
from igh_sync_core.tables import entity_tables


def create_control_tables(database: Database) -> None:
    """Make the control tables where they are missing."""
    with database.writing() as conn:
        CONTROL.create_all(conn)


def create_tables(conn: Connection, specs: Iterable[TableSpec]) -> list[str]:
    """Make every table of the entities that is missing.

    Returns:
        Names of the entity tables made, in the order of *specs*.
    """
    present = set(inspect(conn).get_table_names())
    made = []
    for spec in specs:
        tables = entity_tables(spec)
        if tables.main.name not in present:
            made.append(str(tables.main.name))
        _create_missing(conn, tables.main.metadata.sorted_tables, present)
        _create_missing(conn, [optionset_table(column.name) for column in spec.choices], present)
    return made


def _create_missing(conn: Connection, tables: Iterable[Table], present: set[str]) -> None:
    for table in tables:
        if table.name not in present:
            table.create(conn)
            present.add(str(table.name))
