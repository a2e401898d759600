"""Current versions: what is stored of the records of a page, looked up together, and which of them differ.

A record stored exactly as it came is told by its document alone, and nothing more is looked at or written for it. Of
the others the declared columns are compared, in the form in which both go into the engine and come out of it (law 5).
Everything here runs inside the caller's transaction, and only reads.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Select, Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB

from igh_sync_core.batch import Batch
from igh_sync_core.dialect import is_one_of, listed
from igh_sync_core.driver import Prepared
from igh_sync_core.model import Kind
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


def meet(conn: Connection, tables: EntityTables, batch: Batch, *, fresh: frozenset[str]) -> Met:
    """Lay a page beside what is stored.

    Args:
        conn: Inside a transaction.
        tables: The entity's.
        batch: Records with distinct keys.
        fresh: Columns stored without values so far: they are not compared, and no record counts as the same.
    """
    found = find(conn, tables, batch.keys)
    current = [found.get(key) for key in batch.keys]
    news = list(range(len(batch)))
    if not fresh:
        documents = batch.column("json_response")
        news = [at for at, one in enumerate(current) if one is None or not _is_same(one.document, documents[at], conn)]
    current, taken = [current[at] for at in news], batch.take(news)
    return Met(len(batch) - len(news), taken, current, _changed(conn, tables, taken, current, VOLATILE | fresh))


def last_ends(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> dict[Any, Any]:
    """Where the last closed version of each of *keys* ended, as the engine gives it."""
    return dict(_ends_of.rows(conn, tables, keys=_keys(conn, tables, keys)))


def _keys(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> Any:  # noqa: ANN401 - as the driver takes it
    """Keys to look up; what is no GUID cannot be stored as one, and the refusal names it where it is written."""
    if conn.dialect.name == "postgresql" and _kinds(tables)[tables.spec.key] is Kind.GUID:
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


def _changed(
    conn: Connection, tables: EntityTables, news: Batch, current: Sequence[Current | None], ignored: frozenset[str]
) -> frozenset[int]:
    """Positions of the records that differ from their current version in a declared column."""
    names = tuple(name for name in tables.column_names[:-1] if name not in ignored)
    row_ids = listed(conn.dialect.name, [one.row_id for one in current if one])
    stored = {row_id: tuple(values) for row_id, *values in _values_of.rows(conn, (tables, names), row_ids=row_ids)}
    rows = zip(*(news.column(name) for name in names), strict=True)
    objects = [at for at, name in enumerate(names) if _kinds(tables).get(name) is Kind.COMPLEX]
    differ = {
        at
        for at, (one, row) in enumerate(zip(current, rows, strict=True))
        if one and row != stored[one.row_id] and not _are_alike(row, stored[one.row_id], objects)
    }
    fields = [field for field in news.raw if field not in ignored]
    return frozenset(differ | {at for at, one in enumerate(current) if one and _chose(news, at, fields, one)})


def _are_alike(row: Sequence[Any], stored: Sequence[Any], objects: Sequence[int]) -> bool:
    """Whether two rows differ at most in how they spell objects."""
    pairs = list(zip(row, stored, strict=True))
    return all(new == old for at, (new, old) in enumerate(pairs) if at not in objects) and all(
        new == old or (None not in (new, old) and _EXACT.decode(new) == _EXACT.decode(old))
        for new, old in (pairs[at] for at in objects)
    )


def _chose(news: Batch, at: int, fields: Sequence[str], one: Current) -> bool:
    """Whether a multi-select holds other choices than before: its column tells only where a single one is chosen."""
    if not fields:
        return False
    stored = msgspec.json.decode(one.document)
    return any(news.raw[field][at] != stored.get(field) for field in fields)


def _kinds(tables: EntityTables) -> dict[str, Kind]:
    return {column.name: column.kind for column in tables.spec.columns}


def _plain(column: Column[Any], kind: Kind | None) -> ColumnElement[Any]:
    """A column as text where the driver would make objects of it."""
    return cast(column, Text) if kind in (Kind.GUID, Kind.COMPLEX) or isinstance(column.type, JSONB) else column


@Prepared
def _versions_of(tables: EntityTables) -> Select[Any]:
    main = tables.main
    key = main.c[tables.spec.key]
    columns = (_plain(key, _kinds(tables)[tables.spec.key]), main.c.row_id, main.c.valid_from)
    return select(*columns, cast(main.c.json_response, Text)).where(main.c.valid_to.is_(None), is_one_of(key, "keys"))


@Prepared
def _ends_of(tables: EntityTables) -> Select[Any]:
    main = tables.main
    key = main.c[tables.spec.key]
    plain = _plain(key, _kinds(tables)[tables.spec.key])
    return (
        select(plain, func.max(main.c.valid_to))
        .where(main.c.valid_to.is_not(None), is_one_of(key, "keys"))
        .group_by(key)
    )


@Prepared
def _values_of(about: tuple[EntityTables, tuple[str, ...]]) -> Select[Any]:
    tables, names = about
    main, kinds = tables.main, _kinds(tables)
    columns = (_plain(main.c[name], kinds.get(name)) for name in names)
    return select(main.c.row_id, *columns).where(is_one_of(main.c.row_id, "row_ids"))
