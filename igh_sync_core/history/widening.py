"""Room for texts longer than metadata says: their column becomes text without a length, and the page is written.

That happens: a length shortened in Dataverse leaves longer values where they are. Only PostgreSQL declares lengths.
"""

import logging
from collections.abc import Iterator

import psycopg
from sqlalchemy import Connection, Text
from sqlalchemy.exc import DataError, DBAPIError

from igh_sync_core import errors
from igh_sync_core.history.batch import Batch
from igh_sync_core.schema import belongings, obstacles, shapes, views
from igh_sync_core.schema.alterations import WidenColumn
from igh_sync_core.schema.shapes import Stored, length_of
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.driver import attempt

log = logging.getLogger(__name__)


def make_room(conn: Connection, tables: EntityTables, batch: Batch, refusal: DataError) -> None:
    """Widen the columns that a page's texts do not fit in.

    Args:
        conn: A connection inside a transaction, what was refused already taken back.
        tables: The entity's.
        batch: The page.
        refusal: What the database said.

    Raises:
        sqlalchemy.exc.DataError: The refusal itself, where it is about something else.
        DataError: A view that is not ours keeps a column from being widened, or somebody who reads it.
    """
    if not isinstance(refusal.orig, psycopg.errors.StringDataRightTruncation):
        raise refusal
    stored = shapes.read(conn, [tables.spec])
    narrow = list(_too_narrow(stored, tables, batch))
    if not narrow:
        raise refusal
    try:
        with attempt(conn):
            _widen(conn, tables, narrow, stored)
    except DBAPIError as exc:
        why = obstacles.describe(conn, exc, _changed(tables, stored))
        msg = f"{tables.spec.logical_name}: {', '.join(narrow)} must be widened to text, but {why}"
        raise errors.DataError(msg) from exc
    log.warning("%s: longer than metadata says, now text: %s", tables.spec.logical_name, ", ".join(narrow))


def _too_narrow(stored: Stored, tables: EntityTables, batch: Batch) -> Iterator[str]:
    table = str(tables.main.name)
    for column in tables.spec.columns:
        kept_as = stored.column_type(table, column.name)
        if column.name in batch.raw or kept_as is None or shapes.storage(kept_as) != "TEXT":
            continue
        if max(map(len, filter(None, batch.column(column.name))), default=0) > length_of(kept_as):
            yield column.name


def _changed(tables: EntityTables, stored: Stored) -> list[str]:
    """The entity's table, and those of its views that there are."""
    table = str(tables.main.name)
    shape = stored.shapes.get(table)
    return [table, *(name for name in (shape.views if shape else ()) if name in stored.views)]


def _widen(conn: Connection, tables: EntityTables, names: list[str], stored: Stored) -> None:
    """PostgreSQL changes no column that a view shows, so our views step aside meanwhile."""
    shape = stored.shapes.get(str(tables.main.name))
    _table, *shown = _changed(tables, stored)
    with obstacles.limited(conn), belongings.kept(conn, shown):
        for name in shown:
            conn.execute(views.DropView(name))
        for name in names:
            conn.execute(WidenColumn(tables.main.c[name], Text()))
        if shape and shown:
            for statement in views.creation(tables.spec, shape.views, shape.language):
                conn.execute(statement)
