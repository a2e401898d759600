"""A table under test, loaded page after page: load 1, load 2, load 3."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from msgspec import Raw
from shaping import NOON
from sqlalchemy import Connection, select

from igh_sync_core.history.rows import RowCodec
from igh_sync_core.history.versions import History
from igh_sync_core.model import Column, EntitySet, Kind, LogicalName, OptionKind, TableSpec
from igh_sync_core.report import Counts
from igh_sync_core.schema import shapes
from igh_sync_core.schema.outline import missing_tables
from igh_sync_core.schema.tables import entity_tables
from igh_sync_core.store.database import Database

SPEC = TableSpec(
    logical_name=LogicalName("sample"),
    entity_set=EntitySet("samples"),
    key="sampleid",
    columns=(
        Column("sampleid", Kind.GUID),
        Column("name", Kind.STRING),
        Column("score", Kind.DECIMAL),
        Column("tags", Kind.STRING, option=OptionKind.MULTISELECT),
        Column("modifiedon", Kind.DATETIME),
        Column("versionnumber", Kind.INT64),
    ),
)
A, B = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def record(key: str = A, *, modified: datetime | None = NOON, **values: Any) -> Raw:
    stamp = modified and f"{modified:%Y-%m-%dT%H:%M:%SZ}"
    return Raw(json.dumps({"sampleid": key, "modifiedon": stamp, **values}).encode())


class Loader:
    """Loads pages one after the other, as a sync would, each in its own transaction."""

    def __init__(self, database: Database, conn: Connection, spec: TableSpec = SPEC) -> None:
        self.database, self.conn, self.spec = database, conn, spec
        self.tables = entity_tables(spec)
        with database.transaction(conn):
            self.history = History(database, self, self.tables)
        self.codec = RowCodec(spec, database.kind)

    def write(self, *records: Raw, now: datetime = NOON, new: bool = False) -> Counts:
        batch = self.codec.decode(records)
        with self.database.transaction(self.conn):
            return (self.history.write_new if new else self.history.write)(batch, now)

    def delete(self, *keys: str, now: datetime = NOON) -> int:
        with self.database.transaction(self.conn):
            return self.history.close_deleted(keys, now)

    def snapshot(self, *records: Raw, now: datetime = NOON) -> int:
        batch = self.codec.decode(records)
        with self.database.transaction(self.conn):
            self.history.write(batch, now)
            return self.history.close_others(batch.keys, now)

    def versions(self, *names: str) -> list[tuple[Any, ...]]:
        """Every version in the order written: the columns named, then its interval and reason."""
        main = self.tables.main
        shown = [main.c[name] for name in (*names, "valid_from", "valid_to", "closed_reason")]
        with self.database.transaction(self.conn):
            return [tuple(row) for row in self.conn.execute(select(*shown).order_by(main.c.row_id))]

    def picks(self) -> list[tuple[Any, ...]]:
        table = self.tables.junctions["tags"]
        shown = (table.c.entity_id, table.c.option_code, table.c.valid_from, table.c.valid_to)
        with self.database.transaction(self.conn):
            return [tuple(row) for row in self.conn.execute(select(*shown).order_by(table.c.junction_id))]


def create_tables(conn: Connection, specs: Sequence[TableSpec]) -> None:
    """Make the tables of entities where they are missing, without views and without a memory of them."""
    stored = shapes.read(conn, ())
    present = set(stored.tables)
    for spec in specs:
        for statement in missing_tables(stored, spec, present):
            conn.execute(statement)


@contextmanager
def loading(database: Database, spec: TableSpec = SPEC) -> Iterator[Loader]:
    with database.writing() as conn:
        create_tables(conn, [spec])
    with database.connection() as conn:
        yield Loader(database, conn, spec)
