"""What moves when anybody changes a table, a view or an index of the database, or what is remembered of them.

Two queries, whatever the database holds: SQLite counts the changes of its schema; PostgreSQL has the columns of all
three in one catalog.
"""

from typing import Any

from sqlalchemy import Connection, Select, column, func, join, select, table

from igh_sync_core.store.control import SyncShape
from igh_sync_core.store.driver import Prepared

_SHAPES = SyncShape.metadata.tables["_sync_shape"]


def of_schema(conn: Connection) -> list[Any]:
    """Fingerprint of the schema that tables are made in, and the shapes on record; plain values."""
    return [str(_fingerprint.rows(conn, conn.dialect.name)[0][0]), sorted(_shapes.rows(conn, None))]


@Prepared
def _shapes(_: None) -> Select[Any]:
    return select(_SHAPES.c.table_name, _SHAPES.c.value)


@Prepared
def _fingerprint(engine: str) -> Select[Any]:
    return select(column("schema_version")).select_from(func.pragma_schema_version()) if engine == "sqlite" else _hash()


def _hash() -> Select[Any]:
    """Number and sum, since the order in which the catalog gives its rows means nothing."""
    space = table("pg_namespace", column("oid"), column("nspname"))
    relation = table("pg_class", column("oid"), column("relname"), column("relkind"), column("relnamespace"))
    part = table("pg_attribute", column("attrelid"), column("attname"), column("atttypid"), column("atttypmod"))
    parts = join(relation, part, part.c.attrelid == relation.c.oid).join(space, space.c.oid == relation.c.relnamespace)
    told = (relation.c.relname, relation.c.relkind, part.c.attname, part.c.atttypid, part.c.atttypmod)
    everything = func.concat(func.count(), "/", func.sum(func.hashtextextended(func.concat_ws(" ", *told), 0)))
    return select(everything).select_from(parts).where(space.c.nspname == func.current_schema())
