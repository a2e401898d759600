"""Columns that a page's records have no more: removed in Dataverse while the run was under way.

An empty column comes as ``null``, and a removed one not at all. Taken for the same, every record would get a version
without its value, and nothing would tell. Runs inside the caller's transaction, and only reads.
"""

from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import Connection, Select, select

from igh_sync_core.errors import SchemaError
from igh_sync_core.history.batch import Batch
from igh_sync_core.model import TableSpec
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.driver import Prepared

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def check(conn: Connection, tables: EntityTables, batch: Batch) -> None:
    """See that a page read under other metadata than the run's own has all columns that hold anything.

    A column that holds nothing loses nothing; some are declared and never sent.

    Args:
        conn: Inside a transaction.
        tables: The entity's.
        batch: The page.

    Raises:
        SchemaError: A column is gone; names it. No retry helps: a run learns the metadata once, at its beginning.
    """
    if gone := [name for name in _unsent(tables.spec, batch) if _held.rows(conn, (tables, name))]:
        msg = (
            f"{tables.spec.logical_name}: the metadata changed during the run, and records come without "
            f"{', '.join(gone)} now; nothing of this page is written, the next run learns the metadata and reads anew"
        )
        raise SchemaError(msg)


def _unsent(spec: TableSpec, batch: Batch) -> list[str]:
    """Declared columns that no record of the page has; as a rule the first one has all."""
    missing = dict.fromkeys(column.name for column in spec.columns)
    for record in batch.column("json_response"):
        for name in _MEMBERS.decode(record):
            missing.pop(name, None)
        if not missing:
            break
    return [*missing] if len(batch) else []


@Prepared
def _held(about: tuple[EntityTables, str]) -> Select[Any]:
    """One current row that has a value, or an option, of a column."""
    tables, name = about
    if name in tables.junctions:  # where several are chosen the column itself is null
        options = tables.junctions[name]
        return select(options.c.junction_id).where(options.c.valid_to.is_(None)).limit(1)
    main = tables.main
    return select(main.c.row_id).where(main.c.valid_to.is_(None), main.c[name].is_not(None)).limit(1)
