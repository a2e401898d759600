"""Bulk loading: many rows into one table, with what each engine does best.

Everything here runs inside the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import psycopg
from msgspec import Raw
from psycopg import sql as pg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.copy import LibpqWriter
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.types import TypeEngine

from igh_sync_core.store.dialect import Document
from igh_sync_core.store.driver import driver_errors

_ROWS_TOGETHER, _VALUES_TOGETHER = 20, 10_000
"""Rows and values of one INSERT at most, in SQLite; a prepared statement grows with them."""

_UNSENT_BYTES = 128 * 1024
"""What PostgreSQL may be behind with; the driver would keep room for twice its own megabyte on each connection."""

_QUOTES = sqlite_dialect.dialect().identifier_preparer


def load(conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append *rows* to *table*, consuming them once; see ``Database.load``."""
    if conn.dialect.name == "postgresql":
        _copy(conn, table, columns, rows)
    else:
        _insert_all(conn, table, columns, rows)


def _insert_all(conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Several rows a statement, and those left over one by one.

    After each statement the driver must get Python's lock back, which takes milliseconds while another thread
    computes; and all the while no other thread can write to the file.
    """
    together = max(1, min(_ROWS_TOGETHER, _VALUES_TOGETHER // len(columns)))
    one, many = _insert_text(table, tuple(columns), 1), _insert_text(table, tuple(columns), together)
    cursor, remaining = conn.connection.cursor(), iter(rows)
    try:
        with driver_errors(conn, one):
            while len(part := list(islice(remaining, together))) == together:
                cursor.execute(many, tuple(chain.from_iterable(part)))
            cursor.executemany(one, part)
    finally:
        cursor.close()


@lru_cache(maxsize=1024)
def _insert_text(table: Table, columns: tuple[str, ...], rows: int) -> str:
    names = ", ".join(_QUOTES.format_column(table.c[name]) for name in columns)
    group = f"({', '.join(_place(table.c[name].type) for name in columns)})"
    return f"INSERT INTO {_QUOTES.format_table(table)} ({names}) VALUES {', '.join([group] * rows)}"  # noqa: S608 - quoted


def _place(kind: TypeEngine[Any]) -> str:
    # The driver takes bytes for a BLOB; text in the file's own encoding is the same bytes by another name.
    return "CAST(? AS TEXT)" if isinstance(kind, Document) else "?"


class _AsReceived(Dumper):
    """A record's own bytes, which are UTF-8 as the connection is."""

    def dump(self, obj: Buffer) -> Buffer:
        return obj


def _copy(conn: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    statement = pg.SQL("COPY {} ({}) FROM STDIN").format(
        pg.Identifier(table.name), pg.SQL(", ").join(pg.Identifier(table.c[name].name) for name in columns)
    )
    cursor: psycopg.Cursor[Any] = conn.connection.cursor()  # type: ignore[assignment]  # SQLAlchemy's pooled proxy
    cursor.adapters.register_dumper(Raw, _AsReceived)
    writer = LibpqWriter(cursor, flush_threshold=_UNSENT_BYTES)
    with driver_errors(conn, "COPY"), cursor, cursor.copy(statement, writer=writer) as copy:
        for row in rows:
            copy.write_row(row)
