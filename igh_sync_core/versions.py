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

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from itertools import repeat
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from igh_sync_core import duplicates, picks
from igh_sync_core.database import Database
from igh_sync_core.dialect import TEXT_FORM, Instant, later_of, member_of, one_second_after, whole_second
from igh_sync_core.driver import attempt
from igh_sync_core.report import Counts
from igh_sync_core.room import make_room
from igh_sync_core.rows import Batch, Values, whole_seconds
from igh_sync_core.staging import Staging
from igh_sync_core.tables import EntityTables, raw_name

VOLATILE = frozenset({"versionnumber"})
"""Columns whose change alone makes no version (law 5)."""


class History:
    """The versions of one entity, over one connection.

    Args:
        database: Where they are kept.
        conn: A connection that nobody else uses, inside a transaction; temporary tables are made on it when needed.
        tables: The entity's tables, which exist.
        fresh: Columns just added to the table: filled into open rows, making no versions.

    Attributes:
        staging: The temporary tables beside them.
    """

    def __init__(
        self, database: Database, conn: Connection, tables: EntityTables, *, fresh: frozenset[str] = frozenset()
    ) -> None:
        self._database = database
        self._conn = conn
        self._tables = tables
        self._fresh = fresh & set(tables.column_names)
        self.staging = Staging(database, conn, tables)

    @cached_property
    def is_empty(self) -> bool:
        """Whether no version was stored when this was first asked."""
        return self._conn.execute(select(self._tables.main.c.row_id).limit(1)).first() is None

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
        try:
            with attempt(self._conn):
                starts = self._insert_straight(batch, now)
        except IntegrityError:
            return self.write(batch, now)
        except DataError as exc:
            make_room(self._conn, self._tables, batch, exc)
            return self.write_new(batch, now)
        picks.insert_straight(self._database, self._conn, self._tables, batch, starts)
        return Counts(added=len(batch))

    def write(self, batch: Batch, now: datetime) -> Counts:
        """Compare a page with the open versions and write what differs.

        Args:
            batch: *n* records with distinct keys.
            now: The sync time.
        """
        # Outside the attempt, which takes back what is made in it.
        self.staging.hold(batch)
        self.staging.empty(self._tables.closing)
        try:
            with attempt(self._conn):
                return self._write_staged(batch, now)
        except DataError as exc:
            make_room(self._conn, self._tables, batch, exc)
            return self._write_staged(batch, now)

    def _write_staged(self, batch: Batch, now: datetime) -> Counts:
        updated = self._mark_changed(now)
        if updated:
            self._close_marked()
        unchanged = len(batch) - updated - self._count_new()
        if unchanged:
            self._refresh()
        opened = len(batch) - unchanged
        if opened:
            self._open_staged(now)
        return Counts(added=opened - updated, updated=updated, unchanged=unchanged)

    def close_deleted(self, keys: Sequence[str], now: datetime) -> int:
        """Close the open versions of *keys*, as tombstones demand; unknown keys are nothing.

        Returns:
            How many were open.
        """
        if not keys:
            return 0
        self.staging.list_keys(zip(keys, repeat(None)), anew=True)
        return self._close(self._key.in_(select(self._tables.keys.c.key)), "deleted", now)

    def close_absent(self, is_present: ColumnElement[bool], now: datetime) -> int:
        """Close every open version for which *is_present* does not hold; only after a complete read (law 3)."""
        return self._close(~is_present, "absent", now)

    def staged_is_present(self) -> ColumnElement[bool]:
        """Whether an open version's key is among the page staged last."""
        # Not EXISTS: SQLite gathers the keys of an IN once, and a correlated search for every open version.
        return self._key.in_(select(self._tables.stage.c[self._tables.spec.key]))

    @property
    def _key(self) -> ColumnElement[Any]:
        return self._tables.main.c[self._tables.spec.key]

    @property
    def _is_open(self) -> ColumnElement[bool]:
        return self._tables.main.c.valid_to.is_(None)

    @cached_property
    def _may_be_doubled(self) -> bool:
        return duplicates.are_possible(self._conn, self._tables)

    @property
    def _is_current(self) -> ColumnElement[bool]:
        """Open, and where open versions are doubled the newest of them."""
        return self._is_open & ~duplicates.is_superseded(self._tables) if self._may_be_doubled else self._is_open

    def _insert_straight(self, batch: Batch, now: datetime) -> Values:
        stamp = self._stamp(now)
        starts: Values = [stamp] * len(batch)
        if self._tables.spec.has_modified_on:
            modified = whole_seconds(batch.column("modifiedon"), self._database.kind)
            starts = [value or stamp for value in modified]
        names = (*batch.names, "sync_time", "valid_from")
        rows = zip(*batch.columns, repeat(stamp), starts, strict=False)
        self.staging.load_records(self._tables.main, names, rows, batch)
        return starts

    def _stamp(self, now: datetime) -> Any:  # noqa: ANN401 - text or datetime, by engine
        return now if self._database.is_postgres else now.strftime(TEXT_FORM)

    def _mark_changed(self, now: datetime) -> int:
        main, stage = self._tables.main, self._tables.stage
        reason = literal("updated")
        changed = (
            select(main.c.row_id, self._key, self._boundary(stage, now), reason)
            .join_from(stage, main, self._key == stage.c[self._tables.spec.key])
            .where(self._is_current, self._differs(stage))
        )
        return self._mark(changed)

    def _mark(self, versions: Select[Any]) -> int:
        """Put open versions on the list of those about to be closed; gives their number."""
        marking = insert(self._tables.closing).from_select(["row_id", "key", "boundary", "reason"], versions)
        return self._conn.execute(marking, execution_options={"preserve_rowcount": True}).rowcount

    def _differs(self, stage: FromClause) -> ColumnElement[bool]:
        """Whether a declared column of the staged record differs from the open version (law 5)."""
        main, spec = self._tables.main, self._tables.spec
        names = [name for name in self._tables.column_names[:-1] if name not in VOLATILE | self._fresh]
        # One comparison of two row values: a chain of ORs would reach SQLite's depth limit on wide tables.
        staged, stored = tuple_(*(stage.c[name] for name in names)), tuple_(*(main.c[name] for name in names))
        return or_(
            staged.is_distinct_from(stored),
            *(
                stage.c[raw_name(field.name)].is_distinct_from(member_of(main.c.json_response, field.name))
                for field in spec.multiselects
                if field.name not in self._fresh
            ),
        )

    def _boundary(self, stage: FromClause, now: datetime) -> ColumnElement[Any]:
        start = self._tables.main.c.valid_from
        fallback = later_of(literal(now, Instant()), one_second_after(start))
        if not self._tables.spec.has_modified_on:
            return fallback
        source = whole_second(stage.c.modifiedon)
        return case((source > start, source), else_=fallback)

    def _close_marked(self) -> None:
        main, closing = self._tables.main, self._tables.closing
        if self._may_be_doubled:
            duplicates.close_older(self._conn, self._tables, select(closing.c.key))
        self._conn.execute(
            update(main)
            .where(main.c.row_id == closing.c.row_id)
            .values(valid_to=closing.c.boundary, closed_reason=closing.c.reason)
        )
        picks.close_marked(self._conn, self._tables)

    def _close(self, condition: ColumnElement[bool], reason: str, now: datetime) -> int:
        main, closing = self._tables.main, self._tables.closing
        self.staging.empty(closing)
        boundary = later_of(literal(now, Instant()), one_second_after(main.c.valid_from))
        marked = select(main.c.row_id, self._key, boundary, literal(reason)).where(self._is_current, condition)
        if count := self._mark(marked):
            self._close_marked()
        return count

    def _count_new(self) -> int:
        """How many staged keys have no open version and were not just closed."""
        stage, closing = self._tables.stage, self._tables.closing
        key = stage.c[self._tables.spec.key]
        known = exists().where(self._key == key, self._is_open)
        marked = exists().where(closing.c.key == key)
        return self._conn.execute(select(func.count()).select_from(stage).where(~known, ~marked)).scalar_one()

    def _refresh(self) -> None:
        """Bring labels, version numbers and fresh columns of unchanged rows up to date, in place."""
        main, stage = self._tables.main, self._tables.stage
        names = ["json_response", *sorted((VOLATILE & self._tables.spec.names) | self._fresh)]
        self._conn.execute(
            update(main)
            .where(
                self._key == stage.c[self._tables.spec.key],
                self._is_current,
                or_(*(main.c[name].is_distinct_from(stage.c[name]) for name in names)),
            )
            .values({main.c[name]: stage.c[name] for name in names})
        )
        picks.fill(self._conn, self._tables, sorted(self._fresh & self._tables.junctions.keys()))

    def _open_staged(self, now: datetime) -> None:
        main, stage = self._tables.main, self._tables.stage
        last = self._conn.execute(select(func.coalesce(func.max(main.c.row_id), 0))).scalar_one()
        names = self._tables.column_names
        fresh_versions = select(
            *(stage.c[name] for name in names), literal(now, Instant()), self._start(stage, now)
        ).where(~exists().where(self._key == stage.c[self._tables.spec.key], self._is_open))
        self._conn.execute(insert(main).from_select([*names, "sync_time", "valid_from"], fresh_versions))
        picks.open_new(self._conn, self._tables, after=last)

    def _start(self, stage: FromClause, now: datetime) -> ColumnElement[Any]:
        """``valid_from`` of a new version: where the last one ended, if it was closed just now; else its own time."""
        spec, closing = self._tables.spec, self._tables.closing
        older = self._tables.main.alias()
        key = stage.c[spec.key]
        boundary = select(closing.c.boundary).where(closing.c.key == key).scalar_subquery()
        ended = (
            select(func.max(older.c.valid_to))
            .where(older.c[spec.key] == key, older.c.valid_to.is_not(None))
            .scalar_subquery()
        )
        sync_time = literal(now, Instant())
        source = func.coalesce(whole_second(stage.c.modifiedon), sync_time) if spec.has_modified_on else sync_time
        after_end = case((ended.is_(None), source), (source >= ended, source), else_=later_of(sync_time, ended))
        return func.coalesce(boundary, after_end)
