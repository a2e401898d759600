"""Stored shapes: TableSpec → SQLAlchemy tables.

The layout is the table contract of the README, "Reading the tables". Nothing here talks to a database.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock
from typing import Any

from sqlalchemy import (
    REAL,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    FromClause,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from igh_sync_core.errors import SchemaError
from igh_sync_core.model import Column as Property
from igh_sync_core.model import EntitySet, Kind, LogicalName, TableSpec
from igh_sync_core.store.dialect import Document, Instant, rows_listed

OURS = ("row_id", "json_response", "sync_time", "valid_from", "valid_to", "closed_reason")
IDENTIFIER_BYTES = 63
"""Longest name PostgreSQL keeps; it cuts longer ones silently."""

LONGEST_VARCHAR = 10_485_760
"""Characters PostgreSQL allows a length to name; longer texts have none."""


@dataclass(frozen=True, eq=False)
class EntityTables:
    """Every table of one entity; there is one such value for each, so that it is equal to itself alone.

    Attributes:
        spec: The entity.
        main: One row per version of a record.
        closing: Temporary; open versions about to be closed: ``row_id``, ``key``, ``boundary``, ``reason``.
        picks: Temporary; chosen options of records stored without them: ``key``, ``field``, ``code``.
        keys: Temporary; keys alone (tombstones, pages of keys): ``key``.
        junctions: Per multi-select column its table of chosen options.
    """

    spec: TableSpec
    main: Table
    closing: Table
    picks: Table
    keys: Table
    junctions: dict[str, Table]

    @property
    def places(self) -> dict[str, str]:
        """What fills the places in statements about its pattern, see ``driver.Prepared``."""
        return {"table": str(self.main.name), "key": str(self.main.c[self.spec.key].name)}

    @property
    def pattern(self) -> "EntityTables":
        """Any entity's tables: the columns that all have, and places where their names differ."""
        return _pattern(self.spec.key_kind, has_version=self.spec.has_version)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns a record fills, in their stored order: properties, companions, ``json_response``."""
        return stored_names(self.spec)


def stored_names(spec: TableSpec) -> tuple[str, ...]:
    """Columns one record fills: its properties, the types of polymorphic lookups, and the record itself."""
    return (
        *(column.name for column in spec.columns),
        *(lookup.type_column for lookup in spec.polymorphic),
        "json_response",
    )


def identifier(name: str) -> str:
    """Shorten *name* to what PostgreSQL keeps, staying unique by a digest of the whole."""
    if len(name.encode()) <= IDENTIFIER_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: IDENTIFIER_BYTES - 9]}_{digest}"


def junction_name(spec: TableSpec, field: str) -> str:
    """Name of the table of chosen options of one multi-select column."""
    return identifier(f"_junction_{spec.entity_set}_{field}")


def open_index_name(spec: TableSpec) -> str:
    """Name of the unique index that keeps one open version per key."""
    return identifier(f"uq_{spec.entity_set}_open")


def entity_tables(spec: TableSpec) -> EntityTables:
    """The tables of *spec*.

    Raises:
        SchemaError: A property's name collides with a column of ours.
    """
    with _BUILDING:  # or two threads would each build their own
        return _built(spec)


_BUILDING = Lock()


@cache
def _pattern(kind: Kind, *, has_version: bool) -> EntityTables:
    version = (Property("versionnumber", Kind.INT64),) if has_version else ()
    columns = (Property("{key}", kind), *version)
    return entity_tables(TableSpec(LogicalName("{table}"), EntitySet("{table}"), "{key}", columns))


@lru_cache(maxsize=1024)
def _built(spec: TableSpec) -> EntityTables:
    taken = {name.casefold() for name in stored_names(spec)[:-1]} & set(OURS)
    if taken:
        msg = f"{spec.logical_name}: the columns {sorted(taken)} collide with columns kept for the history"
        raise SchemaError(msg)
    metadata = MetaData()
    closing, picks, keys = _lists(spec.key_kind)
    return EntityTables(
        spec=spec,
        main=_main(spec, metadata),
        closing=closing,
        picks=picks,
        keys=keys,
        junctions={column.name: _junction(spec, column.name, metadata) for column in spec.multiselects},
    )


CLOSING = ("row_id", "key", "boundary", "reason")
"""Columns of what is known of a version about to be closed."""

_TEMP: dict[str, Any] = {"prefixes": ["TEMPORARY"]}


def _c(name: str, kind: TypeEngine[Any], **options: Any) -> Column[Any]:  # noqa: ANN401 - passed through
    # Names are always quoted, so that mixed case and SQL keywords keep their spelling on both engines.
    return Column(identifier(name), kind, key=name, quote=True, **options)


def surrogate_key(name: str) -> Column[Any]:
    """An ever growing integer key: autoincrement in SQLite, identity in PostgreSQL."""
    kind = Integer().with_variant(BigInteger(), "postgresql")
    return Column(name, kind, Identity(), primary_key=True, autoincrement=True)


def _main(spec: TableSpec, metadata: MetaData) -> Table:
    table = Table(
        identifier(spec.entity_set),
        metadata,
        surrogate_key("row_id"),
        *(_c(column.name, _type(column)) for column in spec.columns),
        *(_c(lookup.type_column, Text()) for lookup in spec.polymorphic),
        _c("json_response", _document(), nullable=False),
        _c("sync_time", Instant(), nullable=False),
        _c("valid_from", Instant()),
        _c("valid_to", Instant()),
        _c("closed_reason", Text()),
        quote=True,
        sqlite_autoincrement=True,
    )
    is_open = table.c.valid_to.is_(None)
    Index(
        open_index_name(spec),
        table.c[spec.key],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    is_closed = table.c.valid_to.is_not(None)
    Index(
        identifier(f"ix_{spec.entity_set}_closed"),
        table.c[spec.key],
        table.c.valid_to,
        sqlite_where=is_closed,
        postgresql_where=is_closed,
    )
    return table


@lru_cache(maxsize=64)
def renewing(tables: EntityTables, fresh: frozenset[str]) -> Table:
    """Temporary: new values for open versions, by ``row_id``: ``json_response``, ``versionnumber``, *fresh* columns."""
    kinds = {column.name: _unlimited(column) for column in tables.spec.columns}
    added = [_c(name, kinds.get(name, Text())) for name in sorted(fresh - {"versionnumber"})]
    return _renewing(*added) if added else _RENEWING


def _renewing(*columns: Column[Any]) -> Table:
    always = (_c("row_id", BigInteger()), _c("json_response", _document()), _c("versionnumber", BigInteger()))
    return Table("_renewing", MetaData(), *always, *columns, **_TEMP)


def closing_given(engine: str, tables: EntityTables) -> FromClause:
    """The same as ``closing``, but of rows that parameters list; see ``dialect.given_rows``."""
    return rows_listed(engine, str(tables.closing.name), {name: tables.closing.c[name].type for name in CLOSING})


@cache
def _lists(kind: Kind) -> tuple[Table, Table, Table]:
    """``_closing``, ``_picks`` and ``_keys``; the same ones for every entity whose key is of that kind."""
    sqlite, postgres = KINDS[kind]
    key, metadata = sqlite.with_variant(postgres, "postgresql"), MetaData()
    closing = (_c("row_id", BigInteger()), _c("key", key), _c("boundary", Instant()), _c("reason", Text()))
    return (
        Table("_closing", metadata, *closing, **_TEMP),
        Table("_picks", metadata, _c("key", key), _c("field", Text()), _c("code", Integer()), **_TEMP),
        Table("_keys", metadata, _c("key", key, index=True), **_TEMP),
    )


def _junction(spec: TableSpec, field: str, metadata: MetaData) -> Table:
    name = junction_name(spec, field)
    key = next(column for column in spec.columns if column.name == spec.key)
    table = Table(
        name,
        metadata,
        surrogate_key("junction_id"),
        _c("entity_id", _type(key), nullable=False),
        _c("option_code", Integer(), nullable=False),
        _c("valid_from", Instant(), nullable=False),
        _c("valid_to", Instant()),
        quote=True,
        sqlite_autoincrement=True,
    )
    Index(identifier(f"ix{name}"), table.c.entity_id, table.c.valid_to)
    return table


def _document() -> TypeEngine[Any]:
    return Document().with_variant(JSONB(), "postgresql")


_RENEWING = _renewing()
"""The one of all tables without fresh columns, so that it stays from one entity to the next."""


KINDS: dict[Kind, tuple[TypeEngine[Any], TypeEngine[Any]]] = {
    Kind.STRING: (Text(), Text()),
    Kind.GUID: (Text(), Uuid(as_uuid=False)),
    Kind.DATETIME: (Text(), TIMESTAMP(timezone=True)),
    Kind.DATE: (Text(), Date()),
    Kind.COMPLEX: (Text(), JSONB()),
    Kind.BINARY: (LargeBinary(), LargeBinary()),
    Kind.BOOLEAN: (Integer(), Boolean()),
    Kind.INT16: (Integer(), SmallInteger()),
    Kind.INT32: (Integer(), Integer()),
    Kind.INT64: (Integer(), BigInteger()),
    Kind.DECIMAL: (REAL(), Numeric()),
    Kind.DOUBLE: (REAL(), Double()),
}
"""Type of each kind in SQLite and in PostgreSQL: the table in the README, "Reading the tables"."""


def _type(column: Property) -> TypeEngine[Any]:
    sqlite, postgres = KINDS[column.kind]
    if column.kind is Kind.STRING and 0 < (column.max_length or 0) <= LONGEST_VARCHAR and column.option is None:
        postgres = String(column.max_length)
    return sqlite.with_variant(postgres, "postgresql")


def _unlimited(column: Property) -> TypeEngine[Any]:
    """The same without a length: what is refused must be refused by the entity's own table, where room can be made."""
    sqlite, postgres = KINDS[column.kind]
    return sqlite.with_variant(postgres, "postgresql")
