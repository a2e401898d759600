"""Current versions: what is stored of the records of a page, looked up together, and which of them differ.

A record stored exactly as it came is told by its document alone, and nothing more is looked at or written for it. Of
the others the declared columns are compared, both documents read by the types that metadata declares now (law 5).
Everything here runs inside the caller's transaction, and only reads.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw
from sqlalchemy import ColumnElement, Connection, Select, Text, cast, func, select

from igh_sync_core.batch import Batch
from igh_sync_core.dialect import is_one_of, listed
from igh_sync_core.driver import Prepared
from igh_sync_core.errors import DataError
from igh_sync_core.model import Kind
from igh_sync_core.rows import RowCodec
from igh_sync_core.tables import EntityTables

VOLATILE = frozenset({"versionnumber"})
"""Columns whose change alone makes no version (law 5)."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EXACT = msgspec.json.Decoder(float_hook=Decimal)


class Current(NamedTuple):
    """The current version of one record.

    Attributes:
        row_id: Where it is.
        start: Its ``valid_from`` as the engine gives it, None where an earlier program left none.
        document: The record as received, as the engine gives it.
    """

    row_id: int
    start: Any
    document: str


@dataclass(frozen=True)
class Met:
    """A page laid beside what is stored.

    Attributes:
        same: How many of its records are stored exactly as they came.
        news: The *n* other records.
        current: Of each of them the current version; None where there is none.
        changed: Positions of those that differ in a declared column.
    """

    same: int
    news: Batch
    current: list[Current | None]
    changed: frozenset[int]


def find(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> dict[Any, Current]:
    """The current versions of *keys*, by key; the newest where an earlier program left several."""
    found: dict[Any, Current] = {}
    for key, *version in _versions_of.rows(conn, tables, keys=_keys(conn, tables, keys)):
        one = Current(*version)
        if key not in found or found[key].row_id < one.row_id:
            found[key] = one
    return found


def meet(conn: Connection, tables: EntityTables, batch: Batch, codec: RowCodec, *, fresh: frozenset[str]) -> Met:
    """Lay a page beside what is stored.

    Args:
        conn: Inside a transaction.
        tables: The entity's.
        batch: Records with distinct keys.
        codec: What decoded them.
        fresh: Columns stored without values so far: they are not compared, and no record counts as the same.
    """
    found = find(conn, tables, batch.keys)
    current = [found.get(key) for key in batch.keys]
    news = list(range(len(batch)))
    if not fresh:
        documents = batch.column("json_response")
        news = [at for at, one in enumerate(current) if one is None or not _is_same(one.document, documents[at], conn)]
    current, taken = [current[at] for at in news], batch.take(news)
    changed = _Comparison(codec, fresh).changed(taken, current)
    return Met(len(batch) - len(news), taken, current, changed)


def last_ends(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> dict[Any, Any]:
    """Where the last closed version of each of *keys* ended, as the engine gives it."""
    return dict(_ends_of.rows(conn, tables, keys=_keys(conn, tables, keys)))


def _keys(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> Any:  # noqa: ANN401 - as the driver takes it
    """Keys to look up; what is no GUID cannot be stored as one, and the refusal names it where it is written."""
    if conn.dialect.name == "postgresql" and _kind_of_key(tables) is Kind.GUID:
        keys = [key for key in keys if _GUID.fullmatch(key)]
    return listed(conn.dialect.name, keys)


def _is_same(stored: str, received: str, conn: Connection) -> bool:
    """Whether two documents say the same; PostgreSQL gives members in an order, and numbers in a form, of its own."""
    if conn.dialect.name != "postgresql" or stored == received:
        return stored == received
    try:
        return bool(_EXACT.decode(stored) == _EXACT.decode(received))
    except msgspec.DecodeError:  # a number that PostgreSQL holds and Python does not: its column decides
        return False


class _Comparison:
    """Records and their current versions, column by column (law 5)."""

    def __init__(self, codec: RowCodec, fresh: frozenset[str]) -> None:
        self._codec, self._fresh = codec, fresh
        ignored = VOLATILE | fresh
        kinds = {column.name: column.kind for column in codec.spec.columns}
        self._plain = [name for name in codec.names[:-1] if name not in ignored and kinds.get(name) is not Kind.COMPLEX]
        self._objects = [name for name in kinds if name not in ignored and kinds[name] is Kind.COMPLEX]
        self._choices = [column.name for column in codec.spec.multiselects if column.name not in ignored]

    def changed(self, news: Batch, current: Sequence[Current | None]) -> frozenset[int]:
        """Positions of the records that differ from their current version in a declared column."""
        positions = [at for at, one in enumerate(current) if one]
        if not positions:
            return frozenset()
        stored = self._stored([one for one in current if one])
        rows = zip(positions, self._rows(news.take(positions)), stored, strict=True)
        return frozenset(at for at, new, old in rows if new != old)

    def _stored(self, versions: Sequence[Current]) -> Iterator[tuple[Any, ...] | None]:
        """What the versions hold; None for one that the present types cannot tell."""
        records = [self._without_fresh(one.document) for one in versions]
        try:
            yield from self._rows(self._codec.decode(records))
        except DataError:
            for record in records:
                try:
                    yield from self._rows(self._codec.decode([record]))
                except DataError:
                    yield None

    def _without_fresh(self, document: str) -> Raw:
        """A stored record without the columns that are not compared, whose types may be others now."""
        if not self._fresh:
            return Raw(document.encode())
        members = msgspec.json.decode(document, type=dict[str, Raw])
        return Raw(msgspec.json.encode({name: value for name, value in members.items() if name not in self._fresh}))

    def _rows(self, batch: Batch) -> Iterator[tuple[Any, ...]]:
        """What is compared of each record: columns, objects whatever their spelling, choices as received."""
        columns = [batch.column(name) for name in self._plain]
        objects = [list(map(_object, batch.column(name))) for name in self._objects]
        return zip(*columns, *objects, *(batch.raw[name] for name in self._choices), strict=True)


def _object(text: str | None) -> Any:  # noqa: ANN401 - any JSON
    return None if text is None else _EXACT.decode(text)


def _kind_of_key(tables: EntityTables) -> Kind:
    return next(column.kind for column in tables.spec.columns if column.name == tables.spec.key)


def _key(tables: EntityTables) -> ColumnElement[Any]:
    """The key as text where the driver would make an object of it."""
    key = tables.main.c[tables.spec.key]
    return cast(key, Text) if _kind_of_key(tables) is Kind.GUID else key


@Prepared
def _versions_of(tables: EntityTables) -> Select[Any]:
    main = tables.main
    key = main.c[tables.spec.key]
    columns = (_key(tables), main.c.row_id, main.c.valid_from, cast(main.c.json_response, Text))
    return select(*columns).where(main.c.valid_to.is_(None), is_one_of(key, "keys"))


@Prepared
def _ends_of(tables: EntityTables) -> Select[Any]:
    main = tables.main
    key = main.c[tables.spec.key]
    ends = select(_key(tables), func.max(main.c.valid_to))
    return ends.where(main.c.valid_to.is_not(None), is_one_of(key, "keys")).group_by(key)
