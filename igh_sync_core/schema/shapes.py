"""What is stored now: the tables as the database describes them, and what metadata last made of them.

Read in bulk, before anything is written. Nothing here decides anything; ``drift`` does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import inf
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Column, Connection, Dialect, Insert, Select, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Inspector
from sqlalchemy.types import NullType, TypeEngine

from igh_sync_core.model import Kind, OptionKind, TableSpec
from igh_sync_core.schema import indexes
from igh_sync_core.schema.tables import KINDS, identifier, open_index_name
from igh_sync_core.store.control import SyncShape
from igh_sync_core.store.dialect import upsert
from igh_sync_core.store.driver import Prepared

_SHAPES = SyncShape.metadata.tables["_sync_shape"]


class Shape(Struct, frozen=True):
    """What one entity's table was last made to hold.

    Attributes:
        key: Property that identified its records.
        kinds: Kind of every column that metadata ever declared for it.
        gone: Of those, the columns no longer declared.
        options: Kind of option set of the columns that hold choices.
        views: Names of its views: current rows, then all versions, which those are of; empty where none could be made.
        views_digest: Fingerprint of what the views show.
        language: LCID of the labels in them.
    """

    key: str
    kinds: dict[str, Kind]
    gone: tuple[str, ...] = ()
    options: dict[str, OptionKind] = {}
    views: tuple[str, ...] = ()
    views_digest: str = ""
    language: int = 0


_SHAPE = msgspec.json.Decoder(Shape)

WIDENING = (Kind.INT16, Kind.INT32, Kind.INT64, Kind.DECIMAL)
"""Each holds every value of those before it."""


def shape_of(spec: TableSpec, before: Shape | None) -> Shape:
    """The shape of a table made or extended for *spec*, keeping what it held *before*."""
    kinds = declared(spec)
    old = before or Shape(spec.key, {})
    return msgspec.structs.replace(
        old,
        key=spec.key,
        kinds=old.kinds | {name: _wider(old.kinds.get(name), kind) for name, kind in kinds.items()},
        gone=tuple(sorted(old.kinds.keys() - kinds.keys())),
        options={column.name: column.option for column in spec.choices if column.option},
    )


def _wider(stored: Kind | None, wanted: Kind) -> Kind:
    """A column stays as wide as it ever was."""
    if stored in WIDENING and wanted in WIDENING:
        return max(stored, wanted, key=WIDENING.index)
    return wanted


def declared(spec: TableSpec) -> dict[str, Kind]:
    """Kind of every column a record fills, the companions of polymorphic lookups among them."""
    kinds = {column.name: column.kind for column in spec.columns}
    return kinds | {lookup.type_column: Kind.STRING for lookup in spec.polymorphic}


@dataclass(frozen=True)
class Stored:
    """What the database holds.

    Attributes:
        dialect: Of its engine.
        tables: Names of all tables.
        views: Names of all views.
        indexes: Names of the columns of every index, by its name.
        columns: Of each entity table asked for that exists: type, as DDL spells it, by name, as the engine tells
            names apart.
        keys: Of the same tables: the column of the unique index on open rows, where there is one.
        shapes: By table name, for every table made by this program.
    """

    dialect: Dialect
    tables: frozenset[str]
    views: frozenset[str]
    indexes: dict[str, list[str]]
    columns: dict[str, dict[str, str]]
    keys: dict[str, str]
    shapes: dict[str, Shape]

    def column_type(self, table: str, name: str) -> str | None:
        """Stored type of a column; None where there is none."""
        return self.columns[table].get(_folded(identifier(name), self.dialect))

    def with_columns(self, columns: Iterable[Column[Any]]) -> "Stored":
        """The same with columns that are about to be added to tables that exist."""
        grown = {table: dict(types) for table, types in self.columns.items()}
        for column in columns:
            name = _folded(str(column.name), self.dialect)
            grown[str(column.table.name)][name] = spelled(column.type, self.dialect)
        return replace(self, columns=grown)

    def kinds(self, table: str, name: str) -> frozenset[Kind] | None:
        """Kinds that a stored column may hold; None where there is no such column.

        What metadata last said decides, as long as the database agrees; else all kinds kept under the stored type.
        """
        text = self.column_type(table, name)
        if text is None:
            return None
        candidates = kinds_kept_as(self.dialect.name, storage(text))
        shape = self.shapes.get(table)
        known = shape.kinds.get(name) if shape else None
        # SQLite widens no declaration: an INTEGER column takes decimals as they are.
        is_widened = self.dialect.name == "sqlite" and known in WIDENING and not candidates.isdisjoint(WIDENING)
        return frozenset({known}) if known is not None and (known in candidates or is_widened) else candidates


def read(conn: Connection, specs: Iterable[TableSpec]) -> Stored:
    """Describe what is stored for *specs*, in a handful of catalog queries however many there are."""
    inspector = inspect(conn)
    tables, views = frozenset(inspector.get_table_names()), frozenset(inspector.get_view_names())
    wanted = {_table_name(spec): spec for spec in specs}
    present = sorted(wanted.keys() & tables)
    shapes = kept(conn) if str(_SHAPES.name) in tables else {}
    return Stored(
        dialect=conn.dialect,
        tables=tables,
        views=views,
        indexes=indexes.read(conn),
        columns=_columns(conn, inspector, present),
        keys=_keys(inspector, [wanted[name] for name in present if name not in shapes]),
        shapes=shapes,
    )


def keep(conn: Connection, table: str, shape: Shape) -> None:
    """Store the shape of a table, replacing what was known of it."""
    _keep.execute(conn, conn.dialect.name, table_name=table, value=msgspec.json.encode(shape).decode())


@Prepared
def _keep(engine: str) -> Insert:
    return upsert(engine, _SHAPES)


def kept(conn: Connection) -> dict[str, Shape]:
    """The shapes of all tables, by table name."""
    return {name: _SHAPE.decode(value) for name, value in _all.rows(conn, None)}


@Prepared
def _all(_: None) -> Select[Any]:
    return select(_SHAPES.c.table_name, _SHAPES.c.value)


def spelled(kind: TypeEngine[Any], dialect: Dialect) -> str:
    """A type as the engine's DDL spells it: ``VARCHAR(100)``; "" for an unknown one, in a column of the user's own."""
    if isinstance(kind, NullType):
        return ""
    return str(kind.compile(dialect=dialect))


def storage(text: str) -> str:
    """Where a spelled type is kept, its length left aside: a text with a length is text."""
    name = text.partition("(")[0].strip().upper()
    return "TEXT" if name in {"VARCHAR", "CHARACTER VARYING", "CHAR"} else name


def widening(stored: Stored, table: str, column: Column[Any]) -> tuple[str, str] | None:
    """Stored and wanted type where PostgreSQL must widen a stored column; None where it fits or is wider already.

    SQLite holds any length and any whole number as it is.
    """
    before = stored.column_type(table, str(column.key))
    if before is None or stored.dialect.name != "postgresql":
        return None
    wanted = spelled(column.type, stored.dialect)
    if storage(before) == storage(wanted) == "TEXT":
        is_wider = length_of(wanted) > length_of(before)
    else:
        ranks = _NUMBERS.get(storage(wanted), -1), _NUMBERS.get(storage(before), len(_NUMBERS))
        is_wider = ranks[0] > ranks[1]
    return (before, wanted) if is_wider else None


_NUMBERS = {"SMALLINT": 0, "INTEGER": 1, "BIGINT": 2, "NUMERIC": 3}


def length_of(text: str) -> float:
    """Characters a text type holds at most."""
    match = _LENGTH.search(text)
    return int(match[1]) if match else inf


_LENGTH = re.compile(r"\((\d+)\)")


@cache
def kinds_kept_as(engine: str, name: str) -> frozenset[Kind]:
    """Every kind that *engine* keeps under the storage *name*."""
    dialect: Dialect = postgresql.dialect() if engine == "postgresql" else sqlite.dialect()  # type: ignore[no-untyped-call]
    at = 1 if engine == "postgresql" else 0
    kinds = frozenset(kind for kind, types in KINDS.items() if storage(spelled(types[at], dialect)) == name)
    # SQLite keeps bytes under any type, and the program that made adopted files called such columns TEXT.
    return kinds | {Kind.BINARY} if (engine, name) == ("sqlite", "TEXT") else kinds


def _folded(name: str, dialect: Dialect) -> str:
    """SQLite does not tell names apart by case."""
    return name.casefold() if dialect.name == "sqlite" else name


def _table_name(spec: TableSpec) -> str:
    return identifier(spec.entity_set)


def _columns(conn: Connection, inspector: Inspector, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    found = inspector.get_multi_columns(filter_names=names)
    return {
        str(table): {_folded(column["name"], conn.dialect): spelled(column["type"], conn.dialect) for column in columns}
        for (_schema, table), columns in found.items()
    }


def _keys(inspector: Inspector, specs: Iterable[TableSpec]) -> dict[str, str]:
    """Only for tables whose shape is unknown: what the index on open rows says."""
    keys: dict[str, str] = {}
    for spec in specs:
        for index in inspector.get_indexes(_table_name(spec)):
            if index["name"] == open_index_name(spec) and (names := index["column_names"]):
                keys[_table_name(spec)] = str(names[0])
    return keys
