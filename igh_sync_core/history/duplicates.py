"""Keys with more than one open version: a fault of the program before this one, possible in adopted files alone.

Such a table lacks the unique index on open versions. The newest of them counts as current; the others stay as they are
until their record changes, or a reconcile run closes them. Everything runs inside the caller's transaction.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    exists,
    func,
    select,
    update,
)

from igh_sync_core.schema.tables import EntityTables, open_index_name
from igh_sync_core.store.driver import Prepared

_SECOND = timedelta(seconds=1)


def are_possible(conn: Connection, tables: EntityTables) -> bool:
    """Whether no unique index keeps open versions apart."""
    if conn.dialect.name != "sqlite":
        return False
    return not _index.rows(conn, None, named=open_index_name(tables.spec))


@Prepared
def _index(_: None) -> Select[Any]:
    # What SQLite knows of it already: a query of its own list of definitions goes through all of them.
    return select(func.pragma_index_info(bindparam("named")).table_valued("name").c.name)


def is_superseded(tables: EntityTables) -> ColumnElement[bool]:
    """Whether a newer open version of the same key exists."""
    main, key = tables.main, tables.spec.key
    newer = main.alias()
    return exists().where(newer.c[key] == main.c[key], newer.c.valid_to.is_(None), newer.c.row_id > main.c.row_id)


def count(conn: Connection, tables: EntityTables) -> int:
    """Number of keys with more than one open version."""
    return conn.execute(select(func.count()).select_from(_repeated(tables).subquery())).scalar_one()


def close_older(conn: Connection, tables: EntityTables, keys: Select[Any] | None = None) -> int:
    """Close all but the newest open version of each key, each where the next one begins.

    Args:
        conn: A connection inside a transaction.
        tables: The entity's.
        keys: One column, the keys to look at; None for all.

    Returns:
        How many versions were closed.
    """
    main, key = tables.main, tables.main.c[tables.spec.key]
    repeated = _repeated(tables)
    if keys is not None:
        repeated = repeated.where(key.in_(keys))
    versions = (
        select(main.c.row_id, key.label("key"), main.c.valid_from, main.c.sync_time)
        .where(main.c.valid_to.is_(None), key.in_(repeated))
        .order_by(key, main.c.row_id)
    )
    closings = [
        {"of": older.row_id, "boundary": _boundary(older, newer)}
        for older, newer in pairwise(conn.execute(versions))
        if older.key == newer.key
    ]
    if closings:
        closing = update(main).where(main.c.row_id == bindparam("of"))
        conn.execute(closing.values(valid_to=bindparam("boundary"), closed_reason="updated"), closings)
    return len(closings)


def _repeated(tables: EntityTables) -> Select[Any]:
    main, key = tables.main, tables.main.c[tables.spec.key]
    return select(key).where(main.c.valid_to.is_(None), key.is_not(None)).group_by(key).having(func.count() > 1)


def _boundary(older: Row[Any], newer: Row[Any]) -> datetime:
    """Where the newer one begins; never less than a second after the older one's own beginning (law 4)."""
    start: datetime = older.valid_from or older.sync_time
    following: datetime = newer.valid_from or newer.sync_time
    return max(following, start + _SECOND)
