"""What is remembered between runs: how far each entity has come, and the log of what was done.

Every function runs inside the caller's transaction, so that a checkpoint and the rows it speaks of are committed
together (law 1).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Delete,
    Insert,
    Select,
    Text,
    Update,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import NullType

from igh_sync_core.errors import StoreError
from igh_sync_core.model import TableSpec
from igh_sync_core.report import EntityReport
from igh_sync_core.schema.tables import EntityTables
from igh_sync_core.store.control import SyncLog, SyncSeen, SyncState
from igh_sync_core.store.dialect import Instant, given_instant, is_one_of, listed, upsert
from igh_sync_core.store.driver import Prepared
from igh_sync_core.store.lock import fence

_STATE = SyncState.metadata.tables["_sync_state"]
_TIMES = {column.name for column in _STATE.columns if isinstance(column.type, Instant)}
_LOG = SyncLog.metadata.tables["_sync_log"]
_SEEN = SyncSeen.metadata.tables["_sync_seen"]


def read_all(conn: Connection, specs: Sequence[TableSpec]) -> list[SyncState | StoreError]:
    """How far entities have come, in their order: pending where nothing is known, an error where it makes no sense."""
    names = [spec.entity_set for spec in specs]
    rows = _states_of.rows(conn, None, names=listed(conn.dialect.name, names))
    told = {row[0]: row for row in rows}  # the name comes first
    return [_state(name, told.get(name)) for name in names]


def _state(name: str, line: Sequence[Any] | None) -> SyncState | StoreError:
    told = dict(zip(_STATE.c.keys(), line, strict=True)) if line else {"entity_name": name}
    try:
        with _legible(f"the line of {name}"):
            times = {time: given_instant(told[time]) for time in _TIMES & told.keys()}
            return SyncState.model_validate({**told, **times})
    except StoreError as exc:
        return exc


@contextmanager
def _legible(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as exc:
        msg = f"{what} in _sync_state cannot be read: {exc}"
        raise StoreError(msg) from exc


def glimpse(conn: Connection) -> dict[str, SyncState]:
    """How far each entity has come, by name; the database may be of any age, and lack columns or the whole table.

    Raises:
        StoreError: What is stored of one makes no sense.
    """
    inspector = inspect(conn)
    if not inspector.has_table(_STATE.name):
        return {}
    present = {column["name"] for column in inspector.get_columns(_STATE.name)}
    with _legible("a line"):
        rows = conn.execute(select(*(column for column in _STATE.columns if column.name in present))).mappings()
        # What the table lacks, or never filled, takes its default.
        told = ({name: value for name, value in row.items() if value is not None} for row in rows)
        return {values["entity_name"]: SyncState.model_validate(values) for values in told}


def write(conn: Connection, *states: SyncState) -> None:
    """Store states, replacing what was there; how far a table was scanned is what ``scans`` says alone."""
    _put_state.execute_many(conn, conn.dialect.name, (state.model_dump() for state in states))


def end_killed(conn: Connection, *, run_id: str, now: datetime) -> None:
    """Close the lines in ``_sync_log`` that runs before this one left open, because they were killed."""
    _end_left.execute(conn, None, now=now, by=run_id)


@Prepared
def _end_left(_: None) -> Update:
    is_left = (_LOG.c.status == "in_progress", _LOG.c.run_id != bindparam("by"))
    return update(_LOG).where(*is_left).values(end_time=bindparam("now"), status="failed", error_message=_KILLED)


def log_start(conn: Connection, *specs: TableSpec, run_id: str, now: datetime) -> None:
    """Open the run's lines for entities in ``_sync_log``.

    Raises:
        StoreError: Another run has taken the database.
    """
    fence(conn, run_id)
    begun = {"start_time": now, "status": "in_progress", "run_id": run_id}
    _add_line.execute_many(conn, None, ({"entity_name": spec.entity_set, **begun} for spec in specs))


def log_end(conn: Connection, *ended: tuple[EntityReport, datetime], run_id: str) -> None:
    """Complete those lines with what happened, and when each entity ended; of several tries the last one's.

    Raises:
        StoreError: Another run has taken the database.
    """
    fence(conn, run_id)
    end_lines(conn, *ended, run_id=run_id)


def end_lines(conn: Connection, *ended: tuple[EntityReport, datetime], run_id: str) -> None:
    """The same in a transaction that has seen already that the database is still the run's."""
    lines = ({**_told(report, end), "of": report.table, "by": run_id} for report, end in ended)
    _end_line.execute_many(conn, None, lines)


def _told(report: EntityReport, end: datetime) -> dict[str, Any]:
    """It began when its turn came, which may be long after its line was opened with those of others."""
    return {
        "start_time": end - timedelta(seconds=report.seconds),
        "end_time": end,
        "status": report.status,
        "error_message": report.error or None,
        "strategy": report.strategy,
        "reason": report.reason,
        "records_added": report.added,
        "records_updated": report.updated,
        "records_closed": report.closed,
        "records_unchanged": report.unchanged,
        "requests": report.requests,
    }


@Prepared
def _states_of(_: None) -> Select[Any]:
    # Times as the driver gives them: one that makes no sense is a fault of its own line alone.
    columns = (type_coerce(column, NullType()) if column.name in _TIMES else column for column in _STATE.columns)
    return select(*columns).where(is_one_of(_STATE.c.entity_name, "names"))


@Prepared
def _put_state(engine: str) -> Insert:
    return upsert(engine, _STATE, keeping=("scanned_row_id", "relations_digest"))


@Prepared
def _add_line(_: None) -> Insert:
    told = ("entity_name", "start_time", "status", "run_id")
    return insert(_LOG).values({**_LOG_DEFAULTS, **{name: bindparam(name) for name in told}})


@Prepared
def _end_line(_: None) -> Update:
    told_before = ("id", "entity_name", "run_id")
    ended: dict[str, Any] = {one.name: bindparam(one.name) for one in _LOG.columns if one.name not in told_before}
    line = _LOG.alias()
    of_entity = (line.c.entity_name == bindparam("of"), line.c.run_id == bindparam("by"))
    last = select(func.max(line.c.id)).where(*of_entity).scalar_subquery()
    return update(_LOG).where(_LOG.c.id == last).values(ended)


_KILLED = "the run ended before this entity did; the next run goes on after its last stored page"
_LOG_DEFAULTS = {
    "records_added": 0,
    "records_updated": 0,
    "records_closed": 0,
    "records_unchanged": 0,
    "requests": 0,
}


def count_open(conn: Connection, tables: EntityTables) -> int:
    """Number of current rows."""
    return int(_open_versions.rows(conn, tables.pattern, places=tables.places)[0][0])


@Prepared
def _open_versions(tables: EntityTables) -> Select[Any]:
    main = tables.main
    return select(func.count()).select_from(main).where(main.c.valid_to.is_(None))


def note_seen(conn: Connection, tables: EntityTables) -> None:
    """Remember the keys on the temporary list, see ``Staging.list_keys``, as met by the complete read in progress."""
    _see.execute(conn, tables)


@Prepared
def _see(tables: EntityTables) -> Insert:
    entity, key = tables.spec.entity_set, tables.keys.c.key
    seen = exists().where(_SEEN.c.entity_name == entity, _SEEN.c.key == cast(key, Text))
    new = select(literal(entity), cast(key, Text)).where(~seen)
    return insert(_SEEN).from_select(["entity_name", "key"], new)


def forget_seen(conn: Connection, spec: TableSpec) -> None:
    """Drop what a complete read has met, once it has ended or starts anew."""
    _forget.execute(conn, None, of=spec.entity_set)


@Prepared
def _forget(_: None) -> Delete:
    return delete(_SEEN).where(_SEEN.c.entity_name == bindparam("of"))


def was_seen(tables: EntityTables) -> ColumnElement[bool]:
    """Whether an open version's key was met by the complete read; parameter ``of`` names the entity set."""
    key = tables.main.c[tables.spec.key]
    return exists().where(_SEEN.c.entity_name == bindparam("of"), _SEEN.c.key == cast(key, Text))


def mark_failed(conn: Connection, spec: TableSpec) -> None:
    """Say that the entity's last read failed; where it goes on stays as it was."""
    if not _fail.execute(conn, None, of=spec.entity_set):
        write(conn, SyncState(entity_name=spec.entity_set, state="failed"))


@Prepared
def _fail(_: None) -> Update:
    return update(_STATE).where(_STATE.c.entity_name == bindparam("of")).values(state="failed")
