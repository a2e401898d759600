"""A file of the program before this one is taken over as it is: what it lacks is added, what it holds stays.

That program kept the same tables, without ``closed_reason``, without the types of polymorphic lookups, and with times
in several text forms, all of which are read. The types are filled from the stored records themselves; where those do
not tell, the next read is a full one and fills them, making no versions. Images it kept as text become bytes.

It wrote SQLite files only. Everything here runs in the one transaction that also checks the schema.
"""

import logging
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    type_coerce,
    update,
)

from igh_sync_core import checkpoint, strategy
from igh_sync_core.control import ControlTable, SyncLog, SyncShape, SyncState
from igh_sync_core.dialect import member_of
from igh_sync_core.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.leftovers import ADOPTIONS, index_open
from igh_sync_core.model import Kind, TableSpec
from igh_sync_core.rows import TARGET_TYPE
from igh_sync_core.schema import AddColumn
from igh_sync_core.strategy import Strategy
from igh_sync_core.tables import OURS, entity_tables, identifier

UNFINISHED = "adopted"
"""Stands for a fingerprint of columns where not all of them could be filled: the next read is a full one."""

_STATE = SyncState.metadata.tables["_sync_state"]
_SHAPES = SyncShape.metadata.tables["_sync_shape"]
_CONTROL: tuple[tuple[type[ControlTable], Table], ...] = (
    (SyncState, _STATE),
    (SyncLog, SyncLog.metadata.tables["_sync_log"]),
)
log = logging.getLogger(__name__)


def adopt(
    conn: Connection, specs: Sequence[TableSpec], entities: Sequence[EntityConfig], *, now: datetime
) -> tuple[str, ...]:
    """Take over the tables of *specs* that the earlier program made; what is ours already is left alone.

    Args:
        conn: A connection inside a transaction; the control tables exist, in the earlier program's form or in ours.
        specs: Entities that metadata knows.
        entities: As configured.
        now: The server's clock.

    Returns:
        What was taken over, for people; empty where there was nothing.
    """
    if conn.dialect.name != "sqlite":
        return ()
    _extend_control_tables(conn)
    configured = {entity.name: entity for entity in entities}
    taken = [_Takeover(conn, spec, configured[spec.logical_name]) for spec in _foreign(conn, specs)]
    for one in taken:
        one.execute(now)
    if not taken:
        return ()
    rows = sum(one.versions for one in taken)
    whole = [one.spec.entity_set for one in taken if one.unfilled]
    text = f"taken over from an earlier program: {len(taken)} tables with {rows} versions, all of them kept"
    return (
        (text, f"read whole once, to fill in what their records do not tell: {', '.join(whole)}") if whole else (text,)
    )


def _foreign(conn: Connection, specs: Sequence[TableSpec]) -> Iterator[TableSpec]:
    """Entities whose table is one of the earlier program's."""
    inspector = inspect(conn)
    unknown = set(inspector.get_table_names()).difference(conn.scalars(select(_SHAPES.c.table_name)))
    for spec in specs:
        table = identifier(spec.entity_set)
        if table in unknown:
            present = {column["name"] for column in inspector.get_columns(table)}
            if set(OURS) - present == {"closed_reason"}:
                yield spec


def _extend_control_tables(conn: Connection) -> None:
    """Give the earlier program's state and log the columns they lack, filled with what is true of old lines."""
    for model, table in _CONTROL:
        present = {column["name"] for column in inspect(conn).get_columns(table.name)}
        missing = [column for column in table.columns if column.name not in present]
        if missing:
            _add(conn, table, [column.name for column in missing])
            conn.execute(update(table).values(_defaults(model, missing)))
            for index in table.indexes:
                index.create(conn, checkfirst=True)


def _defaults(model: type[ControlTable], columns: Sequence[Column[Any]]) -> Mapping[str, Any]:
    return {column.name: model.model_fields[column.name].default for column in columns}


def _add(conn: Connection, table: Table, names: Sequence[str]) -> None:
    """Columns added to rows that exist can be nothing but nullable."""
    columns = [Column(table.c[name].name, table.c[name].type, quote=True) for name in names]
    for column in Table(table.name, MetaData(), *columns, quote=True).columns:
        conn.execute(AddColumn(column))


class _Takeover:
    """One table of the earlier program.

    Attributes:
        spec: The entity.
        versions: Rows it holds.
        unfilled: Columns that the stored records do not tell for every current row.
    """

    def __init__(self, conn: Connection, spec: TableSpec, entity: EntityConfig) -> None:
        self.spec = spec
        self.versions = 0
        self.unfilled: list[str] = []
        self._conn, self._entity = conn, entity
        self._tables = entity_tables(spec)

    def execute(self, now: datetime) -> None:
        """Do all of it."""
        main = self._tables.main
        self._add_columns()
        self._fill()
        for column in self.spec.columns:
            if column.kind is Kind.BINARY:
                self._decode(main.c[column.name])
        self._make_indexes()
        self.unfilled = self._find_unfilled()
        self._continue()
        self._conn.execute(insert(ADOPTIONS).values(table_name=main.name, adopted_at=now, is_clean=False))
        self.versions = self._conn.execute(select(func.count()).select_from(main)).scalar_one()
        log.info("%s: taken over with %d versions", self.spec.logical_name, self.versions)

    def _add_columns(self) -> None:
        """Our own column, the types of polymorphic lookups, and the key where the earlier program used another."""
        main = self._tables.main
        present = {column["name"].casefold() for column in inspect(self._conn).get_columns(main.name)}
        wanted = ("closed_reason", self.spec.key, *(lookup.type_column for lookup in self.spec.polymorphic))
        _add(self._conn, main, [name for name in wanted if main.c[name].name.casefold() not in present])

    def _fill(self) -> None:
        main = self._tables.main
        key, record = main.c[self.spec.key], main.c.json_response
        values: dict[ColumnElement[Any], Any] = {
            # That program never noticed a deletion, so whatever it closed had been updated.
            main.c.closed_reason: case((main.c.valid_to.is_not(None), literal("updated"))),
            key: func.coalesce(key, func.lower(member_of(record, self.spec.key))),
        }
        for lookup in self.spec.polymorphic:
            values[main.c[lookup.type_column]] = member_of(record, lookup.column + TARGET_TYPE)
        self._conn.execute(update(main).values(values))

    def _decode(self, image: ColumnElement[bytes]) -> None:
        """Kept as the text it travels in; the same bytes are kept as bytes from now on."""
        main = self._tables.main
        texts = select(main.c.row_id, type_coerce(image, Text())).where(func.typeof(image) == "text")
        rows = [{"of": row_id, "decoded": b64decode(text)} for row_id, text in self._conn.execute(texts)]
        if rows:
            decoding = update(main).where(main.c.row_id == bindparam("of"))
            self._conn.execute(decoding.values({image: bindparam("decoded")}), rows)

    def _make_indexes(self) -> None:
        main = self._tables.main
        if not index_open(self._conn, self._tables):
            # Stands in for the unique one, so that a page's keys are found as fast.
            name = identifier(f"ix_{self.spec.entity_set}_open")
            # On a copy: the table itself is shared by every database of the process, and has no such index.
            copied = main.to_metadata(MetaData())
            Index(name, copied.c[self.spec.key], sqlite_where=copied.c.valid_to.is_(None)).create(self._conn)
        present = set(inspect(self._conn).get_table_names())
        tables = (main, *(table for table in self._tables.junctions.values() if table.name in present))
        for index in (index for table in tables for index in table.indexes if not index.unique):
            index.create(self._conn, checkfirst=True)

    def _find_unfilled(self) -> list[str]:
        """Types that the records do not tell, and objects, whose spelling differs though they are the same."""
        main = self._tables.main
        lacks = {
            one.type_column: and_(main.c[one.column].is_not(None), main.c[one.type_column].is_(None))
            for one in self.spec.polymorphic
        }
        lacks |= {one.name: main.c[one.name].is_not(None) for one in self.spec.columns if one.kind is Kind.COMPLEX}
        if not lacks:
            return []
        flags = [func.max(case((condition, 1), else_=0)) for condition in lacks.values()]
        found = self._conn.execute(select(*flags).where(main.c.valid_to.is_(None))).one()
        return [name for name, flag in zip(lacks, found, strict=True) if flag]

    def _continue(self) -> None:
        """Let the next read go on where the earlier program's last complete one ended."""
        self._rename_state()
        state = checkpoint.read(self._conn, self.spec)
        if state.state != "completed":
            state.last_timestamp = None
        state.records_count = checkpoint.count_open(self._conn, self._tables)
        state.columns_digest = UNFINISHED if self.unfilled else strategy.digest(self.spec)
        state.fresh_columns = ",".join(self.unfilled)
        with suppress(SchemaError):
            chosen = strategy.choose(self.spec, self._entity).strategy
            state.strategy = None if chosen is Strategy.RELATED else chosen
        checkpoint.write(self._conn, state)

    def _rename_state(self) -> None:
        """It may stand under the logical name."""
        name, other = self.spec.entity_set, self.spec.logical_name
        is_known = exists().where(_STATE.alias().c.entity_name == name)
        self._conn.execute(update(_STATE).where(_STATE.c.entity_name == other, ~is_known).values(entity_name=name))
