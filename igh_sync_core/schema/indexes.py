"""The indexes there are, whatever table they stand on: their names are taken for every other table."""

from typing import Any

from sqlalchemy import Connection, Index, Select, Table, column, func, select, table

from igh_sync_core.store.driver import Prepared


def read(conn: Connection) -> dict[str, list[str]]:
    """Names of the columns of every index, in their order, by its name; one query, however many there are."""
    found: dict[str, list[str]] = {}
    for name, part in _all.rows(conn, conn.dialect.name):
        found.setdefault(name, []).append(part)
    return found


def in_order(one: Table) -> list[Index]:
    """The indexes of a table by name: its own collection of them has no order."""
    return sorted(one.indexes, key=lambda index: str(index.name))


def is_left(index: Index, stored: dict[str, list[str]]) -> bool:
    """Whether the index of a table yet to be made is there: a table that was renamed took it along, with its name."""
    return stored.get(str(index.name)) == [part.name for part in index.columns]


@Prepared
def _all(engine: str) -> Select[Any]:
    return _of_sqlite() if engine == "sqlite" else _of_postgres()


def _of_sqlite() -> Select[Any]:
    schema = table("sqlite_master", column("type"), column("name"))
    parts = func.pragma_index_info(schema.c.name).table_valued("seqno", "name", name="parts")
    found = select(schema.c.name, parts.c.name).select_from(schema.join(parts, schema.c.type == "index"))
    return found.order_by(schema.c.name, parts.c.seqno)


def _of_postgres() -> Select[Any]:
    space = table("pg_namespace", column("oid"), column("nspname"))
    index = table("pg_class", column("oid"), column("relname"), column("relkind"), column("relnamespace"))
    part = table("pg_attribute", column("attrelid"), column("attname"), column("attnum"))
    is_ours = index.c.relkind == "i", space.c.nspname == func.current_schema()
    parts = index.join(part, part.c.attrelid == index.c.oid).join(space, space.c.oid == index.c.relnamespace)
    found = select(index.c.relname, part.c.attname).select_from(parts).where(*is_ours)
    return found.order_by(index.c.relname, part.c.attnum)
