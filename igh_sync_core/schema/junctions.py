"""Junctions of multi-selects that were none for a while: gone from metadata, or taken for texts.

Meanwhile nobody looked after them. Everything here runs inside the caller's transaction.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, Update, update

from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.driver import Prepared


def end_with_versions(conn: Connection, tables: EntityTables, fields: Iterable[str]) -> None:
    """End the options that are open still though their versions have ended, where those ended.

    What stands open then belongs to open versions, whose options the full read that is due makes those chosen now.
    """
    for field in fields:
        _end.execute(conn, (tables, field))


@Prepared
def _end(about: tuple[EntityTables, str]) -> Update:
    tables, field = about
    table, main = tables.junctions[field], tables.main
    is_of_version = (main.c[tables.spec.key] == table.c.entity_id) & (main.c.valid_from == table.c.valid_from)
    is_left_open = table.c.valid_to.is_(None), main.c.valid_to.is_not(None)
    return update(table).where(is_of_version, *is_left_open).values(valid_to=main.c.valid_to)
