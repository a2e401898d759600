"""Rows → history: opens, closes and refreshes versions with set-based statements.

States of one key, and what moves it (laws 3, 4 and 5):

    before   what arrives                       after    written
    -------  ---------------------------------  -------  --------------------------------------------------
    absent   a record                           open     new row, valid_from = modifiedon, or the sync time
    open     equal in every declared column     open     labels, etag and version number refreshed in place
    open     different in a declared column     open     old row closed ``updated``, new row from the boundary
    open     a tombstone                        closed   old row closed ``deleted`` at the sync time
    open     nothing, in a complete read        closed   old row closed ``absent`` at the sync time
    closed   a record                           open     new row, never before the last ``valid_to``
    closed   a tombstone, or nothing            closed   nothing
    absent   a tombstone                        absent   nothing

The boundary between two versions is the new ``modifiedon`` if that lies after the open row's ``valid_from``; else
the sync time, at least one second after it. Every function here runs inside the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from itertools import repeat
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Update, or_, select, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from igh_sync_core.history import checkpoint, closing, current, duplicates, multiselects
from igh_sync_core.history.batch import Batch, Values, starts_of
from igh_sync_core.history.comparison import VOLATILE
from igh_sync_core.history.current import Current, Met
from igh_sync_core.history.refusals import tell
from igh_sync_core.history.rows import row_codec
from igh_sync_core.history.staging import Condition, Staging, is_listed
from igh_sync_core.history.widening import make_room
from igh_sync_core.report import Counts
from igh_sync_core.schema.tables import CLOSING, EntityTables, renewing
from igh_sync_core.store.database import Database, Line
from igh_sync_core.store.dialect import given_rows, second_after, stored_instant
from igh_sync_core.store.driver import Prepared, attempt


class History:
    """The versions of one entity.

    Args:
        database: Where they are kept.
        line: Has a connection that nobody else uses, inside a transaction; temporary tables are made on it when needed.
        tables: The entity's tables, which exist.
        fresh: Columns just added to the table: filled into open rows, making no versions.

    Attributes:
        tables: The entity's tables.
        staging: The temporary tables beside them.
    """

    def __init__(
        self, database: Database, line: Line, tables: EntityTables, *, fresh: frozenset[str] = frozenset()
    ) -> None:
        self._database, self._line = database, line
        self.tables = tables
        self._fresh = fresh & set(tables.column_names)
        self.staging = Staging(database, line, tables)

    @property
    def conn(self) -> Connection:
        """Where they are written in the present transaction."""
        return self._line.conn

    @cached_property
    def is_empty(self) -> bool:
        """Whether no version was stored when this was first asked."""
        return not _any_version.rows(self.conn, self.tables.pattern, places=self.tables.places)

    def has_open(self) -> bool:
        """Whether there is any open version."""
        return bool(_any_open.rows(self.conn, self.tables.pattern, places=self.tables.places))

    def forget_fresh(self) -> None:
        """From now on a change of a column added lately is a change like any other: it is filled everywhere."""
        self._fresh = frozenset()

    def write_new(self, batch: Batch, now: datetime) -> Counts:
        """Write a page of which no key is expected to be stored: straight into the table.

        Falls back to :meth:`write` where one of the keys is stored after all.

        Args:
            batch: *n* records with distinct keys.
            now: The sync time.
        """
        if not len(batch):
            return Counts()
        stamp = stored_instant(now, self._database.kind)
        try:
            with attempt(self.conn):
                self._open(batch, [source or stamp for source in self._sources(batch)], stamp)
        except IntegrityError:
            return self.write(batch, now)
        except DataError as exc:
            make_room(self.conn, self.tables, batch, exc)
            return self.write_new(batch, now)
        except OperationalError as exc:
            tell(self.staging.too_big(batch, exc, stamp), exc)
        return Counts(added=len(batch))

    def write(self, batch: Batch, now: datetime) -> Counts:
        """Compare a page with the open versions and write what differs.

        Args:
            batch: *n* records with distinct keys.
            now: The sync time.
        """
        return self.apply(self.meet(batch), now)

    def meet(self, batch: Batch) -> Met:
        """Lay a page beside the open versions; writes nothing."""
        codec = row_codec(self.tables.spec, self._database.kind)
        return current.meet(self.conn, self.tables, batch, codec, fresh=self._fresh)

    def apply(self, met: Met, now: datetime) -> Counts:
        """Write what a page brings.

        Args:
            met: The page, laid beside the open versions within this transaction.
            now: The sync time.
        """
        if not len(met.news):
            return Counts(unchanged=met.same)
        try:
            with attempt(self.conn):
                return self._apply(met, now)
        except DataError as exc:
            make_room(self.conn, self.tables, met.news, exc)
            return self._apply(met, now)
        except OperationalError as exc:
            tell(self.staging.too_big(met.news, exc, stored_instant(now, self._database.kind)), exc)

    def _apply(self, met: Met, now: datetime) -> Counts:
        equal = [at for at, one in enumerate(met.current) if one and at not in met.changed]
        others = [at for at, one in enumerate(met.current) if not one or at in met.changed]
        if equal:
            self._refresh(met.news.take(equal), [one for one in map(met.current.__getitem__, equal) if one])
        if others:
            self._supersede(met.news.take(others), [met.current[at] for at in others], now)
        updated = len(met.changed)
        return Counts(added=len(others) - updated, updated=updated, unchanged=met.same + len(equal))

    def close_deleted(self, keys: Sequence[str], now: datetime) -> int:
        """Close the open versions of *keys*, as tombstones demand; unknown keys are nothing.

        Returns:
            How many were open.
        """
        stamp = stored_instant(now, self._database.kind)
        found = current.find(self.conn, self.tables, keys) if keys else {}
        self._close((one, key, _boundary(one, None, stamp), "deleted") for key, one in found.items())
        return len(found)

    def close_absent(self, presence: Condition, now: datetime) -> int:
        """Close every open version for which *presence* does not hold; only after a complete read (law 3).

        In the database alone, since it may be any number of versions.
        """
        tables = self.tables
        self.staging.empty(tables.closing)
        about = (presence, tables if self._may_be_doubled else tables.pattern, self._may_be_doubled)
        given = {"stamp": now, "of": tables.spec.entity_set}
        if count := closing.mark_absent.execute(self.conn, about, places=tables.places, **given):
            self._close_marked()
        return count

    def close_others(self, keys: Sequence[str], now: datetime) -> int:
        """Close every open version of a key other than *keys*, all of which have one; as :meth:`close_absent`."""
        if checkpoint.count_open(self.conn, self.tables) == len(keys):
            return 0
        self.staging.list_keys(keys)
        return self.close_absent(is_listed, now)

    def close_missing(self, keys: Iterable[str], now: datetime) -> int:
        """Close the open versions of *keys*, which the source says it has not (law 3); as :meth:`close_absent`."""
        self.staging.list_keys(keys)
        return self.close_absent(_is_not_listed, now)

    @cached_property
    def _may_be_doubled(self) -> bool:
        return duplicates.are_possible(self.conn, self.tables)

    def _sources(self, batch: Batch) -> Values:
        """When each record was last changed, as the source says; None where it does not."""
        if not self.tables.spec.has_modified_on:
            return [None] * len(batch)
        return starts_of(batch.column("modifiedon"), self._database.kind)

    def _supersede(self, batch: Batch, before: Sequence[Current | None], now: datetime) -> None:
        """Open a version of each record, where the one *before* it ends or an earlier one has ended."""
        stamp = stored_instant(now, self._database.kind)
        new = [key for key, one in zip(batch.keys, before, strict=True) if one is None]
        ends = current.last_ends(self.conn, self.tables, new) if new else {}
        starts = [
            _boundary(one, source, stamp) if one else _reopening(ends.get(key), source or stamp, stamp)
            for key, one, source in zip(batch.keys, before, self._sources(batch), strict=True)
        ]
        closing = zip(before, batch.keys, starts, repeat("updated"))
        self._close((one, *rest) for one, *rest in closing if one)
        self._open(batch, starts, stamp)

    def _open(self, batch: Batch, starts: Values, stamp: Any) -> None:  # noqa: ANN401 - text or datetime, by engine
        names = (*batch.names, "sync_time", "valid_from")
        rows = zip(*batch.columns, repeat(stamp), starts, strict=False)
        self.staging.load_records(self.tables.main, names, rows, batch)
        multiselects.insert_straight(self._database, self.conn, self.tables, batch, starts)

    def _close(self, versions: Iterable[tuple[Current, Any, Any, str]]) -> None:
        """Close versions: each with its key, the time it ends at, and why."""
        rows = [(one.row_id, key, boundary, reason) for one, key, boundary, reason in versions]
        if rows and self._may_be_doubled:
            self.staging.fill(self.tables.closing, CLOSING, rows)
            self._close_marked()
        elif rows:
            kind = self._database.kind
            given = given_rows(kind, str(self.tables.closing.name), CLOSING, rows)
            closing.close_given.execute(self.conn, (kind, self.tables.pattern), places=self.tables.places, **given)
            multiselects.close_given(self.conn, self.tables, given)

    def _close_marked(self) -> None:
        if self._may_be_doubled:
            duplicates.close_older(self.conn, self.tables, select(self.tables.closing.c.key))
        closing.close_listed.execute(self.conn, self.tables.pattern, places=self.tables.places)
        multiselects.close_marked(self.conn, self.tables)

    def _refresh(self, batch: Batch, before: Sequence[Current]) -> None:
        """Bring labels, version numbers and fresh columns of unchanged rows up to date, in place."""
        table, names = renewing(self.tables, self._fresh), _renewed(self.tables, self._fresh)
        self.staging.empty(table)
        rows = zip((one.row_id for one in before), *map(batch.column, names), strict=True)
        self.staging.load_records(table, ("row_id", *names), rows, batch)
        shape = self.tables if self._fresh else self.tables.pattern
        _renew.execute(self.conn, (shape, self._fresh), places=self.tables.places)
        if fields := sorted(self._fresh & self.tables.junctions.keys()):
            self.staging.fill(self.tables.picks, ("key", "field", "code"), batch.picks())
            multiselects.fill(self.conn, self.tables, fields, table)


def _boundary(one: Current, source: Any, stamp: Any) -> Any:  # noqa: ANN401 - text or datetime, by engine
    """Where an open version ends: at the source's time if that lies within, else at the sync time (law 4)."""
    if one.start is None:
        return stamp
    return source if source and source > one.start else max(stamp, second_after(one.start))


def _reopening(ended: Any, source: Any, stamp: Any) -> Any:  # noqa: ANN401
    """Where the version of a record without an open one begins: never before its last one has *ended*."""
    return source if ended is None or source >= ended else max(stamp, ended)


def _renewed(tables: EntityTables, fresh: frozenset[str]) -> tuple[str, ...]:
    return ("json_response", *sorted((VOLATILE & tables.spec.names) | fresh))


def _is_not_listed(tables: EntityTables) -> ColumnElement[bool]:
    return ~is_listed(tables)


@Prepared
def _any_version(tables: EntityTables) -> Select[Any]:
    return select(tables.main.c.row_id).limit(1)


@Prepared
def _any_open(tables: EntityTables) -> Select[Any]:
    return select(tables.main.c.row_id).where(tables.main.c.valid_to.is_(None)).limit(1)


@Prepared
def _renew(about: tuple[EntityTables, frozenset[str]]) -> Update:
    tables, fresh = about
    main, new, names = tables.main, renewing(tables, fresh), _renewed(tables, fresh)
    differs = or_(*(main.c[name].is_distinct_from(new.c[name]) for name in names))
    values = {main.c[name]: new.c[name] for name in names}
    return update(main).where(main.c.row_id == new.c.row_id, differs).values(values)
