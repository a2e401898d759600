"""Contestant: the least that can be done to copy the rows. No history, no comparison, no state, no indexes.

The pages of a recording are read one after another, decoded, and written with one bulk insert each, into one table
per entity: its declared columns in the types of ours, and the record's JSON.
"""

import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
import psycopg
from msgspec import Raw, Struct
from psycopg import sql
from sqlalchemy import Column as SQLColumn
from sqlalchemy import Dialect, MetaData, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import Text

from igh_sync_core.model import Column, Kind
from igh_sync_core.schema.tables import KINDS

from .recording import PageRequest, Recording
from .wire import open_wire
from .worker import serve

JSON_COLUMN = "json_response"


class Page(Struct):
    """What the floor looks at in a reply."""

    value: list[Raw]


class Store(Protocol):
    """A database that takes whole pages."""

    def create(self, table: Table) -> None:
        """Make an empty table."""

    def insert(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Add *rows* in one transaction."""

    def close(self) -> None:
        """Close the connection."""


class SQLiteStore:
    """A file with the settings that ours uses."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = NORMAL"):
            self._connection.execute(f"PRAGMA {pragma}")

    def create(self, table: Table) -> None:
        """Make an empty table."""
        self._connection.execute(_ddl(table, sqlite.dialect()))

    def insert(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Add *rows* in one transaction."""
        self._connection.execute("BEGIN")
        self._connection.executemany(str(table.insert().compile(dialect=sqlite.dialect())), rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresStore:
    """A database that pages are copied into."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def create(self, table: Table) -> None:
        """Make an empty table."""
        self._connection.execute(_ddl(table, postgresql.dialect()).encode())  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

    def insert(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Add *rows* in one transaction."""
        statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table.name))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Target:
    """One entity's table, and how its records become rows of it.

    Args:
        name: Entity set.
        columns: What is kept of a record.
        with_json: Whether the record itself is kept too.
    """

    def __init__(self, name: str, columns: Sequence[Column], *, with_json: bool) -> None:
        self._with_json = with_json
        document = [SQLColumn(JSON_COLUMN, Text().with_variant(JSONB(), "postgresql"))] if with_json else []
        kept = [SQLColumn(column.name, _type_of(column)) for column in columns]
        self.table = Table(name, MetaData(), *kept, *document)
        self._decoder = msgspec.json.Decoder(_record_type(columns))
        self._complex = [at for at, column in enumerate(columns) if column.kind is Kind.COMPLEX]

    def rows(self, records: Sequence[Raw]) -> list[Sequence[Any]]:
        """Declared columns of *records*, as they were received, and their JSON."""
        rows: list[Any] = [msgspec.structs.astuple(self._decoder.decode(record)) for record in records]
        if self._complex:
            rows = [tuple(map(_bindable, row)) for row in rows]
        if self._with_json:
            rows = [(*row, str(record, "utf-8")) for row, record in zip(rows, records, strict=True)]
        return rows


def _record_type(columns: Sequence[Column]) -> type[Any]:
    fields = [(f"f{at}", Any, msgspec.field(default=None, name=column.name)) for at, column in enumerate(columns)]
    return msgspec.defstruct("Record", fields, gc=False)


def _type_of(column: Column) -> Any:
    lite, postgres = KINDS[column.kind]
    return lite.with_variant(postgres, "postgresql")


def _bindable(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else value


def _ddl(table: Table, dialect: Dialect) -> str:
    return str(CreateTable(table).compile(dialect=dialect))


def copy_pages(wire: httpx.Client, store: Store, recording: Recording, *, with_json: bool) -> int:
    """Read every page of the recording and write it.

    Returns:
        Rows written.
    """
    origin = os.environ["DATAVERSE_API_URL"]
    decoder = msgspec.json.Decoder(Page)
    targets: dict[str, Target] = {}
    count = 0
    for page in recording.pages:
        if page.table not in targets:
            targets[page.table] = Target(page.table, recording.columns[page.table], with_json=with_json)
            store.create(targets[page.table].table)
        rows = targets[page.table].rows(decoder.decode(_fetch(wire, origin, page)).value)
        store.insert(targets[page.table].table, rows)
        count += len(rows)
    return count


def _fetch(wire: httpx.Client, origin: str, page: PageRequest) -> bytes:
    # "target" keeps httpx from re-encoding the paging cookie.
    extensions = {"target": page.target.encode()}
    reply = wire.get(origin + page.target, headers={"Prefer": page.prefer}, extensions=extensions)
    return reply.raise_for_status().content


def copy_all(_workload: str) -> dict[str, int]:
    """The first load, with the recording and the wishes of the command line."""
    file, *wishes = sys.argv[1:]
    recording = msgspec.json.decode(Path(file).read_bytes(), type=Recording)
    url = os.environ.get("POSTGRES_CONNECTION_STRING")
    store: Store = PostgresStore(url) if url else SQLiteStore(os.environ["SQLITE_DB_PATH"])
    with closing(store), open_wire(os.environ) as wire:
        rows = copy_pages(wire, store, recording, with_json="--without-json" not in wishes)
    return {"rows": rows}


if __name__ == "__main__":
    serve(copy_all)
