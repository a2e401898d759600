"""One table of the program before this one: what it lacks to be ours, looked at first and then done.

The look writes nothing, so that a plan shows what a run does. The state to go on from is worked out from what the
records tell, see ``adoption``.
"""

import logging
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    Row,
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
from sqlalchemy.schema import CreateIndex, ExecutableDDLElement

from igh_sync_core.config.entities import EntityConfig
from igh_sync_core.errors import SchemaError
from igh_sync_core.history import checkpoint
from igh_sync_core.history.rows import TARGET_TYPE
from igh_sync_core.model import Kind, Lookup, TableSpec
from igh_sync_core.preparation.leftovers import ADOPTIONS
from igh_sync_core.schema import indexes
from igh_sync_core.schema.alterations import AddColumn
from igh_sync_core.schema.tables import entity_tables, identifier
from igh_sync_core.store.control import SyncState
from igh_sync_core.store.dialect import member_of
from igh_sync_core.sync import strategy
from igh_sync_core.sync.strategy import Strategy

UNFINISHED = "adopted"
"""Stands for a fingerprint of columns where not all of them could be filled: the next read is a full one."""

_IMAGES_AT_ONCE, _ROWS_NAMED = 20, 5

_STATE = SyncState.metadata.tables["_sync_state"]
log = logging.getLogger(__name__)


def adding(table: Table, names: Sequence[str]) -> Iterator[AddColumn]:
    """Statements that add columns to a stored table: to rows that exist, they can be nothing but nullable."""
    columns = [Column(table.c[name].name, table.c[name].type, quote=True) for name in names]
    yield from map(AddColumn, Table(table.name, MetaData(), *columns, quote=True).columns)


def _bytes_of(text: str) -> bytes | None:
    """An image as bytes, from text in lines of any length; None where it is something else."""
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError:  # binascii.Error is one
        return None


class Takeover:
    """One table of the earlier program, looked at; nothing is written before ``execute``.

    Attributes:
        spec: The entity.
        versions: Rows it holds.
        added: Its columns to be added, most of them filled at once.
        unfilled: Columns that the stored records do not tell for every current row.
        statements: DDL in the order to execute it.
        state: How far it has come once it is ours.
        notes: What stayed as it was, in words; nothing before ``execute``.
    """

    def __init__(self, conn: Connection, spec: TableSpec, entity: EntityConfig) -> None:
        self.spec = spec
        self._conn, self._tables = conn, entity_tables(spec)
        main = self._tables.main
        self._present = {column["name"].casefold() for column in inspect(conn).get_columns(main.name)}
        self.versions = conn.execute(select(func.count()).select_from(main)).scalar_one()
        self.added = self._missing_columns()
        self.unfilled = self._find_unfilled()
        self.statements: tuple[ExecutableDDLElement, ...] = (*self.added, *self._missing_indexes())
        self.state = self._state(entity)
        self.notes: tuple[str, ...] = ()

    def execute(self, now: datetime) -> None:
        """Do all of it."""
        main = self._tables.main
        for adding_one in self.added:
            self._conn.execute(adding_one)
        self._fill()
        for column in self.spec.columns:
            if column.kind is Kind.BINARY and self._holds(column.name):
                self._decode(main.c[column.name])
        for statement in self.statements[len(self.added) :]:
            self._conn.execute(statement)
        self._rename_state()
        checkpoint.write(self._conn, self.state)
        self._conn.execute(insert(ADOPTIONS).values(table_name=main.name, adopted_at=now, is_clean=False))
        log.info("%s: taken over with %d versions", self.spec.logical_name, self.versions)

    def _holds(self, name: str) -> bool:
        """Whether the earlier program made a column."""
        return self._tables.main.c[name].name.casefold() in self._present

    def _missing_columns(self) -> tuple[AddColumn, ...]:
        """Our own column, the types of polymorphic lookups, and the key where the earlier program used another."""
        wanted = ("closed_reason", self.spec.key, *(lookup.type_column for lookup in self.spec.polymorphic))
        return tuple(adding(self._tables.main, [name for name in wanted if not self._holds(name)]))

    def _key(self) -> ColumnElement[Any]:
        """A version's key, from the record where there is no column of it."""
        main = self._tables.main
        told = func.lower(member_of(main.c.json_response, self.spec.key))
        return func.coalesce(main.c[self.spec.key], told) if self._holds(self.spec.key) else told

    def _fill(self) -> None:
        main = self._tables.main
        values: dict[ColumnElement[Any], Any] = {
            # That program never noticed a deletion, so whatever it closed had been updated.
            main.c.closed_reason: case((main.c.valid_to.is_not(None), literal("updated"))),
            main.c[self.spec.key]: self._key(),
        }
        for lookup in self.spec.polymorphic:
            values[main.c[lookup.type_column]] = self._target(lookup)
        self._conn.execute(update(main).values(values))

    def _target(self, lookup: Lookup) -> ColumnElement[Any]:
        return member_of(self._tables.main.c.json_response, lookup.column + TARGET_TYPE)

    def _decode(self, image: Column[bytes]) -> None:
        """Kept as the text it travels in; the same bytes are kept as bytes from now on."""
        main = self._tables.main
        decoding = update(main).where(main.c.row_id == bindparam("of")).values({image: bindparam("decoded")})
        illegible: list[int] = []
        for texts in self._images(image):
            decoded = [{"of": row_id, "decoded": _bytes_of(text)} for row_id, text in texts]
            illegible += (row["of"] for row in decoded if row["decoded"] is None)
            if rows := [row for row in decoded if row["decoded"] is not None]:
                self._conn.execute(decoding, rows)
        if illegible:
            named = ", ".join(map(str, illegible[:_ROWS_NAMED])) + (", …" if len(illegible) > _ROWS_NAMED else "")
            told = f"{main.name}: {image.name} holds no image in {len(illegible)} rows"
            self.notes += (f"{told}, which keep their text: row_id {named}",)

    def _images(self, image: Column[bytes]) -> Iterator[Sequence[Row[tuple[int, str]]]]:
        """``row_id`` and text of all that are texts, in portions small enough for memory."""
        main, last = self._tables.main, 0
        texts = select(main.c.row_id, type_coerce(image, Text())).where(func.typeof(image) == "text")
        while portion := self._conn.execute(
            texts.where(main.c.row_id > last).order_by(main.c.row_id).limit(_IMAGES_AT_ONCE)
        ).all():
            yield portion
            last = portion[-1][0]

    def _missing_indexes(self) -> Iterator[CreateIndex]:
        inspector = inspect(self._conn)
        stored = set(inspector.get_table_names())
        tables = (self._tables.main, *(one for one in self._tables.junctions.values() if one.name in stored))
        present = {index["name"] for table in tables for index in inspector.get_indexes(table.name)}
        for index in (index for table in tables for index in indexes.in_order(table)):
            if index.unique and self._has_doubles():
                yield CreateIndex(self._stand_in(), if_not_exists=True)
            elif index.name not in present:
                yield CreateIndex(index)

    def _has_doubles(self) -> bool:
        main, key = self._tables.main, self._key()
        repeated = select(key).where(main.c.valid_to.is_(None), key.is_not(None)).group_by(key)
        return self._conn.execute(repeated.having(func.count() > 1).limit(1)).first() is not None

    def _stand_in(self) -> Index:
        """Where open versions are doubled it replaces the unique index, so that a page's keys are found as fast."""
        # On a copy: the table itself is shared by every database of the process, and has no such index.
        copied = self._tables.main.to_metadata(MetaData())
        name = identifier(f"ix_{self.spec.entity_set}_open")
        return Index(name, copied.c[self.spec.key], sqlite_where=copied.c.valid_to.is_(None))

    def _find_unfilled(self) -> list[str]:
        """Types that the records do not tell, and objects, whose spelling differs though they are the same."""
        main = self._tables.main
        lacks = {
            one.type_column: and_(main.c[one.column].is_not(None), self._target(one).is_(None))
            for one in self.spec.polymorphic
            if self._holds(one.column)
        }
        objects = [one.name for one in self.spec.columns if one.kind is Kind.COMPLEX and self._holds(one.name)]
        lacks |= {name: main.c[name].is_not(None) for name in objects}
        if not lacks:
            return []
        flags = [func.max(case((condition, 1), else_=0)) for condition in lacks.values()]
        found = self._conn.execute(select(*flags).where(main.c.valid_to.is_(None))).one()
        return [name for name, flag in zip(lacks, found, strict=True) if flag]

    def _state(self, entity: EntityConfig) -> SyncState:
        """So that the next read goes on where the earlier program's last complete one ended."""
        states = checkpoint.glimpse(self._conn)
        # It may stand under the logical name.
        names = (self.spec.entity_set, self.spec.logical_name)
        state = next((states[name] for name in names if name in states), SyncState(entity_name=names[0]))
        if state.state != "completed":
            state.last_timestamp = None
        state.entity_name = self.spec.entity_set
        state.records_count = checkpoint.count_open(self._conn, self._tables)
        state.columns_digest = UNFINISHED if self.unfilled else strategy.digest(self.spec)
        state.fresh_columns = ",".join(self.unfilled)
        with suppress(SchemaError):
            chosen = strategy.choose(self.spec, entity).strategy
            state.strategy = None if chosen is Strategy.RELATED else chosen
        return state

    def _rename_state(self) -> None:
        name, other = self.spec.entity_set, self.spec.logical_name
        is_known = exists().where(_STATE.alias().c.entity_name == name)
        self._conn.execute(update(_STATE).where(_STATE.c.entity_name == other, ~is_known).values(entity_name=name))
