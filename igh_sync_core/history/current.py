"""Current versions: what is stored of the records of a page, looked up together, and which of them differ.

A record stored exactly as it came is told by its document alone, and nothing more is looked at or written for it. Of
the others the declared columns are compared, see ``comparison``. Everything here runs inside the caller's transaction,
and only reads.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, LargeBinary, Select, Text, cast, func, select, type_coerce
from sqlalchemy.types import NullType, TypeEngine

from igh_sync_core.history.batch import Batch
from igh_sync_core.history.comparison import Comparison
from igh_sync_core.history.rows import RowCodec
from igh_sync_core.model import Kind
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.dialect import is_one_of, listed
from igh_sync_core.store.driver import Prepared

ROWS_AT_ONCE, BYTES_AT_ONCE = 500, 250_000
"""Records whose stored documents are in memory at once; each has them several times over while it is compared."""

T = TypeVar("T", bound=Hashable)

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Current(NamedTuple):
    """The current version of one record.

    Attributes:
        row_id: Where it is.
        start: Its ``valid_from`` as the engine gives it, None where an earlier program left none.
    """

    row_id: int
    start: Any


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
    return {key: Current(*one) for key, one in _newest(conn, tables, keys, _versions_of, tables.pattern).items()}


def meet(conn: Connection, tables: EntityTables, batch: Batch, codec: RowCodec, *, fresh: frozenset[str]) -> Met:
    """Lay a page beside what is stored, a part of it at a time.

    Args:
        conn: Inside a transaction.
        tables: The entity's.
        batch: Records with distinct keys.
        codec: What decoded them.
        fresh: Columns stored without values so far: they are not compared, and no record counts as the same.
    """
    comparison = Comparison(codec, fresh)
    news = [one for part in _parts(batch) for one in _news(conn, tables, batch, part, comparison)]
    return Met(
        same=len(batch) - len(news),
        news=batch.take([at for at, _current, _is_changed in news]),
        current=[current for _at, current, _is_changed in news],
        changed=frozenset(place for place, (_at, _current, is_changed) in enumerate(news) if is_changed),
    )


def _parts(batch: Batch) -> Iterator[range]:
    """Positions, as many in a row as are looked at together."""
    received_bytes = sum(memoryview(document).nbytes for document in batch.column("json_response"))
    rows = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE * len(batch) // max(1, received_bytes)))
    return (range(start, min(start + rows, len(batch))) for start in range(0, len(batch), rows))


def _news(
    conn: Connection, tables: EntityTables, batch: Batch, part: range, comparison: Comparison
) -> Iterator[tuple[int, Current | None, bool]]:
    """Positions of what is not stored exactly as it came; its current version, and whether it differs from that."""
    keys, documents = batch.keys, batch.column("json_response")
    found = _newest(conn, tables, keys[part.start : part.stop], _documents_of, (conn.dialect.name, tables.pattern))
    stored = {at: found[keys[at]] for at in part if keys[at] in found}
    same = {at for at, (*_place, document) in stored.items() if comparison.is_same(document, documents[at])}
    others = [at for at in stored if at not in same]
    changed = {others[place] for place in comparison.changed(batch.take(others), [stored[at][-1] for at in others])}
    for at in part:
        if at not in same:
            yield at, Current(*stored[at][:-1]) if at in stored else None, at in changed


def last_ends(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> dict[Any, Any]:
    """Where the last closed version of each of *keys* ended, as the engine gives it."""
    return dict(_ends_of.rows(conn, tables.pattern, places=tables.places, keys=_keys(conn, tables, keys)))


def version_numbers(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> list[tuple[Any, int, int | None]]:
    """The open versions of *keys*: key, ``row_id`` and version number; several of a key where they were left so."""
    return _numbers_of.rows(conn, tables.pattern, places=tables.places, keys=_keys(conn, tables, keys))


def _newest(
    conn: Connection, tables: EntityTables, keys: Sequence[Any], statement: Prepared[T], about: T
) -> dict[Any, Sequence[Any]]:
    """Rows by key, without it: of several the one with the largest ``row_id``, which comes first in them."""
    found: dict[Any, Sequence[Any]] = {}
    for key, *version in statement.rows(conn, about, places=tables.places, keys=_keys(conn, tables, keys)):
        if key not in found or found[key][0] < version[0]:
            found[key] = version
    return found


def _keys(conn: Connection, tables: EntityTables, keys: Sequence[Any]) -> Any:  # noqa: ANN401 - as the driver takes it
    """Keys to look up; what is no GUID cannot be stored as one, and the refusal names it where it is written."""
    if conn.dialect.name == "postgresql" and tables.spec.key_kind is Kind.GUID:
        keys = [key for key in keys if _GUID.fullmatch(key)]
    return listed(conn.dialect.name, keys)


def key_of(tables: EntityTables) -> ColumnElement[Any]:
    """The key as text where the driver would make an object of it."""
    key = tables.main.c[tables.spec.key]
    return cast(key, Text) if tables.spec.key_kind is Kind.GUID else key


def _as_given(time: ColumnElement[Any]) -> ColumnElement[Any]:
    """A time as the engine keeps it, to be compared with others and given back."""
    return type_coerce(time, NullType())


def _open_of(tables: EntityTables, *columns: ColumnElement[Any]) -> Select[Any]:
    """Key, ``row_id`` and more of the open versions of *keys*."""
    main = tables.main
    is_open = (main.c.valid_to.is_(None), is_one_of(main.c[tables.spec.key], "keys"))
    return select(key_of(tables), main.c.row_id, *columns).where(*is_open)


@Prepared
def _versions_of(tables: EntityTables) -> Select[Any]:
    return _open_of(tables, _as_given(tables.main.c.valid_from))


@Prepared
def _numbers_of(tables: EntityTables) -> Select[Any]:
    return _open_of(tables, tables.main.c.versionnumber)


@Prepared
def _documents_of(about: tuple[str, EntityTables]) -> Select[Any]:
    engine, tables = about
    # The bytes as they are where they can be had: to make texts of them takes longer, and up to three times the memory.
    kept_as: TypeEngine[Any] = Text() if engine == "postgresql" else LargeBinary()
    return _open_of(tables, _as_given(tables.main.c.valid_from), cast(tables.main.c.json_response, kept_as))


@Prepared
def _ends_of(tables: EntityTables) -> Select[Any]:
    main = tables.main
    key = main.c[tables.spec.key]
    ends = select(key_of(tables), _as_given(func.max(main.c.valid_to)))
    return ends.where(main.c.valid_to.is_not(None), is_one_of(key, "keys")).group_by(key)
